/**
 * A walk over the records of a queue, from one segment into the next.
 *
 *   segment n    | taken | taken | next | ...  | end mark
 *                                offset          |
 *   segment n+1                  +---------------+  | ...
 *
 * Records that are as they should be are taken in a tight loop. Whatever else is there ends it, and
 * is looked at closely: nothing yet, an end, the first record of another writer, damage.
 */
import { GaplessError, isGaplessError } from "../errors.ts";
import { checkLimit } from "../arguments.ts";
import { Backwards } from "./backwards.ts";
import { crc32c, xxHash32 } from "./checksum.ts";
import { hasNoted, isNoted, isOfThisBoot } from "./control.ts";
import { goesOnWith, spotInNext } from "./edge.ts";
import { Envelope } from "./envelope.ts";
import { epochOf, nextSequence } from "./finding.ts";
import {
  checksumKinds,
  controlOffset,
  endMark,
  recordAlignment,
  recordHeaderBytes,
  recordOffset,
} from "./layout.ts";
import { Cursor, recordWord, sequenceAt, sumOf } from "./record.ts";
import { nestedPoll, subscriberClosed, takenElsewhere } from "./misuse.ts";
import { spotBehindDamage } from "./salvage.ts";
import type { Segment, SegmentMemory } from "./segment.ts";
import { durableEndOf, nowhere, type QueueFiles, type Spot } from "./spot.ts";
import { segmentDamaged } from "./storage-errors.ts";

/**
 * Reads a payload in place: `length` bytes at `offset` of `memory`, valid until the return. A view
 * that is kept for longer is one day empty, as its segment is given back; no access crashes.
 */
export type MessageHandler = (memory: SegmentMemory, offset: number, length: number) => void;

export interface ReadingOptions {
  /** Whether the sum of each record is checked. */
  readonly verify: boolean;
  /** Whether it stops at what is not known to be durable. */
  readonly through: "written" | "durable";
}

/** Sequences that a reader is not given, and why. */
export interface Stretch {
  readonly cause: "deleted" | "damaged";
  readonly from: number;
  readonly to: number;
}

/** What is found at a place where a record may be. */
type Found = "record" | "nothing" | "end" | GaplessError;

const wordRange = 2 ** 32;
const fast = checksumKinds.indexOf("fast");
/** A swap in it keeps loads before it from being done behind it. */
const fence = new Int32Array(new SharedArrayBuffer(4));

export class Reading {
  /** Of the message that the handler has, or that was peeked at. */
  readonly envelope: Envelope;

  private readonly queue: QueueFiles;
  private readonly controlDoubles: Float64Array;
  private readonly verify: boolean;
  private readonly isDurableOnly: boolean;

  private segment: Segment;
  private words: Int32Array;
  /** Where the next record begins, or will. */
  private offset = 0;
  /** The next sequence. */
  private sequence = 0;
  /** Of the last record: none of an earlier writer follows. */
  private epoch = 0;
  /** Where a record has to end: at the end of the segment, or of what can be trusted. */
  private limit = 0;
  /** Index of the segment's kind of checksum where sums are checked; else 0. */
  private sums = 0;
  /** Where the record begins that was peeked at: where that is not `offset`, none was. */
  private peekedAt = -1;
  /** Its length. */
  private peeked = 0;
  /** Counts whatever moves the reader but a poll. */
  private moves = 0;
  private isPolling = false;
  /** Whether the writer is of this boot: then nothing that was there can be missing. */
  private isSettled = false;
  /** From which sequence on which writer wrote, as far as is needed to commit. */
  private epochs: { readonly from: number; readonly epoch: number }[] = [];
  /** Number of a segment that was seen to have begun. */
  private begun = 0;
  private readonly backwards = new Backwards();
  private hasClosed = false;

  constructor(queue: QueueFiles, spot: Spot, options: ReadingOptions) {
    this.queue = queue;
    this.controlDoubles = queue.control.doubles;
    this.verify = options.verify;
    this.isDurableOnly = options.through === "durable";
    this.segment = spot.segment;
    this.words = spot.segment.words;
    this.envelope = new Envelope(this.words);
    this.moveTo(spot);
  }

  get isOpen(): boolean {
    return !this.hasClosed;
  }

  /** The sequence that is delivered next. */
  get position(): number {
    return this.sequence;
  }

  /** Messages between the one that was taken last and the newest one. */
  get lag(): number {
    this.mostOf(0);
    return Math.max(0, this.newest + 1 - this.sequence);
  }

  /** The memory that the message lies in that was peeked at. */
  get memory(): SegmentMemory {
    return this.segment;
  }

  /** Where its payload begins. */
  get payloadOffset(): number {
    return this.offset + recordHeaderBytes;
  }

  /** Bytes of its payload. */
  get payloadLength(): number {
    if (this.peekedAt !== this.offset) throw this.notPeeked();
    return this.peeked - recordHeaderBytes;
  }

  /** As `Subscriber.poll`; `isWithin` one segment: views of what was taken stay whole. */
  poll(handler: MessageHandler, limit: number, isWithin = false): number {
    const most = this.mostOf(limit);
    if (this.isPolling) throw nestedPoll(`a subscriber of ${this.queue.directory}`);
    this.isPolling = true;
    let count = 0;
    try {
      while (count < most) {
        const { moves } = this;
        count += this.run(handler, most - count);
        if (count >= most || this.moves !== moves) break;
        const found = isWithin && count > 0 ? this.look() : this.find();
        if (found === "record") continue;
        if (typeof found === "string" || count > 0) break;
        throw found;
      }
    } finally {
      this.isPolling = false;
    }
    if (count === 0) checkLimit(limit);
    return count;
  }

  /** As `FanInSource.peek`. */
  peek(): boolean {
    if (this.peekedAt === this.offset) return true;
    if (this.mostOf(1) < 1) return false;
    const found = this.find();
    if (found === "nothing") return false;
    if (found !== "record") throw found;
    this.peekedAt = this.offset;
    this.peeked = this.words[this.offset >>> 2] ?? 0;
    this.envelope.moveTo(this.offset);
    return true;
  }

  /** As `FanInSource.take`. */
  take(): void {
    if (this.peekedAt !== this.offset) throw this.notPeeked();
    this.offset += (this.peeked + (recordAlignment - 1)) & -recordAlignment;
    this.sequence++;
    this.moves++;
  }

  /** Whether there is nothing to take, and nothing to be told. Stays within the segment. */
  get isEmpty(): boolean {
    if (this.peekedAt === this.offset) return false;
    if (this.mostOf(1) < 1) return true;
    const found = this.look();
    if (found !== "end") return found === "nothing";
    if (this.isMissing()) return false;
    const next = spotInNext(this.queue, this.spot, this.isSettled);
    if (next === "nothing") return true;
    if (next instanceof GaplessError) return this.isAtEnd();
    // Whatever the writer has noted.
    this.begun = Math.max(this.begun, next.segment.number);
    next.segment.mapping.unmap();
    return false;
  }

  /** Whether a length or an end is there: quicker than `isEmpty`, for one that never sleeps. */
  get mayHaveMore(): boolean {
    // Until a writer has come, the limit is that of what a power loss has left.
    if (!this.isSettled) this.trust();
    const { offset, limit } = this;
    if (this.isDurableOnly && this.mostOf(1) < 1) return false;
    const length = offset < limit ? Atomics.load(this.words, offset >>> 2) : endMark;
    return length === endMark ? this.isNextDue() && !this.isEmpty : length !== 0;
  }

  /**
   * Goes back by one message, and peeks at it. False where none is left. Where that one is damaged
   * it stays where it is.
   */
  stepBack(): boolean {
    this.mostOf(0);
    const before = this.backwards.step(this.queue, this.spot);
    if (before === undefined) return false;
    const { segment, offset, sequence, epoch } = before;
    if (new Cursor(segment, offset, sequence, epoch).look(this.verify) !== "record") {
      if (segment !== this.segment) segment.mapping.unmap();
      throw segmentDamaged(segment.filePath, offset, `the sum of sequence ${sequence} is wrong`);
    }
    this.moveTo(before);
    return this.peek();
  }

  /** Goes to the spot, and gives back the segment that it leaves. */
  moveTo(spot: Spot): void {
    this.epochs = [{ from: spot.sequence, epoch: spot.epoch }];
    this.enter(spot);
    this.sequence = spot.sequence;
  }

  /** Where it stands. */
  get spot(): Spot {
    const { segment, offset, sequence, epoch } = this;
    return { segment, offset, sequence, epoch };
  }

  /**
   * Goes on behind what cannot be read, once `record` has recorded the loss. Where nothing is wrong
   * any more, or nothing is lost, what it returns is empty: it ends before it begins.
   *
   * @throws GaplessError DATA_NOT_YET_AVAILABLE where nothing whole is known behind it
   */
  skipUnreadable(record: (loss: Stretch) => void): Stretch {
    const { sequence } = this;
    const found = this.find();
    if (typeof found === "string") return { cause: "damaged", from: sequence, to: sequence - 1 };
    const spot = spotBehindDamage(this.queue, this.spot, this.suspect);
    if (spot === undefined) {
      throw new GaplessError(
        "DATA_NOT_YET_AVAILABLE",
        `Nothing whole is there yet behind what cannot be read: ${found.message}`,
      );
    }
    const cause = isGaplessError(found, "DATA_TRIMMED") ? "deleted" : "damaged";
    const loss = { cause, from: sequence, to: spot.sequence - 1 } as const;
    try {
      if (loss.to >= loss.from) record(loss);
    } catch (error) {
      if (spot.segment !== this.segment) spot.segment.mapping.unmap();
      throw error;
    }
    this.moveTo(spot);
    return loss;
  }

  /** From where on records may be that follow: the last one may be longer than it was written. */
  private get suspect(): number {
    const { offset, sums, segment } = this;
    const last = this.envelope.offset;
    const isLast = sums === 0 && last >= segment.recordsStart && last < offset;
    return (isLast ? last : offset) + recordAlignment;
  }

  /** Of the record with that sequence; 0 where it is not known. */
  epochAt(sequence: number): number {
    const known = this.epochs.findLast(({ from }) => from <= sequence);
    return known === undefined ? epochOf(this.queue, sequence) : known.epoch >>> 0;
  }

  /** What is committed is not asked for again. */
  forgetEpochsBefore(sequence: number): void {
    while ((this.epochs[1]?.from ?? Infinity) <= sequence) this.epochs.shift();
  }

  close(): void {
    if (this.hasClosed) return;
    this.hasClosed = true;
    this.moveTo({ segment: nowhere(0), offset: 0, sequence: this.sequence, epoch: this.epoch });
  }

  /** Before a writer of this boot has come, its position is not to be relied on. */
  private get newest(): number {
    if (this.isSettled) return this.controlDoubles[controlOffset.sequence / 8] ?? 0;
    return nextSequence(this.queue) - 1;
  }

  /** How many may be taken. A call of it begins every step. */
  private mostOf(limit: number): number {
    if (this.hasClosed) throw subscriberClosed(this.queue.directory);
    if (!this.isSettled) this.trust();
    if (!this.isDurableOnly) return limit;
    const durable = this.controlDoubles[controlOffset.durable / 8] ?? 0;
    return Math.min(limit, durable + 1 - this.sequence);
  }

  /** Takes records as long as they are as they should be, and returns how many. */
  private run(handler: MessageHandler, most: number): number {
    const { segment, words, limit, sums, epoch, moves, envelope } = this;
    let low = this.sequence | 0;
    const high = (this.sequence / wordRange) | 0;
    this.peekedAt = -1;
    let count = 0;
    while (count < most) {
      const { offset } = this;
      if (offset >= limit) break;
      const word = offset >>> 2;
      // SYNC record-complete: before anything of the record is read; pairs with Publisher.complete.
      const length = Atomics.load(words, word);
      if (length < recordHeaderBytes || length > limit - offset) break;
      if (words[word + recordWord.sequence] !== low) break;
      if (words[word + recordWord.sequence + 1] !== high) break;
      if (words[word + recordWord.epoch] !== epoch) break;
      if (sums !== 0) {
        const from = offset + recordOffset.sequence;
        const to = offset + length;
        const sum =
          sums === fast ? xxHash32(segment, from, to, offset) : crc32c(segment, from, to, offset);
        if (words[word + recordWord.sum] !== sum) break;
      }
      envelope.moveTo(offset);
      handler(segment, offset + recordHeaderBytes, length - recordHeaderBytes);
      count++;
      // The handler has closed it, sought, or taken the message by itself.
      if (this.moves !== moves) break;
      this.offset = offset + ((length + (recordAlignment - 1)) & -recordAlignment);
      this.sequence++;
      // Where it wraps, the record is looked at closely, and the loop begins anew.
      low = (low + 1) | 0;
    }
    return count;
  }

  /** What is next, be it in the next segment: then it goes there. */
  private find(): Exclude<Found, "end"> {
    while (true) {
      const found = this.look();
      if (found !== "end") return found;
      if (this.isSettled && !this.isNextDue()) {
        return this.isMissing() ? this.damage("the segment ends before it") : "nothing";
      }
      const next = spotInNext(this.queue, this.spot, this.isSettled);
      if (next === "nothing") return next;
      if (next instanceof GaplessError) return this.isAtEnd() ? "nothing" : next;
      this.noteEpoch(next.epoch);
      this.enter(next);
    }
  }

  /** What is in the place of the next record. */
  private look(): Found {
    const { segment, words, offset, limit } = this;
    if (offset >= limit) {
      // Where nothing more is believed, the next segment tells whether nothing more was there.
      const isEnd = limit === segment.capacity || goesOnWith(this.queue, this.spot);
      return isEnd ? "end" : "nothing";
    }
    // SYNC record-complete: as in `run`.
    const length = Atomics.load(words, offset >>> 2);
    if (length === endMark) return "end";
    if (length === 0 && this.isSettled && !this.isMissing()) return "nothing";
    const wrong = length === 0 ? "no record is there" : this.whatIsWrong(length);
    if (wrong !== undefined) return this.lookAtDamage(wrong);
    this.noteEpoch(words[(offset >>> 2) + recordWord.epoch] ?? 0);
    return "record";
  }

  private whatIsWrong(length: number): string | undefined {
    const { segment, words, offset, limit } = this;
    if (length < recordHeaderBytes || length > limit - offset) {
      return `the length of the record is ${length}`;
    }
    const sequence = sequenceAt(segment, offset);
    if (sequence !== this.sequence) return `sequence ${sequence} instead of ${this.sequence}`;
    const word = offset >>> 2;
    const epoch = words[word + recordWord.epoch] ?? 0;
    if (epoch >>> 0 < this.epoch >>> 0) {
      return `sequence ${sequence} is of epoch ${epoch >>> 0}, after ${this.epoch >>> 0}`;
    }
    const isSame = epoch === this.epoch;
    if (segment.checksum === "none") {
      const newest = Atomics.load(this.queue.control.words, controlOffset.epoch / 4);
      const isKnown = isSame || epoch >>> 0 <= newest >>> 0;
      return isKnown ? undefined : `sequence ${sequence} is of epoch ${epoch >>> 0}, which is none`;
    }
    // One that leads into another epoch decides what is believed of all that follow.
    if (this.isSettled && !this.verify && isSame) return undefined;
    const sum = sumOf(segment, segment.checksum, offset, length);
    if (words[word + recordWord.sum] === sum) return undefined;
    return `the sum of sequence ${sequence} is wrong`;
  }

  /** Bytes that are no record: whether that matters. */
  private lookAtDamage(reason: string): Found {
    const { queue, segment, offset } = this;
    // In place of the end mark, which a power loss can take.
    if (goesOnWith(queue, this.spot)) return "end";
    // After a power loss they are what was never durable, until a writer has come and cut it off.
    if (!this.isSettled && offset >= durableEndOf(segment)) return "nothing";
    return this.isAtEnd() ? "nothing" : this.damage(reason);
  }

  private damage(reason: string): GaplessError {
    const { segment, offset, sequence } = this;
    return segmentDamaged(segment.filePath, offset, `${reason}, sequence=${sequence}`);
  }

  /** Whether it is behind the last record: damage there is no loss, and the writer's to mend. */
  private isAtEnd(): boolean {
    const { control } = this.queue;
    return this.isSettled && isNoted(control) && !hasNoted(control, this.sequence);
  }

  /** Whether the next record has been there, and nothing or an end is in its place. */
  private isMissing(): boolean {
    const { words, offset, limit, sequence } = this;
    if (!this.isSettled || !hasNoted(this.queue.control, sequence)) return false;
    // SYNC record-complete: it may have come since. The position was stored behind it, so the
    // length has to be loaded behind the position.
    Atomics.exchange(fence, 0, 0);
    const length = offset < limit ? Atomics.load(words, offset >>> 2) : endMark;
    return length === 0 || (length === endMark && !this.isNextDue());
  }

  /** Whether the writer has begun the next segment, or has made this one anew. */
  private isNextDue(): boolean {
    const { segment, offset, sequence } = this;
    const { control } = this.queue;
    // It is being stored, or the writer was killed while it stored it: a look at the files tells.
    if (!isNoted(control)) return true;
    const begun = Atomics.load(control.words, controlOffset.segment / 4);
    if (begun > segment.number || this.begun > segment.number) return true;
    const isAtStart = offset === segment.recordsStart && begun === segment.number;
    return isAtStart && hasNoted(control, sequence);
  }

  /** Goes on in a segment, and gives back the one that it leaves. */
  private enter({ segment, offset, epoch }: Spot): void {
    if (segment !== this.segment) this.segment.mapping.unmap();
    this.moves++;
    this.segment = segment;
    this.words = segment.words;
    this.envelope.enter(segment.words);
    this.offset = offset;
    this.epoch = epoch | 0;
    this.peekedAt = -1;
    this.trust();
  }

  /** What of the segment can be trusted: after a power loss, what holds by its sum. */
  private trust(): void {
    const { segment } = this;
    this.isSettled ||= isOfThisBoot(this.queue.control);
    const isUnchecked = segment.checksum === "none" && segment.capacity > 0;
    this.limit = !this.isSettled && isUnchecked ? durableEndOf(segment) : segment.capacity;
    this.sums = this.verify || !this.isSettled ? checksumKinds.indexOf(segment.checksum) : 0;
  }

  private noteEpoch(epoch: number): void {
    if (epoch === this.epoch) return;
    this.epochs.push({ from: this.sequence, epoch });
    this.epoch = epoch;
  }

  private notPeeked(): GaplessError {
    const { directory } = this.queue;
    return this.hasClosed ? subscriberClosed(directory) : takenElsewhere(directory);
  }
}
