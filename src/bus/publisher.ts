/**
 * The producing end of a channel with one producer.
 *
 *   anchor        tail          head            limit
 *     |  committed  |  claimed    |     room      |
 *
 * `head` and `limit` are this process's own. `limit` is where the slowest consumer would be
 * overwritten; it is worked out anew only when a claim would pass it, so as long as there is room
 * a message costs no look at the consumers.
 */
import { assert, GaplessError } from "../errors.ts";
import { futexWait } from "../memory/futex.ts";
import { channelDamaged, type ChannelFile, type RingMemory } from "./channel-file.ts";
import { addressOfWord, sleepOn, wakeSleepers } from "./sleep.ts";
import {
  consumerOffset,
  consumerWord,
  controlBytes,
  evicted,
  joining,
  ownershipWord,
  paddingLength,
  producerWord,
  recordHeaderBytes,
  recordHeaderUnits,
  sleepWord,
  unitBytes,
} from "./layout.ts";
import { giveUpOwnership, isOwnerAlive, takeOwnership } from "./ownership.ts";

/** The ring is full. Nothing was claimed; try again when consumers have gone on. */
export const BACK_PRESSURED = -1;

/** How long a sleeping producer goes without asking whether the consumer in its way lives. */
const livenessCheckMs = 100;

const firstWordOfRing = controlBytes / 4;

export class Publisher {
  /** Where claimed messages are written, at the offset that `claim` returned. */
  readonly memory: RingMemory;

  private readonly file: ChannelFile;
  private readonly words: Int32Array;
  private readonly doubles: Float64Array;
  private readonly mask: number;
  private readonly capacity: number;
  /** -1 once closed: then nothing fits. */
  private messageBytesMax: number;
  /** Next record's position, padding not counted. */
  private head = 0;
  private tail = 0;
  private limit = 0;
  /** Start of the newest record, claimed or committed. */
  private newest = 0;
  private anchor = 0;
  /** Of the newest message, claimed or committed. */
  private claimedSequence = 0;
  private committedSequence = 0;
  private isOpen = true;

  /** Use `Bus.publisher`. */
  constructor(file: ChannelFile) {
    this.file = file;
    this.memory = file;
    this.words = file.words;
    this.doubles = file.doubles;
    this.capacity = file.channel.ringBytes / unitBytes;
    this.mask = this.capacity - 1;
    this.messageBytesMax = file.channel.messageBytesMax;
    takeOwnership(
      this.words,
      ownershipWord.producer,
      `The producing end of channel ${file.channel.name}`,
    );
    try {
      this.recover();
    } catch (error) {
      giveUpOwnership(this.words, ownershipWord.producer);
      throw error;
    }
  }

  /** Sequence of the newest message, claimed ones included; 0 before the first. */
  get sequence(): number {
    return this.claimedSequence;
  }

  /**
   * Claims room for `length` bytes and returns the byte offset in `memory` to write them at, or
   * BACK_PRESSURED. The offset is a multiple of 8.
   *
   *     const offset = publisher.claim(16);
   *     if (offset === BACK_PRESSURED) return offset;
   *     publisher.memory.view.setFloat64(offset, price, true);
   *     publisher.memory.view.setFloat64(offset + 8, quantity, true);
   *     publisher.commit();
   *
   * Several claims may be open at once: the next `commit` publishes all of them at the price of
   * one, the next `abort` forgets all of them.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE
   */
  claim(length: number): number {
    if (!(length >= 0 && length <= this.messageBytesMax)) throw this.refusal(length);
    const units = recordHeaderUnits + ((length + 7) >>> 3);
    let start = this.head;
    const rest = this.capacity - (start & this.mask);
    const padding = units > rest ? rest : 0;
    const end = (start + padding + units) | 0;
    if (((end - this.limit) | 0) > 0 && !this.lookAtConsumers(end)) return BACK_PRESSURED;

    const words = this.words;
    if (padding > 0) {
      words[this.wordOf(start)] = paddingLength;
      start = (start + padding) | 0;
    }
    const word = this.wordOf(start);
    const sequence = this.claimedSequence + 1;
    words[word] = length;
    this.doubles[(word >>> 1) + 1] = sequence;
    this.claimedSequence = sequence;
    this.newest = start;
    this.head = end;
    return word * 4 + recordHeaderBytes;
  }

  /** Publishes everything claimed since the last commit. */
  commit(): void {
    const words = this.words;
    const tail = this.head;
    if (tail === this.tail) {
      this.checkOpen();
      return;
    }
    this.tail = tail;
    this.committedSequence = this.claimedSequence;
    // SYNC record-visible: publishes the records claimed above; pairs with Subscriber.poll.
    Atomics.store(words, producerWord.tail, tail);
    this.anchor = this.newest;
    words[producerWord.anchor] = this.newest;
    // SYNC consumer-asleep: the tail is stored first; a consumer sets the flag, then looks at it.
    if (Atomics.load(words, sleepWord.consumersAsleep) !== 0) this.wakeConsumers();
  }

  /** Takes back everything claimed since the last commit: it was never there. */
  abort(): void {
    this.claimedSequence = this.committedSequence;
    this.head = this.tail;
    this.newest = this.anchor;
  }

  /**
   * Claims, copies and commits. Returns the message's sequence, counted from 1 since the channel
   * was made, or BACK_PRESSURED.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE
   */
  offer(bytes: Uint8Array): number {
    const offset = this.claim(bytes.length);
    if (offset === BACK_PRESSURED) return BACK_PRESSURED;
    this.memory.bytes.set(bytes, offset);
    this.commit();
    return this.sequence;
  }

  /**
   * The newest committed message, also when a former owner of this end committed it; undefined
   * before the first. The bytes are a copy.
   */
  last(): Uint8Array | undefined {
    this.checkOpen();
    assert(this.head === this.tail, "last() with a claim open");
    if (this.anchor === this.tail) return undefined;
    const word = this.wordOf(this.anchor);
    const start = word * 4 + recordHeaderBytes;
    return this.memory.bytes.slice(start, start + this.at(word));
  }

  /**
   * Sleeps until a message of `length` bytes fits. Consumers that are dead are evicted on the
   * way where the channel says so. Throws the signal's reason when it aborts.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE, or CLOSED, also where the end is closed meanwhile
   */
  async waitForRoom(length: number, signal: AbortSignal): Promise<void> {
    const wake = (): void => wakeSleepers(this.file, sleepWord.producerWakes);
    signal.addEventListener("abort", wake, { once: true });
    try {
      while (true) {
        signal.throwIfAborted();
        this.checkOpen();
        const wakes = Atomics.load(this.words, sleepWord.producerWakes);
        if (this.hasRoom(length)) return;
        await sleepOn(this.file, sleepWord.producerWakes, wakes, livenessCheckMs);
        this.checkOpen();
        this.evictTheDead();
      }
    } finally {
      signal.removeEventListener("abort", wake);
      if (this.isOpen) Atomics.store(this.words, sleepWord.producerAsleep, 0);
    }
  }

  /** The same for a thread of its own: blocks up to `timeoutMs`, and says whether there is room. */
  waitForRoomBlocking(length: number, timeoutMs: number): boolean {
    const deadline = performance.now() + timeoutMs;
    this.checkOpen();
    try {
      while (true) {
        const wakes = Atomics.load(this.words, sleepWord.producerWakes);
        if (this.hasRoom(length)) return true;
        const leftMs = deadline - performance.now();
        if (leftMs <= 0) return false;
        const address = addressOfWord(this.file, sleepWord.producerWakes);
        futexWait(address, wakes, Math.min(leftMs, livenessCheckMs));
        this.evictTheDead();
      }
    } finally {
      Atomics.store(this.words, sleepWord.producerAsleep, 0);
    }
  }

  /** Says that nothing will follow: consumers that have read everything see the end. */
  finish(): void {
    this.checkOpen();
    assert(this.head === this.tail, "finish() with a claim open");
    // SYNC stream-ended: stored after the last tail; pairs with Subscriber.ended.
    Atomics.store(this.words, ownershipWord.finished, 1);
    this.wakeConsumers();
  }

  /**
   * Gives the end up; what was claimed and not committed is forgotten, and whoever waits for room
   * gets CLOSED. Idempotent.
   */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.abort();
    this.messageBytesMax = -1;
    wakeSleepers(this.file, sleepWord.producerWakes);
    giveUpOwnership(this.words, ownershipWord.producer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Goes on behind what the last owner committed. */
  private recover(): void {
    Atomics.store(this.words, ownershipWord.finished, 0);
    Atomics.store(this.words, sleepWord.producerAsleep, 0);
    this.tail = Atomics.load(this.words, producerWord.tail);
    this.head = this.tail;
    this.newest = this.findNewest();
    this.anchor = this.newest;
    this.committedSequence = this.newest === this.tail ? 0 : this.readSequence(this.newest);
    this.claimedSequence = this.committedSequence;
    this.lookAtConsumers(this.tail);
    // The last owner may have died between its last tail and waking those who sleep for it.
    this.wakeConsumers();
  }

  /** Works out the limit anew. Returns whether `end` is within it. */
  private lookAtConsumers(end: number): boolean {
    let lagMax = (this.tail - this.anchor) | 0;
    for (let consumer = 0; consumer < this.file.channel.consumers.length; consumer++) {
      lagMax = Math.max(lagMax, this.lagOf(consumer));
    }
    this.limit = (this.tail - lagMax + this.capacity) | 0;
    return ((end - this.limit) | 0) <= 0;
  }

  /** Units between the consumer and the tail; 0 for one that does not hold the producer back. */
  private lagOf(consumer: number): number {
    const base = consumerWord(consumer);
    // SYNC position-counts: pairs with the store of the state in Subscriber.rejoin.
    const state = Atomics.load(this.words, base + consumerOffset.state);
    if ((state & evicted) !== 0) return 0;
    // SYNC space-free: pairs with the store in Subscriber.release.
    const lag = this.distance(Atomics.load(this.words, base + consumerOffset.position));
    if (lag <= this.capacity) return lag;
    // On its way back it may have been overtaken: it says where it really begins in a moment.
    if ((state & joining) !== 0) return this.capacity;
    throw channelDamaged(
      this.file,
      `consumer ${this.file.channel.consumers[consumer] ?? ""} is ${lag} units behind the tail, ` +
        `in a ring of ${this.capacity}`,
    );
  }

  /** Looks for room; where there is none, asks the consumers to wake us and looks once more. */
  private hasRoom(length: number): boolean {
    if (!(length >= 0 && length <= this.messageBytesMax)) throw this.refusal(length);
    assert(this.head === this.tail, "waiting for room with a claim open could wait for ever");
    // Twice the record: a padding record before it is shorter than it.
    const end = (this.head + 2 * (recordHeaderUnits + ((length + 7) >>> 3))) | 0;
    if (this.lookAtConsumers(end)) return true;
    // SYNC producer-asleep: the flag, then another look; Subscriber.release stores the position,
    // then looks at the flag.
    Atomics.store(this.words, sleepWord.producerAsleep, 1);
    return this.lookAtConsumers(end);
  }

  /** Who takes over meanwhile changes the state, and is not evicted for its forebear. */
  private evictTheDead(): void {
    const { deadConsumer, consumers } = this.file.channel;
    if (deadConsumer !== "evict") return;
    for (let consumer = 0; consumer < consumers.length; consumer++) {
      const base = consumerWord(consumer);
      const state = Atomics.load(this.words, base + consumerOffset.state);
      if (this.lagOf(consumer) < this.capacity / 2) continue;
      if (isOwnerAlive(this.words, base + consumerOffset.owner)) continue;
      Atomics.compareExchange(this.words, base + consumerOffset.state, state, state | evicted);
    }
  }

  private wakeConsumers(): void {
    Atomics.store(this.words, sleepWord.consumersAsleep, 0);
    wakeSleepers(this.file, sleepWord.consumersWakes);
  }

  /**
   * The newest committed record: from the anchor, which a commit moves last, to the tail. A claim
   * never reaches around to the anchor, so the records between are whole.
   */
  private findNewest(): number {
    const anchor = this.at(producerWord.anchor);
    const { tail } = this;
    // Only before the first commit is there no record, and only then is the anchor the tail.
    if (anchor === tail && tail === 0) return tail;
    if (anchor === tail || this.distance(anchor) > this.capacity) {
      throw channelDamaged(
        this.file,
        `anchor ${anchor >>> 0} does not belong to tail ${tail >>> 0}`,
      );
    }
    let newest = anchor;
    let position = anchor;
    while (position !== tail) {
      const length = this.at(this.wordOf(position));
      const rest = this.capacity - (position & this.mask);
      const isPadding = length === paddingLength && position !== anchor;
      const units = isPadding ? rest : recordHeaderUnits + ((length + 7) >>> 3);
      const isWhole = isPadding || (length >= 0 && length <= this.messageBytesMax);
      if (!isWhole || units > rest || units > this.distance(position)) {
        throw channelDamaged(
          this.file,
          `a record at position ${position >>> 0} has length ${length}`,
        );
      }
      if (!isPadding) newest = position;
      position = (position + units) | 0;
    }
    return newest;
  }

  private readSequence(position: number): number {
    const sequence = this.doubles[(this.wordOf(position) >>> 1) + 1] ?? 0;
    if (Number.isSafeInteger(sequence) && sequence > 0) return sequence;
    throw channelDamaged(
      this.file,
      `the record at position ${position >>> 0} has sequence ${sequence}`,
    );
  }

  private distance(position: number): number {
    return (this.tail - position) >>> 0;
  }

  private wordOf(position: number): number {
    return firstWordOfRing + (position & this.mask) * 2;
  }

  private at(word: number): number {
    return this.words[word] ?? 0;
  }

  private checkOpen(): void {
    if (!this.isOpen) throw this.closed();
  }

  private closed(): GaplessError {
    return new GaplessError(
      "CLOSED",
      `The producing end of channel ${this.file.channel.name} is closed.`,
    );
  }

  private refusal(length: number): GaplessError {
    if (!this.isOpen) return this.closed();
    return new GaplessError(
      "MESSAGE_TOO_LARGE",
      `A message does not fit channel ${this.file.channel.name}: bytes=${length}, ` +
        `message_size_max=${this.messageBytesMax}.`,
    );
  }
}
