/** What of a segment holds, whatever is damaged between, and what should be there. */
import { isGaplessError } from "../errors.ts";
import { isOfThisBoot, readPosition, type Position } from "./control.ts";
import { recordAlignment } from "./layout.ts";
import { Cursor } from "./record.ts";
import { firstWhole } from "./salvage.ts";
import { readEnding, type Beginning, type Ending, type Segment } from "./segment.ts";
import { lookThoroughly } from "./segment-end.ts";
import { durableEndOf, type QueueFiles } from "./spot.ts";

/** How far a segment has to go by all that was noted of it. */
export interface Claims {
  readonly end: number;
  readonly sequence: number;
}

/** Of a segment that nobody writes. */
export function claimsOf(queue: QueueFiles, segment: Segment): Claims {
  const ending = endingOf(segment);
  const noted = positionOf(queue);
  const position = noted?.segment === segment.number ? noted : undefined;
  return {
    end: Math.max(ending?.end ?? 0, position?.end ?? 0, durableEndOf(segment)),
    sequence: Math.max(ending?.lastSequence ?? 0, position?.sequence ?? 0),
  };
}

/** What the writer has noted; undefined where that does not count any more. */
export function positionOf({ control }: QueueFiles): Position | undefined {
  return isOfThisBoot(control) ? readPosition(control) : undefined;
}

/**
 * Yields the cursor at each record that holds, and returns it where none comes any more. It is the
 * walk's own, and moves on with the next one.
 */
export function* wholeRecords(
  queue: QueueFiles,
  segment: Segment,
  { firstSequence, epoch }: Pick<Beginning, "firstSequence" | "epoch">,
  from = segment.recordsStart,
): Generator<Cursor, Cursor> {
  let cursor = new Cursor(segment, from, firstSequence, epoch);
  const { end } = claimsOf(queue, segment);
  for (;;) {
    const found = lookThoroughly(queue, cursor);
    if (found === "record") {
      yield cursor;
      cursor.advance();
      continue;
    }
    const { offset, sequence } = cursor;
    const isOver = found === "end" || (found === "nothing" && offset >= end);
    if (isOver) return cursor;
    const whole = firstWhole(queue, segment, offset + recordAlignment, sequence, cursor.epoch);
    if (whole === undefined) return cursor;
    cursor = new Cursor(segment, whole.offset, whole.sequence, cursor.epoch);
  }
}

/** undefined also where that line is damaged. */
export function endingOf(segment: Segment): Ending | undefined {
  try {
    return readEnding(segment);
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return undefined;
    throw error;
  }
}
