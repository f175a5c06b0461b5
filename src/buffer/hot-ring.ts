/**
 * The newest messages in memory, bounded by bytes: a consumer that is only a little behind is
 * served without touching the disk. Nothing is here that is not durable already.
 *
 *   chunks      evicted . . [ 21..30 ][ 31..44 ][ 45..52 ]  <- add
 *   hot         from 21 on: also an id that was skipped between 20 and 21, for it yields 21
 */
import { isBatch, type Batch, type Message } from "../message.ts";
import { unpackChunk, type Chunk } from "./chunk.ts";
import { readBytesMax } from "./range.ts";

/** What a chunk costs besides its bytes, roughly: the objects around them. */
const overheadBytes = 256;

export class HotRing {
  readonly #bytesMax: number;
  #chunks: Chunk[] = [];
  /** Chunks before it are evicted; the array is shortened now and then. */
  #head = 0;
  #bytes = 0;
  /** A reader that follows takes a chunk in several reads, so the last one unpacked is kept. */
  #unpacked: { readonly chunk: Chunk; readonly messages: readonly Message[] } | undefined;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Takes the chunk that follows the newest one. Evicts the oldest to make room. */
  add(chunk: Chunk): void {
    this.#chunks.push(chunk);
    this.#bytes += costOf(chunk);
    while (this.#bytes > this.#bytesMax) this.#evict();
  }

  /**
   * Up to `limit` messages from the first whose id is at least `fromId`, fewer by bytes; null
   * where that message is not hot. The bytes are views into the ring's memory.
   */
  read(fromId: bigint, limit: number): Batch | null {
    const oldest = this.#chunks[this.#head];
    if (oldest === undefined || fromId <= oldest.prevId) return null;
    const messages: Message[] = [];
    let bytes = 0;
    for (let index = this.#find(fromId); messages.length < limit; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined || bytes >= readBytesMax) break;
      bytes += chunk.bytes.length;
      const unpacked = this.#unpack(chunk);
      const begin = messages.length === 0 ? firstFrom(unpacked, fromId) : 0;
      const end = Math.min(unpacked.length, begin + limit - messages.length);
      for (const message of unpacked.slice(begin, end)) messages.push(message);
    }
    return isBatch(messages) ? messages : null;
  }

  /** Forgets chunks that lie wholly at or below `throughId`. */
  trim(throughId: bigint): void {
    for (;;) {
      const oldest = this.#chunks[this.#head];
      if (oldest === undefined || oldest.lastId > throughId) return;
      this.#evict();
    }
  }

  #evict(): void {
    const oldest = this.#chunks[this.#head];
    if (oldest === undefined) return;
    this.#bytes -= costOf(oldest);
    if (this.#unpacked?.chunk === oldest) this.#unpacked = undefined;
    this.#head++;
    if (this.#head * 2 < this.#chunks.length) {
      // The slot would hold the bytes until the array is shortened.
      this.#chunks[this.#head - 1] = evicted;
      return;
    }
    this.#chunks = this.#chunks.slice(this.#head);
    this.#head = 0;
  }

  /** Index of the first chunk whose last id is at least `fromId`. */
  #find(fromId: bigint): number {
    let low = this.#head;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = this.#chunks[middle];
      if (chunk !== undefined && chunk.lastId < fromId) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #unpack(chunk: Chunk): readonly Message[] {
    if (this.#unpacked?.chunk !== chunk) {
      this.#unpacked = { chunk, messages: unpackChunk(chunk.bytes) };
    }
    return this.#unpacked.messages;
  }
}

const evicted: Chunk = { prevId: 0n, lastId: 0n, bytes: new Uint8Array(0) };

function costOf(chunk: Chunk): number {
  return chunk.bytes.length + overheadBytes;
}

/** Index of the first message whose id is at least `fromId`; ids go up. */
function firstFrom(messages: readonly Message[], fromId: bigint): number {
  let low = 0;
  let high = messages.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const message = messages[middle];
    if (message !== undefined && message.id < fromId) low = middle + 1;
    else high = middle;
  }
  return low;
}
