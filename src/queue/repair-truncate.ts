/** Ending the log where its last segment is damaged, so that a writer can go on there. */
import { GaplessError, isGaplessError } from "../errors.ts";
import { isOfThisBoot, notePosition, openControl, type Position } from "./control.ts";
import { rangeOf, type SequenceRange } from "./flaw.ts";
import { copyAside, moveAside, placeAside } from "./keep-aside.ts";
import { controlBytes, controlOffset, segmentFileName } from "./layout.ts";
import { everyReader, recordLoss } from "./loss-ledger.ts";
import type { Workshop } from "./repair.ts";
import { salvage } from "./salvage.ts";
import {
  listSegments,
  markDurable,
  openSegment,
  readBeginning,
  unsealSegment,
  type Beginning,
  type Segment,
} from "./segment.ts";
import { endNear, endOfWhole, type SegmentEnd } from "./segment-end.ts";
import { cutIndex } from "./sparse-index.ts";
import { durableEndOf, openBegunIfWhole } from "./spot.ts";
import { claimsOf, positionOf, wholeRecords } from "./whole-records.ts";

/** Of the last segment that is more than reserved. */
export function truncateAtDamage(workshop: Workshop): void {
  const { directory } = workshop;
  for (const number of listSegments(directory).reverse()) {
    const begun = open(workshop, number);
    if (begun === "reserved") continue;
    if (begun !== "broken") {
      truncate(workshop, begun.segment, begun.beginning);
      begun.segment.mapping.unmap();
    } else if (workshop.isWritten || !workshop.asked.has("header")) {
      // Else its header would be mended before, and then nothing is to be taken away.
      takeAway(workshop, number);
    }
    return;
  }
}

function open(
  workshop: Workshop,
  number: number,
): { segment: Segment; beginning: Beginning } | "reserved" | "broken" {
  let segment: Segment | undefined;
  try {
    segment = openSegment(workshop.directory, number, workshop.control.identity, "read");
    const beginning = readBeginning(segment);
    if (beginning !== undefined) return { segment, beginning };
    segment.mapping.unmap();
    return (positionOf(workshop)?.segment ?? 0) < number ? "reserved" : "broken";
  } catch (error) {
    segment?.mapping.unmap();
    if (isGaplessError(error, "STORAGE_CORRUPT")) return "broken";
    throw error;
  }
}

function truncate(workshop: Workshop, segment: Segment, beginning: Beginning): void {
  const { directory, control, announce } = workshop;
  const last = endOfWhole(workshop, segment, beginning);
  const claims = claimsOf(workshop, segment);
  const isShort = claims.end > last.end || claims.sequence > last.lastSequence;
  if (last.found !== "damage" && !isShort) return;
  const behind = countBehind(workshop, segment, last);
  if (cutsOff(workshop, segment, last, behind.count)) return;
  const file = segmentFileName(segment.number);
  const kept = placeAside(directory, file);
  const durable = durableSequenceOf(workshop);
  const to = Math.max(claims.sequence, behind.sequence, durable);
  const lost = rangeOf(last.lastSequence + 1, to);
  const { end } = last;
  const isTold = announce({
    repair: "truncate",
    file,
    what:
      `ends the log behind sequence=${last.lastSequence}, at offset=${end}: ` +
      "the record there does not hold",
    ...(lost && { lost }),
    wholeLost: behind.count,
    kept,
  });
  if (!isTold) return;
  copyAside(directory, file, kept);
  recordTruncation(directory, lost);
  lowerPosition(workshop, { segment: segment.number, end, sequence: last.lastSequence });
  const own = openSegment(directory, segment.number, control.identity, "write");
  unsealSegment(own);
  cutIndex(own, end);
  own.bytes.fill(0, end);
  own.mapping.syncBlocking(0, own.capacity);
  // Now it is.
  markDurable(own, end);
  own.mapping.syncBlocking(0, own.recordsStart);
  own.mapping.unmap();
}

/** A segment that nobody can enter: it goes, and the one before it is the last. */
function takeAway(workshop: Workshop, number: number): void {
  const { directory, announce } = workshop;
  const file = segmentFileName(number);
  const before = endBefore(workshop, number);
  if (before === undefined) {
    throw new GaplessError(
      "STORAGE_CORRUPT",
      `${file} in ${directory} cannot be entered, and no segment is before it: the queue ` +
        "would begin with sequence=1 again. Mend its header, or move the directory away.",
    );
  }
  const from = before.sequence + 1;
  const { count, sequence } = countBroken(workshop, number, from);
  const noted = positionOf(workshop)?.sequence ?? 0;
  const lost = rangeOf(from, Math.max(noted, sequence, durableSequenceOf(workshop)));
  const kept = placeAside(directory, file);
  const what = `takes it away: its header is damaged. The log ends with sequence=${from - 1} then`;
  const step = { repair: "truncate", file, what, wholeLost: count, kept } as const;
  if (!announce({ ...step, ...(lost && { lost }) })) return;
  recordTruncation(directory, lost);
  lowerPosition(workshop, before);
  moveAside(directory, file, kept);
}

/** What a power loss has left behind the end, the next writer cuts off by itself. */
function cutsOff(workshop: Workshop, segment: Segment, last: SegmentEnd, behind: number): boolean {
  const isOlder = !isOfThisBoot(workshop.control) && last.end >= durableEndOf(segment);
  return isOlder && (workshop.controlProblem === undefined || behind === 0);
}

/** Records behind the end that hold: how many, and the sequence of the last. */
function countBehind(
  workshop: Workshop,
  segment: Segment,
  { lastSequence, end, epoch }: SegmentEnd,
): { count: number; sequence: number } {
  const start = { firstSequence: lastSequence + 1, epoch };
  return count(wholeRecords(workshop, segment, start, end));
}

function countBroken(
  workshop: Workshop,
  number: number,
  from: number,
): { count: number; sequence: number } {
  const spot = salvage(workshop, number, from);
  if (spot === undefined) return { count: 0, sequence: 0 };
  const { segment, offset, sequence: firstSequence, epoch } = spot;
  const counted = count(wholeRecords(workshop, segment, { firstSequence, epoch }, offset));
  segment.mapping.unmap();
  return counted;
}

function count(records: Iterable<{ sequence: number }>): { count: number; sequence: number } {
  let sum = 0;
  let last = 0;
  for (const { sequence } of records) {
    sum++;
    last = sequence;
  }
  return { count: sum, sequence: last };
}

/** Where the last segment before that number ends; undefined where there is none. */
function endBefore(workshop: Workshop, number: number): Position | undefined {
  for (const earlier of listSegments(workshop.directory).reverse()) {
    const begun = earlier < number ? openBegunIfWhole(workshop, earlier) : undefined;
    if (begun === undefined) continue;
    const { end, lastSequence } = endNear(begun.segment, begun.beginning, true);
    begun.segment.mapping.unmap();
    return { segment: earlier, end, sequence: lastSequence };
  }
  return undefined;
}

/** What the control file calls durable, where it is to be believed. */
function durableSequenceOf({ control, controlProblem }: Workshop): number {
  const durable = control.doubles[controlOffset.durable / 8] ?? 0;
  return controlProblem === undefined && Number.isSafeInteger(durable) ? durable : 0;
}

function recordTruncation(directory: string, lost: SequenceRange | undefined): void {
  if (lost === undefined) return;
  recordLoss(directory, { cause: "damaged", reader: everyReader, ...lost, atMs: Date.now() });
}

/** The control file must not know of records that are not there any more. */
function lowerPosition(workshop: Workshop, position: Position): void {
  if (workshop.controlProblem !== undefined) return;
  const control = openControl(workshop.directory, "write");
  if (positionOf({ ...workshop, control }) !== undefined) notePosition(control, position);
  const durable = durableSequenceOf({ ...workshop, control });
  control.doubles[controlOffset.durable / 8] = Math.min(durable, position.sequence);
  control.mapping.syncBlocking(0, controlBytes);
  control.mapping.unmap();
}
