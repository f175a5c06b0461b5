/** Records in the memory of a segment: writing one, and walking over many. */
import { crc32 } from "node:zlib";
import { follow } from "../chain.ts";
import { encodedBytes, encodeMessage, messageHeaderBytes, type Message } from "../message.ts";
import {
  recordAlignment,
  recordBytes,
  recordCrcOffset,
  recordHeaderBytes,
  recordIdOffset,
  recordMessageSizeOffset,
  recordMessageZeroOffset,
  recordPrevIdOffset,
} from "./layout.ts";

/** The bytes of a segment, seen three ways. */
export interface Memory {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly words: Int32Array<ArrayBuffer>;
  /** Records end here at the latest. */
  readonly capacity: number;
}

export function memoryOf(buffer: ArrayBuffer): Memory {
  // A file that was cut off may end anywhere.
  const capacity = buffer.byteLength - (buffer.byteLength % recordAlignment);
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer, 0, capacity / 4),
    capacity,
  };
}

/**
 * Writes a record at `offset`, where there are room and zeros, and returns the offset behind it.
 * A process killed anywhere in here leaves no record, only bytes that recovery clears.
 */
export function writeRecord(memory: Memory, offset: number, message: Message): number {
  const { bytes, view, words } = memory;
  const start = offset + recordHeaderBytes;
  const end = encodeMessage(message, bytes, view, start);
  view.setUint32(offset + recordCrcOffset, crc32(bytes.subarray(start, end), offset), true);
  // SYNC record-complete: after everything above; pairs with Cursor.look. Atomic, so that no
  // compiler and no processor moves it up.
  Atomics.store(words, offset >>> 2, encodedBytes(message));
  return offset + recordBytes(end - start);
}

/**
 * - `record`: one that follows the last
 * - `nothing`: no record was completed here, or there is no room for one
 * - `damage`: bytes that no writer leaves in this place
 */
export type Found = "record" | "nothing" | "damage";

/** A walk over the records of a segment, in chain order. */
export class Cursor {
  readonly #memory: Memory;
  /** Where the walk is. */
  offset: number;
  /** Id of the record that ends at `offset`. */
  lastId: bigint;
  /** Of the record that `look` found at `offset`: its id, and the size of its encoded message. */
  id = 0n;
  size = 0;

  constructor(memory: Memory, offset: number, lastId: bigint) {
    this.#memory = memory;
    this.offset = offset;
    this.lastId = lastId;
  }

  /** Looks at the record at `offset`: its size and its link, and with `verify` its CRC as well. */
  look(verify: boolean): Found {
    const { words, view, capacity } = this.#memory;
    const { offset } = this;
    if (offset + recordHeaderBytes > capacity) return "nothing";
    // SYNC record-complete: before anything of the record is read; pairs with writeRecord.
    const size = Atomics.load(words, offset >>> 2);
    if (size === 0) return "nothing";
    if (!hasPlausibleSize(this.#memory, offset, size)) return "damage";
    this.id = view.getBigUint64(offset + recordIdOffset, true);
    this.size = size;
    const prevId = view.getBigUint64(offset + recordPrevIdOffset, true);
    if (follow(this.lastId, { id: this.id, prevId }) !== "next") return "damage";
    return !verify || hasValidCrc(this.#memory, offset, size) ? "record" : "damage";
  }

  /** Moves behind the record that `look` has found. */
  advance(): void {
    this.offset += recordBytes(this.size);
    this.lastId = this.id;
  }
}

/** Whether a whole record that can only belong after `lastId` begins anywhere in the range. */
export function findRecordBehind(
  memory: Memory,
  lastId: bigint,
  start: number,
  end: number,
): boolean {
  const { words, view } = memory;
  for (let offset = start; offset + recordHeaderBytes <= end; offset += recordAlignment) {
    const size = words[offset >>> 2] ?? 0;
    if (size === 0 || !hasPlausibleSize(memory, offset, size)) continue;
    const prevId = view.getBigUint64(offset + recordPrevIdOffset, true);
    if (prevId < lastId || view.getBigUint64(offset + recordIdOffset, true) <= prevId) continue;
    if (hasValidCrc(memory, offset, size)) return true;
  }
  return false;
}

const blockBytes = 64 * 1024;
const zeros = new Uint8Array(blockBytes);

/** The end of the last block from `start` on that holds anything but zeros; `start` where none. */
export function findResidueEnd(memory: Memory, start: number): number {
  const bytes = Buffer.from(memory.bytes.buffer);
  let end = bytes.length;
  while (end > start) {
    const begin = Math.max(start, end - blockBytes);
    if (bytes.compare(zeros, 0, end - begin, begin, end) !== 0) return end;
    end = begin;
  }
  return start;
}

function hasPlausibleSize(memory: Memory, offset: number, size: number): boolean {
  const { view, capacity } = memory;
  return (
    size >= messageHeaderBytes &&
    size <= capacity - offset - recordHeaderBytes &&
    view.getUint32(offset + recordMessageSizeOffset, true) === size - messageHeaderBytes &&
    view.getUint32(offset + recordMessageZeroOffset, true) === 0
  );
}

function hasValidCrc(memory: Memory, offset: number, size: number): boolean {
  const start = offset + recordHeaderBytes;
  const crc = crc32(memory.bytes.subarray(start, start + size), offset);
  return crc === memory.view.getUint32(offset + recordCrcOffset, true);
}
