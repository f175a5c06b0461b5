/** Where the records of a segment end: by a walk, as no note of it is needed or believed. */
import { controlOffset } from "./layout.ts";
import { Cursor, type Found } from "./record.ts";
import type { Beginning, Segment } from "./segment.ts";
import { placeBeforeOffset, type Place } from "./sparse-index.ts";
import { durableEndOf, type QueueFiles } from "./spot.ts";
import { TimeMax } from "./time-max.ts";

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
  return endBehind(segment, place, beginning.epoch, (cursor) => {
    const isBelieved = cursor.offset < limit || !isUnchecked;
    const found = cursor.look(!isSettled);
    return found === "record" && !isBelieved ? "nothing" : found;
  });
}

/** Through all of the segment, up to the first record that does not hold. */
export function endOfWhole(queue: QueueFiles, segment: Segment, beginning: Beginning): SegmentEnd {
  const { firstSequence: sequence, latestNs, epoch } = beginning;
  const start = { offset: segment.recordsStart, sequence, latestNs };
  return endBehind(segment, start, epoch, (cursor) => lookThoroughly(queue, cursor));
}

/**
 * Looks at a record as closely as its segment allows. Without sums, an epoch that no writer has had
 * yet is damage: if it were not, all behind it would be.
 */
export function lookThoroughly({ control }: QueueFiles, cursor: Cursor): Found {
  const hasSums = cursor.segment.checksum !== "none";
  const found = cursor.look(hasSums);
  if (found !== "record" || hasSums) return found;
  const newest = Atomics.load(control.words, controlOffset.epoch / 4) >>> 0;
  // 0: the control file is damaged, and says nothing.
  return newest > 0 && cursor.epochHere >>> 0 > newest ? "damage" : "record";
}

function endBehind(
  segment: Segment,
  place: Place,
  epoch: number,
  look: (cursor: Cursor) => Found,
): SegmentEnd {
  const cursor = new Cursor(segment, place.offset, place.sequence, epoch);
  const latest = new TimeMax(place.latestNs);
  for (;;) {
    const found = look(cursor);
    if (found !== "record") {
      const { offset: end, sequence } = cursor;
      const known = { end, lastSequence: sequence - 1, epoch: cursor.epoch >>> 0 };
      return { ...known, latestNs: latest.ns, found };
    }
    latest.see(segment, cursor.offset);
    cursor.advance();
  }
}
