/**
 * Claims of a channel that several producers write, in one order.
 *
 *   tail                          claimed              limit
 *     |  claims and settled records  |       room        |
 *
 * A producer claims under a lock: it writes the beginning of its record, length and sequence
 * included, and moves `claimed` behind it. So whatever is below `claimed` is known to be a record
 * of some length, also where its producer died. It fills the record and settles it without a lock,
 * by one exchange of the descriptor; then it moves the tail over everything settled. Whoever
 * settles the record at the tail moves the tail over those behind it that were settled before.
 *
 * The death of a producer leaves at most: the lock (the next in line mends, see `mend`), claims
 * that are not settled (whoever waits abandons them, see `settleTheDead`), and a tail that was not
 * moved (whoever waits moves it). A living producer's claim is never touched, however long it
 * takes, except where its backup takes over: then nobody writes there until it knows, or is dead.
 */
import { GaplessError } from "../errors.ts";
import { acquireClaimLock, lockedBy, producerParty, releaseClaimLock } from "./claim-lock.ts";
import type { Claims } from "./claims.ts";
import { distance, type Lane } from "./lane.ts";
import {
  claimWord,
  floorWord,
  isOpenClaim,
  producerOf,
  producerOffset,
  record,
  unitsOf,
} from "./layout.ts";
import { Room } from "./room.ts";
import {
  abandon,
  advance,
  isProducerAlive,
  mend,
  recordBehind,
  settleTheDead,
} from "./settling.ts";
import { wakeConsumers } from "./sleep.ts";

const openMark = record.hidden | record.marked;
const withdrawnMark = record.hidden | record.withdrawn;

export class SharedClaims implements Claims {
  readonly room: Room;
  sequence = 0;

  private readonly lane: Lane;
  private readonly words: Int32Array;
  private readonly doubles: Float64Array;
  private readonly producer: number;
  private readonly party: number;
  /** What the lock holds while this has it. */
  private readonly own: number;
  /** Positions and settled descriptors of what is claimed, oldest first. */
  private readonly openPositions: number[] = [];
  private readonly openDescriptors: number[] = [];
  private openCount = 0;

  constructor(lane: Lane, producer: number) {
    this.lane = lane;
    this.words = lane.words;
    this.doubles = lane.doubles;
    this.producer = producer;
    this.party = producerParty(producer);
    this.own = lockedBy(this.party);
    this.room = new Room(lane);
  }

  get hasOpen(): boolean {
    return this.openCount > 0;
  }

  tryClaim(bodyBytes: number, mark: number, room: number): number {
    const { words, doubles, lane } = this;
    const units = unitsOf(bodyBytes);
    this.acquire();
    let start = words[claimWord.claimed] ?? 0;
    const skipped = this.unitsToSkip(start, units);
    const end = (start + skipped + units) | 0;
    const isBeyond = ((end - (words[claimWord.limit] ?? 0)) | 0) > 0;
    if ((isBeyond && !this.findRoom(start, end, room)) || skipped > record.skipUnitsMask) {
      releaseClaimLock(lane);
      return -1;
    }
    const before = doubles[claimWord.sequence / 2] ?? 0;
    const sequence = before + 1;
    doubles[claimWord.sequenceBefore / 2] = before;
    words[claimWord.claiming] = start;
    if (skipped > 0) {
      // Of what is closed to us this is the first word at most, which its owner never just writes.
      words[lane.wordOf(start)] = record.hidden | skipped;
      start = (start + skipped) | 0;
    }
    const word = lane.wordOf(start);
    words[word] = openMark | (this.producer << record.producerShift) | bodyBytes;
    doubles[(word >>> 1) + 1] = sequence;
    doubles[claimWord.sequence / 2] = sequence;
    // SYNC claim-known: the beginning of the record is written; pairs with the load in advance.
    Atomics.store(words, claimWord.claimed, end);
    releaseClaimLock(lane);

    this.openPositions[this.openCount] = start;
    this.openDescriptors[this.openCount] = mark | bodyBytes;
    this.openCount++;
    this.sequence = sequence;
    return word;
  }

  commit(): number {
    const count = this.openCount;
    if (count === 0) return 0;
    const isFenced = !this.settle(0);
    if (advance(this.lane)) wakeConsumers(this.lane);
    if (isFenced) throw this.fenced();
    return count;
  }

  abort(): void {
    if (this.openCount === 0) return;
    this.settle(withdrawnMark);
    if (advance(this.lane)) wakeConsumers(this.lane);
  }

  giveUpSequence(): number {
    this.acquire();
    const sequence = (this.doubles[claimWord.sequence / 2] ?? 0) + 1;
    this.doubles[claimWord.sequence / 2] = sequence;
    releaseClaimLock(this.lane);
    this.sequence = sequence;
    return sequence;
  }

  used(): number {
    // The tail first: claims go on meanwhile. What is not settled is in the way, read or not.
    const tail = this.lane.tail;
    const claimed = Atomics.load(this.words, claimWord.claimed);
    const closed = this.words[claimWord.quarantineUnits] ?? 0;
    return closed + Math.max(this.room.used(claimed), distance(tail, claimed));
  }

  failTheDead(): void {
    this.room.failTheDead(Atomics.load(this.words, claimWord.claimed));
    settleTheDead(this.lane, this.party);
  }

  newestCommitted(): number | undefined {
    const newest = this.words[this.lane.producer(this.producer) + producerOffset.newest] ?? 0;
    const floor = Atomics.load(this.words, floorWord);
    const tail = this.lane.tail;
    if (tail === floor || distance(floor, newest) >= distance(floor, tail)) return undefined;
    return this.isOurs(this.lane.descriptorAt(newest)) ? newest : undefined;
  }

  /** Abandons what a former owner of this end had claimed, and finds what it committed last. */
  recover(): void {
    const { words, lane } = this;
    this.acquire();
    const claimed = Atomics.load(words, claimWord.claimed);
    // Not from where it noted its newest one: it may be so long ago that positions have wrapped.
    let position = Atomics.load(words, floorWord);
    // Nothing of its own, as long as none is found.
    let newest = claimed;
    while (position !== claimed) {
      const descriptor = Atomics.load(words, lane.wordOf(position));
      const isOwnClaim = isOpenClaim(descriptor) && producerOf(descriptor) === this.producer;
      if (isOwnClaim) abandon(lane, position, descriptor);
      else if (this.isOurs(descriptor)) newest = position;
      position = recordBehind(lane, position, claimed);
    }
    words[lane.producer(this.producer) + producerOffset.newest] = newest;
    this.sequence = this.doubles[claimWord.sequence / 2] ?? 0;
    releaseClaimLock(lane);
    if (advance(this.lane)) wakeConsumers(lane);
  }

  /**
   * Becomes the one that may write instead of `predecessor`, and abandons what that has claimed:
   * from here on it gets FENCED. Nothing happens where somebody else was quicker. The end has to be
   * owned: who has the lock and is not known to live loses it.
   */
  takeOver(predecessor: number): void {
    const { words, lane } = this;
    if (acquireClaimLock(lane, this.own)) mend(lane);
    if (Atomics.load(words, claimWord.active) === predecessor) {
      Atomics.store(words, claimWord.active, this.producer);
      this.abandonAll(predecessor);
    }
    releaseClaimLock(lane);
    if (advance(lane)) wakeConsumers(lane);
  }

  /** The lock, and the right to write. */
  private acquire(): void {
    const { words, lane, producer } = this;
    if (acquireClaimLock(lane, this.own)) mend(lane);
    if (!lane.channel.hasBackup) return;
    // Here it writes into nothing that it had claimed before.
    if (words[claimWord.quarantineProducer] === producer) words[claimWord.quarantineUnits] = 0;
    if (words[claimWord.active] === producer) return;
    releaseClaimLock(lane);
    throw this.fenced();
  }

  /** Abandons all claims that are open, and keeps everybody off what a living owner may write. */
  private abandonAll(predecessor: number): void {
    const { words, lane } = this;
    const claimed = Atomics.load(words, claimWord.claimed);
    let first: number | undefined;
    let position = lane.tail;
    while (position !== claimed) {
      const descriptor = Atomics.load(words, lane.wordOf(position));
      const next = recordBehind(lane, position, claimed);
      if (isOpenClaim(descriptor)) {
        abandon(lane, position, descriptor);
        first ??= position;
        words[claimWord.quarantineProducer] = predecessor;
        words[claimWord.quarantinePlace] = first & lane.mask;
        words[claimWord.quarantineUnits] = distance(first, next);
      }
      position = next;
    }
  }

  /** Units between `start` and where a record of so many units may lie. */
  private unitsToSkip(start: number, units: number): number {
    const { words, lane } = this;
    const rest = lane.restOf(start);
    const skipped = units > rest ? rest : 0;
    const closed = lane.channel.hasBackup ? (words[claimWord.quarantineUnits] ?? 0) : 0;
    if (closed === 0) return skipped;
    const toClosed = ((words[claimWord.quarantinePlace] ?? 0) - start) & lane.mask;
    if (toClosed >= skipped + units) return skipped;
    if (closed < 0 || closed > lane.capacity || !isProducerAlive(lane, this.quarantined)) {
      words[claimWord.quarantineUnits] = 0;
      return skipped;
    }
    const behindClosed = toClosed + closed;
    const restBehind = lane.restOf(start + behindClosed);
    return behindClosed + (units > restBehind ? restBehind : 0);
  }

  private get quarantined(): number {
    return this.words[claimWord.quarantineProducer] ?? 0;
  }

  /** Whether it begins a message of this end; the two of a failover are one end. */
  private isOurs(descriptor: number): boolean {
    if (descriptor < 0) return false;
    return this.lane.channel.hasBackup || producerOf(descriptor) === this.producer;
  }

  /**
   * What is not overwritten, read or not. Where there is a backup, the newest message: it is how
   * whoever takes over knows where to go on. Not where that would leave no room for the next.
   */
  private findKept(end: number, room: number): number {
    const { lane } = this;
    const newest = lane.channel.hasBackup ? this.newestCommitted() : undefined;
    return newest !== undefined && distance(newest, end) <= room ? newest : lane.tail;
  }

  /** Works out the limit anew. Returns whether `end` is within it. */
  private findRoom(claimed: number, end: number, room: number): boolean {
    let floor: number;
    try {
      floor = this.room.raiseFloor(claimed, this.findKept(end, room), end);
    } catch (error) {
      // The others are to find the damage too, instead of waiting.
      releaseClaimLock(this.lane);
      throw error;
    }
    const limit = (floor + room) | 0;
    this.words[claimWord.limit] = limit;
    return ((end - limit) | 0) <= 0;
  }

  /** False where one of the claims is no longer ours. */
  private settle(hidden: number): boolean {
    const { words, lane, openPositions, openDescriptors } = this;
    const newest = lane.producer(this.producer) + producerOffset.newest;
    let isOurs = true;
    for (let index = 0; index < this.openCount; index++) {
      const position = openPositions[index] ?? 0;
      const descriptor = openDescriptors[index] ?? 0;
      const bodyBytes = descriptor & record.bodyMask;
      const open = openMark | (this.producer << record.producerShift) | bodyBytes;
      const settled = hidden === 0 ? descriptor : hidden | unitsOf(bodyBytes);
      // SYNC record-settled: the message is written; pairs with the load in advance.
      const found = Atomics.compareExchange(words, lane.wordOf(position), open, settled);
      if (found !== open) isOurs = false;
      else if (hidden === 0) words[newest] = position;
    }
    this.openCount = 0;
    return isOurs;
  }

  private fenced(): GaplessError {
    const { name, producers } = this.lane.channel;
    const active = producers[this.words[claimWord.active] ?? 0] ?? "";
    return new GaplessError(
      "FENCED",
      `${producers[this.producer] ?? ""} may not write channel ${name}: ${active} does. What was ` +
        "claimed and not committed is not published. Use standby to wait for the next turn.",
    );
  }
}
