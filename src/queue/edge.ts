/** From the end of one segment to the next. */
import path from "node:path";
import { GaplessError, isGaplessError } from "../errors.ts";
import { readPosition } from "./control.ts";
import { endMark, segmentFileName, segmentOffset } from "./layout.ts";
import { listSegments } from "./segment.ts";
import {
  hasSegment,
  isUnused,
  openBegun,
  openBegunIfWhole,
  startOf,
  type Begun,
  type QueueFiles,
  type Spot,
} from "./spot.ts";
import { segmentDamaged } from "./storage-errors.ts";
import { walkTo } from "./finding.ts";
import { placeBefore } from "./sparse-index.ts";

/**
 * Where reading goes on behind the end of a segment; "nothing" where the next one is yet to begin.
 *
 * @param isSettled Whether the writer is of this boot: then nothing that was there can be missing.
 */
export function spotInNext(
  queue: QueueFiles,
  here: Spot,
  isSettled: boolean,
): Spot | "nothing" | GaplessError {
  const number = here.segment.number + 1;
  // Before the look at the segment: what the writer notes since, it may have begun since.
  const isDue = isSettled && (readPosition(queue.control)?.segment ?? 0) >= number;
  let next: Begun | undefined;
  try {
    next = replacementOf(queue, here) ?? openBegun(queue, number);
  } catch (error) {
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
    return isSettled ? error : "nothing";
  }
  if (next === undefined) return whyNot(queue, here, isDue);
  const { firstSequence } = next.beginning;
  if (firstSequence === here.sequence) return startOf(next);
  if (firstSequence < here.sequence) {
    const place = placeBefore(next.segment, next.beginning, here.sequence);
    return walkTo(queue, next.segment, place, next.beginning.epoch, here.sequence);
  }
  next.segment.mapping.unmap();
  if (!isSettled) return "nothing";
  const reason = `it begins with ${firstSequence}, where ${here.sequence} was to come`;
  return segmentDamaged(next.segment.filePath, segmentOffset.firstSequence, reason);
}

/** Whether the next segment goes on with this sequence. */
export function goesOnWith(queue: QueueFiles, { segment, sequence }: Spot): boolean {
  const next = openBegunIfWhole(queue, segment.number + 1);
  next?.segment.mapping.unmap();
  return next?.beginning.firstSequence === sequence;
}

/**
 * A segment that a fenced writer has begun and never written to is made anew by the writer after
 * its successor; who waits at the beginning of the old file goes on in the new one.
 */
function replacementOf(queue: QueueFiles, here: Spot): Begun | undefined {
  const { number, recordsStart, capacity } = here.segment;
  if (here.offset !== recordsStart || capacity === 0) return undefined;
  const again = openBegunIfWhole(queue, number);
  if (again === undefined) return undefined;
  const { words } = again.segment;
  const isOther =
    again.beginning.firstSequence === here.sequence &&
    Atomics.load(words, again.segment.recordsStart >>> 2) !== endMark;
  if (isOther) return again;
  again.segment.mapping.unmap();
  return undefined;
}

/** Why a segment cannot be entered that was not there, or only reserved. */
function whyNot(
  queue: QueueFiles,
  { segment, sequence }: Spot,
  isDue: boolean,
): "nothing" | GaplessError {
  const { directory } = queue;
  const number = segment.number + 1;
  // One that was made ahead of time, and too late, is not the one that was there.
  if (hasSegment(queue, number) && !(isDue && isUnused(queue, number))) {
    if (!isDue) return "nothing";
    const reason = "records were there, and it says that it has not begun";
    return segmentDamaged(
      path.join(directory, segmentFileName(number)),
      segmentOffset.begun,
      reason,
    );
  }
  const oldest = listSegments(directory).find((one) => one > number);
  if (oldest === undefined && !isDue) return "nothing";
  // It came since, and those that were listed behind it.
  if (!isDue && hasSegment(queue, number)) return "nothing";
  return new GaplessError(
    "DATA_TRIMMED",
    `sequence=${sequence} of the queue in ${directory} is not there any more: its segment ` +
      `${number} was deleted. Go on behind it with skipUnreadable(), which is recorded as a ` +
      "loss, or seek.",
  );
}
