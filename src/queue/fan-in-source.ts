/** What a source of a `FanInReader` has to do. A `Subscriber` does it. */
import type { AwaitedWord } from "../memory/futex.ts";
import type { SegmentMemory } from "./segment.ts";

/** What goes with a message. */
export interface FanInEnvelope {
  readonly sequence: number;
  readonly type: number;
  readonly epoch: number;
  /** Nanoseconds since 1970. Made when it is asked for: it allocates. */
  readonly timestampNs: bigint;
  /** The upper 32 bits of it, as an unsigned number. */
  readonly timestampHigh: number;
  /** The lower 32 bits of it, as an unsigned number. */
  readonly timestampLow: number;
}

/**
 * A queue that is read message by message. Nobody else takes from it as long as it is a source.
 *
 *     while (source.peek()) { look(source.envelope, source.memory); source.take(); }
 */
export interface FanInSource {
  /**
   * Looks at the next message without taking it: whether there is one. Where there is, the four
   * fields below are about it until it is taken. Called again before that, it says the same. What
   * is wrong with the next message is thrown by every call until it is put right.
   */
  peek(): boolean;

  /** Of the message that was peeked at. One object, or a few: no new one a message. */
  readonly envelope: FanInEnvelope;
  /** What its payload lies in. Readable until the `peek` that comes after its `take`. */
  readonly memory: SegmentMemory;
  /** Where its payload begins in `memory.bytes`. */
  readonly offset: number;
  /** Bytes of its payload. */
  readonly length: number;

  /** Takes the message that was peeked at: the next peek is at the one behind it. Never fails. */
  take(): void;

  /** Commits all that was taken through `sequence`, which is never more than that. */
  commitThrough(sequence: number): void;

  /** Messages that are there and were not taken, the one that was peeked at among them. */
  readonly lag: number;

  /**
   * To be called before each sleep. Notes the count of wake-ups in `sleep.expected`, then tells
   * the writer that somebody sleeps, then looks once more: false where `peek` would find a
   * message, or throw. It may be called where no sleep follows.
   */
  prepareToSleep(): boolean;

  /** What to sleep on: the count of wake-ups in the control file. It is there until the close. */
  readonly sleep: AwaitedWord;
}
