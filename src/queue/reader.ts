/**
 * The reading end: ranges of what is durable, from any id. It maps the segments a second time, so
 * nothing that it does or forgets touches the writer.
 */
import { GaplessError } from "../errors.ts";
import { isBatch, unpackMessages, type Batch, type Message } from "../message.ts";
import { headerBytes, recordHeaderBytes } from "./layout.ts";
import { Cursor, type Found, type Memory } from "./record.ts";
import { openSegment, type Segment } from "./segment.ts";
import { countBelow, SparseIndex } from "./sparse-index.ts";
import { segmentCorrupt } from "./storage-errors.ts";

/** A read takes no more than this at once, whatever its limit, but always one message. */
const batchBytesMax = 16 * 1024 * 1024;
const segmentsMappedMax = 8;

interface MappedSegment {
  readonly segment: Segment;
  readonly index: SparseIndex;
}

/** One call of `read`: what is asked for, and what has come together so far. */
interface Reading {
  readonly fromId: bigint;
  readonly throughId: bigint;
  readonly limit: number;
  readonly messages: Message[];
  bytes: number;
}

export class Reader {
  readonly #directory: string;
  /** Shared with the writer, which adds to it. */
  readonly #prevIds: readonly bigint[];
  /** By `prevId`, the least recently used first. */
  readonly #mapped = new Map<bigint, MappedSegment>();

  constructor(directory: string, prevIds: readonly bigint[]) {
    this.#directory = directory;
    this.#prevIds = prevIds;
  }

  /** See `Queue.read`. Nothing newer than `durableId` is handed out. */
  read(fromId: bigint, limit: number, durableId: bigint): Batch {
    const trimmedThrough = this.#prevIds[0] ?? 0n;
    if (trimmedThrough > 0n && fromId <= trimmedThrough) throw trimmed(fromId, trimmedThrough);
    if (fromId > durableId || durableId === 0n) throw notYetAvailable(fromId, durableId);

    const reading: Reading = { fromId, throughId: durableId, limit, messages: [], bytes: 0 };
    let index = Math.max(countBelow(this.#prevIds, fromId) - 1, 0);
    for (;;) {
      const mapped = this.#map(this.#prevIds[index] ?? 0n);
      const { found, cursor } = readSegment(mapped, reading);
      if (found === "record" || cursor.lastId >= durableId) break;
      const nextPrevId = this.#prevIds[index + 1];
      if (found === "nothing" && nextPrevId === cursor.lastId) {
        index += 1;
        continue;
      }
      // What comes before the damage is whole; the read after this one begins with it.
      if (reading.messages.length > 0) break;
      const { filePath, prevId } = mapped.segment;
      const next =
        nextPrevId === undefined ? "" : `, and the next segment follows id=${nextPrevId}`;
      const reason = `no valid record follows id=${cursor.lastId}${next}`;
      throw segmentCorrupt(filePath, prevId, cursor.offset, reason);
    }
    if (!isBatch(reading.messages)) throw notYetAvailable(fromId, durableId);
    return reading.messages;
  }

  /** Oldest id that can be read; null where there is none. */
  oldestId(): bigint | null {
    const prevId = this.#prevIds[0];
    if (prevId === undefined) return null;
    const { segment } = this.#map(prevId);
    const cursor = new Cursor(segment.memory, headerBytes, prevId);
    const found = cursor.look(true);
    if (found === "damage") {
      throw segmentCorrupt(segment.filePath, prevId, headerBytes, "no valid record");
    }
    return found === "record" ? cursor.id : null;
  }

  close(): void {
    for (const { segment } of this.#mapped.values()) segment.mapping.unmap();
    this.#mapped.clear();
  }

  #map(prevId: bigint): MappedSegment {
    let mapped = this.#mapped.get(prevId);
    if (mapped === undefined) {
      const segment = openSegment(this.#directory, prevId);
      mapped = { segment, index: new SparseIndex({ offset: headerBytes, lastId: prevId }) };
    }
    this.#mapped.delete(prevId);
    this.#mapped.set(prevId, mapped);
    for (const [oldest, { segment }] of this.#mapped) {
      if (this.#mapped.size <= segmentsMappedMax) break;
      segment.mapping.unmap();
      this.#mapped.delete(oldest);
    }
    return mapped;
  }
}

/** Adds what the segment has of the range. `found` is `record` where the reading is full. */
function readSegment(
  { segment, index }: MappedSegment,
  reading: Reading,
): { found: Found; cursor: Cursor } {
  const { memory } = segment;
  const { offset, lastId } = index.before(reading.fromId);
  const cursor = new Cursor(memory, offset, lastId);
  // On the way to the range sizes and links are checked, which is a tenth of the cost of a CRC.
  let found = cursor.look(false);
  while (found === "record" && cursor.id < reading.fromId) {
    cursor.advance();
    index.note(cursor);
    found = cursor.look(false);
  }
  const ranges: number[] = [];
  let count = reading.messages.length;
  while (found === "record" && count < reading.limit && cursor.lastId < reading.throughId) {
    found = cursor.look(true);
    if (found !== "record") break;
    if (count > 0 && reading.bytes + cursor.size > batchBytesMax) break;
    ranges.push(cursor.offset + recordHeaderBytes, cursor.size);
    reading.bytes += cursor.size;
    count += 1;
    cursor.advance();
    index.note(cursor);
  }
  for (const message of copyMessages(memory, ranges)) reading.messages.push(message);
  return { found, cursor };
}

/** Decodes a copy: what a reader holds must neither change the log nor vanish with its mapping. */
function copyMessages(memory: Memory, ranges: readonly number[]): Message[] {
  let bytes = 0;
  for (let at = 1; at < ranges.length; at += 2) bytes += ranges[at] ?? 0;
  const packed = new Uint8Array(bytes);
  let end = 0;
  for (let at = 0; at < ranges.length; at += 2) {
    const start = ranges[at] ?? 0;
    const size = ranges[at + 1] ?? 0;
    packed.set(memory.bytes.subarray(start, start + size), end);
    end += size;
  }
  return unpackMessages(packed);
}

function trimmed(fromId: bigint, throughId: bigint): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `Messages through id=${throughId} are not kept any more: fromId=${fromId}.`,
  );
}

function notYetAvailable(fromId: bigint, durableId: bigint): GaplessError {
  return new GaplessError(
    "DATA_NOT_YET_AVAILABLE",
    `Nothing from id=${fromId} on is durable yet: the newest durable id=${durableId}.`,
  );
}
