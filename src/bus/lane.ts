/** The memory of one lane of a channel, and the positions in it. */
import type { SleepMemory } from "../memory/sleep.ts";
import type { Channel } from "./config.ts";
import {
  consumerWord,
  controlBytesOf,
  producerWord,
  tailWord,
  unitBytes,
  unitsOfRecord,
} from "./layout.ts";

/** The memory of a channel, as whoever reads or writes a message in place wants it. */
export interface RingMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** 32-bit words, little-endian on every platform that Gapless runs on. */
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

export class Lane implements RingMemory {
  readonly channel: Channel;
  /** Which of the channel's lanes it is. */
  readonly priority: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  /** Units of the ring. */
  readonly capacity: number;
  readonly mask: number;
  /** Where the ring begins in `words`. */
  readonly firstWord: number;
  /** The words that all lanes of the channel sleep on. */
  readonly sleep: SleepMemory;

  constructor(channel: Channel, buffer: ArrayBuffer, index: number, address: bigint) {
    const bytes = laneBytesOf(channel);
    this.channel = channel;
    this.priority = index;
    this.bytes = new Uint8Array(buffer, index * bytes, bytes);
    this.view = new DataView(buffer, index * bytes, bytes);
    this.words = new Int32Array(buffer, index * bytes, bytes / 4);
    this.doubles = new Float64Array(buffer, index * bytes, bytes / 8);
    this.capacity = channel.ringBytes / unitBytes;
    this.mask = this.capacity - 1;
    this.firstWord = (bytes - channel.ringBytes) / 4;
    this.sleep = { words: new Int32Array(buffer, 0, this.firstWord), address };
  }

  /** Index of the first word of the record at `position`. */
  wordOf(position: number): number {
    return this.firstWord + (position & this.mask) * 2;
  }

  /** Units between `position` and the end of the ring. */
  restOf(position: number): number {
    return this.capacity - (position & this.mask);
  }

  /** The first word of the record at `position`. */
  descriptorAt(position: number): number {
    return this.words[this.wordOf(position)] ?? 0;
  }

  sequenceAt(position: number): number {
    return this.doubles[(this.wordOf(position) >>> 1) + 1] ?? 0;
  }

  /** Where the record behind the one at `position` begins. */
  nextOf(position: number): number {
    return (position + unitsOfRecord(this.descriptorAt(position))) | 0;
  }

  get tail(): number {
    return Atomics.load(this.words, tailWord.tail);
  }

  /** First word of the block of a consumer. */
  consumer(index: number): number {
    return consumerWord(this.channel.producers.length, index);
  }

  /** First word of the block of a producer. */
  producer(index: number): number {
    return producerWord(index);
  }
}

/** Bytes of one lane: its control block and its ring. */
export function laneBytesOf({
  producers,
  consumers,
  ringBytes,
}: {
  readonly producers: { readonly length: number };
  readonly consumers: { readonly length: number };
  readonly ringBytes: number;
}): number {
  return controlBytesOf(producers.length, consumers.length) + ringBytes;
}

/** Units from `from` up to `to`. */
export function distance(from: number, to: number): number {
  return (to - from) >>> 0;
}
