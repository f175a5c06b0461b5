/**
 * Reads a lane as it is written, without being one of its consumers: nobody waits for an observer,
 * and it writes nothing that anybody else reads.
 *
 *   floor          position             tail
 *     |  still there   |   to be observed |
 *
 * What lies between the floor and the tail is whole, until the floor passes it. So a part of the
 * ring is copied out, and only what the floor has not passed after that is handed over. An observer
 * that the floor has passed goes on there: the gap in the sequences says what it missed.
 */
import { channelDamaged } from "./channel-file.ts";
import { distance, type Lane, type RingMemory } from "./lane.ts";
import {
  extension,
  extensionBytesOf,
  floorWord,
  isSkipped,
  producerOf,
  record,
  recordHeaderBytes,
  topicBytesMax,
  unitBytes,
  unitsOf,
  unitsOfRecord,
} from "./layout.ts";

/** What an observer has seen; `length` bytes at `offset` of `memory` until the handler returns. */
export interface ObservedMessage {
  readonly priority: number;
  readonly sequence: number;
  readonly producer: string;
  /** The empty text where it has none. */
  readonly topic: string;
  /** Nanoseconds since boot; 0 where it is not stamped. */
  readonly sentNs: number;
  readonly memory: RingMemory;
  readonly offset: number;
  readonly length: number;
}

const windowBytesMin = 64 * 1024;
const fence = new Int32Array(new SharedArrayBuffer(4));
const decoder = new TextDecoder();

export class Observer {
  private readonly lane: Lane;
  private readonly window: RingMemory;
  private position: number;

  /** Begins with the next message, or with the oldest one that is still there. */
  constructor(lane: Lane, from: "start" | "next") {
    const { messageBytesMax, ringBytes } = lane.channel;
    const recordBytes = unitsOf(messageBytesMax + extension.stampBytes + topicBytesMax) * unitBytes;
    const buffer = new ArrayBuffer(Math.max(recordBytes, Math.min(windowBytesMin, ringBytes)));
    this.lane = lane;
    this.window = {
      bytes: new Uint8Array(buffer),
      view: new DataView(buffer),
      words: new Int32Array(buffer),
      doubles: new Float64Array(buffer),
    };
    this.position = from === "start" ? this.floor : lane.tail;
  }

  /** Hands what is new to `handler`, at most `limit` messages; how many. It never waits. */
  observe(handler: (message: ObservedMessage) => void, limit: number): number {
    let count = 0;
    while (count < limit) {
      const units = this.copyWindow();
      if (units === 0) break;
      count += this.readWindow(units, handler, limit - count);
    }
    return count;
  }

  /** Copies what is next. Returns how many units of it are whole records, or the first is cut. */
  private copyWindow(): number {
    const { lane, window } = this;
    while (true) {
      const available = Math.min(distance(this.position, lane.tail), lane.restOf(this.position));
      const units = Math.min(available, window.bytes.length / unitBytes);
      const start = lane.wordOf(this.position) * 4;
      window.bytes.set(lane.bytes.subarray(start, start + units * unitBytes));
      // SYNC floor-known: the copy, a store, then the floor: in this order on every processor.
      // Pairs with the store in Room.raiseFloor. The store is to memory of our own.
      Atomics.store(fence, 0, 1);
      const { floor } = this;
      if (((floor - this.position) | 0) <= 0) return units;
      this.position = floor;
    }
  }

  private readWindow(
    units: number,
    handler: (message: ObservedMessage) => void,
    limit: number,
  ): number {
    const { words } = this.window;
    const begin = this.position;
    let at = 0;
    let count = 0;
    while (at < units && count < limit) {
      const descriptor = words[at * 2] ?? 0;
      const recordUnits = unitsOfRecord(descriptor);
      if (recordUnits === 0 || recordUnits > this.lane.capacity) throw this.damagedAt(begin + at);
      if (isSkipped(descriptor)) {
        // It may lead out of the window: its first word is all there is to it.
        at += recordUnits;
        continue;
      }
      if (at + recordUnits > units) break;
      handler(this.messageAt(at, descriptor));
      at += recordUnits;
      count++;
    }
    // The tail is behind a whole record, and the window takes the largest: one was there.
    if (at === 0) throw this.damagedAt(begin);
    this.position = (begin + at) | 0;
    return count;
  }

  private messageAt(unit: number, descriptor: number): ObservedMessage {
    const { lane, window } = this;
    const { words, doubles, bytes } = window;
    const kind = (descriptor & record.marked) === 0 ? 0 : (words[unit * 2 + 1] ?? 0);
    const bodyBytes = descriptor & record.bodyMask;
    const extra = extensionBytesOf(kind);
    if (descriptor < 0 || extra > bodyBytes) throw this.damagedAt(this.position + unit);
    const start = unit * unitBytes + recordHeaderBytes;
    const isStamped = (kind & extension.stamped) !== 0;
    const topicStart = start + (isStamped ? extension.stampBytes : 0);
    const topicBytes = kind & extension.topicBytesMask;
    return {
      priority: lane.priority,
      sequence: doubles[unit + 1] ?? 0,
      producer: lane.channel.producers[producerOf(descriptor)] ?? "",
      topic: decoder.decode(bytes.subarray(topicStart, topicStart + topicBytes)),
      sentNs: isStamped ? (doubles[start / 8] ?? 0) : 0,
      memory: window,
      offset: start + extra,
      length: bodyBytes - extra,
    };
  }

  private get floor(): number {
    return Atomics.load(this.lane.words, floorWord);
  }

  private damagedAt(position: number): Error {
    const descriptor = this.lane.descriptorAt(position);
    const where = `the record at position ${position >>> 0}`;
    return channelDamaged(this.lane, `${where} begins with ${descriptor}`);
  }
}
