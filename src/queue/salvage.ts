/** Going on behind damage: which record is the next that is known to be whole. */
import path from "node:path";
import { crc32 } from "node:zlib";
import { isGaplessError } from "../errors.ts";
import { mapFileToRead, type Mapping } from "../memory/mapping.ts";
import { isOfThisBoot, readPosition, type Position } from "./control.ts";
import {
  headerOffset,
  pageBytes,
  recordAlignment,
  recordHeaderBytes,
  recordsStartOf,
  segmentBytesMax,
  segmentBytesMin,
  segmentFileName,
  type ChecksumKind,
} from "./layout.ts";
import { Cursor, sequenceAt } from "./record.ts";
import { listSegments, openSegment, readEnding, type Segment } from "./segment.ts";
import { openBegunIfWhole, spotBehind, startOf, type QueueFiles, type Spot } from "./spot.ts";

/** A record that holds. */
export interface Whole {
  readonly offset: number;
  readonly sequence: number;
}

/** Without sums, a record is only believed where so many that follow hold as well. */
const chainLength = 8;
/** What is hashed in vain, in segments: bytes made to look like records must not hold it up. */
const vainSegmentsMax = 4;

/**
 * The first record from `from` on that holds, in a segment that is damaged before it: of
 * `sequence` or a later one, and not of a writer before that of `epoch`.
 */
export function firstWhole(
  queue: QueueFiles,
  segment: Segment,
  from: number,
  sequence: number,
  epoch: number,
): Whole | undefined {
  const { words, checksum } = segment;
  const limit = endOf(queue, segment);
  const newest = positionOf(queue)?.sequence ?? Infinity;
  const sequenceMax = Math.min(newest, sequence + segment.capacity / recordHeaderBytes);
  let vainBytes = segment.capacity * vainSegmentsMax;
  for (let offset = from; offset + recordHeaderBytes <= limit; offset += recordAlignment) {
    const length = words[offset >>> 2] ?? 0;
    if (length < recordHeaderBytes || length > limit - offset) continue;
    const found = sequenceAt(segment, offset);
    if (found < sequence || found > sequenceMax) continue;
    const cursor = new Cursor(segment, offset, found, epoch);
    const isWhole =
      cursor.look(true) === "record" && (checksum !== "none" || holdsOn(queue, cursor, limit));
    if (isWhole) return { offset, sequence: found };
    vainBytes -= length;
    if (vainBytes < 0) return undefined;
  }
  return undefined;
}

/** Whether records follow one another from the cursor on, or lead into the next segment. */
function holdsOn(queue: QueueFiles, cursor: Cursor, limit: number): boolean {
  for (let count = 0; count < chainLength; count++) {
    if (cursor.offset >= limit || cursor.look(false) === "end") {
      const next = openBegunIfWhole(queue, cursor.segment.number + 1);
      next?.segment.mapping.unmap();
      return next === undefined || next.beginning.firstSequence === cursor.sequence;
    }
    if (cursor.look(false) !== "record") return false;
    cursor.advance();
  }
  return true;
}

/** Where the writer is; undefined where that is not to be relied on. */
function positionOf({ control }: QueueFiles): Position | undefined {
  return isOfThisBoot(control) ? readPosition(control) : undefined;
}

/** Behind the last record, as far as that is noted: bytes of an earlier writer may follow it. */
function endOf(queue: QueueFiles, segment: Segment): number {
  if (segment.capacity === 0) return 0;
  try {
    const ending = readEnding(segment);
    if (ending !== undefined) return ending.end;
  } catch (error) {
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
  }
  const position = positionOf(queue);
  return position?.segment === segment.number ? position.end : segment.capacity;
}

/**
 * In front of the first record that holds, of `sequence` or a later one, in a segment that cannot
 * be entered as others are: its header is damaged.
 */
export function salvage(queue: QueueFiles, number: number, sequence: number): Spot | undefined {
  const damaged = openDamaged(queue, number);
  if (damaged === undefined) return undefined;
  const { segment, kinds } = damaged;
  const { recordsStart } = segment;
  // Those before it may be gone as well, and then it can begin with any sequence.
  const first = Math.max(sequence, sequenceAt(segment, recordsStart));
  for (const checksum of kinds) {
    const candidate = { ...segment, checksum };
    const whole =
      firstWhole(queue, candidate, recordsStart, first, 0) ??
      firstWhole(queue, candidate, recordsStart, sequence, 0);
    if (whole !== undefined) return { segment: candidate, ...whole, epoch: 0 };
  }
  segment.mapping.unmap();
  return undefined;
}

/**
 * In front of the first record behind a damaged spot that holds, from the offset `from` on; where
 * there is none, where the next one is to come. undefined where nobody knows where that is.
 */
export function spotBehindDamage(queue: QueueFiles, damaged: Spot, from: number): Spot | undefined {
  const { segment, sequence } = damaged;
  // Without sums, the epoch of the last record is as doubtful as all else.
  const epoch = segment.checksum === "none" ? 0 : damaged.epoch;
  const whole = firstWhole(queue, segment, from, sequence, epoch);
  if (whole !== undefined) return { segment, ...whole, epoch };
  for (const number of listSegments(queue.directory)) {
    if (number <= segment.number) continue;
    const begun = openBegunIfWhole(queue, number);
    const spot = begun === undefined ? salvage(queue, number, sequence) : startOf(begun);
    if (spot !== undefined) return spot;
  }
  const position = positionOf(queue);
  if (position === undefined || position.sequence < sequence) return undefined;
  return spotBehind(queue, position);
}

/** A segment by its size alone where its header does not tell, and what sums it may have. */
function openDamaged(
  { directory, control }: QueueFiles,
  number: number,
): { segment: Segment; kinds: readonly ChecksumKind[] } | undefined {
  try {
    const segment = openSegment(directory, number, control.identity, "read");
    return { segment, kinds: [segment.checksum] };
  } catch (error) {
    if (isGaplessError(error, "DATA_TRIMMED")) return undefined;
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
  }
  const filePath = path.join(directory, segmentFileName(number));
  const mapping = mapIfThere(filePath);
  if (mapping === undefined) return undefined;
  const { buffer } = mapping;
  const { byteLength: capacity } = buffer;
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  const isForeign =
    crc32(bytes.subarray(0, headerOffset.crc)) === view.getUint32(headerOffset.crc, true);
  if (isForeign || capacity % pageBytes !== 0 || capacity > segmentBytesMax) {
    mapping.unmap();
    return undefined;
  }
  const segment = {
    filePath,
    number,
    mapping,
    checksum: "none",
    recordsStart: recordsStartOf(capacity),
    capacity,
    bytes,
    view,
    words: new Int32Array(buffer),
  } as const;
  return { segment, kinds: ["fast", "crc32c", "none"] };
}

function mapIfThere(filePath: string): Mapping | undefined {
  try {
    return mapFileToRead(filePath, segmentBytesMin);
  } catch (error) {
    const isCutOff = isGaplessError(error, "STORAGE_CORRUPT");
    if (isCutOff || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
