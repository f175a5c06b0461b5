/** What goes with the message that a handler is being given. Valid until the handler returns. */
import type { Reader } from "./reader.ts";
import { extension, producerOf, record, recordHeaderBytes, recordHeaderUnits } from "./layout.ts";

const decoder = new TextDecoder();

/**
 * Times are nanoseconds since boot (CLOCK_MONOTONIC), the same in all processes of a machine, and 0
 * for a message that is not stamped: see the channel's `timestamps`.
 */
export class Envelope {
  private reader: Reader;
  private readonly producers: readonly string[];

  /** Use `Subscriber.envelope`. */
  constructor(reader: Reader, producers: readonly string[]) {
    this.reader = reader;
    this.producers = producers;
  }

  /** Counted from 1 since the channel was made; each level of priority counts by itself. */
  get sequence(): number {
    return this.reader.window.doubles[(this.reader.current >>> 1) + 1] ?? 0;
  }

  /** Level of priority that it was published with. */
  get priority(): number {
    return this.reader.priority;
  }

  get producer(): string {
    return this.producers[producerOf(this.descriptor)] ?? "";
  }

  /** The empty text where the message has none. */
  get topic(): string {
    const length = this.kind & extension.topicBytesMask;
    if (length === 0) return "";
    const start = this.start + (this.isStamped ? extension.stampBytes : 0);
    return decoder.decode(this.reader.window.bytes.subarray(start, start + length));
  }

  get isStamped(): boolean {
    return (this.kind & extension.stamped) !== 0;
  }

  /** When it was claimed. */
  get sentNs(): number {
    if (!this.isStamped) return 0;
    const { window, current } = this.reader;
    return window.doubles[(current >>> 1) + recordHeaderUnits] ?? 0;
  }

  /** When the first stamped message of the poll that it came with was taken up. */
  get receivedNs(): number {
    return this.isStamped ? this.reader.receivedNs : 0;
  }

  /** When it was handed to the handler. */
  get dequeuedNs(): number {
    return this.isStamped ? this.reader.dequeuedNs : 0;
  }

  /** From the claim to the handler; the two below add up to it. */
  get totalLatencyNs(): number {
    return this.dequeuedNs - this.sentNs;
  }

  /** From the claim until this process took up the poll that it came with. */
  get busLatencyNs(): number {
    return this.receivedNs - this.sentNs;
  }

  /** Behind the others of its poll. */
  get queueLatencyNs(): number {
    return this.dequeuedNs - this.receivedNs;
  }

  /** Follows the lane that the next message is from. */
  follow(reader: Reader): void {
    this.reader = reader;
  }

  private get descriptor(): number {
    return this.reader.window.words[this.reader.current] ?? 0;
  }

  private get kind(): number {
    if ((this.descriptor & record.marked) === 0) return 0;
    return this.reader.window.words[this.reader.current + 1] ?? 0;
  }

  private get start(): number {
    return this.reader.current * 4 + recordHeaderBytes;
  }
}
