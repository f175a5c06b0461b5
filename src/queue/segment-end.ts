/** Where the records of a segment end: by a walk, as no note of it is needed or believed. */
import { recordOffset } from "./layout.ts";
import { Cursor, type Found } from "./record.ts";
import type { Beginning, Segment } from "./segment.ts";
import { placeBeforeOffset, type Place } from "./sparse-index.ts";
import { durableEndOf } from "./spot.ts";

export interface SegmentEnd {
  /** Behind the last record that follows the one before. */
  readonly end: number;
  readonly lastSequence: number;
  /** Of that record, or of the one that began the segment. */
  readonly epoch: number;
  /** Greatest time of all records through it. */
  readonly latestNs: bigint;
  /** What is there instead of one more. */
  readonly found: Exclude<Found, "record">;
}

/**
 * From the last place that the index knows: a walk of 64 KiB, as a rule. After a power loss, what
 * is not known to be durable counts only if it holds by its sum.
 */
export function endNear(segment: Segment, beginning: Beginning, isSettled: boolean): SegmentEnd {
  const isUnchecked = !isSettled && segment.checksum === "none";
  const limit = isUnchecked ? durableEndOf(segment) : segment.capacity;
  const place = placeBeforeOffset(segment, beginning, limit);
  return endBehind(segment, place, beginning.epoch, !isSettled, limit);
}

/** Through all of the segment, sums included. */
export function endOfWhole(segment: Segment, beginning: Beginning): SegmentEnd {
  const { firstSequence: sequence, latestNs, epoch } = beginning;
  const start = { offset: segment.recordsStart, sequence, latestNs };
  return endBehind(segment, start, epoch, true, segment.capacity);
}

function endBehind(
  segment: Segment,
  place: Place,
  epoch: number,
  verify: boolean,
  limit: number,
): SegmentEnd {
  const cursor = new Cursor(segment, place.offset, place.sequence, epoch);
  let { latestNs } = place;
  for (;;) {
    const isPast = cursor.offset >= limit && limit < segment.capacity;
    const found = isPast ? "nothing" : cursor.look(verify);
    if (found !== "record") {
      const end = cursor.offset;
      const lastSequence = cursor.sequence - 1;
      return { end, lastSequence, epoch: cursor.epoch >>> 0, latestNs, found };
    }
    const timeNs = segment.view.getBigUint64(cursor.offset + recordOffset.timestamp, true);
    if (timeNs > latestNs) latestNs = timeNs;
    cursor.advance();
  }
}
