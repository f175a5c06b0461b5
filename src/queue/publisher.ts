/**
 * The writing end of a queue: one at a time, in whatever process.
 *
 *   segment n    | record | record | record | end mark
 *   segment n+1  | record | record | 0 ...
 *                                  end
 *
 * A record is completed by one compare-and-swap of its length, which is 0 until then. Whoever
 * takes over from a writer that may still be alive puts an end mark there: the old writer's swap
 * then fails, whenever it wakes up, and nothing that it wrote is ever seen.
 */
import { setTimeout as pause } from "node:timers/promises";
import { GaplessError } from "../errors.ts";
import { beatAt, renewClock, startBeating, stopBeating } from "../memory/heartbeat.ts";
import { wake } from "../memory/sleep.ts";
import { reachedStep } from "../steps.ts";
import { notePosition, readersBed, type Control } from "./control.ts";
import { checkArray, checkSignal, checkTimeout } from "../arguments.ts";
import { checksums, type Checksum } from "./checksum.ts";
import { Durable, type Receipt } from "./durable.ts";
import {
  controlOffset,
  endMark,
  payloadBytesMaxOf,
  positionSalt,
  recordHeaderBytes,
  recordOffset,
  spaceOf,
} from "./layout.ts";
import { mayGrow } from "./limits.ts";
import { claimOpen, noClaim } from "./misuse.ts";
import type { ResolvedOptions } from "./options.ts";
import { recordWord } from "./record.ts";
import { RecordClock } from "./record-clock.ts";
import type { Recovered } from "./recovery.ts";
import {
  beginSegment,
  sealSegment,
  type Segment,
  type SegmentMemory,
  type SegmentPlan,
} from "./segment.ts";
import { addEntry, nextStride } from "./sparse-index.ts";
import { obtainSegment, type SegmentSupply } from "./supply.ts";

/** Instead of a sequence: a limit refuses it. Nothing was written; readers have to come on. */
export const BACK_PRESSURED = -1;

/** A record to be appended. */
export interface Entry {
  /** The application's: a u32. */
  readonly type: number;
  readonly payload: Uint8Array;
  /** Nanoseconds since 1970; the clock's where there is none. */
  readonly timestampNs?: bigint;
}

const wordRange = 2 ** 32;
/** A blocked append looks so often whether there is room. */
const roomCheckMs = 1;
const roomCheckAsyncMs = 10;
const roomWaitMs = 1000;
/** How much of a segment is written when the next one is wished for, and when it is looked for. */
const wishShare = 1 / 8;
const lookShare = 1 / 2;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));

/*
 * Of other modules, as constants of this one: the compiler puts those into the code of an append,
 * and loads and checks what is imported each time.
 */
const headerBytes = recordHeaderBytes;
const inRecord = recordWord;
const timestampOffset = recordOffset.timestamp;
const sequenceOffset = recordOffset.sequence;
const salt = positionSalt;
const inControl = {
  segment: controlOffset.segment / 4,
  end: controlOffset.end / 4,
  sequence: controlOffset.sequence / 8,
  positionCheck: controlOffset.positionCheck / 4,
  heartbeat: controlOffset.heartbeat / 4,
  asleep: readersBed.asleep,
} as const;

export interface PublisherParts {
  readonly directory: string;
  readonly control: Control;
  readonly epoch: number;
  readonly recovered: Recovered;
  readonly options: ResolvedOptions;
  readonly supply: SegmentSupply;
  /** Gives the queue back to others. */
  readonly release: () => void;
}

export class Publisher {
  readonly directory: string;
  /** Counts the writers of the queue; each record has that of its writer. */
  readonly epoch: number;

  /** The same as it is stored, and loaded. */
  private readonly epochWord: number;
  private readonly control: Control;
  private readonly words: Int32Array;
  private readonly doubles: Float64Array;
  private readonly plan: SegmentPlan;
  private readonly options: ResolvedOptions;
  private readonly supply: SegmentSupply;
  private readonly durable: Durable;
  private readonly release: () => void;
  private readonly clock = new RecordClock();
  private readonly payloadBytesMax: number;
  private isFenced = false;
  private closing: Promise<void> | undefined;

  /** The segment that is written; nothing before the first, and once it is closed. */
  private segment: Segment = nothing;
  private number: number;
  private checksum: Checksum = checksums.none;
  /** Where the next record begins. */
  private end = 0;
  private capacity = 0;
  private firstSequence = 0;
  private sequence: number;
  /** Greatest time of all records, in two unsigned words. */
  private latestLow = 0;
  private latestHigh = 0;
  /** A record that begins at or behind it gets an entry in the index. */
  private indexDue = 0;
  /** The next segment is wished for, and later looked for, once the end is behind it. */
  private supplyDue = 0;
  private isWished = false;
  /** Whether somebody has made the pages of the segment ready. */
  private isReady = false;

  /** Of the claim that is open; 0: none is. */
  private claimed = 0;
  private claimedType = 0;

  /** Use `openPublisher`. */
  constructor(parts: PublisherParts) {
    const { directory, control, epoch, recovered, options, supply, release } = parts;
    const { tail } = recovered;
    this.directory = directory;
    this.epoch = epoch >>> 0;
    this.epochWord = epoch | 0;
    this.control = control;
    this.words = control.words;
    this.doubles = control.doubles;
    this.options = options;
    this.supply = supply;
    this.release = release;
    const { identity } = control;
    this.plan = { identity, bytes: options.segmentBytes, checksum: options.checksum };
    this.payloadBytesMax = payloadBytesMaxOf(options.segmentBytes);
    this.number = recovered.numberNext - 1;
    this.sequence = tail?.lastSequence ?? 0;
    this.latestLow = Number((tail?.latestNs ?? 0n) & 0xffff_ffffn);
    this.latestHigh = Number((tail?.latestNs ?? 0n) >> 32n);
    this.clock.advance(this.latestHigh, this.latestLow);
    const { sequence: appended, number } = this;
    const start = { appended, durable: recovered.durableSequence, number };
    // From then on every append takes the slow path, and is told.
    const onFailure = (): void => void (this.capacity = 0);
    this.durable = new Durable(directory, control, start, options.durability, onFailure);
    if (tail?.hasEnded === false) {
      this.enter(tail.segment, tail.beginning.firstSequence, tail.end);
    } else if (tail !== undefined) {
      this.durable.retire(tail.segment, tail.end);
      tail.segment.mapping.unmap();
    }
    this.beatIfIdle();
    startBeating(this);
  }

  /**
   * Where the payload of an open claim is written, at the offset that `claim` has returned: valid
   * until it is committed or aborted. It is the whole segment, and nothing checks where you write:
   * without a claim, or outside of it, that is damage.
   */
  get memory(): SegmentMemory {
    return this.segment;
  }

  /** The newest sequence; 0 before the first record. */
  get lastSequence(): number {
    return this.sequence;
  }

  /** The newest sequence that survives power loss, as far as is known. */
  get durableSequence(): number {
    return this.durable.sequence;
  }

  /**
   * Appends a record, and returns its sequence, or BACK_PRESSURED. When it returns, the record
   * survives SIGKILL of this process, and readers see it; for the device see `publish`, `flush`.
   *
   * @param type The application's: a u32.
   * @param timestampNs Nanoseconds since 1970; the clock's where there is none.
   * @throws GaplessError PAYLOAD_TOO_LARGE; STORAGE_FULL, after which the same call succeeds once
   *   there is room; FENCED once another writer has taken over; INPUT_MALFORMED for a type that is
   *   no u32; CLAIM_OPEN; CLOSED. After a sync that failed, what `flush` threw
   */
  append(type: number, payload: Uint8Array, timestampNs?: bigint): number {
    checkPayload(payload);
    const start = this.claim(type, payload.length, timestampNs);
    if (start < 0) return start;
    this.segment.bytes.set(payload, start);
    return this.commit();
  }

  /**
   * Claims room for a payload, and returns where in `memory` it begins, or BACK_PRESSURED. It is to
   * be written there, and then committed or aborted: one claim at a time.
   *
   *     const start = publisher.claim(type, 16);
   *     if (start >= 0) {
   *       publisher.memory.view.setFloat64(start, price, true);
   *       publisher.commit();
   *     }
   *
   * @throws GaplessError as `append`
   */
  claim(type: number, length: number, timestampNs?: bigint): number {
    const hasRoom =
      length >>> 0 === length &&
      length <= this.payloadBytesMax &&
      this.end + spaceOf(headerBytes + length) <= this.capacity;
    if (!hasRoom && !this.makeRoom(length)) return BACK_PRESSURED;
    checkType(type);
    if (this.claimed !== 0) throw claimOpen(this.directory);
    if (timestampNs === undefined) {
      this.clock.read();
      this.stamp(this.end);
    } else {
      checkTime(timestampNs);
      this.segment.view.setBigUint64(this.end + timestampOffset, timestampNs, true);
    }
    this.claimed = headerBytes + length;
    this.claimedType = type;
    return this.end + headerBytes;
  }

  /**
   * Completes the record that was claimed, and returns its sequence.
   *
   * @throws GaplessError FENCED: another writer has taken over, and the record is not in the queue;
   *   INVALID_OPERATION without a claim; CLOSED
   */
  commit(): number {
    const { segment, end, claimed } = this;
    if (claimed === 0) throw this.nothingClaimed();
    this.claimed = 0;
    this.describe(end, claimed, this.claimedType, this.sequence + 1);
    const next = end + spaceOf(claimed);
    this.complete(end, claimed, next);
    this.note(segment, end, ++this.sequence);
    this.moveTo(next);
    return this.sequence;
  }

  /** Gives a claim back; no record comes of it. Without one, and once closed, it does nothing. */
  abort(): void {
    if (this.claimed === 0) return;
    this.segment.bytes.fill(0, this.end + recordOffset.sum, this.end + this.claimed);
    this.claimed = 0;
  }

  /**
   * Appends records, and returns the sequence of the last, or BACK_PRESSURED. All of them are
   * there for a reader and after SIGKILL of this process, or none is: they lie in one segment.
   * Those without a time of their own have that of the call.
   *
   * @throws GaplessError as `append`; PAYLOAD_TOO_LARGE where they do not fit into a segment;
   *   CONFIG_INVALID where it is given no array
   */
  appendMany(entries: readonly Entry[]): number {
    checkArray("entries", entries, "records");
    if (this.claimed !== 0) throw claimOpen(this.directory);
    if (entries.length === 0) return this.sequence;
    const { payloadBytesMax } = this;
    let space = 0;
    for (const entry of entries as readonly (Entry | null | undefined)[]) {
      const { type, payload, timestampNs } = entry ?? noEntry;
      checkType(type);
      checkPayload(payload);
      const { length } = payload;
      // Before the space, whose 32 bits it does not fit into.
      if (length > payloadBytesMax) throw tooLarge(this.directory, length, payloadBytesMax);
      if (timestampNs !== undefined) checkTime(timestampNs);
      space += spaceOf(headerBytes + payload.length);
    }
    if (this.end + space > this.capacity) {
      if (!this.makeRoom(space - headerBytes)) return BACK_PRESSURED;
    }
    const { segment, end } = this;
    const firstBytes = entries[0]?.payload.length ?? 0;
    let at = end;
    let { sequence } = this;
    this.clock.read();
    for (const { type, payload, timestampNs } of entries) {
      const length = headerBytes + payload.length;
      segment.bytes.set(payload, at + headerBytes);
      if (timestampNs === undefined) this.stamp(at);
      else segment.view.setBigUint64(at + timestampOffset, timestampNs, true);
      this.describe(at, length, type, ++sequence);
      // Nobody sees those behind the first before that one is complete.
      if (at > end) segment.words[at >>> 2] = length;
      at += spaceOf(length);
    }
    this.complete(end, headerBytes + firstBytes, at);
    for (let start = end; start < at; start += spaceOf(segment.words[start >>> 2] ?? 0)) {
      this.note(segment, start, ++this.sequence);
    }
    this.moveTo(at);
    return this.sequence;
  }

  /**
   * Appends a record, and waits until it has reached the level that the queue is to have: for
   * `sync` that is the device, else the page cache. Where a limit refuses it, it waits for room;
   * `signal` ends that, and then nothing was appended. A record that was is waited for to the end.
   *
   * @throws GaplessError as `append` and `flush`
   */
  async publish(
    type: number,
    payload: Uint8Array,
    options: { readonly timestampNs?: bigint; readonly signal?: AbortSignal } = {},
  ): Promise<Receipt> {
    const { timestampNs, signal } = options;
    checkSignal(signal);
    signal?.throwIfAborted();
    let sequence = this.append(type, payload, timestampNs);
    while (sequence === BACK_PRESSURED) {
      await this.waitForRoom(payload.length, roomWaitMs, signal);
      signal?.throwIfAborted();
      sequence = this.append(type, payload, timestampNs);
    }
    if (this.options.durability === "sync") await this.durable.flush();
    return { sequence, level: this.durable.level(sequence) };
  }

  /**
   * Makes durable what was appended before the call. Calls at the same time share their syncs.
   *
   * @throws GaplessError SYSTEM_CALL_FAILED where the device failed; STORAGE_CORRUPT where the
   *   segment that is written was removed. That is final: what was lost cannot be told, so the
   *   queue takes nothing more until it is opened again. CLOSED
   */
  async flush(): Promise<Receipt> {
    this.checkOpen();
    await this.durable.flush();
    return { sequence: this.durable.sequence, level: "device" };
  }

  /** What a record that was appended outlives by now. */
  level(sequence: number): Receipt["level"] {
    return this.durable.level(sequence);
  }

  /**
   * Waits until a payload of `length` bytes could be appended, and returns whether it could. The
   * event loop stays free.
   *
   * @throws GaplessError PAYLOAD_TOO_LARGE, INPUT_MALFORMED for what no append takes; CLOSED
   */
  async waitForRoom(length: number, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    this.checkOpen();
    this.checkLength(length);
    checkTimeout(timeoutMs);
    checkSignal(signal);
    const deadline = performance.now() + timeoutMs;
    while (!this.hasRoom(spaceOf(headerBytes + length))) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0 || signal?.aborted === true) return false;
      await pause(Math.min(leftMs, roomCheckAsyncMs));
      this.checkOpen();
    }
    return true;
  }

  /**
   * Makes everything durable, closes, and lets others open it. Idempotent.
   *
   * @throws GaplessError what the last sync threw; it is closed nevertheless
   */
  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A writer that has nothing to write is well. */
  beatIfIdle(): void {
    if (!this.isWriter()) return;
    if (this.segment !== nothing) {
      // One that was fenced can have stored its own when it woke up, and no append may come.
      const { number: segment, end, sequence } = this;
      notePosition(this.control, { segment, end, sequence });
    }
    beatAt(this.words, inControl.heartbeat);
  }

  private async shutDown(): Promise<void> {
    stopBeating(this);
    if (this.claimed !== 0) this.abort();
    // Whatever is called from now on takes the slow path, and is told.
    this.capacity = 0;
    try {
      await this.durable.close();
    } finally {
      if (this.isWriter()) Atomics.store(this.words, controlOffset.open / 4, 0);
      if (this.segment !== nothing) this.supply.giveBack(this.segment);
      this.segment = nothing;
      await this.supply.close();
      this.release();
      this.control.mapping.unmap();
    }
  }

  /** Gives the record at `offset` the time that the clock was read at. */
  private stamp(offset: number): void {
    const { words } = this.segment;
    const word = (offset >>> 2) + inRecord.timestamp;
    words[word] = this.clock.low;
    words[word + 1] = this.clock.high;
  }

  /** Stores all of a record but its length, its time and its payload, which is there. */
  private describe(offset: number, length: number, type: number, sequence: number): void {
    const { words } = this.segment;
    const word = offset >>> 2;
    words[word + inRecord.sequence] = sequence;
    words[word + inRecord.sequence + 1] = sequence < wordRange ? 0 : sequence / wordRange;
    words[word + inRecord.type] = type;
    words[word + inRecord.epoch] = this.epochWord;
    words[word + inRecord.sum] = this.checksum(
      this.segment,
      offset + sequenceOffset,
      offset + length,
      offset,
    );
  }

  /** Stores the length of the record at `offset`, behind which the next one begins at `next`. */
  private complete(offset: number, length: number, next: number): void {
    const { words } = this.segment;
    // What an earlier writer or an aborted claim has left there is no length.
    if (next < this.capacity) words[next >>> 2] = 0;
    // SYNC record-complete: after all of it; pairs with Cursor.look. By a swap, so that it fails
    // where another writer has ended the segment.
    if (Atomics.compareExchange(words, offset >>> 2, 0, length) !== 0) throw this.fenced();
  }

  /** Keeps what is known of the times up with the record at `offset`, which is complete. */
  private note(segment: Segment, offset: number, sequence: number): void {
    const { words } = segment;
    if (offset >= this.indexDue) {
      addEntry(segment, sequence - this.firstSequence, this.latestNs, offset);
      this.indexDue = nextStride(segment, offset);
    }
    const word = (offset >>> 2) + inRecord.timestamp;
    const low = (words[word] ?? 0) >>> 0;
    const high = (words[word + 1] ?? 0) >>> 0;
    if (high < this.latestHigh || (high === this.latestHigh && low <= this.latestLow)) return;
    this.latestHigh = high;
    this.latestLow = low;
  }

  /** Tells everybody that the log ends at `end` now. */
  private moveTo(end: number): void {
    const { words, doubles, sequence } = this;
    this.end = end;
    // Again each time: one that was fenced can have stored its own when it woke up.
    words[inControl.segment] = this.number;
    words[inControl.end] = end;
    doubles[inControl.sequence] = sequence;
    words[inControl.positionCheck] = this.number ^ end ^ sequence ^ salt;
    beatAt(words, inControl.heartbeat);
    this.durable.appended(sequence, end);
    reachedStep("queue.appended");
    // SYNC reader-asleep: the record is complete before; a reader sets the flag, then looks.
    if (Atomics.load(words, inControl.asleep) !== 0) wake(this.control, readersBed);
    if (end >= this.supplyDue) this.askForNext();
  }

  /** The way of what has no room in this segment. False where a limit refuses the next one. */
  private makeRoom(length: number): boolean {
    this.checkOpen();
    if (this.claimed !== 0) throw claimOpen(this.directory);
    this.checkLength(length);
    const space = spaceOf(headerBytes + length);
    if (!this.hasRoom(space) && !this.waitBlocking(space)) {
      // Otherwise it would be told to try again for ever.
      if (!this.isWriter()) throw this.fenced();
      return false;
    }
    if (this.end + space > this.capacity) this.roll();
    return true;
  }

  private checkLength(length: number): void {
    if (!(Number.isSafeInteger(length) && length >= 0)) {
      throw malformed(`length=${String(length)}`, "a whole number of bytes");
    }
    if (length > this.payloadBytesMax) {
      throw tooLarge(this.directory, length, this.payloadBytesMax);
    }
  }

  private nothingClaimed(): GaplessError {
    this.checkOpen();
    return noClaim(this.directory);
  }

  private hasRoom(space: number): boolean {
    if (this.end + space <= this.capacity) return true;
    return mayGrow(this.directory, this.number, this.plan.bytes, this.options);
  }

  /** Blocks for as long as the options say. */
  private waitBlocking(space: number): boolean {
    const deadline = performance.now() + this.options.blockMs;
    while (performance.now() < deadline) {
      Atomics.wait(sleepWord, 0, 0, roomCheckMs);
      renewClock();
      this.beatIfIdle();
      if (this.hasRoom(space)) return true;
    }
    return false;
  }

  /** Ends the segment and begins the next, which is reserved before, and so cannot be lacking. */
  private roll(): void {
    const { segment, end, directory, plan } = this;
    const number = this.number + 1;
    const made = this.supply.take(number);
    const next = made ?? obtainSegment(directory, number, plan);
    if (!this.isWriter()) {
      next.mapping.unmap();
      throw this.fenced();
    }
    reachedStep("queue.obtained");
    if (segment !== nothing) {
      // SYNC segment-end: whoever is first in this place; pairs with `fence`.
      const isEnded =
        end === segment.capacity ||
        Atomics.compareExchange(segment.words, end >>> 2, 0, endMark) === 0;
      if (!isEnded) throw this.fenced();
      reachedStep("queue.ended");
    }
    const firstSequence = this.sequence + 1;
    beginSegment(next, { firstSequence, latestNs: this.latestNs, epoch: this.epoch });
    reachedStep("queue.begun");
    // Who took over meanwhile may be segments ahead, and its position is not to be overwritten.
    if (!this.isWriter()) {
      next.mapping.unmap();
      throw this.fenced();
    }
    if (segment !== nothing) {
      sealSegment(segment, { lastSequence: this.sequence, latestNs: this.latestNs, end });
      this.durable.retire(segment, end);
      this.supply.giveBack(segment);
    }
    this.number = number;
    this.isReady = made !== undefined;
    this.enter(next, firstSequence, next.recordsStart);
    reachedStep("queue.rolled");
  }

  /** Goes on in a segment that was begun, at `end`. */
  private enter(segment: Segment, firstSequence: number, end: number): void {
    this.segment = segment;
    this.checksum = checksums[segment.checksum];
    this.capacity = segment.capacity;
    this.firstSequence = firstSequence;
    this.end = end;
    this.indexDue = nextStride(segment, end);
    this.supplyDue = (segment.capacity * wishShare) | 0;
    this.isWished = false;
    this.durable.enter(segment, end);
    notePosition(this.control, { segment: segment.number, end, sequence: this.sequence });
  }

  private askForNext(): void {
    if (this.isWished) {
      this.supply.look();
      // Behind all that can be written.
      this.supplyDue = this.capacity + 1;
    } else {
      if (!this.isReady) this.supply.makeReady(this.segment, this.end);
      this.supply.wish(this.number + 1);
      this.supplyDue = (this.capacity * lookShare) | 0;
      this.isWished = true;
    }
  }

  private get latestNs(): bigint {
    return (BigInt(this.latestHigh) << 32n) | BigInt(this.latestLow);
  }

  /** Whether nobody has taken over. */
  private isWriter(): boolean {
    return Atomics.load(this.words, controlOffset.epoch / 4) === this.epochWord;
  }

  private fenced(): GaplessError {
    this.capacity = 0;
    this.isFenced = true;
    return new GaplessError(
      "FENCED",
      `Another writer has taken over the queue in ${this.directory}: epoch=${this.epoch} is ` +
        "over. Nothing that this one appended since is in it. Stop it.",
    );
  }

  private checkOpen(): void {
    if (this.isFenced) throw this.fenced();
    if (this.closing !== undefined) {
      throw new GaplessError("CLOSED", `The publisher of ${this.directory} is closed.`);
    }
    this.durable.check();
  }
}

/** A publisher's segment before it has one, and once it is closed. */
const nothing = {} as Segment;
/** In place of an entry that is none: its type is refused. */
const noEntry = {} as Entry;

function checkType(type: number): void {
  // Of a bigint, the shift would throw something else.
  if (typeof type === "number" && type >>> 0 === type) return;
  throw malformed(`type=${String(type)}`, "a whole number from 0 to 2^32 - 1");
}

function checkPayload(payload: unknown): void {
  if (!(payload instanceof Uint8Array)) throw malformed("its payload", "a Uint8Array or a Buffer");
}

function checkTime(timestampNs: bigint): void {
  if (typeof timestampNs === "bigint" && BigInt.asUintN(64, timestampNs) === timestampNs) return;
  throw malformed(`timestampNs=${timestampNs}`, "nanoseconds since 1970, a bigint below 2^64");
}

function malformed(what: string, expected: string): GaplessError {
  return new GaplessError(
    "INPUT_MALFORMED",
    `A record cannot be appended: ${what}, expected ${expected}.`,
  );
}

function tooLarge(directory: string, length: number, bytesMax: number): GaplessError {
  return new GaplessError(
    "PAYLOAD_TOO_LARGE",
    `A payload does not fit into a segment of the queue in ${directory}: bytes=${length}, at ` +
      `most ${bytesMax}. Raise segmentBytes.`,
  );
}
