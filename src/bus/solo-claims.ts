/**
 * Claims of a channel that has one producer: everything is this process's own but the tail.
 *
 *   anchor        tail          head            limit
 *     |  committed  |  claimed    |     room      |
 *
 * `limit` is worked out anew only when a claim would pass it, so as long as there is room a message
 * costs no look at the consumers.
 */
import { channelDamaged } from "./channel-file.ts";
import type { Claims } from "./claims.ts";
import { distance, type Lane } from "./lane.ts";
import { claimWord, isSkipped, record, tailWord, unitsOf } from "./layout.ts";
import { Room } from "./room.ts";
import { wakeConsumers } from "./sleep.ts";

export class SoloClaims implements Claims {
  readonly room: Room;
  /** Of the newest message, claimed or committed. */
  sequence = 0;

  private readonly lane: Lane;
  private readonly words: Int32Array;
  private readonly doubles: Float64Array;
  private readonly mask: number;
  private readonly capacity: number;
  private readonly firstWord: number;
  /** Next record's position, a skipped rest of the ring not counted. */
  private head = 0;
  private tail = 0;
  private limit = 0;
  /** Start of the newest record, claimed or committed. */
  private newest = 0;
  private anchor = 0;
  private committedSequence = 0;
  /** The messages above it are those that are claimed: to count them would be a store for each. */
  private countedThrough = 0;

  constructor(lane: Lane) {
    this.lane = lane;
    this.words = lane.words;
    this.doubles = lane.doubles;
    this.capacity = lane.capacity;
    this.mask = lane.mask;
    this.firstWord = lane.firstWord;
    this.room = new Room(lane);
  }

  get hasOpen(): boolean {
    return this.head !== this.tail;
  }

  tryClaim(bodyBytes: number, mark: number, room: number): number {
    const units = unitsOf(bodyBytes);
    let start = this.head;
    const rest = this.capacity - (start & this.mask);
    const skipped = units > rest ? rest : 0;
    const end = (start + skipped + units) | 0;
    if (((end - this.limit) | 0) > 0 && !this.findRoom(end, room)) return -1;

    if (skipped > 0) {
      this.words[this.lane.wordOf(start)] = record.hidden | skipped;
      start = (start + skipped) | 0;
    }
    const word = this.firstWord + (start & this.mask) * 2;
    const sequence = this.sequence + 1;
    this.words[word] = mark | bodyBytes;
    this.doubles[(word >>> 1) + 1] = sequence;
    this.sequence = sequence;
    this.newest = start;
    this.head = end;
    return word;
  }

  commit(): number {
    const words = this.words;
    const tail = this.head;
    if (tail === this.tail) return 0;
    const count = this.sequence - this.countedThrough;
    this.countedThrough = this.sequence;
    this.tail = tail;
    this.committedSequence = this.sequence;
    // SYNC record-visible: publishes the records claimed above; pairs with Reader.loadTail.
    Atomics.store(words, tailWord.tail, tail);
    this.anchor = this.newest;
    words[tailWord.anchor] = this.newest;
    this.doubles[claimWord.sequence / 2] = this.sequence;
    wakeConsumers(this.lane);
    return count;
  }

  abort(): void {
    this.sequence = this.committedSequence;
    this.countedThrough = this.sequence;
    this.head = this.tail;
    this.newest = this.anchor;
  }

  giveUpSequence(): number {
    this.sequence++;
    this.countedThrough++;
    this.committedSequence = this.sequence;
    this.doubles[claimWord.sequence / 2] = this.sequence;
    return this.sequence;
  }

  used(): number {
    return this.room.used(this.head);
  }

  failTheDead(): void {
    this.room.failTheDead(this.tail);
  }

  newestCommitted(): number | undefined {
    return this.anchor === this.tail ? undefined : this.anchor;
  }

  /** Goes on behind what the last owner committed. */
  recover(): void {
    this.tail = this.lane.tail;
    this.head = this.tail;
    this.newest = this.findNewest();
    this.anchor = this.newest;
    const committed = this.newest === this.tail ? 0 : this.readSequence(this.newest);
    // Above it where messages were dropped since.
    this.sequence = Math.max(committed, this.doubles[claimWord.sequence / 2] ?? 0);
    this.committedSequence = this.sequence;
    this.countedThrough = this.sequence;
    this.findRoom(this.tail, this.room.highWater);
  }

  /** Works out the limit anew. Returns whether `end` is within it. */
  private findRoom(end: number, room: number): boolean {
    const floor = this.room.raiseFloor(this.tail, this.anchor, end);
    this.limit = (floor + room) | 0;
    return ((end - this.limit) | 0) <= 0;
  }

  /**
   * The newest committed record: from the anchor, which a commit moves last, to the tail. A claim
   * never reaches around to the anchor, so the records between are whole.
   */
  private findNewest(): number {
    const { lane, tail } = this;
    const anchor = this.words[tailWord.anchor] ?? 0;
    // Only before the first commit is there no record, and only then is the anchor the tail.
    if (anchor === tail && tail === 0) return tail;
    if (anchor === tail || distance(anchor, tail) > this.capacity) {
      throw channelDamaged(lane, `anchor ${anchor >>> 0} does not belong to tail ${tail >>> 0}`);
    }
    let newest = anchor;
    let position = anchor;
    while (position !== tail) {
      const descriptor = lane.descriptorAt(position);
      const next = lane.nextOf(position);
      const isMessage = descriptor >= 0;
      const units = distance(position, next);
      const isRight = isMessage
        ? units <= lane.restOf(position)
        : isSkipped(descriptor) && position !== anchor;
      if (!isRight || units === 0 || units > distance(position, tail)) {
        throw channelDamaged(
          lane,
          `the record at position ${position >>> 0} begins with ${descriptor}`,
        );
      }
      if (isMessage) newest = position;
      position = next;
    }
    return newest;
  }

  private readSequence(position: number): number {
    const sequence = this.lane.sequenceAt(position);
    if (Number.isSafeInteger(sequence) && sequence > 0) return sequence;
    throw channelDamaged(
      this.lane,
      `the record at position ${position >>> 0} has sequence ${sequence}`,
    );
  }
}
