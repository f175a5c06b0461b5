/**
 * Many queues read as one, ordered by time.
 *
 * Greedy by default: the oldest of the messages that are there comes next, and whoever appends
 * later than others, or with a clock that is behind, comes late. With a watermark a message waits
 * until each other source has one as well, or until it is `watermarkMs` old by this machine's
 * clock: so long have late sources had their chance.
 *
 *              now - watermarkMs      now
 *   ------------------|----------------|------> time of messages
 *      delivered      |  held, where a source has nothing
 */
import { systemClock, type Clock } from "../clock.ts";
import { GaplessError } from "../errors.ts";
import { Alarm } from "../memory/alarm.ts";
import { checkLimit, checkOptions, checkSignal, checkTimeout, wrong } from "../arguments.ts";
import { Confluence, type FanInHandler } from "./confluence.ts";
import type { FanInEnvelope, FanInSource } from "./fan-in-source.ts";
import { nestedPoll } from "./misuse.ts";

export interface FanInOptions {
  /**
   * How old a message has to be before it is delivered although a source has nothing. Without it,
   * whatever is there is delivered.
   */
  readonly watermarkMs?: number;
  /** What the age of a message is measured by. */
  readonly clock?: Clock;
}

/** A message of a batch. */
export interface FanInMessage {
  readonly source: string;
  readonly sequence: number;
  readonly type: number;
  readonly epoch: number;
  readonly timestampNs: bigint;
  /** A copy: it may be kept. */
  readonly payload: Uint8Array;
}

/** Sources that are empty, and the clock, are looked at after so many messages. */
const roundMax = 256;
/** `for await` takes at most so many messages a step. */
const batchMax = 256;
/** Nobody sleeps for longer without having looked. */
const sleepMaxMs = 250;

/**
 * Opens a fan-in, which has no sources yet.
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function openFanIn(options: FanInOptions = {}): FanInReader {
  checkOptions("openFanIn", options, { watermarkMs: true, clock: true });
  const { watermarkMs, clock = systemClock } = options;
  if (typeof (clock as Partial<Clock> | null)?.nowNs !== "function") {
    throw wrong("clock", clock, "an object with a method nowNs");
  }
  if (watermarkMs === undefined) return new FanInReader(new Confluence(clock, undefined));
  if (!(typeof watermarkMs === "number" && watermarkMs >= 0 && watermarkMs < Infinity)) {
    throw wrong("watermarkMs", watermarkMs, "milliseconds, 0 or more");
  }
  return new FanInReader(new Confluence(clock, BigInt(Math.round(watermarkMs * 1e6))));
}

/**
 * Merges any number of sources by the time of their messages; of messages of the same time that of
 * the source that was added first comes first. Messages of one source stay in its order, whatever
 * their times.
 *
 *     using fanIn = openFanIn({ watermarkMs: 5 });
 *     for (const name of names) fanIn.add(openSubscriber(directoryOf(name), "ledger"), name);
 *     while (running) {
 *       if (fanIn.poll(onMessage, 256) === 0) await fanIn.wait(1000, signal);
 *       else fanIn.commit();
 *     }
 *
 * The sources stay the caller's: whoever removes one, or closes the fan-in, has them to close.
 */
export class FanInReader {
  private readonly confluence: Confluence;
  private readonly alarm = new Alarm();
  private isPolling = false;
  private isOpen = true;

  /** Use `openFanIn`. */
  constructor(confluence: Confluence) {
    this.confluence = confluence;
  }

  /** Names of the sources, in the order that equal times are delivered in. */
  get names(): readonly string[] {
    return this.confluence.names;
  }

  /** What goes with the message that the handler has been given. Valid until it returns. */
  get envelope(): FanInEnvelope {
    return this.confluence.envelope;
  }

  /** Messages that were delivered after younger ones, since they came too late to be before. */
  get late(): number {
    return this.confluence.late;
  }

  /** Messages of all sources that are there and were not delivered. */
  get lag(): number {
    this.checkOpen();
    return this.confluence.lag;
  }

  /**
   * Adds a source behind the others, also from within a handler and during a wait. What it has that
   * is older than what was delivered already is late.
   *
   * @throws GaplessError CONFIG_INVALID, also where the name or the source is there already; CLOSED
   */
  add(source: FanInSource, name: string): void {
    this.checkOpen();
    if (typeof name !== "string" || name === "") throw wrong("name", name, "a name for the source");
    if (typeof (source as Partial<FanInSource> | null | undefined)?.peek !== "function") {
      throw wrong("source", source, "a subscriber, or another source");
    }
    const other = this.confluence.nameOf(source, name);
    if (other !== undefined) {
      throw new GaplessError(
        "CONFIG_INVALID",
        other === name
          ? `The fan-in has a source ${name} already: each needs a name of its own.`
          : `Sources ${other} and ${name} of the fan-in are one: each needs its own reader.`,
      );
    }
    this.confluence.add(source, name);
    this.alarm.ring();
  }

  /**
   * Removes a source, also from within a handler and during a wait, and leaves it open. What was
   * delivered of it and not committed stays so: who opens the source anew gets it again. `commit`
   * before the removal covers it. A message whose own handler removes its source counts as
   * delivered; what comes behind it is left in the source.
   *
   * @returns false where there is none of that name
   */
  remove(name: string): boolean {
    this.checkOpen();
    const isRemoved = this.confluence.remove(name);
    // What was held back for its sake may go.
    if (isRemoved) this.alarm.ring();
    return isRemoved;
  }

  /**
   * Hands up to `limit` messages to `handler` and returns how many. It never waits. Where the
   * handler throws, the message that it threw on is not taken.
   *
   * @throws GaplessError what a source has to say of its next message, such as STORAGE_CORRUPT:
   *   nobody knows the time of that message, so none is delivered until it is put right, or the
   *   source is removed; INVALID_OPERATION from within a handler, or where somebody else has taken
   *   from a source; CLOSED
   */
  poll(handler: FanInHandler, limit: number): number {
    this.checkOpen();
    if (this.isPolling) throw nestedPoll("a fan-in");
    this.isPolling = true;
    let count = 0;
    try {
      while (count < limit && this.isOpen && this.look(count === 0)) {
        const wanted = Math.min(limit - count, roundMax);
        const delivered = this.confluence.deliver(handler, wanted);
        count += delivered;
        if (delivered < wanted) break;
      }
    } finally {
      this.isPolling = false;
    }
    if (count === 0) checkLimit(limit);
    return count;
  }

  /**
   * Commits what was delivered, and nothing else. Each source does so by itself: a process that
   * dies within gets the messages of those again that had not. Within a handler, the message that
   * it has is not delivered yet.
   *
   * @throws what a source throws; the others are committed all the same
   */
  commit(): void {
    this.checkOpen();
    this.confluence.commit();
  }

  /**
   * Batches as they come, until the signal aborts or the loop is left. A batch counts as delivered
   * when the loop gets it: `commit` within the loop covers it.
   *
   *     for await (const batch of fanIn.batches(signal)) { await store(batch); fanIn.commit(); }
   *
   * @throws GaplessError as `poll`, after the batch of what came before
   */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly FanInMessage[], void, void> {
    while (signal?.aborted !== true) {
      const batch: FanInMessage[] = [];
      this.poll((source, { bytes }, offset, length) => {
        const { sequence, type, epoch, timestampNs } = this.confluence.envelope;
        const payload = bytes.slice(offset, offset + length);
        batch.push({ source, sequence, type, epoch, timestampNs, payload });
      }, batchMax);
      if (batch.length > 0) yield batch;
      else await this.wait(sleepMaxMs, signal);
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<readonly FanInMessage[], void, void> {
    return this.batches();
  }

  /**
   * Waits until there is something to poll, `signal` aborts or the time is up. Any source wakes it,
   * and so does the moment at which what is held may go. The event loop stays free.
   */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.checkOpen();
    checkTimeout(timeoutMs);
    checkSignal(signal);
    const deadline = performance.now() + timeoutMs;
    const wakeUp = (): void => this.alarm.ring();
    signal?.addEventListener("abort", wakeUp, { once: true });
    try {
      while (this.isOpen && signal?.aborted !== true) {
        const words = this.confluence.prepareToSleep();
        const leftMs = this.sleepMsBefore(deadline);
        if (words === undefined || leftMs <= 0) return;
        await this.alarm.sleep(words, leftMs);
      }
    } finally {
      signal?.removeEventListener("abort", wakeUp);
    }
  }

  /** The same for a thread of its own. */
  waitBlocking(timeoutMs: number): void {
    this.checkOpen();
    checkTimeout(timeoutMs);
    const deadline = performance.now() + timeoutMs;
    while (true) {
      const words = this.confluence.prepareToSleep();
      const leftMs = this.sleepMsBefore(deadline);
      if (words === undefined || leftMs <= 0) return;
      this.alarm.sleepBlocking(words, leftMs);
    }
  }

  /** Lets go of the sources, commits nothing, and ends a wait under way. Idempotent. */
  close(): void {
    this.isOpen = false;
    this.confluence.end();
    this.alarm.ring();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** False where a source throws, and it is to be seen first what came before. */
  private look(isFirst: boolean): boolean {
    try {
      this.confluence.look();
      return true;
    } catch (error) {
      if (isFirst) throw error;
      return false;
    }
  }

  private sleepMsBefore(deadline: number): number {
    return Math.min(deadline - performance.now(), this.confluence.heldForMs, sleepMaxMs);
  }

  private checkOpen(): void {
    if (!this.isOpen) throw new GaplessError("CLOSED", "The fan-in is closed.");
  }
}
