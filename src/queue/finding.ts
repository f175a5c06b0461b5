/** Where in a queue a sequence or a time is: by bisection, and a walk of 64 KiB at most. */
import { isOfThisBoot, readPosition, type Control, type Position } from "./control.ts";
import { recordAlignment, recordOffset } from "./layout.ts";
import { Cursor } from "./record.ts";
import { firstWhole, salvage } from "./salvage.ts";
import { listSegments, type Beginning, type Segment } from "./segment.ts";
import { placeBefore, placeBeforeOffset, placeBeforeTime, type Place } from "./sparse-index.ts";
import {
  durableEndOf,
  hasSegment,
  isUnused,
  nowhere,
  openBegunIfWhole,
  spotBehind,
  startOf,
  type QueueFiles,
  type Spot,
} from "./spot.ts";

/** In front of the oldest record that is left; where the first is to come, if there is none. */
export function oldestSpot(queue: QueueFiles): Spot {
  for (;;) {
    const numbers = listSegments(queue.directory);
    // One that was made ahead of time, and too late, can lie before the oldest.
    const first = numbers.find((number) => !isUnused(queue, number));
    const hasCome = first === numbers[0] || isOfThisBoot(queue.control);
    // After a power loss nothing counts behind a segment whose beginning that has taken.
    if (first === undefined || !(hasCome || isAnyDurable(queue, numbers))) return before(1, 1);
    const begun = openBegunIfWhole(queue, first);
    if (begun !== undefined) return startOf(begun);
    // Deleted in between.
    if (!hasSegment(queue, first)) continue;
    // Damaged.
    if (first === 1) return before(1, 1);
    const known = salvage(queue, first, 1) ?? firstBegun(queue, numbers);
    known?.segment.mapping.unmap();
    return before(first, known?.sequence ?? 1);
  }
}

/** The sequence that the next record will have. */
export function nextSequence(queue: QueueFiles): number {
  const isSettled = isOfThisBoot(queue.control);
  const position = isSettled ? readPositionSoon(queue.control) : undefined;
  const noted = position === undefined ? undefined : spotBehind(queue, position);
  // Its segment is damaged: what the writer has noted is true nevertheless.
  if (position !== undefined && noted === undefined) return position.sequence + 1;
  // After a power loss what is not known to be durable has to hold by its sum.
  const isThere = ({ segment, offset }: Cursor): boolean =>
    isSettled || offset < durableEndOf(segment) || segment.checksum !== "none";
  const start = noted ?? lastKnownSpot(queue, isSettled);
  const { segment, sequence } = walkWhile(queue, start, isThere, !isSettled);
  segment.mapping.unmap();
  return sequence;
}

/**
 * In front of the record with that sequence, or where it is to come. Where it was deleted, in front
 * of the oldest that is left.
 */
export function spotOf(queue: QueueFiles, sequence: number): Spot {
  for (;;) {
    const number = lastSegment(queue, ({ firstSequence }) => firstSequence <= sequence);
    if (number === undefined) return oldestSpotFor(queue, sequence);
    const begun = openBegunIfWhole(queue, number);
    // Deleted in between.
    if (begun === undefined) continue;
    const { segment, beginning } = begun;
    const place = placeBefore(segment, beginning, sequence);
    return walkTo(queue, segment, place, beginning.epoch, sequence);
  }
}

/** The oldest spot; where that is before damage, the sequence may be somewhere in it. */
function oldestSpotFor(queue: QueueFiles, sequence: number): Spot {
  const spot = oldestSpot(queue);
  if (spot.segment.capacity > 0) return spot;
  return { ...spot, sequence: Math.max(sequence, spot.sequence) };
}

/** In front of the first record left whose time is not before; at the end if there is none. */
export function spotOfTime(queue: QueueFiles, timestampNs: bigint): Spot {
  const isSettled = isOfThisBoot(queue.control);
  const number = lastSegment(queue, ({ latestNs }) => latestNs < timestampNs);
  const begun = number === undefined ? undefined : openBegunIfWhole(queue, number);
  let start: Spot;
  if (begun === undefined) {
    start = oldestSpot(queue);
  } else {
    const { segment, beginning } = begun;
    const { offset, sequence } = placeBeforeTime(segment, beginning, timestampNs);
    start = { segment, offset, sequence, epoch: beginning.epoch };
  }
  const spot = walkWhile(queue, start, ({ segment, offset }) => {
    const timeNs = segment.view.getBigUint64(offset + recordOffset.timestamp, true);
    return timeNs < timestampNs;
  });
  if (isSettled) return spot;
  // After a power loss, what is behind the end of the log is going to be cut off.
  const next = nextSequence(queue);
  if (spot.sequence <= next) return spot;
  spot.segment.mapping.unmap();
  return spotOf(queue, next);
}

/** In front of the first record whose writer came after that of `epoch`; at the end if none. */
export function spotOfEpochAfter(queue: QueueFiles, epoch: number): Spot {
  const number = lastSegment(queue, (beginning) => beginning.epoch <= epoch);
  const begun = number === undefined ? undefined : openBegunIfWhole(queue, number);
  const start = begun === undefined ? oldestSpot(queue) : startOf(begun);
  return walkWhile(queue, start, (cursor) => cursor.epochHere >>> 0 <= epoch);
}

/** Of the record with that sequence; 0 where it is not there, or damaged. */
export function epochOf(queue: QueueFiles, sequence: number): number {
  if (sequence < 1) return 0;
  const { segment, offset } = spotOf(queue, sequence);
  const cursor = new Cursor(segment, offset, sequence, 0);
  const isThere = segment.capacity > 0 && cursor.look(true) === "record";
  const epoch = isThere ? cursor.epochHere >>> 0 : 0;
  segment.mapping.unmap();
  return epoch;
}

/** Walks to the record with that sequence, around what is damaged before it, or to the damage. */
export function walkTo(
  queue: QueueFiles,
  segment: Segment,
  place: Place,
  epoch: number,
  sequence: number,
): Spot {
  let cursor = new Cursor(segment, place.offset, place.sequence, epoch);
  while (cursor.sequence < sequence) {
    const found = cursor.look(false);
    if (found === "record") {
      cursor.advance();
      continue;
    }
    const behind = cursor.offset + recordAlignment;
    const whole =
      found === "damage"
        ? firstWhole(queue, segment, behind, cursor.sequence, cursor.epoch)
        : undefined;
    if (whole === undefined || whole.sequence > sequence) break;
    cursor = new Cursor(segment, whole.offset, whole.sequence, epoch);
  }
  return { segment, offset: cursor.offset, sequence, epoch: cursor.epoch };
}

/** The writer's position; undefined where it was interrupted while it stored that. */
export function readPositionSoon(control: Control): Position | undefined {
  // It may be storing it right now.
  const triesMax = 1000;
  for (let tries = 0; tries < triesMax; tries++) {
    const position = readPosition(control);
    if (position !== undefined) return position;
  }
  return undefined;
}

/**
 * The number of the last segment that `isBefore`, by bisection. Those that were deleted, are
 * damaged or only reserved are passed over.
 */
function lastSegment(
  queue: QueueFiles,
  isBefore: (beginning: Beginning) => boolean,
): number | undefined {
  const numbers = listSegments(queue.directory);
  let low = 0;
  let high = numbers.length;
  let found: number | undefined;
  while (low < high) {
    const middle = (low + high) >>> 1;
    let behind = middle;
    let beginning: Beginning | undefined;
    while (behind < high && beginning === undefined) {
      const begun = openBegunIfWhole(queue, numbers[behind++] ?? 0);
      begun?.segment.mapping.unmap();
      beginning = begun?.beginning;
    }
    if (beginning !== undefined && isBefore(beginning)) {
      found = numbers[behind - 1];
      low = behind;
    } else {
      high = middle;
    }
  }
  return found;
}

/** Walks on over as many segments as it takes, to what is not wanted, to damage or to the end. */
function walkWhile(
  queue: QueueFiles,
  start: Spot,
  isPassed: (cursor: Cursor) => boolean,
  verify = false,
): Spot {
  let cursor = new Cursor(start.segment, start.offset, start.sequence, start.epoch);
  for (;;) {
    const { segment, offset, sequence, epoch } = cursor;
    const found = segment.capacity === 0 ? "end" : cursor.look(verify);
    if (found === "record" && isPassed(cursor)) {
      cursor.advance();
      continue;
    }
    // Also where no end mark is: a power loss can take it.
    const next = found === "record" ? undefined : openBegunIfWhole(queue, segment.number + 1);
    if (next?.beginning.firstSequence !== sequence) {
      next?.segment.mapping.unmap();
      return { segment, offset, sequence, epoch };
    }
    segment.mapping.unmap();
    cursor = new Cursor(next.segment, next.segment.recordsStart, sequence, next.beginning.epoch);
  }
}

/** In the newest segment of which anything is known to be there, as near to its end as is known. */
function lastKnownSpot(queue: QueueFiles, isSettled: boolean): Spot {
  for (const number of listSegments(queue.directory).reverse()) {
    const begun = openBegunIfWhole(queue, number);
    if (begun === undefined) continue;
    const { segment, beginning } = begun;
    const known = isSettled ? segment.capacity : durableEndOf(segment);
    if (known > segment.recordsStart) {
      const { offset, sequence } = placeBeforeOffset(segment, beginning, known);
      return { segment, offset, sequence, epoch: beginning.epoch };
    }
    segment.mapping.unmap();
  }
  return oldestSpot(queue);
}

/** Whether of any segment anything is known to have survived a power loss. */
function isAnyDurable(queue: QueueFiles, numbers: readonly number[]): boolean {
  return numbers.some((number) => {
    const segment = openBegunIfWhole(queue, number)?.segment;
    const isDurable = segment !== undefined && durableEndOf(segment) > segment.recordsStart;
    segment?.mapping.unmap();
    return isDurable;
  });
}

function firstBegun(queue: QueueFiles, numbers: readonly number[]): Spot | undefined {
  for (const number of numbers) {
    const begun = openBegunIfWhole(queue, number);
    if (begun !== undefined) return startOf(begun);
  }
  return undefined;
}

/** Before a segment that cannot be entered. */
function before(number: number, sequence: number): Spot {
  return { segment: nowhere(number - 1), offset: 0, sequence, epoch: 0 };
}
