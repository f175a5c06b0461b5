/**
 * Making the control file anew, from the segments.
 *
 * What is made says nothing of a writer, nor of a position: to whoever opens the queue it is one
 * that a machine has left which lost its power. Then the log ends where the records do, and what
 * is trusted is what is durable; so all that is there is made durable first.
 */
import fs from "node:fs";
import path from "node:path";
import { GaplessError, isGaplessError } from "../errors.ts";
import { createMappedFile } from "../memory/mapping.ts";
import {
  controlFileName,
  epochCheckOf,
  epochProblem,
  isOfThisBoot,
  writeHeader,
} from "./control.ts";
import { rangeOf, reasonOf, type RepairName } from "./flaw.ts";
import { moveAside, placeAside } from "./keep-aside.ts";
import { controlBytes, controlMagic, controlOffset, segmentFileName } from "./layout.ts";
import { everyReader, recordLoss } from "./loss-ledger.ts";
import { identityOfSegments } from "./observed-queue.ts";
import { listReaders, lookAtReader, type Committed } from "./reader-file.ts";
import type { Workshop } from "./repair.ts";
import {
  listSegments,
  markDurable,
  openSegment,
  readBeginning,
  type Beginning,
  type Segment,
} from "./segment.ts";
import { endOfWhole } from "./segment-end.ts";
import { durableEndOf, openBegunIfWhole } from "./spot.ts";
import { endingOf, positionOf, wholeRecords } from "./whole-records.ts";

/** What the segments say, as far as the control file has to say it as well. */
interface Facts {
  readonly lastNumber: number;
  readonly lastSequence: number;
  /** Where the last segment ends. */
  readonly end: number;
  /** Of all that the files name, the greatest. */
  readonly epoch: number;
}

/** Where it is damaged, missing, or says what cannot be. */
export function repairControl(workshop: Workshop): void {
  const { directory, controlProblem, announce, isPending } = workshop;
  const identity = controlProblem === undefined ? workshop.control.identity : identityOf(directory);
  const file = controlFileName;
  if (isPending) {
    // What it is to say is known once the others are done.
    const what = "makes it anew, from what the repairs before it leave";
    if (controlProblem !== undefined) announce({ repair: "control", file, what });
    return;
  }
  const facts = factsOf(workshop);
  const reason =
    controlProblem === undefined
      ? whatIsWrong(workshop, facts)
      : reasonOf(controlProblem, directory);
  if (reason === undefined) return;
  const { lastSequence } = facts;
  const epoch = facts.epoch + 1;
  const lost = rangeOf(lastSequence + 1, newestKnown(workshop));
  const exists = fs.existsSync(path.join(directory, file));
  const kept = placeAside(directory, file);
  const isTold = announce({
    repair: "control",
    file,
    what:
      `makes it anew: ${exists ? reason : "it is missing"}. The log ends with ` +
      `sequence=${lastSequence}, epoch=${epoch} is above all that is there`,
    ...(lost && { lost }),
    ...(exists && { kept }),
  });
  if (!isTold) return;
  makeDurable(workshop, facts);
  if (lost !== undefined) {
    recordLoss(directory, { cause: "damaged", reader: everyReader, ...lost, atMs: Date.now() });
  }
  if (exists) moveAside(directory, file, kept);
  const filePath = path.join(directory, file);
  const fill = (buffer: ArrayBuffer): void => {
    const view = new DataView(buffer);
    view.setUint32(controlOffset.epoch, epoch, true);
    view.setInt32(controlOffset.epochCheck, epochCheckOf(epoch), true);
    view.setFloat64(controlOffset.durable, lastSequence, true);
    writeHeader(buffer, controlMagic, identity);
  };
  createMappedFile(filePath, controlBytes, fill, { durable: true });
}

function identityOf(directory: string): bigint {
  const identity = identityOfSegments(directory);
  if (identity !== undefined) return identity;
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `${directory} has no segment whose header is whole: nothing says which queue this is. ` +
      `Restore ${controlFileName} from a copy.`,
  );
}

/** @throws GaplessError STORAGE_CORRUPT where another repair has to find the end first */
function factsOf(workshop: Workshop): Facts {
  let epoch = epochOfReaders(workshop);
  let lastNumber = 0;
  const broken: number[] = [];
  for (const number of listSegments(workshop.directory)) {
    const beginning = beginningOf(workshop, number);
    if (beginning === "broken") broken.push(number);
    if (typeof beginning !== "object") continue;
    epoch = Math.max(epoch, beginning.epoch);
    lastNumber = number;
  }
  const behind = broken.find((number) => number > lastNumber);
  if (behind !== undefined) throw needs(workshop, behind, "its header is damaged", "header");
  const begun = openBegunIfWhole(workshop, lastNumber);
  if (begun === undefined) return { lastNumber: 0, lastSequence: 0, end: 0, epoch };
  const { segment, beginning } = begun;
  const last = endOfWhole(workshop, segment, beginning);
  const { lastSequence, end } = last;
  const start = { firstSequence: lastSequence + 1, epoch: last.epoch };
  const isHidden =
    durableEndOf(segment) > end || wholeRecords(workshop, segment, start, end).next().done !== true;
  segment.mapping.unmap();
  if (isHidden) throw needs(workshop, lastNumber, `it is damaged at offset=${end}`, "truncate");
  return { lastNumber, lastSequence, end, epoch: Math.max(epoch, last.epoch) };
}

function beginningOf(
  { directory, control }: Workshop,
  number: number,
): Beginning | "reserved" | "broken" {
  let segment: Segment | undefined;
  try {
    segment = openSegment(directory, number, control.identity, "read");
    return readBeginning(segment) ?? "reserved";
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return "broken";
    throw error;
  } finally {
    segment?.mapping.unmap();
  }
}

function needs(
  { directory }: Workshop,
  number: number,
  reason: string,
  repair: RepairName,
): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${segmentFileName(number)} in ${directory}: ${reason}, so it is not known where the log ` +
      `ends. Ask for the repair ${repair} as well.`,
  );
}

function whatIsWrong(workshop: Workshop, facts: Facts): string | undefined {
  const { words, doubles } = workshop.control;
  const { lastNumber, lastSequence, end } = facts;
  const position = positionOf(workshop);
  if (position !== undefined) {
    const isBeyond =
      position.segment > lastNumber || (position.segment === lastNumber && position.end > end);
    if (isBeyond) return `it says that sequence=${position.sequence} was there`;
  }
  const durable = doubles[controlOffset.durable / 8] ?? 0;
  if (!(durable >= 0 && durable <= lastSequence))
    return `it says that sequence=${durable} was durable`;
  const epoch = (words[controlOffset.epoch / 4] ?? 0) >>> 0;
  if (epoch < facts.epoch) return `it says epoch=${epoch}`;
  const problem = epochProblem(workshop.control);
  if (problem !== undefined) return problem;
  const missing = holeBefore(workshop, facts);
  return missing === undefined
    ? undefined
    : `${segmentFileName(missing)} is missing, and so the end of the log is not certain`;
}

/** The number that whoever opens the queue for writing would miss on its way to what is certain. */
function holeBefore(workshop: Workshop, { lastNumber }: Facts): number | undefined {
  const [oldest = 1] = listSegments(workshop.directory);
  const position = positionOf(workshop);
  for (let number = lastNumber; number > oldest; number--) {
    const begun = openBegunIfWhole(workshop, number);
    if (begun === undefined) return number;
    const { segment } = begun;
    const isCertain = isOfThisBoot(workshop.control)
      ? position?.segment === number || endingOf(segment) !== undefined
      : durableEndOf(segment) > segment.recordsStart;
    segment.mapping.unmap();
    if (isCertain) return undefined;
  }
  return undefined;
}

/** The greatest sequence that anything names, whether it is there or not. */
function newestKnown(workshop: Workshop): number {
  const { control, controlProblem } = workshop;
  const durable = control.doubles[controlOffset.durable / 8] ?? 0;
  const isKnown = controlProblem === undefined && Number.isSafeInteger(durable);
  const committed = committedOf(workshop).map(({ sequence }) => sequence);
  return Math.max(positionOf(workshop)?.sequence ?? 0, isKnown ? durable : 0, ...committed);
}

function epochOfReaders(workshop: Workshop): number {
  return Math.max(0, ...committedOf(workshop).map(({ epoch }) => epoch));
}

/** Of the readers whose files are whole. */
function committedOf({ directory, control }: Workshop): Committed[] {
  return listReaders(directory).flatMap((name) => {
    try {
      return lookAtReader(directory, name, control.identity).committed ?? [];
    } catch (error) {
      if (isGaplessError(error, "STORAGE_CORRUPT")) return [];
      throw error;
    }
  });
}

/** All that is whole is on the device, and says so. */
function makeDurable({ directory, control }: Workshop, { lastNumber, end }: Facts): void {
  for (const number of listSegments(directory)) {
    if (number > lastNumber) return;
    let segment: Segment;
    try {
      segment = openSegment(directory, number, control.identity, "write");
    } catch (error) {
      // Damaged in the middle, where nobody writes any more.
      if (isGaplessError(error, "STORAGE_CORRUPT")) continue;
      throw error;
    }
    const known = number === lastNumber ? end : endingOf(segment)?.end;
    if (known !== undefined && durableEndOf(segment) < known) {
      segment.mapping.syncBlocking(0, segment.capacity);
      markDurable(segment, known);
      segment.mapping.syncBlocking(0, segment.recordsStart);
    }
    segment.mapping.unmap();
  }
}
