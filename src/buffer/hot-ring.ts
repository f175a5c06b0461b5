/**
 * The newest messages in memory, so many of them at most: whoever is only a little behind is
 * served without touching the disk. Nothing is here that is not durable already.
 *
 *   blocks      [ . . 23 24 25 | 26 . . . ]  [ 41 42 43 44 | 45 ...      ]  <- add
 *                     first                                      room
 *   hot         from 23 on: also an id that was skipped before it, for it yields 23
 *
 * Messages lie in blocks as they are encoded, with the offset of each: an id is found by
 * bisection, and only what is asked for is decoded. A block is never written to where it has been
 * read, so views of messages stay whole after they were evicted.
 */
import {
  decodeLink,
  encodedBytesAt,
  isBatch,
  messageAt,
  type Batch,
  type Message,
} from "../message.ts";
import type { Link } from "../chain.ts";
import { chunkHeaderBytes, type Chunk } from "./chunk.ts";
import { readBytesMax } from "./range.ts";

export interface HotLimits {
  /** Messages. */
  readonly capacity: number;
  /** Encoded bytes of them. */
  readonly bytesMax: number;
}

/** A message that is larger has a block of its own. */
const blockBytes = 64 * 1024;

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Of each message, evicted ones too. */
  readonly offsets: number[];
  /** Index of the first that is not evicted. */
  first: number;
  /** Where the next one goes. */
  end: number;
}

export class HotRing {
  private readonly limits: HotLimits;
  private readonly blocks: Block[] = [];
  private held = 0;
  private heldBytes = 0;

  constructor(limits: HotLimits) {
    this.limits = limits;
  }

  /** How many messages there are. */
  get count(): number {
    return this.held;
  }

  /** Of memory, for messages and what finds them. */
  get bytes(): number {
    return this.blocks.reduce(
      (sum, { bytes, offsets }) => sum + bytes.length + offsets.length * 8,
      0,
    );
  }

  /** Takes the chunk that follows the newest message. Evicts the oldest ones to make room. */
  add({ bytes }: Chunk): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let offset = chunkHeaderBytes;
    while (offset < bytes.length) {
      const end = offset + encodedBytesAt(view, offset);
      this.push(bytes.subarray(offset, end));
      offset = end;
    }
    const { capacity, bytesMax } = this.limits;
    while (this.held > capacity || this.heldBytes > bytesMax) this.evict();
  }

  /**
   * Up to `limit` messages from the first whose id is at least `fromId`, fewer by bytes; null
   * where that message is not hot. The bytes are views into the ring's memory.
   */
  read(fromId: bigint, limit: number): Batch | null {
    const oldest = this.blocks[0];
    if (oldest === undefined || fromId <= linkAt(oldest, oldest.first).prevId) return null;
    const messages: Message[] = [];
    let bytes = 0;
    let at = this.findBlock(fromId);
    let block = this.blocks[at];
    let index = block === undefined ? 0 : findIndex(block, fromId);
    while (block !== undefined && messages.length < limit && bytes < readBytesMax) {
      const offset = block.offsets[index] ?? 0;
      messages.push(messageAt(block.bytes, block.view, offset));
      bytes += encodedBytesAt(block.view, offset);
      if (++index < block.offsets.length) continue;
      block = this.blocks[++at];
      index = block?.first ?? 0;
    }
    return isBatch(messages) ? messages : null;
  }

  /** Forgets what is at or below `throughId`. */
  trim(throughId: bigint): void {
    for (;;) {
      const oldest = this.blocks[0];
      if (oldest === undefined || linkAt(oldest, oldest.first).id > throughId) return;
      this.evict();
    }
  }

  private push(encoded: Uint8Array): void {
    const block = this.blockWithRoom(encoded.length);
    block.bytes.set(encoded, block.end);
    block.offsets.push(block.end);
    block.end += encoded.length;
    this.held++;
    this.heldBytes += encoded.length;
  }

  private blockWithRoom(size: number): Block {
    const newest = this.blocks.at(-1);
    if (newest !== undefined && newest.end + size <= newest.bytes.length) return newest;
    const bytes = new Uint8Array(Math.max(blockBytes, size));
    const view = new DataView(bytes.buffer);
    const block: Block = { bytes, view, offsets: [], first: 0, end: 0 };
    this.blocks.push(block);
    return block;
  }

  /** Forgets the oldest message. */
  private evict(): void {
    const oldest = this.blocks[0];
    if (oldest === undefined) return;
    this.held--;
    this.heldBytes -= encodedBytesAt(oldest.view, oldest.offsets[oldest.first] ?? 0);
    if (++oldest.first === oldest.offsets.length) this.blocks.shift();
  }

  /** Index of the first block whose last id is at least `fromId`. */
  private findBlock(fromId: bigint): number {
    return bisect(0, this.blocks.length, (index) => {
      const block = this.blocks[index];
      return block !== undefined && linkAt(block, block.offsets.length - 1).id < fromId;
    });
  }
}

/** Index of the first message of the block whose id is at least `fromId`. */
function findIndex(block: Block, fromId: bigint): number {
  return bisect(block.first, block.offsets.length, (index) => linkAt(block, index).id < fromId);
}

/** The first index from `low` on, and below `high`, that is not before. */
function bisect(low: number, high: number, isBefore: (index: number) => boolean): number {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function linkAt({ view, offsets }: Block, index: number): Link {
  return decodeLink(view, offsets[index] ?? 0);
}
