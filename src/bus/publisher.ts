/** The producing end of one lane of a channel. */
import type { GaplessError } from "../errors.ts";
import { startBeating, stopBeating } from "../memory/heartbeat.ts";
import { announceSleep, readWakes, sleepBlocking, sleepOn, wake } from "../memory/sleep.ts";
import { bootMs, bootNs } from "../clock.ts";
import {
  BACK_PRESSURED,
  CIRCUIT_OPEN,
  CircuitBreaker,
  DROPPED,
  throttleDelayUs,
  type CircuitState,
} from "./backpressure.ts";
import type { Claims } from "./claims.ts";
import { takeOver } from "./failover.ts";
import { beat, beatNow } from "./heartbeat.ts";
import { distance, type Lane, type RingMemory } from "./lane.ts";
import { recordLatency } from "./latency.ts";
import {
  claimWord,
  extension,
  extensionBytesOf,
  floorWord,
  partyOffset,
  producerOffset,
  record,
  recordHeaderBytes,
  recordHeaderUnits,
  topicBytesMax,
  unitBytes,
  unitsOf,
} from "./layout.ts";
import { bytesOf, checkBytes, claimOpen, closed, finished, unfit } from "./misuse.ts";
import { giveUpOwnership, takeOwnership } from "./ownership.ts";
import { RefusalLog } from "./refusal-log.ts";
import { SharedClaims } from "./shared-claims.ts";
import { producersBed, wakeConsumers } from "./sleep.ts";
import { SoloClaims } from "./solo-claims.ts";
import { makeTopic, type Topic } from "./topics.ts";

/** How long a sleeping producer goes without asking whether the consumer in its way lives. */
const livenessCheckMs = 100;
/** So often a producer that never waits asks the same. */
const refusedCheckMs = 100;
/** How long whoever has seen room and not got it leaves it alone. */
const missedNapMs = 1;
/** Of `sampled` messages, one in so many is stamped, on average. */
const samplePeriod = 64;

const pillow = new Int32Array(new SharedArrayBuffer(4));

export class Publisher {
  /** Where claimed messages are written, at the offset that `claim` returned. */
  readonly memory: RingMemory;

  private readonly lane: Lane;
  private readonly claims: Claims;
  /** The mark of a message without an extension. */
  private readonly mark: number;
  /** First word of this producer's block. */
  private readonly base: number;
  /** -1 once closed or finished: then nothing fits. */
  private messageBytesMax: number;
  private readonly breaker: CircuitBreaker | undefined;
  /** Whether the high-water mark was met and the low one has not been seen since. */
  private isPressured = false;
  private readonly stampPeriod: number;
  /** The claim behind this sequence is stamped. Counting down would be a store for each claim. */
  private stampFrom = Number.MAX_SAFE_INTEGER;
  private stamps = 0;
  private draw = 1;
  /** When the claimed message was stamped whose commit is timed; 0: none is. */
  private stampedNs = 0;
  /** What is claimed and not committed. Counters above 2^31 are kept in shared memory only. */
  private openBytes = 0;
  private readonly hasBackup: boolean;
  private lookedMs = bootMs();
  /** Sequence at which room was seen last. */
  private roomSeenAt = -1;
  private readonly refusalLog: RefusalLog;
  private hasFinished = false;
  private isOpen = true;
  private readonly onClosed: () => void;

  /** Use `Bus.publisher`, or `Bus.standby`, which takes over from whoever writes. */
  constructor(lane: Lane, producer: number, takesOver = false, onClosed = () => {}) {
    const { channel } = lane;
    this.onClosed = onClosed;
    this.lane = lane;
    this.hasBackup = channel.hasBackup;
    this.memory = lane;
    this.mark = producer << record.producerShift;
    this.base = lane.producer(producer);
    this.refusalLog = new RefusalLog(lane, producer);
    this.messageBytesMax = channel.messageBytesMax;
    const { backpressure, timestamps } = channel;
    if (backpressure.mode === "CircuitBreaker") this.breaker = new CircuitBreaker(backpressure);
    this.stampPeriod = timestamps === "all" ? 1 : samplePeriod;
    this.claims =
      channel.producers.length > 1 ? new SharedClaims(lane, producer) : new SoloClaims(lane);
    const owner = this.base + partyOffset.owner;
    takeOwnership(lane.words, owner, `The producing end of channel ${channel.name}`);
    try {
      // Before it is the one that writes: from then on, silence or a finished stream is its own.
      beatNow(lane.words, this.base);
      Atomics.store(lane.words, this.base + producerOffset.finished, 0);
      if (takesOver) takeOver(lane, producer);
      this.claims.recover();
      if (timestamps !== "off") this.stampFrom = this.claims.sequence + this.drawPause();
      // The last owner may have died between its last tail and waking those who sleep for it.
      wakeConsumers(lane);
      startBeating(this);
    } catch (error) {
      giveUpOwnership(lane.words, owner);
      throw error;
    }
  }

  /**
   * Sequence of the newest message of this end, claimed ones included. With several producers the
   * messages between two of this end are those of the others. 0 before the first.
   */
  get sequence(): number {
    return this.claims.sequence;
  }

  /**
   * Share of the ring that is in use, 0 to 1: up to the slowest consumer that counts; with
   * DropOldest what is claimed and not committed.
   */
  get utilisation(): number {
    this.checkOpen();
    return this.claims.used() / this.lane.capacity;
  }

  /** What the circuit breaker of the channel does; undefined where it has none. */
  get circuit(): CircuitState | undefined {
    return this.breaker?.state(bootMs());
  }

  /**
   * A topic to publish under: its bytes are encoded once.
   *
   * @throws GaplessError CONFIG_INVALID for an empty one or one above 128 bytes.
   */
  topic(name: string): Topic {
    return makeTopic(name);
  }

  /**
   * Claims room for `length` bytes and returns the byte offset in `memory` to write them at (a
   * multiple of 8), or BACK_PRESSURED, DROPPED or CIRCUIT_OPEN, after what the channel's
   * backpressure does.
   *
   *     const offset = publisher.claim(16);
   *     if (offset < 0) return offset;
   *     publisher.memory.view.setFloat64(offset, price, true);
   *     publisher.memory.view.setFloat64(offset + 8, quantity, true);
   *     publisher.commit();
   *
   * Several claims may be open at once: the next `commit` publishes all of them at the price of
   * one, the next `abort` forgets all of them.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE, FENCED, or CLOSED, also after `finish`
   */
  claim(length: number, topic?: Topic): number {
    this.checkLength(length);
    const isStampDue = this.claims.sequence >= this.stampFrom;
    if (isStampDue || this.isPressured || topic !== undefined) {
      return this.claimWithCare(length, topic, isStampDue);
    }
    const word = this.claims.tryClaim(length, this.mark, this.claims.room.highWater);
    if (word < 0) return this.refuse(length, topic);
    this.openBytes += length;
    return word * 4 + recordHeaderBytes;
  }

  /**
   * Publishes everything claimed since the last commit.
   *
   * @throws GaplessError FENCED where a backup took over since: what of it had not been published
   *   by then is not, and whoever has taken over knows by `last` where it goes on
   */
  commit(): void {
    const { lane, base } = this;
    this.checkOpen();
    this.add(producerOffset.messages, this.claims.commit());
    this.add(producerOffset.bytes, this.openBytes);
    this.openBytes = 0;
    // Where silence means a backup, at each commit: a loop may never let a timer fire.
    if (this.hasBackup) beatNow(lane.words, base);
    else beat(lane.words, base);
    if (this.stampedNs === 0) return;
    recordLatency(lane.words, base + producerOffset.writeLatency, bootNs() - this.stampedNs);
    this.stampedNs = 0;
  }

  /**
   * Takes back everything claimed since the last commit: it was never there. In a channel of
   * several producers its sequences are used up; consumers pass over them, and it is no loss.
   */
  abort(): void {
    this.claims.abort();
    this.openBytes = 0;
    this.stampedNs = 0;
  }

  /**
   * Claims, copies and commits. Returns the message's sequence, counted from 1 since the channel
   * was made, or a negative answer as `claim` does.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE, FENCED, or CLOSED, also after `finish`
   */
  offer(bytes: Uint8Array, topic?: Topic): number {
    checkBytes(bytes);
    const offset = this.claim(bytes.length, topic);
    if (offset < 0) return offset;
    this.memory.bytes.set(bytes, offset);
    const { sequence } = this;
    this.commit();
    return sequence;
  }

  /**
   * Offers messages in order and publishes them at once. Returns how many went in before the first
   * that did not: offer the others again.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE, or CLOSED, also after `finish`: then none is published.
   *   FENCED: none, or the first ones
   */
  offerMany(messages: readonly Uint8Array[], topic?: Topic): number {
    let count = 0;
    try {
      for (const bytes of messages) {
        checkBytes(bytes);
        const offset = this.claim(bytes.length, topic);
        if (offset < 0) break;
        this.memory.bytes.set(bytes, offset);
        count++;
      }
    } catch (error) {
      this.abort();
      throw error;
    }
    this.commit();
    return count;
  }

  /**
   * Offers a message until it goes in, asleep in between: the event loop stays free. Resolves to
   * its sequence, or to DROPPED where the channel drops it. An abort rejects with the signal's
   * reason; the message is then not published.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE, FENCED, CLOSED, also after `finish`, or CLAIM_OPEN
   *   where it has to wait with a claim open
   */
  async send(
    bytes: Uint8Array,
    options: { topic?: Topic; signal?: AbortSignal } = {},
  ): Promise<number> {
    checkBytes(bytes);
    this.checkLength(bytes.length);
    while (true) {
      options.signal?.throwIfAborted();
      const room = this.claims.room.highWater;
      const offset = this.tryClaim(
        bytes.length,
        options.topic,
        room,
        this.claims.sequence >= this.stampFrom,
      );
      if (offset >= 0) {
        this.memory.bytes.set(bytes, offset);
        const { sequence } = this;
        this.commit();
        return sequence;
      }
      if (this.lane.channel.backpressure.mode === "DropNewest") {
        return this.offer(bytes, options.topic);
      }
      await this.waitForRoom(bytes.length, options.signal);
    }
  }

  /**
   * The newest message that this end has committed, also when a former owner of it did, and in a
   * channel with a backup, whichever of the two did: there the one that takes over goes on behind
   * it. Undefined before the first, and where several produce and it has been overwritten. The
   * bytes are a copy.
   *
   * @throws GaplessError CLAIM_OPEN, or CLOSED
   */
  last(): Uint8Array | undefined {
    this.checkOpen();
    this.checkSettled("last()");
    const position = this.claims.newestCommitted();
    if (position === undefined) return undefined;
    const word = this.lane.wordOf(position);
    const { words } = this.lane;
    const descriptor = words[word] ?? 0;
    const bodyBytes = descriptor & record.bodyMask;
    const extra = (descriptor & record.marked) === 0 ? 0 : extensionBytesOf(words[word + 1] ?? 0);
    const start = word * 4 + recordHeaderBytes;
    const bytes = this.memory.bytes.slice(start + extra, start + bodyBytes);
    // Another producer may have overwritten it meanwhile.
    const floor = Atomics.load(words, floorWord);
    const isThere = distance(floor, position) < distance(floor, this.lane.tail);
    return isThere || this.lane.channel.producers.length === 1 ? bytes : undefined;
  }

  /**
   * Sleeps until a message of `length` bytes fits. Consumers that are dead are evicted on the
   * way where the channel says so. Throws the signal's reason when it aborts.
   *
   * @throws GaplessError MESSAGE_TOO_LARGE; CLAIM_OPEN: it could wait for ever for what it claimed
   *   itself; CLOSED, also after `finish`, and where the end is closed meanwhile
   */
  async waitForRoom(length: number, signal?: AbortSignal): Promise<void> {
    const { sleep } = this.lane;
    const wakeUp = (): void => wake(sleep, producersBed);
    signal?.addEventListener("abort", wakeUp, { once: true });
    try {
      while (true) {
        signal?.throwIfAborted();
        this.checkOpen();
        const wakes = readWakes(sleep, producersBed);
        // Room that was seen and not got is left alone for a moment: the event loop stays free.
        const isMissed = this.roomSeenAt === this.claims.sequence;
        this.roomSeenAt = -1;
        if (!isMissed && this.hasRoom(length)) {
          this.roomSeenAt = this.claims.sequence;
          return;
        }
        await sleepOn(sleep, producersBed, wakes, isMissed ? missedNapMs : livenessCheckMs);
        this.checkOpen();
        this.claims.failTheDead();
      }
    } finally {
      signal?.removeEventListener("abort", wakeUp);
    }
  }

  /** The same for a thread of its own: blocks up to `timeoutMs`, and says whether there is room. */
  waitForRoomBlocking(length: number, timeoutMs: number): boolean {
    const { sleep } = this.lane;
    const deadline = performance.now() + timeoutMs;
    this.checkOpen();
    while (true) {
      const wakes = readWakes(sleep, producersBed);
      if (this.hasRoom(length)) return true;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      sleepBlocking(sleep, producersBed, wakes, Math.min(leftMs, livenessCheckMs));
      beatNow(this.lane.words, this.base);
      this.claims.failTheDead();
    }
  }

  /**
   * Says that nothing will follow: consumers that have read everything see the end, and what is
   * offered after it is refused. Whoever opens this end again begins a new run. Idempotent.
   *
   * @throws GaplessError CLAIM_OPEN, or CLOSED
   */
  finish(): void {
    this.checkOpen();
    this.checkSettled("finish()");
    this.hasFinished = true;
    this.messageBytesMax = -1;
    // SYNC stream-ended: stored after the last tail; pairs with hasFinishedAll.
    Atomics.store(this.lane.words, this.base + producerOffset.finished, 1);
    wakeConsumers(this.lane);
  }

  /**
   * Gives the end up; what was claimed and not committed is forgotten, and whoever waits for room
   * gets CLOSED. Idempotent.
   */
  close(): void {
    if (!this.isOpen) return;
    this.abort();
    this.isOpen = false;
    this.messageBytesMax = -1;
    stopBeating(this);
    wake(this.lane.sleep, producersBed);
    giveUpOwnership(this.lane.words, this.base + partyOffset.owner);
    this.onClosed();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** A producer that publishes nothing is well as long as its event loop turns. */
  beatIfIdle(): void {
    beat(this.lane.words, this.base);
  }

  /** A claim with an extension, or one behind another that met the high-water mark. */
  private claimWithCare(length: number, topic: Topic | undefined, isStampDue: boolean): number {
    const { highWater, lowWater } = this.claims.room;
    if (this.breaker?.state(bootMs()) === "open") {
      this.lookAround();
      return this.reject(CIRCUIT_OPEN);
    }
    if (this.isPressured) {
      if (this.claims.used() > lowWater) return this.refuse(length, topic);
      this.isPressured = false;
    }
    const offset = this.tryClaim(length, topic, highWater, isStampDue);
    if (offset < 0) return this.refuse(length, topic);
    this.breaker?.succeeded();
    return offset;
  }

  /** For one that is refused and does not wait: now and then it looks whether the dead are why. */
  private lookAround(): void {
    const nowMs = bootMs();
    if (nowMs - this.lookedMs < refusedCheckMs) return;
    this.lookedMs = nowMs;
    beatNow(this.lane.words, this.base);
    this.claims.failTheDead();
  }

  /** What the channel's backpressure makes of a claim at or above the high-water mark. */
  private refuse(length: number, topic: Topic | undefined): number {
    const { claims } = this;
    const { backpressure } = this.lane.channel;
    this.lookAround();
    if (!this.isPressured) this.add(producerOffset.pressured, 1);
    this.isPressured = backpressure.mode !== "Reject" && backpressure.mode !== "DropOldest";
    switch (backpressure.mode) {
      case "Reject":
      case "DropOldest":
        return this.reject(BACK_PRESSURED);
      case "DropNewest":
        return this.drop();
      case "BlockProducer": {
        // Not with a claim open, which may stand in its own way: it has to be committed first.
        const waits = !claims.hasOpen;
        const offset = waits ? this.claimBlocking(length, topic, backpressure.timeoutMs) : -1;
        return offset >= 0 ? offset : this.reject(BACK_PRESSURED);
      }
      case "AdaptiveThrottle": {
        Atomics.wait(pillow, 0, 0, throttleDelayUs(backpressure, this.utilisation) / 1000);
        const offset = this.tryClaim(length, topic, this.lane.capacity, false);
        return offset >= 0 ? offset : this.reject(BACK_PRESSURED);
      }
      case "CircuitBreaker":
        this.breaker?.failed(bootMs());
        return this.reject(BACK_PRESSURED);
    }
  }

  /** Claims as soon as there is room. Of several producers another may be quicker each time. */
  private claimBlocking(length: number, topic: Topic | undefined, timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    while (true) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0 || !this.waitForRoomBlocking(length, leftMs)) return -1;
      this.isPressured = false;
      const offset = this.tryClaim(length, topic, this.claims.room.highWater, false);
      if (offset >= 0) return offset;
      this.claims.failTheDead();
      Atomics.wait(pillow, 0, 0, missedNapMs);
    }
  }

  /** Claims with what extension there is to be. Returns the offset of the message, or -1. */
  private tryClaim(
    length: number,
    topic: Topic | undefined,
    room: number,
    isStamped: boolean,
  ): number {
    const { claims, lane } = this;
    const topicBytes = topic === undefined ? 0 : bytesOf(topic).length;
    const stampBytes = isStamped ? extension.stampBytes : 0;
    const extra = stampBytes + unitBytes * ((topicBytes + 7) >>> 3);
    const mark = extra === 0 ? this.mark : this.mark | record.marked;
    const word = claims.tryClaim(length + extra, mark, room);
    if (word < 0) return -1;
    this.openBytes += length;
    if (isStamped) this.stampFrom = claims.sequence + this.drawPause();
    const start = word * 4 + recordHeaderBytes;
    if (extra === 0) return start;
    lane.words[word + 1] = topicBytes | (isStamped ? extension.stamped : 0);
    // By the word: a byte offset of a large ring has more than 32 bits.
    if (isStamped) lane.doubles[(word >>> 1) + recordHeaderUnits] = this.stamp();
    if (topic !== undefined) lane.bytes.set(topic.bytes, start + stampBytes);
    return start + extra;
  }

  /**
   * Messages until the next one that is stamped: `samplePeriod` on average, and not by a rule that
   * topics could follow too. A linear congruential generator (Numerical Recipes).
   */
  private drawPause(): number {
    if (this.stampPeriod === 1) return 0;
    this.draw = (Math.imul(this.draw, 1_664_525) + 1_013_904_223) | 0;
    return (this.draw >>> 16) % (2 * samplePeriod - 1);
  }

  /** The time; now and then it is also kept, for how long it takes to the commit. */
  private stamp(): number {
    const ns = bootNs();
    if (this.stampPeriod > 1 || ++this.stamps % samplePeriod === 0) this.stampedNs = ns;
    return ns;
  }

  /** Looks for room; where there is none, asks the consumers to wake us and looks once more. */
  private hasRoom(length: number): boolean {
    this.checkLength(length);
    this.checkSettled("waiting for room");
    const { highWater, lowWater } = this.claims.room;
    // Twice the record: what is skipped before it is shorter than it. And what it extends it by.
    const units = 2 * unitsOf(length + extension.stampBytes + topicBytesMax);
    const used = this.isPressured ? lowWater : Math.max(0, highWater - units);
    if (this.claims.used() <= used) return true;
    // SYNC producer-asleep: the flag, then another look; Reader.release stores the position, then
    // looks at the flag.
    announceSleep(this.lane.sleep, producersBed);
    return this.claims.used() <= used;
  }

  /** The answer, once it is counted and recorded. */
  private reject(answer: number): number {
    const { sequence } = this.claims;
    const newest = this.lane.doubles[claimWord.sequence / 2] ?? 0;
    this.refusalLog.noteRejected(Math.max(sequence, newest) + 1);
    return answer;
  }

  private drop(): number {
    this.refusalLog.noteDropped(this.claims.giveUpSequence());
    return DROPPED;
  }

  private add(offset: number, count: number): void {
    const index = (this.base + offset) >>> 1;
    this.lane.doubles[index] = (this.lane.doubles[index] ?? 0) + count;
  }

  private checkOpen(): void {
    if (!this.isOpen) throw closed(this.lane.channel);
  }

  private checkSettled(what: string): void {
    if (this.claims.hasOpen) throw claimOpen(this.lane.channel, what);
  }

  private checkLength(length: number): void {
    const isRight = (length | 0) === length && length >= 0 && length <= this.messageBytesMax;
    if (!isRight) throw this.refusal(length);
  }

  private refusal(length: number): GaplessError {
    const { channel } = this.lane;
    if (!this.isOpen) return closed(channel);
    if (this.hasFinished) return finished(channel);
    this.add(producerOffset.errors, 1);
    return unfit(channel, length);
  }
}
