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
import { consumerParty } from "./claim-lock.ts";
import { beat } from "./heartbeat.ts";
import { distance, type Lane, type RingMemory } from "./lane.ts";
import { recordLatency } from "./latency.ts";
import {
  claimWord,
  consumerOffset,
  extension,
  extensionBytesOf,
  failed,
  floorWord,
  headerWord,
  isSkipped,
  joining,
  partyOffset,
  producerOffset,
  record,
  recordHeaderBytes,
  stateStep,
  tailWord,
  topicBytesMax,
  unitBytes,
  unitsOf,
  unitsOfRecord,
} from "./layout.ts";
import { recordLoss, type Loss } from "./losses.ts";
import { giveUpOwnership, takeOwnership } from "./ownership.ts";
import { returnClaimLock, settleTheDead } from "./shared-claims.ts";
import { wakeProducers } from "./sleep.ts";
import { matchesTopic, type TopicPrefix } from "./topics.ts";

/** Reads a message in place: `length` bytes at `offset` of `memory`, valid until the return. */
export type MessageHandler = (memory: RingMemory, offset: number, length: number) => void;

export interface ReaderOptions {
  /** Prefixes of the topics that are wanted; none: all messages, those without a topic too. */
  readonly topics: readonly TopicPrefix[];
  readonly onLoss: ((loss: Loss) => void) | undefined;
}

const windowBytes = 64 * 1024;
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
    this.base = lane.consumer(consumer);
    this.options = options;
    this.filters = options.topics.length > 0;
    this.copies = channel.backpressure.mode === "DropOldest";
    this.canFail = channel.failedConsumer === "evict" && !this.copies;
    this.messageBytesMax = channel.messageBytesMax;
    this.window = this.copies ? makeWindow(lane) : lane;
    const owner = this.base + partyOffset.owner;
    const what = `Consumer ${channel.consumers[consumer] ?? ""} of channel ${channel.name}`;
    takeOwnership(lane.words, owner, what);
    try {
      // The last owner's silence is not this one's.
      this.beat();
      if (channel.producers.length > 1) returnClaimLock(lane, consumerParty(consumer));
      this.hadFailed = !this.resume();
      const position = this.hadFailed ? this.rejoin() : this.load(consumerOffset.position);
      this.moveTo(position);
      const tail = this.loadTail();
      // Of what may be overwritten the first poll finds what is left.
      if (!this.copies && !this.hasBeenFailed) this.checkTail(position, tail);
      this.expected = this.counter(consumerOffset.sequence) + 1;
    } catch (error) {
      giveUpOwnership(lane.words, owner);
      throw error;
    }
  }

  /** Everything below has been handled. */
  get taken(): number {
    return (this.windowPosition + (this.word - this.windowWord) / 2) | 0;
  }

  /** As `Subscriber.poll`. */
  poll(handler: MessageHandler, limit: number): number {
    if (!this.canFail) return this.take(handler, limit);
    const from = this.taken;
    const { messages, bytes } = this;
    this.trusted = this.expected;
    let cause: unknown;
    let count: number;
    try {
      count = this.take(handler, limit);
    } catch (error) {
      cause = error;
      count = -1;
    }
    // SYNC position-counts: what was read while it did not count may have been overwritten.
    if (count !== 0 && this.isOpen && this.hasBeenFailed) {
      // It is taken again, as far as it is still there; the rest of it is then known to be lost.
      this.moveTo(from);
      this.expected = this.trusted;
      this.messages = messages;
      this.bytes = bytes;
      throw this.lostWhileReading(cause === overwrittenMeanwhile ? undefined : cause);
    }
    if (count < 0) throw cause;
    return count;
  }

  /** @throws GaplessError MESSAGES_LOST where what is held may have been overwritten since. */
  checkHeld(): void {
    if (!this.canFail || !this.hasBeenFailed) return;
    this.moveTo(this.load(consumerOffset.position));
    this.expected = this.counter(consumerOffset.sequence) + 1;
    this.messages = 0;
    this.bytes = 0;
    throw this.lostWhileReading(undefined);
  }

  private take(handler: MessageHandler, limit: number): number {
    let count = 0;
    while (count < limit) {
      if (this.word === this.endWord && !this.openWindow(count === 0)) break;
      count += this.readWindow(handler, limit - count);
    }
    return count;
  }

  /** Whether a producer has declared this consumer failed, since it last came back. */
  private get hasBeenFailed(): boolean {
    return (this.load(consumerOffset.state) & failed) !== 0;
  }

  /** Lets producers overwrite what was taken. */
  release(): void {
    this.checkOpen();
    const { words, base } = this;
    const { doubles } = this.lane;
    doubles[(base + consumerOffset.sequence) >>> 1] = this.expected - 1;
    this.add(consumerOffset.messages, this.messages);
    this.add(consumerOffset.bytes, this.bytes);
    this.messages = 0;
    this.bytes = 0;
    beat(words, base);
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

  /** Whether everything was taken and no producer has anything to follow. */
  get hasEnded(): boolean {
    const { producers, hasBackup } = this.lane.channel;
    const active = hasBackup ? Atomics.load(this.words, claimWord.active) : 0;
    if (active < 0 || active >= producers.length) return false;
    for (let producer = 0; producer < producers.length; producer++) {
      if (hasBackup && producer !== active) continue;
      // SYNC stream-ended: the flags first; every tail before them is then visible.
      const finished = this.lane.producer(producer) + producerOffset.finished;
      if (Atomics.load(this.words, finished) === 0) return false;
    }
    return this.isEmpty;
  }

  /** For whoever waits: goes on behind what a dead producer has claimed. */
  settleTheDead(): void {
    if (this.lane.channel.producers.length > 1) {
      settleTheDead(this.lane, consumerParty(this.consumer));
    }
  }

  beat(): void {
    beat(this.words, this.base);
  }

  close(): void {
    this.isOpen = false;
    // The next poll finds one record, of a length that is never right.
    this.messageBytesMax = -1;
    this.endWord = this.word + 2;
    giveUpOwnership(this.words, this.base + partyOffset.owner);
  }

  /**
   * Goes on at the position that the last owner left. False where it has failed, or died before it
   * had a position to rely on.
   */
  private resume(): boolean {
    const word = this.base + consumerOffset.state;
    const state = Atomics.load(this.words, word);
    if ((state & (failed | joining)) !== 0) return false;
    // The count changes, so a producer that is about to declare the last owner failed does not.
    const next = (state + stateStep) | 0;
    return Atomics.compareExchange(this.words, word, state, next) === state;
  }

  /**
   * Holds producers back again: at its old position where that is still there, else at the floor.
   * Once the state says joining, they count it at its position or at the floor; what they decided
   * before that is in the floor.
   */
  private rejoin(): number {
    const { words, base } = this;
    const word = base + consumerOffset.state;
    while (true) {
      const state = (Atomics.load(words, word) + stateStep) & ~(failed | joining);
      let position = this.load(consumerOffset.position);
      // SYNC position-counts: pairs with the load of the state in Room.lagOf.
      Atomics.store(words, word, state | joining);
      while (true) {
        // SYNC floor-known: pairs with the store in Room.raiseFloor.
        const floor = Atomics.load(words, floorWord);
        // Not by which is less: it may have been away for longer than positions take to wrap.
        if (distance(floor, position) <= distance(floor, this.lane.tail)) break;
        position = floor;
        Atomics.store(words, base + consumerOffset.position, position);
      }
      const joined = state | joining;
      if (Atomics.compareExchange(words, word, joined, state) === joined) return position;
      // Declared failed again on its way, it begins again.
    }
  }

  /** False where there is nothing to read, or where it is to be seen first what was read so far. */
  private openWindow(isFirst: boolean): boolean {
    this.checkOpen();
    if (this.canFail && this.hasBeenFailed) {
      if (!isFirst) return false;
      this.hadFailed = true;
      const { taken } = this;
      const kept = this.rejoin();
      // What was taken and not released is held again, but not taken again.
      this.moveTo(((kept - taken) | 0) > 0 ? kept : taken);
    }
    const position = this.taken;
    if (position === this.tail && this.loadTail() === position) return false;
    this.receivedNs = 0;
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
      Atomics.store(words, base + consumerOffset.position, position);
      const floor = Atomics.load(words, floorWord);
      if (distance(floor, position) > distance(floor, this.lane.tail)) {
        position = floor;
        continue;
      }
      this.checkTail(position, tail);
      this.windowPosition = position;
      this.windowWord = 0;
      this.word = 0;
      this.endWord = this.wholeWords(units * 2, units < available);
      // A window holds at least one record of the largest size.
      if (this.endWord === 0) throw this.damagedAt(0, this.window.words[0] ?? 0);
      return true;
    }
  }

  /** Words of the records of the copy that are whole: the last one may be cut off. */
  private wholeWords(words: number, isCut: boolean): number {
    if (!isCut) return words;
    let word = 0;
    while (word < words) {
      const descriptor = this.window.words[word] ?? 0;
      const next = word + unitsOfRecord(descriptor) * 2;
      // It leads out of the window, and its first word is all there is to it.
      if (next > words && isSkipped(descriptor)) return word + 2;
      if (next === word || next > words) break;
      word = next;
    }
    return word;
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
    const sentNs = this.window.doubles[(this.current * 4 + recordHeaderBytes) >>> 3] ?? 0;
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
    this.add(consumerOffset.filtered, 1);
    return sequence + 1;
  }

  /** Messages are missing before `sequence`: counts them, records their range, and says so. */
  private noteGap(expected: number, sequence: number): void {
    // SYNC position-counts: where it did not count, the sequence may be that of another record.
    if (this.canFail && this.hasBeenFailed) throw overwrittenMeanwhile;
    if (!(Number.isSafeInteger(sequence) && sequence > 0)) {
      throw channelDamaged(this.lane, `sequence ${sequence} where ${expected} was to come`);
    }
    if (sequence < expected) {
      if (this.isFresh) return;
      throw channelDamaged(this.lane, `sequence ${sequence} comes after ${expected - 1}`);
    }
    const loss: Loss = {
      cause: this.copies || this.hadFailed ? "overwritten" : "skipped",
      party: this.consumer,
      from: expected,
      to: sequence - 1,
      messages: sequence - expected,
    };
    this.options.onLoss?.(loss);
    this.trusted = sequence;
    // Whoever comes after a crash is told again, but it is counted once.
    const from = Math.max(expected, this.counter(consumerOffset.lostThrough) + 1);
    if (from >= sequence) return;
    this.lane.doubles[(this.base + consumerOffset.lostThrough) / 2] = sequence - 1;
    this.add(consumerOffset.lost, sequence - from);
    recordLoss(this.lane, { ...loss, from, messages: sequence - from });
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
    this.add(consumerOffset.errors, 1);
    const position = (this.windowPosition + (word - this.windowWord) / 2) >>> 0;
    return channelDamaged(
      this.lane,
      `the record at position ${position} begins with ${descriptor}`,
    );
  }

  private lostWhileReading(cause: unknown): GaplessError {
    this.add(consumerOffset.errors, 1);
    const { name, consumers, consumerTimeoutMs } = this.lane.channel;
    return new GaplessError(
      "MESSAGES_LOST",
      `Consumer ${consumers[this.consumer] ?? ""} of channel ${name} was silent for more than ` +
        `${consumerTimeoutMs} ms, and producers went on without it: what it was reading may have ` +
        "been overwritten. Do not use what this poll or batch handed out; poll again.",
      { cause },
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

  private load(offset: number): number {
    return Atomics.load(this.words, this.base + offset);
  }

  private counter(offset: number): number {
    return this.lane.doubles[(this.base + offset) / 2] ?? 0;
  }

  private add(offset: number, count: number): void {
    const index = (this.base + offset) >>> 1;
    this.lane.doubles[index] = (this.lane.doubles[index] ?? 0) + count;
  }

  private checkOpen(): void {
    if (this.isOpen) return;
    throw new GaplessError("CLOSED", `An end of channel ${this.lane.channel.name} is closed.`);
  }
}

/** Private memory for at least one record of the largest size, and never for much of the ring. */
function makeWindow({ channel }: Lane): RingMemory {
  const bodyBytesMax = channel.messageBytesMax + extension.stampBytes + topicBytesMax;
  const most = Math.min(windowBytes, channel.ringBytes / 8);
  const bytes = Math.max(most, unitsOf(bodyBytesMax) * unitBytes);
  const buffer = new ArrayBuffer(bytes);
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
    doubles: new Float64Array(buffer),
  };
}
