/**
 * The sparse index of a segment: a walk to any sequence or time starts 64 KiB before it at most.
 *
 * The writer adds to it as it comes past, and nobody trusts it: an entry that does not hold, or
 * whose record does not, is passed over for the one before it, and the walk is longer.
 */
import { crc32 } from "node:zlib";
import {
  indexEntriesOf,
  indexEntryBytes,
  indexOffset,
  indexStrideBytes,
  recordHeaderBytes,
  recordOffset,
  segmentHeaderBytes,
  segmentOffset,
} from "./layout.ts";
import { sequenceAt } from "./record.ts";
import { indexedOf, type Beginning, type Segment } from "./segment.ts";

/** A record, and what is known of those before it. */
export interface Place {
  readonly offset: number;
  readonly sequence: number;
  /** No record before it has a greater time; the greatest has this one, where `isExact`. */
  readonly latestNs: bigint;
}

/** The first offset at or behind which the record behind the one at `offset` gets an entry. */
export function nextStride({ recordsStart }: Segment, offset: number): number {
  const strides = Math.floor((offset - recordsStart) / indexStrideBytes) + 1;
  return recordsStart + strides * indexStrideBytes;
}

/** Adds an entry: the caller knows that one is due, and is the writer. */
export function addEntry(segment: Segment, count: number, latestNs: bigint, offset: number): void {
  const { view, words, bytes } = segment;
  const number = indexedOf(segment);
  // Behind the last one are records. Only a power loss can leave so many that do not count.
  if (number === indexEntriesOf(segment.capacity)) return;
  const at = segmentHeaderBytes + number * indexEntryBytes;
  view.setUint32(at + indexOffset.record, offset, true);
  view.setUint32(at + indexOffset.count, count, true);
  view.setBigUint64(at + indexOffset.latestNs, latestNs, true);
  view.setUint32(at + indexOffset.crc, crc32(bytes.subarray(at, at + indexOffset.crc)), true);
  // SYNC index-entry: after the entry; pairs with the load in indexedOf.
  Atomics.store(words, segmentOffset.indexed / 4, number + 1);
}

/**
 * Forgets what the index says of records at or behind `end`, and whatever comes behind the first
 * entry that does not hold: a power loss can have taken any of them, and left those behind it.
 */
export function cutIndex(segment: Segment, end: number): void {
  const indexed = indexedOf(segment);
  let count = 0;
  while (count < indexed && holdsBefore(segment, count, end)) count++;
  Atomics.store(segment.words, segmentOffset.indexed / 4, count);
}

/** The nearest place that the index knows at or before `sequence`. */
export function placeBefore(segment: Segment, beginning: Beginning, sequence: number): Place {
  return lastPlace(segment, beginning, (place) => place.sequence <= sequence);
}

/** The nearest place that the index knows at or before `offset`. */
export function placeBeforeOffset(segment: Segment, beginning: Beginning, offset: number): Place {
  return lastPlace(segment, beginning, (place) => place.offset <= offset);
}

/** The last place that the index knows with no record before it whose time is `timestampNs`. */
export function placeBeforeTime(
  segment: Segment,
  beginning: Beginning,
  timestampNs: bigint,
): Place {
  return lastPlace(segment, beginning, (place) => place.latestNs < timestampNs);
}

/** The last entry that holds and is `isBefore`, by bisection; the start of the segment if none. */
function lastPlace(
  segment: Segment,
  beginning: Beginning,
  isBefore: (place: Place) => boolean,
): Place {
  let low = 0;
  let high = indexedOf(segment);
  let found: Place | undefined;
  // What is before `low` is before, what is from `high` on is not, or does not hold.
  while (low < high) {
    const middle = (low + high) >>> 1;
    const place = entryAt(segment, beginning, middle);
    if (place !== undefined && isBefore(place)) {
      found = place;
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const { firstSequence, latestNs } = beginning;
  return found ?? { offset: segment.recordsStart, sequence: firstSequence, latestNs };
}

/** Whether the entry holds, and is of a record before `end`. */
function holdsBefore({ view, bytes }: Segment, number: number, end: number): boolean {
  const at = segmentHeaderBytes + number * indexEntryBytes;
  const crc = crc32(bytes.subarray(at, at + indexOffset.crc));
  if (crc !== view.getUint32(at + indexOffset.crc, true)) return false;
  return view.getUint32(at + indexOffset.record, true) < end;
}

function entryAt(segment: Segment, beginning: Beginning, number: number): Place | undefined {
  const { view, words, bytes, recordsStart, capacity } = segment;
  const at = segmentHeaderBytes + number * indexEntryBytes;
  const crc = crc32(bytes.subarray(at, at + indexOffset.crc));
  if (crc !== view.getUint32(at + indexOffset.crc, true)) return undefined;
  const offset = view.getUint32(at + indexOffset.record, true);
  const sequence = beginning.firstSequence + view.getUint32(at + indexOffset.count, true);
  if (offset <= recordsStart || offset + recordHeaderBytes > capacity) return undefined;
  const length = Atomics.load(words, (offset + recordOffset.length) >>> 2);
  if (length < recordHeaderBytes || sequenceAt(segment, offset) !== sequence) return undefined;
  return { offset, sequence, latestNs: view.getBigUint64(at + indexOffset.latestNs, true) };
}
