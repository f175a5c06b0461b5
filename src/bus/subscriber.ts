/**
 * A consuming end of a channel. Every consumer sees every message, each at its own pace.
 *
 *   released       taken          tail
 *     |  held        |   to come    |
 *
 * What is held is not overwritten: it comes again if this process dies before `release`.
 */
import { GaplessError } from "../errors.ts";
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
  stateStep,
  unitBytes,
} from "./layout.ts";
import { giveUpOwnership, takeOwnership } from "./ownership.ts";

/** Reads a message in place: `length` bytes at `offset` of `memory`, valid until the return. */
export type MessageHandler = (memory: RingMemory, offset: number, length: number) => void;

const firstWordOfRing = controlBytes / 4;

export class Subscriber {
  /** Whether the producer went on without this consumer: messages are missing before the next. */
  readonly wasEvicted: boolean;
  readonly memory: RingMemory;

  private readonly file: ChannelFile;
  private readonly words: Int32Array;
  private readonly mask: number;
  private readonly capacity: number;
  /** -1 once closed: then no length is right. */
  private messageBytesMax: number;
  private readonly base: number;
  private tail = 0;
  private taken = 0;
  private isOpen = true;

  /** Use `Bus.subscriber`. */
  constructor(file: ChannelFile, consumer: number) {
    this.file = file;
    this.memory = file;
    this.words = file.words;
    this.capacity = file.channel.ringBytes / unitBytes;
    this.mask = this.capacity - 1;
    this.messageBytesMax = file.channel.messageBytesMax;
    this.base = consumerWord(consumer);
    takeOwnership(
      this.words,
      this.base + consumerOffset.owner,
      `Consumer ${file.channel.consumers[consumer] ?? ""} of channel ${file.channel.name}`,
    );
    try {
      this.wasEvicted = !this.resume() && this.rejoin();
      this.taken = Atomics.load(this.words, this.base + consumerOffset.position);
      this.loadTail();
      this.tail = this.taken;
    } catch (error) {
      giveUpOwnership(this.words, this.base + consumerOffset.owner);
      throw error;
    }
  }

  /**
   * Hands up to `limit` messages to `handler`, in order, and returns how many. It never waits.
   * They stay held until `release`. Where the handler throws, the message that it threw on is
   * not taken.
   *
   *     while (running) {
   *       if (subscriber.poll(onMessage, 256) === 0) await subscriber.wait(1000, signal);
   *       else subscriber.release();
   *     }
   */
  poll(handler: MessageHandler, limit: number): number {
    const { words, mask, memory } = this;
    let position = this.taken;
    if (position === this.tail) this.tail = this.loadTail();
    const tail = this.tail;
    let end = this.endOfRun(position, tail);
    let count = 0;
    try {
      while (position !== tail && count < limit) {
        if (position === end) end = this.endOfRun(position, tail);
        const word = firstWordOfRing + (position & mask) * 2;
        // In range: the mask keeps every position within the ring.
        const length = words[word]!; // eslint-disable-line @typescript-eslint/no-non-null-assertion
        const next = (position + recordHeaderUnits + ((length + 7) >>> 3)) | 0;
        // Where the channel is damaged, a record may lead past the end.
        if (length >>> 0 > this.messageBytesMax || ((end - next) | 0) < 0) {
          position = this.skipPadding(position, length);
          continue;
        }
        handler(memory, word * 4 + recordHeaderBytes, length);
        position = next;
        count++;
      }
    } finally {
      this.taken = position;
    }
    return count;
  }

  /** Lets the producer overwrite what was taken. */
  release(): void {
    this.checkOpen();
    const words = this.words;
    const word = this.base + consumerOffset.position;
    // SYNC space-free: the messages have been read; pairs with Publisher.lagOf.
    Atomics.store(words, word, this.taken);
    // SYNC producer-asleep: pairs with the store of the flag in Publisher.hasRoom.
    if (Atomics.load(words, sleepWord.producerAsleep) !== 0) {
      wakeSleepers(this.file, sleepWord.producerWakes);
    }
  }

  /** Bytes of the ring, headers included, between what was taken and the producer's tail. */
  get lagBytes(): number {
    this.checkOpen();
    return ((Atomics.load(this.words, producerWord.tail) - this.taken) >>> 0) * unitBytes;
  }

  /** Whether everything was taken and the producer has said that nothing will follow. */
  get ended(): boolean {
    this.checkOpen();
    // SYNC stream-ended: the flag first; every tail before it is then visible.
    const finished = Atomics.load(this.words, ownershipWord.finished) !== 0;
    return finished && Atomics.load(this.words, producerWord.tail) === this.taken;
  }

  /**
   * Sleeps until there is something to poll, the stream ends, `signal` aborts or the time is up.
   * The event loop stays free.
   */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    this.checkOpen();
    const wakes = Atomics.load(this.words, sleepWord.consumersWakes);
    if (!this.prepareToSleep() || signal.aborted) return;
    const wake = (): void => wakeSleepers(this.file, sleepWord.consumersWakes);
    signal.addEventListener("abort", wake, { once: true });
    await sleepOn(this.file, sleepWord.consumersWakes, wakes, timeoutMs);
    signal.removeEventListener("abort", wake);
  }

  /** The same for a thread of its own. */
  waitBlocking(timeoutMs: number): void {
    this.checkOpen();
    const wakes = Atomics.load(this.words, sleepWord.consumersWakes);
    if (!this.prepareToSleep()) return;
    futexWait(addressOfWord(this.file, sleepWord.consumersWakes), wakes, timeoutMs);
  }

  /**
   * Leaves the end; whoever takes it next begins with what was not released. A wait under way
   * returns. Idempotent.
   */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    // The next poll finds one record, of a length that is never right.
    this.messageBytesMax = -1;
    this.tail = (this.taken + 1) | 0;
    wakeSleepers(this.file, sleepWord.consumersWakes);
    giveUpOwnership(this.words, this.base + consumerOffset.owner);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Goes on at the position that the last owner left. False where it has been evicted, or died
   * before it had a position to rely on.
   */
  private resume(): boolean {
    const word = this.base + consumerOffset.state;
    const state = Atomics.load(this.words, word);
    if ((state & (evicted | joining)) !== 0) return false;
    // The count changes, so a producer that is about to evict the last owner fails to.
    const next = (state + stateStep) | 0;
    return Atomics.compareExchange(this.words, word, state, next) === state;
  }

  /**
   * Begins at the tail. The first store keeps the position near the tail; once the state counts,
   * the producer may already have passed it with a limit from before, so the tail that is read
   * after that is the position: no limit from before reaches around to it.
   */
  private rejoin(): true {
    const { words, base } = this;
    const position = base + consumerOffset.position;
    const state = base + consumerOffset.state;
    const next = (Atomics.load(words, state) + stateStep) & ~(evicted | joining);
    Atomics.store(words, position, Atomics.load(words, producerWord.tail));
    // SYNC position-counts: pairs with the load of the state in Publisher.lagOf.
    Atomics.store(words, state, next | joining);
    Atomics.store(words, position, Atomics.load(words, producerWord.tail));
    Atomics.store(words, state, next);
    return true;
  }

  /** False where there is a reason not to sleep. */
  private prepareToSleep(): boolean {
    // SYNC consumer-asleep: the flag, then another look; Publisher.commit stores the tail, then
    // looks at the flag.
    Atomics.store(this.words, sleepWord.consumersAsleep, 1);
    return Atomics.load(this.words, producerWord.tail) === this.taken && !this.ended;
  }

  /** The tail, which is never further ahead than the ring is long. */
  private loadTail(): number {
    // SYNC record-visible: pairs with the store of the tail in Publisher.commit.
    const tail = Atomics.load(this.words, producerWord.tail);
    if ((tail - this.taken) >>> 0 > this.capacity) {
      throw channelDamaged(
        this.file,
        `position ${this.taken >>> 0} is further from tail ${tail >>> 0} than the ring is long`,
      );
    }
    return tail;
  }

  /** Where records that begin at `position` have to end: at the tail, or with the ring. */
  private endOfRun(position: number, tail: number): number {
    const rest = this.capacity - (position & this.mask);
    return (tail - position) >>> 0 < rest ? tail : (position + rest) | 0;
  }

  private checkOpen(): void {
    if (!this.isOpen) {
      throw new GaplessError("CLOSED", `An end of channel ${this.file.channel.name} is closed.`);
    }
  }

  private skipPadding(position: number, length: number): number {
    this.checkOpen();
    const rest = this.capacity - (position & this.mask);
    if (length !== paddingLength || rest > (this.tail - position) >>> 0) {
      throw channelDamaged(
        this.file,
        `a record at position ${position >>> 0} has length ${length}`,
      );
    }
    return (position + rest) | 0;
  }
}
