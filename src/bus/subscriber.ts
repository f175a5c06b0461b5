/** A consuming end of a channel. Every consumer sees every message, each at its own pace. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { GaplessError, isGaplessError } from "../errors.ts";
import { startBeating, stopBeating } from "../memory/heartbeat.ts";
import {
  announceSleep,
  readWakes,
  sleepBlocking,
  sleepOn,
  wake,
  type SleepMemory,
} from "../memory/sleep.ts";
import { haveFinished } from "./ending.ts";
import { Envelope } from "./envelope.ts";
import type { Lane } from "./lane.ts";
import { Reader, type MessageHandler, type ReaderOptions } from "./reader.ts";
import { consumersBed } from "./sleep.ts";

/**
 *   park             sleeps at once: costs nothing while nothing comes
 *   spin-then-park   looks for `spinMicros` first
 *   busy-spin        never sleeps; an asynchronous wait looks once a turn of the event loop
 */
export type WaitStrategy = "park" | "spin-then-park" | "busy-spin";

export interface WaitOptions {
  readonly strategy: WaitStrategy;
  readonly spinMicros: number;
}

/** A message of a batch. `bytes` is a view of the ring: valid until the next step. */
export interface BusMessage {
  readonly bytes: Uint8Array;
  readonly sequence: number;
  readonly producer: string;
  readonly topic: string;
}

/** A sleeper says so often that it is well, and looks whether a producer has died in the middle. */
const settleIntervalMs = 250;
/** So many polls that find nothing are followed by a look around. */
const pollsPerLook = 4096;
/** `for await` takes at most so many messages a step. */
const batchMax = 256;

/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations?: number): void };

export class Subscriber {
  /** What goes with the message that the handler has been given. */
  readonly envelope: Envelope;

  /** One a lane, the highest priority first. */
  private readonly readers: readonly [Reader, ...Reader[]];
  private readonly lanes: readonly Lane[];
  private readonly channel: string;
  private readonly sleep: SleepMemory;
  private readonly copies: boolean;
  private readonly waiting: WaitOptions;
  private emptyPolls = 0;
  private isOpen = true;
  private readonly onClosed: () => void;

  /** Use `Bus.subscriber`. */
  constructor(
    lanes: readonly [Lane, ...Lane[]],
    consumer: number,
    options: ReaderOptions & WaitOptions,
    onClosed = () => {},
  ) {
    const [{ channel, sleep }] = lanes;
    this.lanes = lanes;
    this.channel = channel.name;
    this.sleep = sleep;
    this.copies = channel.backpressure.mode === "DropOldest";
    this.waiting = options;
    this.onClosed = onClosed;
    const readers: Reader[] = [];
    try {
      for (const lane of lanes) readers.unshift(new Reader(lane, consumer, options));
    } catch (error) {
      for (const reader of readers) reader.close();
      throw error;
    }
    this.readers = readers as [Reader, ...Reader[]];
    this.envelope = new Envelope(this.readers[0], channel.producers);
    startBeating(this);
  }

  /** Whether producers went on without this consumer: messages may be missing before the next. */
  get hadFailed(): boolean {
    return this.readers.some((reader) => reader.hadFailed);
  }

  /**
   * Hands up to `limit` messages to `handler` and returns how many: those of a higher priority
   * first, of one priority in order. It never waits. They stay held until `release`; while nothing
   * is, what is only passed over, as other topics are, is released at once. Where the handler
   * throws, the message that it threw on is not taken.
   *
   *     while (running) {
   *       if (subscriber.poll(onMessage, 256) === 0) await subscriber.wait(1000, signal);
   *       else subscriber.release();
   *     }
   *
   * @throws GaplessError MESSAGES_LOST where this consumer was so slow that producers went on
   *   without it while it read: then what this poll handed out is not to be used
   */
  poll(handler: MessageHandler, limit: number): number {
    const { readers } = this;
    let count = 0;
    for (let index = 0; index < readers.length && count < limit; index++) {
      // In range. A fallback would cost a branch a lane.
      // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
      const reader = readers[index]!;
      this.envelope.follow(reader);
      try {
        count += reader.poll(handler, limit - count);
      } catch (error) {
        // None of what this poll handed out is to be used, of higher lanes neither.
        if (isGaplessError(error, "MESSAGES_LOST")) {
          for (const other of readers.slice(0, index)) other.takeBack();
        }
        throw error;
      }
    }
    if (count === 0) this.noteEmptyPoll();
    return count;
  }

  /** Lets producers overwrite what was taken. */
  release(): void {
    this.checkOpen();
    for (const reader of this.readers) reader.release();
  }

  /**
   * Takes the next message and returns a copy of it, or undefined where there is none. What was
   * read before is released.
   */
  read(): Uint8Array | undefined {
    let bytes: Uint8Array | undefined;
    this.release();
    this.poll((memory, offset, length) => {
      bytes = memory.bytes.slice(offset, offset + length);
    }, 1);
    return bytes;
  }

  /**
   * Batches as they come, until the stream has ended, the signal aborts or the loop is left. A
   * batch is released by the step after it: a process that dies within the loop gets it again.
   *
   *     for await (const batch of subscriber.batches(signal)) handle(batch);
   *
   * @throws GaplessError MESSAGES_LOST as `poll`, of the batch before where it was looked at for
   *   so long that producers went on without this consumer
   */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly BusMessage[], void, void> {
    while (signal?.aborted !== true) {
      const batch: BusMessage[] = [];
      this.poll(({ bytes }, offset, length) => {
        const { sequence, producer, topic } = this.envelope;
        // A window that was copied out of the ring lasts until the next one only.
        const end = offset + length;
        const part = this.copies ? bytes.slice(offset, end) : bytes.subarray(offset, end);
        batch.push({ bytes: part, sequence, producer, topic });
      }, batchMax);
      if (batch.length > 0) {
        yield batch;
        this.checkHeld();
        this.release();
      } else {
        if (this.ended) return;
        await this.wait(settleIntervalMs, signal);
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<readonly BusMessage[], void, void> {
    return this.batches();
  }

  /** Newest sequence of a level of priority that was taken, or is known to be lost. */
  taken(priority = 0): number {
    this.checkOpen();
    return this.readers.find((reader) => reader.priority === priority)?.sequence ?? 0;
  }

  /** Messages between the one that was taken last and the newest one. */
  get lag(): number {
    this.checkOpen();
    return this.readers.reduce((sum, reader) => sum + reader.lag, 0);
  }

  /** Bytes of the ring, headers included, between what was taken and the newest message. */
  get lagBytes(): number {
    this.checkOpen();
    return this.readers.reduce((sum, reader) => sum + reader.lagBytes, 0);
  }

  /** Whether everything was taken and no producer has anything to follow. */
  get ended(): boolean {
    this.checkOpen();
    return haveFinished(this.lanes) && this.readers.every((reader) => reader.isEmpty);
  }

  /**
   * Waits until there is something to poll, the stream ends, `signal` aborts or the time is up.
   * The event loop stays free.
   */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    this.checkOpen();
    if (this.spins()) return;
    if (this.waiting.strategy === "busy-spin") {
      while (performance.now() < deadline && signal?.aborted !== true && this.isIdle()) {
        await nextTurn();
      }
      return;
    }
    const wakeUp = (): void => wake(this.sleep, consumersBed);
    signal?.addEventListener("abort", wakeUp, { once: true });
    try {
      while (this.isOpen && signal?.aborted !== true) {
        const leftMs = this.lookAround(deadline);
        const wakes = readWakes(this.sleep, consumersBed);
        if (leftMs <= 0 || !this.prepareToSleep()) break;
        await sleepOn(this.sleep, consumersBed, wakes, leftMs);
      }
    } finally {
      signal?.removeEventListener("abort", wakeUp);
    }
  }

  /** The same for a thread of its own. */
  waitBlocking(timeoutMs: number): void {
    const deadline = performance.now() + timeoutMs;
    this.checkOpen();
    if (this.spins()) return;
    if (this.waiting.strategy === "busy-spin") {
      while (this.isIdle() && performance.now() < deadline) atomics.pause();
      return;
    }
    while (true) {
      const leftMs = this.lookAround(deadline);
      const wakes = readWakes(this.sleep, consumersBed);
      if (leftMs <= 0 || !this.prepareToSleep()) return;
      sleepBlocking(this.sleep, consumersBed, wakes, leftMs);
    }
  }

  /**
   * Leaves the end; whoever takes it next begins with what was not released. A wait under way
   * returns. Idempotent.
   */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    stopBeating(this);
    for (const reader of this.readers) reader.close();
    wake(this.sleep, consumersBed);
    this.onClosed();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** A consumer that has nothing to do is well; one that has is seen by what it releases. */
  beatIfIdle(): void {
    for (const reader of this.readers) if (reader.isEmpty) reader.seat.beat();
  }

  /** @throws GaplessError MESSAGES_LOST where the batch that is held may have been overwritten. */
  private checkHeld(): void {
    for (const loser of this.readers) {
      if (!loser.hasLostHeld) continue;
      for (const reader of this.readers) reader.takeBackHeld();
      throw loser.lostWhileReading(undefined);
    }
  }

  private isIdle(): boolean {
    if (!this.isOpen) return false;
    this.noteEmptyPoll();
    return this.readers.every((reader) => reader.isEmpty) && !this.ended;
  }

  /** Looks for a while, where the strategy says so. True where there was something. */
  private spins(): boolean {
    if (this.waiting.strategy !== "spin-then-park") return false;
    const end = performance.now() + this.waiting.spinMicros / 1000;
    do {
      for (let look = 0; look < 32; look++) {
        if (this.readers.some((reader) => !reader.isEmpty)) return true;
        atomics.pause(16);
      }
    } while (performance.now() < end);
    return false;
  }

  /** A loop that never waits has no timer: it says that it is well, and settles what is dead. */
  private noteEmptyPoll(): void {
    if (++this.emptyPolls % pollsPerLook !== 0) return;
    this.checkOpen();
    this.beatIfIdle();
    for (const reader of this.readers) reader.seat.settleTheDead();
  }

  /** What has to be done before a sleep. Returns how long that may last. */
  private lookAround(deadline: number): number {
    this.beatIfIdle();
    const leftMs = deadline - performance.now();
    for (const reader of this.readers) reader.seat.settleTheDead();
    return Math.min(leftMs, settleIntervalMs);
  }

  /** False where there is a reason not to sleep. */
  private prepareToSleep(): boolean {
    // SYNC consumer-asleep: the flag, then another look; a commit stores the tail, then looks at
    // the flag.
    announceSleep(this.sleep, consumersBed);
    return this.readers.every((reader) => reader.isEmpty) && !this.ended;
  }

  private checkOpen(): void {
    if (this.isOpen) return;
    throw new GaplessError("CLOSED", `An end of channel ${this.channel} is closed.`);
  }
}
