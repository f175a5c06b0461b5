/** What goes with the message that a handler is being given. Valid until the handler returns. */
import { recordWord } from "./record.ts";

const wordRange = 2 ** 32;

export class Envelope {
  private words: Int32Array;
  /** Where the record begins, in words. */
  private record = 0;

  /** Use `Subscriber.envelope`. */
  constructor(words: Int32Array) {
    this.words = words;
  }

  /** 1 for the first message of a queue, then counting. */
  get sequence(): number {
    return this.unsigned(recordWord.sequence + 1) * wordRange + this.unsigned(recordWord.sequence);
  }

  /** The application's: a u32. */
  get type(): number {
    return this.unsigned(recordWord.type);
  }

  /** Counts the writers of the queue: that of its own. */
  get epoch(): number {
    return this.unsigned(recordWord.epoch);
  }

  /** Nanoseconds since 1970. Made when it is asked for: it allocates. */
  get timestampNs(): bigint {
    return (BigInt(this.timestampHigh) << 32n) | BigInt(this.timestampLow);
  }

  /** The upper 32 bits of it, as an unsigned number. */
  get timestampHigh(): number {
    return this.unsigned(recordWord.timestamp + 1);
  }

  /** The lower 32 bits of it, as an unsigned number. */
  get timestampLow(): number {
    return this.unsigned(recordWord.timestamp);
  }

  /** Follows the reader into another segment. */
  enter(words: Int32Array): void {
    this.words = words;
    this.record = 0;
  }

  /** Where the record begins. */
  get offset(): number {
    return this.record * 4;
  }

  /** Follows the reader to the record at `offset`. */
  moveTo(offset: number): void {
    this.record = offset >>> 2;
  }

  private unsigned(word: number): number {
    return (this.words[this.record + word] ?? 0) >>> 0;
  }
}
