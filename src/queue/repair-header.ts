/**
 * Making the lines of a segment's header anew that do not hold: from its records, whose own sums
 * protect them, and from the segments beside it.
 *
 *   line 0   its number from its name, its size from the file, its identity from the others, its
 *            kind of checksum by which its records hold
 *   line 1   what its first record says, or where the segment before it ends
 *   line 2   what a walk over its records finds; nothing where it has not ended
 *   line 3   what is durable: all that is there, once it was synced
 */
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { isGaplessError } from "../errors.ts";
import { mapFile } from "../memory/mapping.ts";
import { isOfThisBoot } from "./control.ts";
import { copyAside, placeAside } from "./keep-aside.ts";
import { controlOffset, endMark, headerOffset, segmentFileName } from "./layout.ts";
import { recordWord, type Found } from "./record.ts";
import type { Workshop } from "./repair.ts";
import { salvage } from "./salvage.ts";
import {
  beginSegment,
  durableEnd,
  listSegments,
  markDurable,
  openSegment,
  readBeginning,
  readEnding,
  sealSegment,
  unsealSegment,
  writeSegmentHeader,
  type Beginning,
  type Ending,
  type Segment,
} from "./segment.ts";
import { endNear, lookThoroughly, type SegmentEnd } from "./segment-end.ts";
import { TimeMax } from "./time-max.ts";
import { openBegunIfWhole } from "./spot.ts";
import { claimsOf, wholeRecords } from "./whole-records.ts";

const lineBytes = 64;
const lineNames = ["what it is", "its beginning", "its end", "what is durable"] as const;

/** What the header of a segment should say. */
interface Findings {
  readonly beginning: Beginning;
  /** undefined where it has not ended, or nobody knows with what. */
  readonly ending: Ending | undefined;
  readonly end: number;
  /** The lines that do not say so. */
  readonly wrong: readonly number[];
  /** Whether something else is in place of the mark of its end. */
  readonly lacksMark: boolean;
}

/** Of every segment with a line that does not hold, as far as it is known what it should be. */
export function repairHeaders(workshop: Workshop): void {
  for (const number of listSegments(workshop.directory)) {
    const broken = open(workshop, number);
    if (broken === undefined) continue;
    const { segment, isKnown } = broken;
    const found = examine(workshop, segment, isKnown);
    segment.mapping.unmap();
    if (found !== undefined) repair(workshop, segment, found);
  }
}

function repair(
  workshop: Workshop,
  { number, checksum, capacity }: Segment,
  found: Findings,
): void {
  const { directory, control, announce } = workshop;
  const { beginning, ending, end, wrong, lacksMark } = found;
  const file = segmentFileName(number);
  const kept = placeAside(directory, file);
  const names = wrong.map((line) => `the line of ${lineNames[line] ?? ""}`);
  if (lacksMark) names.push("the mark of its end");
  const what = `writes ${names.join(", ")} anew, from its records`;
  if (!announce({ repair: "header", file, what, kept })) return;
  copyAside(directory, file, kept);
  const mapping = mapFile(path.join(directory, file), capacity);
  const own = viewOf(mapping.buffer);
  const segment = { ...own, mapping, number, checksum, capacity, filePath: file, recordsStart: 0 };
  const clear = (line: number): void => {
    own.bytes.fill(0, line * lineBytes, (line + 1) * lineBytes);
  };
  if (lacksMark) Atomics.store(own.words, end >>> 2, endMark);
  if (wrong.includes(2)) {
    clear(2);
    if (ending !== undefined) sealSegment(segment, ending);
    else unsealSegment(segment);
  }
  mapping.syncBlocking(0, capacity);
  // Now it is.
  if (wrong.includes(3)) markDurable(segment, end);
  if (wrong.includes(1)) {
    clear(1);
    beginSegment(segment, beginning);
  }
  // What is interrupted before is begun again.
  if (wrong.includes(0)) {
    clear(0);
    writeSegmentHeader(mapping.buffer, number, {
      identity: control.identity,
      bytes: capacity,
      checksum,
    });
  }
  mapping.syncBlocking(0, capacity);
  mapping.unmap();
}

function viewOf(buffer: ArrayBuffer) {
  return {
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
  };
}

/** `isKnown`: its first line holds. undefined for what cannot be mended, or is only reserved. */
function open(
  workshop: Workshop,
  number: number,
): { segment: Segment; isKnown: boolean } | undefined {
  const { directory, control } = workshop;
  try {
    return { segment: openSegment(directory, number, control.identity, "read"), isKnown: true };
  } catch (error) {
    if (isGaplessError(error, "DATA_TRIMMED")) return undefined;
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
  }
  if (hasFirstLine(path.join(directory, segmentFileName(number)))) return undefined;
  const spot = salvage(workshop, number, 1);
  return spot === undefined ? undefined : { segment: spot.segment, isKnown: false };
}

/** Whether its first line is whole: then it is of another queue, of another version or cut off. */
function hasFirstLine(filePath: string): boolean {
  const fd = fs.openSync(filePath, "r");
  try {
    const line = Buffer.alloc(lineBytes);
    fs.readSync(fd, line);
    return crc32(line.subarray(0, headerOffset.crc)) === line.readUInt32LE(headerOffset.crc);
  } finally {
    fs.closeSync(fd);
  }
}

function examine(workshop: Workshop, segment: Segment, isKnown: boolean): Findings | undefined {
  const noted = attempt(() => readBeginning(segment));
  const beginning = typeof noted === "object" ? noted : findBeginning(workshop, segment, noted);
  if (beginning === undefined) return undefined;
  const next = openBegunIfWhole(workshop, segment.number + 1);
  next?.segment.mapping.unmap();
  const durable = attempt(() => durableEnd(segment));
  const walked = walk(workshop, segment, beginning, typeof durable === "number" ? durable : 0);
  const { end, sequence, found, latestNs, isClean } = walked;
  const hasEnded = found === "end" || next?.beginning.firstSequence === sequence;
  const ending = hasEnded ? { lastSequence: sequence - 1, latestNs, end } : undefined;
  const said = attempt(() => readEnding(segment));
  const isEntered = isKnown && typeof noted === "object";
  // Behind damage, what is said is believed rather than what is found. What is not said yet, the
  // next writer says; but not where that was lost with the lines before it.
  const isRight = [
    isKnown,
    typeof noted === "object",
    said === undefined
      ? isEntered || !hasEnded
      : said !== "damaged" && (!isClean || isSame(said, ending)),
    durable !== "damaged" &&
      isEntered &&
      !isBehind(workshop, segment, walked, durable) &&
      (!isClean || durable > end || walked.hasLanded),
  ];
  const wrong = isRight.flatMap((right, line) => (right ? [] : [line]));
  const lacksMark = hasEnded && found !== "end";
  if (wrong.length === 0 && !lacksMark) return undefined;
  return { beginning, ending, end, wrong, lacksMark };
}

/** Without sums, only what is durable is believed after a power loss: no less may be said. */
function isBehind(
  { control, controlProblem }: Workshop,
  { checksum }: Segment,
  { sequence, end }: Walked,
  durable: number,
): boolean {
  if (checksum !== "none" || controlProblem !== undefined || isOfThisBoot(control)) return false;
  return durable < end && (control.doubles[controlOffset.durable / 8] ?? 0) >= sequence - 1;
}

interface Walked {
  /** Behind the last record that holds. */
  readonly end: number;
  /** Of the one that would follow. */
  readonly sequence: number;
  readonly found: Found;
  readonly latestNs: bigint;
  /** Whether nothing was damaged on the way. */
  readonly isClean: boolean;
  /** Whether a record ends where what is durable does. */
  readonly hasLanded: boolean;
}

function walk(workshop: Workshop, segment: Segment, beginning: Beginning, durable: number): Walked {
  const claims = claimsOf(workshop, segment);
  const latest = new TimeMax(beginning.latestNs);
  const records = wholeRecords(workshop, segment, beginning);
  let hasLanded = durable <= segment.recordsStart;
  let isClean = true;
  let next = beginning.firstSequence;
  for (;;) {
    const { value: cursor, done } = records.next();
    const { offset, sequence } = cursor;
    hasLanded ||= offset === durable;
    isClean &&= sequence === next;
    if (done === true) {
      const found = lookThoroughly(workshop, cursor);
      isClean &&= found === "end" || (found === "nothing" && offset >= claims.end);
      return { end: offset, sequence, found, latestNs: latest.ns, isClean, hasLanded };
    }
    latest.see(segment, offset);
    next = sequence + 1;
  }
}

/** undefined where it has none, or neither a first record nor the segment before it tells. */
function findBeginning(
  workshop: Workshop,
  segment: Segment,
  noted: "damaged" | undefined,
): Beginning | undefined {
  const { number, recordsStart, words } = segment;
  const before = endBefore(workshop, number);
  const spot = salvage(workshop, number, 1);
  spot?.segment.mapping.unmap();
  const latestNs = before?.latestNs ?? 0n;
  if (spot?.offset === recordsStart) {
    const epoch = (words[(recordsStart >>> 2) + recordWord.epoch] ?? 0) >>> 0;
    return { firstSequence: spot.sequence, latestNs, epoch };
  }
  if (before === undefined || (noted === undefined && spot === undefined)) return undefined;
  return { firstSequence: before.lastSequence + 1, latestNs, epoch: before.epoch };
}

function endBefore(workshop: Workshop, number: number): SegmentEnd | undefined {
  const begun = openBegunIfWhole(workshop, number - 1);
  if (begun === undefined) return undefined;
  const end = endNear(begun.segment, begun.beginning, true);
  begun.segment.mapping.unmap();
  return end;
}

function isSame(said: Ending, found: Ending | undefined): boolean {
  return (
    said.end === found?.end &&
    said.lastSequence === found.lastSequence &&
    said.latestNs === found.latestNs
  );
}

function attempt<Value>(read: () => Value): Value | "damaged" {
  try {
    return read();
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return "damaged";
    throw error;
  }
}
