/**
 * A consumer's end of one lane.
 *
 *   released       taken          tail
 *     |  held        |   to come    |
 *
 * What is held is not overwritten: it comes again if this process dies before `release`. Where the
 * channel drops its oldest messages nothing is held: a window of the ring is copied out, and what
 * was overwritten meanwhile is seen and left out before anything is handed over.
 */
import { bootNs } from "../clock.ts";
import { GaplessError } from "../errors.ts";
import { channelDamaged } from "./channel-file.ts";
import { distance, type Lane, type RingMemory } from "./lane.ts";
import { recordLatency } from "./latency.ts";
import {
  claimWord,
  consumerOffset,
  extension,
  extensionBytesOf,
  floorWord,
  headerWord,
  isSkipped,
  isWithdrawn,
  record,
  recordHeaderBytes,
  recordHeaderUnits,
  tailWord,
  unitBytes,
  unitsOf,
  unitsOfRecord,
} from "./layout.ts";
import type { Loss, SequenceRange } from "./losses.ts";
import { Seat } from "./seat.ts";
import { wakeProducers } from "./sleep.ts";
import { matchesTopic, type TopicPrefix } from "./topics.ts";
import { makeWindow, wholeWords } from "./window.ts";

/** Reads a message in place: `length` bytes at `offset` of `memory`, valid until the return. */
export type MessageHandler = (memory: RingMemory, offset: number, length: number) => void;

export interface ReaderOptions {
  /** Prefixes of the topics that are wanted; none: all messages, those without a topic too. */
  readonly topics: readonly TopicPrefix[];
  readonly onLoss: ((loss: Loss) => void) | undefined;
  readonly onWithdrawn: ((range: SequenceRange) => void) | undefined;
}

/** Of messages whose times are all taken, one in so many is also timed in its handler. */
const handlerPeriod = 64;
/** Ends a poll that has been overtaken by producers; `poll` says what it means. */
const overwrittenMeanwhile = new Error("overwritten meanwhile");

export class Reader {
  /** Whether producers went on without this consumer, the last time that it came or came back. */
  hadFailed: boolean;
  /** First word, in `window`, of the message that is being handled. */
  current = 0;
  /** Where messages are read: the lane itself, or a copy of a part of it. */
  readonly window: RingMemory;
  /** Of the stamped message that is being handled, nanoseconds since boot. */
  receivedNs = 0;
  dequeuedNs = 0;

  /** Of the lane. */
  readonly priority: number;

  /** Its block in the lane. */
  readonly seat: Seat;

  private readonly lane: Lane;
  private readonly words: Int32Array;
  private readonly base: number;
  private readonly consumer: number;
  private readonly options: ReaderOptions;
  private readonly copies: boolean;
  private readonly canFail: boolean;
  private readonly filters: boolean;
  /** -1 once closed: then no length is right. */
  private messageBytesMax: number;
  private tail = 0;
  /** Where the window begins in the lane, and its words. */
  private windowPosition = 0;
  private windowWord = 0;
  private word = 0;
  private endWord = 0;
  // Numbers that grow begin as numbers: a field that was once undefined boxes every one it gets.
  private expected = 0;
  /** The same, without what has come in the poll under way. */
  private trusted = 0;
  /** Where it is not below `expected`: all from there up to it were taken back by producers. */
  private withdrawnThrough = 0;
  private trustedWithdrawn = 0;
  /** Where the poll under way began, and what was taken before it. */
  private pollPosition = 0;
  private pollMessages = 0;
  private pollBytes = 0;
  /** Whether producers went on without it: a gap that follows is of what they overwrote. */
  private isOvertaken = false;
  /** Whether nothing was taken yet: what comes first may have come before. */
  private isFresh = true;
  /** Since the last release. Counters above 2^31 are kept in shared memory only. */
  private messages = 0;
  private bytes = 0;
  private stamped = 0;
  private isOpen = true;

  constructor(lane: Lane, consumer: number, options: ReaderOptions) {
    const { channel } = lane;
    this.lane = lane;
    this.priority = lane.words[headerWord.lane] ?? 0;
    this.words = lane.words;
    this.consumer = consumer;
    this.seat = new Seat(lane, consumer);
    this.base = this.seat.base;
    this.options = options;
    this.filters = options.topics.length > 0;
    this.copies = channel.backpressure.mode === "DropOldest";
    this.canFail = channel.failedConsumer === "evict" && !this.copies;
    this.messageBytesMax = channel.messageBytesMax;
    this.window = this.copies ? makeWindow(lane) : lane;
    this.seat.take();
    try {
      this.hadFailed = !this.seat.resume();
      this.isOvertaken = this.hadFailed;
      const position = this.hadFailed ? this.seat.rejoin() : this.seat.position;
      this.moveTo(position);
      const tail = this.loadTail();
      // Of what may be overwritten the first poll finds what is left.
      if (!this.copies && !this.seat.hasFailed) this.checkTail(position, tail);
      this.loadExpected();
    } catch (error) {
      this.seat.leave();
      throw error;
    }
  }

  /** Everything below has been handled. */
  get taken(): number {
    return (this.windowPosition + (this.word - this.windowWord) / 2) | 0;
  }

  /** As `Subscriber.poll`. */
  poll(handler: MessageHandler, limit: number): number {
    this.receivedNs = 0;
    this.pollPosition = this.taken;
    const count = this.canFail ? this.takeJudged(handler, limit) : this.take(handler, limit);
    // Where nothing is held, what was only passed over does not keep producers from its room.
    if (count === 0 && this.messages === 0 && this.taken !== this.pollPosition) this.release();
    return count;
  }

  /** Takes, and then sees whether it was there all the while. */
  private takeJudged(handler: MessageHandler, limit: number): number {
    this.pollMessages = this.messages;
    this.pollBytes = this.bytes;
    this.trusted = this.expected;
    this.trustedWithdrawn = this.withdrawnThrough;
    let cause: unknown;
    let count: number;
    try {
      count = this.take(handler, limit);
    } catch (error) {
      cause = error;
      count = -1;
    }
    // SYNC position-counts: what was read while it did not count may have been overwritten.
    const hasRead = count !== 0 || this.taken !== this.pollPosition;
    if (hasRead && this.isOpen && this.seat.hasFailed) {
      this.takeBack();
      throw this.lostWhileReading(cause === overwrittenMeanwhile ? undefined : cause);
    }
    if (count < 0) throw cause;
    return count;
  }

  /** Goes back to where the last poll began: what it handed out is taken again, or is lost. */
  takeBack(): void {
    this.moveTo(this.pollPosition);
    this.expected = this.trusted;
    this.withdrawnThrough = this.trustedWithdrawn;
    this.messages = this.pollMessages;
    this.bytes = this.pollBytes;
    // What comes again may have been told of as lost by then.
    this.isFresh = true;
  }

  /** The same, to what was released. */
  takeBackHeld(): void {
    this.moveTo(this.seat.position);
    this.loadExpected();
    this.messages = 0;
    this.bytes = 0;
    this.isFresh = true;
  }

  /** Whether what is held may have been overwritten. */
  get hasLostHeld(): boolean {
    return this.canFail && this.seat.hasFailed;
  }

  lostWhileReading(cause: unknown): GaplessError {
    this.seat.add(consumerOffset.errors, 1);
    const { name, consumers, consumerTimeoutMs } = this.lane.channel;
    return new GaplessError(
      "MESSAGES_LOST",
      `Consumer ${consumers[this.consumer] ?? ""} of channel ${name} was silent for more than ` +
        `${consumerTimeoutMs} ms, and producers went on without it: what it was reading may have ` +
        "been overwritten. Do not use what this poll or batch handed out; poll again.",
      { cause },
    );
  }

  private take(handler: MessageHandler, limit: number): number {
    const from = this.taken;
    let count = 0;
    while (count < limit) {
      if (this.word === this.endWord && !this.openWindow(this.taken === from)) break;
      count += this.readWindow(handler, limit - count);
    }
    return count;
  }

  /** Lets producers overwrite what was taken. */
  release(): void {
    this.checkOpen();
    const { words, base } = this;
    const { doubles } = this.lane;
    doubles[(base + consumerOffset.sequence) >>> 1] = this.expected - 1;
    doubles[(base + consumerOffset.withdrawnThrough) >>> 1] = this.withdrawnThrough;
    this.seat.add(consumerOffset.messages, this.messages);
    this.seat.add(consumerOffset.bytes, this.bytes);
    this.messages = 0;
    this.bytes = 0;
    this.isOvertaken = false;
    this.seat.beat();
    // SYNC space-free: the messages have been read; pairs with the load in Room.lagOf.
    Atomics.store(words, base + consumerOffset.position, this.taken);
    wakeProducers(this.lane);
  }

  /** Newest sequence taken, or known to be lost. */
  get sequence(): number {
    return this.expected - 1;
  }

  /** Bytes of the ring, headers included, between what was taken and the tail. */
  get lagBytes(): number {
    return distance(this.taken, this.lane.tail) * unitBytes;
  }

  /** Messages between the one that was taken last and the newest one. */
  get lag(): number {
    // Sequences behind the newest message were dropped, and no message is behind.
    if (this.isEmpty) return 0;
    const newest = this.lane.doubles[claimWord.sequence / 2] ?? 0;
    return Math.max(0, newest - (this.expected - 1));
  }

  /** Whether there is nothing to take. */
  get isEmpty(): boolean {
    return this.lane.tail === this.taken;
  }

  close(): void {
    this.isOpen = false;
    // The next poll finds one record, of a length that is never right.
    this.messageBytesMax = -1;
    this.endWord = this.word + 2;
    this.seat.leave();
  }

  /** False where there is nothing to read, or where it is to be seen first what was read so far. */
  private openWindow(isFirst: boolean): boolean {
    this.checkOpen();
    if (this.canFail && this.seat.hasFailed) {
      if (!isFirst) return false;
      this.hadFailed = true;
      this.isOvertaken = true;
      const { taken } = this;
      const kept = this.seat.rejoin();
      // What was taken and not released is held again, but not taken again.
      this.moveTo(((kept - taken) | 0) > 0 ? kept : taken);
    }
    const position = this.taken;
    if (position === this.tail && this.loadTail() === position) return false;
    if (this.copies) return this.copyWindow(position);
    const units = Math.min(distance(position, this.tail), this.lane.restOf(position));
    this.checkTail(position, this.tail);
    this.windowPosition = position;
    this.windowWord = this.lane.wordOf(position);
    this.word = this.windowWord;
    this.endWord = this.windowWord + units * 2;
    return true;
  }

  /** Copies what is next, and sees that it was whole all the while. */
  private copyWindow(from: number): boolean {
    const { lane, words, base } = this;
    let position = from;
    while (true) {
      const tail = this.loadTail();
      if (position === tail) return false;
      const available = Math.min(distance(position, tail), lane.restOf(position));
      const units = Math.min(available, this.window.bytes.length / unitBytes);
      const start = lane.wordOf(position) * 4;
      this.window.bytes.set(lane.bytes.subarray(start, start + units * unitBytes));
      // SYNC floor-known: the copy, a store, then the floor: in this order on every processor.
      Atomics.store(words, base + consumerOffset.copied, position);
      const floor = Atomics.load(words, floorWord);
      if (distance(floor, position) > distance(floor, this.lane.tail)) {
        position = floor;
        continue;
      }
      this.checkTail(position, tail);
      this.windowPosition = position;
      this.windowWord = 0;
      this.word = 0;
      this.endWord = units < available ? wholeWords(this.window, units * 2) : units * 2;
      // A window holds at least one record of the largest size.
      if (this.endWord === 0) throw this.damagedAt(0, this.window.words[0] ?? 0);
      return true;
    }
  }

  private readWindow(handler: MessageHandler, limit: number): number {
    const { window, messageBytesMax, filters } = this;
    const { words, doubles } = window;
    const end = this.endWord;
    let word = this.word;
    let expected = this.expected;
    let bytes = 0;
    let count = 0;
    /** Of a skipped record that leads out of the window. */
    let leapUnits = 0;
    try {
      while (word !== end && count < limit) {
        // In range: a window ends within its memory.
        // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
        const descriptor = words[word]!;
        let length = descriptor & record.bodyMask;
        let offset = word * 4 + recordHeaderBytes;
        const next = word + unitsOf(length) * 2;
        let isTimed = false;
        if (descriptor >>> 30 !== 0 || filters || length > messageBytesMax || next > end) {
          if (isSkipped(descriptor)) {
            const behind = word + this.skippedUnits(word, descriptor) * 2;
            if (isWithdrawn(descriptor)) this.passWithdrawn(word, behind, expected);
            if (behind > end) {
              leapUnits = (behind - word) / 2;
              break;
            }
            word = behind;
            continue;
          }
          this.checkRecord(word, descriptor, next);
          const kind = descriptor >>> 30 === 0 ? 0 : (words[word + 1] ?? 0);
          if (filters && !this.isWanted(word, kind)) {
            expected = this.passOver(word, expected);
            word = next;
            continue;
          }
          const extra = extensionBytesOf(kind);
          if (extra > length || length - extra > messageBytesMax)
            throw this.damagedAt(word, descriptor);
          offset += extra;
          length -= extra;
          isTimed = (kind & extension.stamped) !== 0;
        }
        // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
        const sequence = doubles[(word >>> 1) + 1]!;
        if (sequence !== expected) {
          this.noteGap(expected, sequence);
          expected = sequence;
        }
        this.current = word;
        if (isTimed) this.handleTimed(handler, offset, length);
        else handler(window, offset, length);
        expected = sequence + 1;
        bytes += length;
        word = next;
        count++;
      }
    } finally {
      this.word = word;
      this.expected = expected;
      this.messages += count;
      this.bytes += bytes;
      if (count > 0) this.isFresh = false;
    }
    if (leapUnits > 0) this.moveTo((this.taken + leapUnits) | 0);
    return count;
  }

  private handleTimed(handler: MessageHandler, offset: number, length: number): void {
    const { words } = this.lane;
    const sentNs = this.window.doubles[(this.current >>> 1) + recordHeaderUnits] ?? 0;
    this.dequeuedNs = bootNs();
    if (this.receivedNs === 0) this.receivedNs = this.dequeuedNs;
    recordLatency(words, this.base + consumerOffset.endToEndLatency, this.dequeuedNs - sentNs);
    handler(this.window, offset, length);
    if (this.lane.channel.timestamps === "all" && ++this.stamped % handlerPeriod !== 0) return;
    recordLatency(words, this.base + consumerOffset.readLatency, bootNs() - this.dequeuedNs);
  }

  private isWanted(word: number, kind: number): boolean {
    const start = word * 4 + recordHeaderBytes;
    const stampBytes = (kind & extension.stamped) === 0 ? 0 : extension.stampBytes;
    const topicBytes = kind & extension.topicBytesMask;
    return matchesTopic(this.options.topics, this.window.bytes, start + stampBytes, topicBytes);
  }

  /** Takes a message that this consumer does not want, and returns the sequence after it. */
  private passOver(word: number, expected: number): number {
    const sequence = this.window.doubles[(word >>> 1) + 1] ?? 0;
    if (sequence !== expected) this.noteGap(expected, sequence);
    this.seat.add(consumerOffset.filtered, 1);
    return sequence + 1;
  }

  /**
   * Passes over a claim that was taken back. Only where nothing is missing before it: what is, is
   * told with the next message, and then what it had taken is not told apart.
   */
  private passWithdrawn(word: number, behind: number, expected: number): void {
    if (behind > this.endWord) throw this.damagedAt(word, this.window.words[word] ?? 0);
    const sequence = this.window.doubles[(word >>> 1) + 1] ?? 0;
    const next = Math.max(expected, this.withdrawnThrough + 1);
    if (sequence === next) this.withdrawnThrough = sequence;
  }

  /** Messages are missing before `sequence`: counts them, records their range, and says so. */
  private noteGap(expected: number, sequence: number): void {
    // SYNC position-counts: where it did not count, the sequence may be that of another record.
    if (this.canFail && this.seat.hasFailed) throw overwrittenMeanwhile;
    if (!(Number.isSafeInteger(sequence) && sequence > 0)) {
      throw channelDamaged(this.lane, `sequence ${sequence} where ${expected} was to come`);
    }
    if (sequence < expected) {
      if (!this.isFresh) {
        throw channelDamaged(this.lane, `sequence ${sequence} comes after ${expected - 1}`);
      }
      this.withdrawnThrough = 0;
      return;
    }
    const through = this.withdrawnThrough;
    const from = through >= expected && through < sequence ? through + 1 : expected;
    if (from > expected) this.options.onWithdrawn?.({ from: expected, to: from - 1 });
    if (from < sequence) this.tellLoss(from, sequence);
    this.trusted = sequence;
  }

  private tellLoss(from: number, sequence: number): void {
    const loss: Loss = {
      cause: this.copies || this.isOvertaken ? "overwritten" : "skipped",
      party: this.consumer,
      from,
      to: sequence - 1,
      messages: sequence - from,
    };
    this.options.onLoss?.(loss);
    this.seat.countLoss(loss);
  }

  private loadExpected(): void {
    this.expected = this.seat.counter(consumerOffset.sequence) + 1;
    this.withdrawnThrough = this.seat.counter(consumerOffset.withdrawnThrough);
  }

  private skippedUnits(word: number, descriptor: number): number {
    this.checkOpen();
    const units = unitsOfRecord(descriptor);
    const position = (this.windowPosition + (word - this.windowWord) / 2) | 0;
    if (units > 0 && units <= distance(position, this.tail)) return units;
    throw this.damagedAt(word, descriptor);
  }

  private checkRecord(word: number, descriptor: number, next: number): void {
    this.checkOpen();
    if (descriptor < 0 || next > this.endWord) throw this.damagedAt(word, descriptor);
  }

  private damagedAt(word: number, descriptor: number): GaplessError {
    this.checkOpen();
    this.seat.add(consumerOffset.errors, 1);
    const position = (this.windowPosition + (word - this.windowWord) / 2) >>> 0;
    return channelDamaged(
      this.lane,
      `the record at position ${position} begins with ${descriptor}`,
    );
  }

  private moveTo(position: number): void {
    this.windowPosition = position;
    this.windowWord = 0;
    this.word = 0;
    this.endWord = 0;
    this.tail = position;
  }

  private loadTail(): number {
    // SYNC record-visible: pairs with the store of the tail in SoloClaims.commit, and in advance.
    this.tail = Atomics.load(this.words, tailWord.tail);
    return this.tail;
  }

  /** The tail is never further ahead than the ring is long. */
  private checkTail(position: number, tail: number): void {
    if (distance(position, tail) <= this.lane.capacity) return;
    throw channelDamaged(
      this.lane,
      `position ${position >>> 0} is further from tail ${tail >>> 0} than the ring is long`,
    );
  }

  private checkOpen(): void {
    if (this.isOpen) return;
    throw new GaplessError("CLOSED", `An end of channel ${this.lane.channel.name} is closed.`);
  }
}
