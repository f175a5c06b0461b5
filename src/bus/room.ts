/**
 * How much of a ring may be written: as far as nobody is overwritten who still reads.
 *
 *   floor      slowest consumer     tail / claimed           limit = floor + room
 *     |  read      |   to be read        |     free              |
 *
 * The floor is published before anything below it is overwritten, so that a consumer that is not
 * waited for (it had failed, or the channel drops its oldest messages) knows what it may read.
 */
import { channelDamaged } from "./channel-file.ts";
import { announceBusEvent, placeOf } from "./events.ts";
import { isLost } from "./heartbeat.ts";
import { distance, type Lane } from "./lane.ts";
import { consumerOffset, failed, floorWord, joining } from "./layout.ts";
import { recordLoss } from "./losses.ts";

/** So many more than needed are given up at once: others may be waiting for the lock meanwhile. */
const spareRecords = 256;

/** Works out where records may reach; one for each end, because the state of it is in the lane. */
export class Room {
  /** Units that may be in use before backpressure begins. */
  readonly highWater: number;
  readonly lowWater: number;
  private readonly lane: Lane;
  private readonly overwrites: boolean;

  constructor(lane: Lane) {
    const { highWater, lowWater, mode } = lane.channel.backpressure;
    this.lane = lane;
    this.highWater = Math.floor(lane.capacity * highWater);
    this.lowWater = Math.floor(lane.capacity * lowWater);
    this.overwrites = mode === "DropOldest";
  }

  /**
   * Publishes the floor and returns up to where everything may be overwritten, which is at or below
   * it. The floor never goes back: what is below it may have been overwritten, by a claim that was
   * taken back since.
   *
   * @param head Behind the newest record, committed or not.
   * @param keep What has to stay in any case.
   * @param needed Where a record is to end, for a channel that overwrites.
   */
  raiseFloor(head: number, keep: number, needed: number): number {
    if (this.overwrites) return this.dropOldest(keep, needed);
    const floor = this.slowest(head, keep, false);
    if (((floor - Atomics.load(this.lane.words, floorWord)) | 0) <= 0) return floor;
    // SYNC floor-known: the floor, then the states once more; pairs with Seat.rejoin.
    Atomics.store(this.lane.words, floorWord, floor);
    return this.slowest(head, keep, false);
  }

  /** Units up to `head` that cannot be given up. `head` may be of a moment ago. */
  used(head: number): number {
    if (this.overwrites) return Math.max(0, (head - this.lane.tail) | 0);
    return distance(this.slowest(head, head, true), head);
  }

  /**
   * Marks as failed whoever stands in the way and is dead, or has been silent for too long. Who
   * takes its place meanwhile changes the state, and does not fail for its forebear.
   */
  failTheDead(head: number): void {
    const { channel, words, doubles } = this.lane;
    if (channel.failedConsumer !== "evict" || this.overwrites) return;
    const used = this.used(head);
    for (let consumer = 0; consumer < channel.consumers.length; consumer++) {
      const base = this.lane.consumer(consumer);
      const state = Atomics.load(words, base + consumerOffset.state);
      const lag = this.lagOf(consumer, head, true);
      // In nobody's way: there is one that is further behind by far.
      if (lag === 0 || lag < used / 2) continue;
      if (!isLost(words, base, channel.consumerTimeoutMs)) continue;
      const index = base + consumerOffset.state;
      if (Atomics.compareExchange(words, index, state, state | failed) !== state) continue;
      const from = (doubles[(base + consumerOffset.sequence) / 2] ?? 0) + 1;
      recordLoss(this.lane, { cause: "failed", party: consumer, from, to: from, messages: 0 });
      announceBusEvent(() => ({
        ...placeOf(this.lane),
        event: "consumer failed",
        consumer: channel.consumers[consumer] ?? "",
        from,
      }));
    }
  }

  private slowest(head: number, keep: number, isPast: boolean): number {
    let lagMax = distance(keep, head);
    for (let consumer = 0; consumer < this.lane.channel.consumers.length; consumer++) {
      lagMax = Math.max(lagMax, this.lagOf(consumer, head, isPast));
    }
    return (head - lagMax) | 0;
  }

  /**
   * Units between the consumer and `head`; 0 for one that holds nobody back. Without the lock of
   * several producers, `head` is past: consumers may have gone beyond it since it was loaded.
   */
  private lagOf(consumer: number, head: number, isPast: boolean): number {
    const { words, capacity, channel } = this.lane;
    const base = this.lane.consumer(consumer);
    // SYNC position-counts: pairs with the store of the state in Seat.rejoin.
    const state = Atomics.load(words, base + consumerOffset.state);
    if ((state & failed) !== 0) return 0;
    // SYNC space-free: pairs with the store in Reader.release.
    const lag = distance(Atomics.load(words, base + consumerOffset.position), head);
    if (lag <= capacity) return lag;
    if (isPast && (lag | 0) < 0) return 0;
    // On its way back it may have been overtaken: it moves up to the floor in a moment.
    if ((state & joining) !== 0) return distance(Atomics.load(words, floorWord), head);
    throw channelDamaged(
      this.lane,
      `consumer ${channel.consumers[consumer] ?? ""} is ${lag} units behind the newest record, ` +
        `in a ring of ${capacity}`,
    );
  }

  /** Gives up whole records until there is room, and some more: one walk for many messages. */
  private dropOldest(keep: number, needed: number): number {
    const { words } = this.lane;
    let floor = Atomics.load(words, floorWord);
    if (distance(floor, needed) <= this.highWater) return floor;
    if (distance(floor, keep) > this.lane.capacity) {
      throw channelDamaged(this.lane, `floor ${floor >>> 0} does not belong to ${keep >>> 0}`);
    }
    let spare = spareRecords;
    while (floor !== keep && distance(floor, needed) > this.lowWater) {
      if (distance(floor, needed) <= this.highWater && spare-- === 0) break;
      const next = this.lane.nextOf(floor);
      if (next === floor || distance(floor, next) > distance(floor, keep)) {
        throw channelDamaged(this.lane, `the record at position ${floor >>> 0} has no right end`);
      }
      floor = next;
    }
    // SYNC floor-known: pairs with the load in Reader.copyWindow, behind the copy.
    Atomics.store(words, floorWord, floor);
    // A load keeps what is written next behind the store, on processors that would let it pass.
    return Atomics.load(words, floorWord);
  }
}
