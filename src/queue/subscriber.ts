/** The reading end of a queue: any number of them, each at its own pace, in whatever process. */
import { assert, GaplessError } from "../errors.ts";
import type { AwaitedWord } from "../memory/futex.ts";
import { startBeating, stopBeating } from "../memory/heartbeat.ts";
import { readWakes, wake } from "../memory/sleep.ts";
import { checkSignal, checkTimeout, wrong } from "../arguments.ts";
import { openControl, readersBed, type Control } from "./control.ts";
import { resolveDirectory } from "./directory.ts";
import type { Envelope } from "./envelope.ts";
import type { FanInSource } from "./fan-in-source.ts";
import { nextSequence, spotOf, spotOfTime } from "./finding.ts";
import type { HandedSubscriber } from "./hand-over.ts";
import {
  detectDisconnect,
  writerStatus,
  type DisconnectReason,
  type WriterStatus,
} from "./liveness.ts";
import { recordLoss, type LossCause, type QueueLoss } from "./loss-ledger.ts";
import { commitBeyond, subscriberClosed } from "./misuse.ts";
import { checkReaderName, ReaderFile } from "./reader-file.ts";
import { Reading, type MessageHandler } from "./reading.ts";
import type { SegmentMemory } from "./segment.ts";
import type { QueueFiles, Spot } from "./spot.ts";
import { arrivalOf, decideStart, type Start } from "./start.ts";
import {
  resolveSubscriberOptions,
  type ResolvedSubscriberOptions,
  type SubscriberOptions,
} from "./subscriber-options.ts";
import { sleepIntervalMs, Waiting } from "./waiting.ts";

/** A message, and what goes with it. */
export interface QueueMessage {
  readonly sequence: number;
  /** The application's: a u32. */
  readonly type: number;
  /** Nanoseconds since 1970. */
  readonly timestampNs: bigint;
  /** Counts the writers of the queue: that of its own. */
  readonly epoch: number;
  /** Of a batch: a view, valid until the next step. Else a copy. */
  readonly payload: Uint8Array;
}

/** `for await` takes at most so many messages a step. */
const batchMax = 256;

/**
 * Opens a queue to read it as `name`, which one at a time can have.
 *
 *     await using subscriber = openSubscriber("/var/lib/exchange/trades", "ledger");
 *     for await (const batch of subscriber) {
 *       for (const message of batch) apply(message);
 *       subscriber.commit();
 *     }
 *
 * @throws GaplessError DATA_NOT_YET_AVAILABLE where there is no queue yet; CONFIG_INVALID;
 *   ALREADY_OPEN with the process that reads as `name`; DATA_TRIMMED and CHAIN_BROKEN where
 *   `resume-strict` cannot go on; STORAGE_CORRUPT; STORAGE_FULL
 */
export function openSubscriber(
  directory: string,
  name: string,
  options: SubscriberOptions = {},
): Subscriber {
  const folder = resolveDirectory(directory);
  const resolved = resolveSubscriberOptions(folder, options);
  checkReaderName(name);
  const control = openControl(folder, "write");
  try {
    const file = new ReaderFile(folder, name, control.identity);
    try {
      return new Subscriber({ directory: folder, control }, file, resolved);
    } catch (error) {
      file.close();
      throw error;
    }
  } catch (error) {
    control.mapping.unmap();
    throw error;
  }
}

export class Subscriber implements FanInSource {
  readonly directory: string;
  readonly name: string;
  /** What goes with the message that the handler has been given, or that was peeked at. */
  readonly envelope: Envelope;
  /** As `FanInSource.sleep`. */
  readonly sleep: AwaitedWord;

  private readonly queue: QueueFiles;
  private readonly control: Control;
  private readonly file: ReaderFile;
  private readonly options: ResolvedSubscriberOptions;
  private readonly reading: Reading;
  private readonly waiting: Waiting;
  private isOpen = true;

  /** Use `openSubscriber`. With `handed` it goes on where another thread has opened it. */
  constructor(
    queue: QueueFiles,
    file: ReaderFile,
    options: ResolvedSubscriberOptions,
    handed?: Spot,
  ) {
    this.directory = queue.directory;
    this.name = file.name;
    this.queue = queue;
    this.control = queue.control;
    this.file = file;
    this.options = options;
    const { words, address } = queue.control;
    const { wakes: index } = readersBed;
    this.sleep = { words, index, address: address + BigInt(index * 4), expected: 0 };
    const { start, spot } =
      handed === undefined ? this.findStart() : { start: undefined, spot: handed };
    this.reading = new Reading(queue, spot, options);
    this.envelope = this.reading.envelope;
    this.waiting = new Waiting(queue.control, this.reading, file, options);
    try {
      if (start !== undefined) this.begin(start);
    } catch (error) {
      this.reading.close();
      throw error;
    }
    file.noteTaken(this.position - 1);
    startBeating(this);
  }

  get isClosed(): boolean {
    return !this.isOpen;
  }

  /** The sequence that is delivered next. */
  get position(): number {
    return this.reading.position;
  }

  /** Everything through it is dealt with, as far as was committed. */
  get committed(): number {
    return this.file.committed?.sequence ?? 0;
  }

  /** Messages between the one that was taken last and the newest one. */
  get lag(): number {
    return this.reading.lag;
  }

  /**
   * Hands up to `limit` messages to `handler`, in order, and returns how many. It never waits.
   * Where the handler throws, the message that it threw on is not taken. It is not yet while the
   * handler runs either: a `commit` there ends before it, `next` returns it once more, and takes
   * it. A handler that moves the reader, or closes it, ends the poll behind its message.
   *
   *     while (running) {
   *       if (subscriber.poll(onMessage, 256) === 0) await subscriber.wait(1000, signal);
   *       else subscriber.commit();
   *     }
   *
   * @throws GaplessError STORAGE_CORRUPT, DATA_TRIMMED: what comes next is damaged, or was deleted.
   *   So says every call until `skipUnreadable` or a seek; INVALID_OPERATION from within a handler;
   *   CLOSED
   */
  poll(handler: MessageHandler, limit: number): number {
    const { reading } = this;
    const before = reading.position;
    try {
      return reading.poll(handler, limit);
    } finally {
      this.noteStep(before);
    }
  }

  /**
   * Takes the next message and returns a copy of it, or undefined where there is none.
   *
   * @throws GaplessError as `poll`
   */
  next(): QueueMessage | undefined {
    const isThere = this.peek();
    const message = isThere ? this.copy() : undefined;
    if (isThere) this.take();
    else this.noteStep(this.position);
    return message;
  }

  /**
   * Goes back to the message before the position, and returns a copy of it: `next` then returns the
   * same. undefined where none is left. One that is damaged is never passed over: go around it with
   * `seekSequence`.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  previous(): QueueMessage | undefined {
    const before = this.position;
    const isThere = this.reading.stepBack();
    // Retention is told what it needs again.
    this.noteStep(before);
    return isThere ? this.copy() : undefined;
  }

  /**
   * Batches as they come, until the signal aborts or the loop is left. What is committed within the
   * loop is the batch and all before it.
   *
   * @throws GaplessError as `poll`
   */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly QueueMessage[], void, void> {
    while (signal?.aborted !== true) {
      const batch: QueueMessage[] = [];
      const before = this.position;
      this.reading.poll(
        ({ bytes }, offset, length) => {
          const { sequence, type, timestampNs, epoch } = this.envelope;
          const payload = bytes.subarray(offset, offset + length);
          batch.push({ sequence, type, timestampNs, epoch, payload });
        },
        batchMax,
        true,
      );
      this.noteStep(before);
      if (batch.length > 0) yield batch;
      else await this.wait(sleepIntervalMs, signal);
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<readonly QueueMessage[], void, void> {
    return this.batches();
  }

  /**
   * Notes that what was taken so far is dealt with: whoever reads as this name next begins behind
   * it. That survives the process; with `durable` power loss as well, which blocks.
   */
  commit(options: { readonly durable?: boolean } = {}): void {
    this.commitThrough(this.position - 1);
    if (options.durable === true) this.file.sync();
  }

  /**
   * The same, for whoever deals with messages later than it takes them.
   *
   * @throws GaplessError INVALID_OPERATION for what was not taken; CONFIG_INVALID; CLOSED
   */
  commitThrough(sequence: number): void {
    this.checkOpen();
    if (!(Number.isSafeInteger(sequence) && sequence >= 0)) {
      throw wrong("sequence", sequence, "a whole number, 0 or more");
    }
    if (sequence >= this.position) throw commitBeyond(this.directory, sequence, this.position);
    const { reading, file } = this;
    file.noteSeen();
    if (sequence === file.committed?.sequence) return;
    file.commit(sequence, reading.epochAt(sequence));
    reading.forgetEpochsBefore(sequence);
  }

  /**
   * Goes to the message with that sequence, or to where it comes next. Where it was deleted, to the
   * oldest that is left, without a word: `position` tells.
   *
   * @throws GaplessError DATA_NOT_YET_AVAILABLE for one that is further away
   */
  seekSequence(sequence: number): void {
    this.checkOpen();
    if (!Number.isSafeInteger(sequence)) {
      throw wrong("sequence", sequence, "a whole number");
    }
    const next = nextSequence(this.queue);
    if (sequence > next) {
      throw new GaplessError(
        "DATA_NOT_YET_AVAILABLE",
        `sequence=${sequence} is not in the queue in ${this.directory} yet: the next one is ` +
          `${next}.`,
      );
    }
    this.goTo(() => spotOf(this.queue, sequence));
  }

  /**
   * Goes to the first message that is left whose time is not before `timestampNs`, wherever later
   * ones are; where there is none, to the end.
   */
  seekTimestamp(timestampNs: bigint): void {
    this.checkOpen();
    if (typeof timestampNs !== "bigint") {
      throw wrong("timestampNs", timestampNs, "nanoseconds since 1970, a bigint");
    }
    this.goTo(() => spotOfTime(this.queue, timestampNs));
  }

  /**
   * Goes on behind what cannot be read, at the next message that is known to be whole, and records
   * in the loss ledger of the queue what lies between. Where nothing is wrong any more, or nothing
   * is lost, the loss ends before it begins, and is not recorded.
   *
   * @throws GaplessError DATA_NOT_YET_AVAILABLE where nothing whole is known behind it yet
   */
  skipUnreadable(): QueueLoss {
    this.checkOpen();
    let recorded: QueueLoss | undefined;
    const stretch = this.reading.skipUnreadable((loss) => (recorded = this.record(loss)));
    if (recorded === undefined) return { ...stretch, reader: this.name, atMs: Date.now() };
    this.options.onLoss?.(recorded);
    return recorded;
  }

  /**
   * Waits until there is something to poll, `signal` aborts or the time is up. The event loop stays
   * free.
   */
  async wait(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.checkOpen();
    checkTimeout(timeoutMs);
    checkSignal(signal);
    return this.waiting.wait(timeoutMs, signal);
  }

  /** The same for a thread of its own. */
  waitBlocking(timeoutMs: number): void {
    this.checkOpen();
    checkTimeout(timeoutMs);
    this.waiting.block(timeoutMs);
  }

  /**
   * Who writes, and how it is: whether it was seen at work within `ttlMs`. Reads files, some 50 µs.
   */
  writerStatus(ttlMs: number): WriterStatus {
    this.checkOpen();
    return writerStatus(this.control, this.directory, ttlMs);
  }

  /** Why no more is to be expected for now; undefined where it is. As `writerStatus`. */
  detectDisconnect(ttlMs: number): DisconnectReason | undefined {
    this.checkOpen();
    return detectDisconnect(this.control, this.directory, ttlMs);
  }

  /** As `FanInSource.peek`. @throws GaplessError as `poll` */
  peek(): boolean {
    return this.reading.peek();
  }

  /** What the message lies in that was peeked at. */
  get memory(): SegmentMemory {
    return this.reading.memory;
  }

  /** Where its payload begins. */
  get offset(): number {
    return this.reading.payloadOffset;
  }

  /** Bytes of its payload. */
  get length(): number {
    return this.reading.payloadLength;
  }

  /** Takes the message that was peeked at. */
  take(): void {
    this.reading.take();
    this.noteStep(this.position - 1);
  }

  /** As `FanInSource.prepareToSleep`. */
  prepareToSleep(): boolean {
    this.sleep.expected = readWakes(this.control, readersBed);
    return this.waiting.mayFallAsleep();
  }

  /**
   * Lets another thread of this process have it, as `watchQueues` does. Here it is closed; nobody
   * waits in it.
   */
  handOver(): HandedSubscriber {
    this.checkOpen();
    this.isOpen = false;
    stopBeating(this);
    const { segment, offset, sequence, epoch } = this.reading.spot;
    const memory = segment.mapping.handOver();
    this.reading.close();
    const control = this.control.mapping.handOver();
    assert(control !== undefined, "a subscriber is handed over that is closed");
    const { directory, name } = this;
    const spot = { number: segment.number, memory, offset, sequence, epoch };
    return { directory, name, control, file: this.file.handOver(), spot };
  }

  /** Lets another one read as this name. A wait under way returns. Idempotent. */
  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    stopBeating(this);
    this.reading.close();
    this.file.close();
    wake(this.control, readersBed);
    this.control.mapping.unmap();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A reader whose event loop turns is well, also while it deals with what it was given. */
  beatIfIdle(): void {
    this.file.noteSeen();
  }

  /** Records what is lost by where it begins. */
  private begin(start: Start): void {
    const losses = start.losses.map((loss) => this.record(loss));
    // From now on it has a position, whether it ever commits or not.
    const isNew = this.file.committed === undefined;
    if (isNew || losses.length > 0) this.commit();
    for (const loss of losses) this.options.onLoss?.(loss);
  }

  /** Where it begins. Segments may be deleted meanwhile: then it looks again. */
  private findStart(): { start: Start; spot: Spot } {
    const { queue, file } = this;
    const reader = `Reader ${file.name} of ${this.directory}`;
    while (true) {
      const { committed, passedOver } = file;
      const arrival = arrivalOf(queue, reader, this.options.start, committed, passedOver);
      const start = decideStart(arrival);
      const spot = spotOf(queue, start.sequence);
      if (spot.sequence === start.sequence) return { start, spot };
      spot.segment.mapping.unmap();
    }
  }

  /** Retention is kept from what it may need there before it looks for it. */
  private goTo(find: () => Spot): void {
    this.file.noteTaken(0);
    try {
      this.reading.moveTo(find());
    } finally {
      this.file.noteTaken(this.position - 1);
    }
  }

  private record(stretch: { cause: LossCause; from: number; to: number }): QueueLoss {
    const loss = { ...stretch, reader: this.name, atMs: Date.now() };
    recordLoss(this.directory, loss);
    return loss;
  }

  /** Of the message that was peeked at. */
  private copy(): QueueMessage {
    const { sequence, type, timestampNs, epoch } = this.envelope;
    const payload = this.memory.bytes.slice(this.offset, this.offset + this.length);
    return { sequence, type, timestampNs, epoch, payload };
  }

  /** Whoever reads is well, whether it commits or not; and others see how far it is. */
  private noteStep(before: number): void {
    if (!this.isOpen) return;
    const { position } = this.reading;
    if (position !== before) this.file.noteTaken(position - 1);
    this.file.noteSteps(Math.max(1, position - before));
  }

  private checkOpen(): void {
    if (this.isOpen) return;
    throw subscriberClosed(this.directory);
  }
}
