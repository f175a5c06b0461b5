/**
 * What a crash left, and what to make of it.
 *
 * A killed process leaves at most one batch that was never completed, at the very end: the page
 * cache keeps all that was stored. A power loss takes any subset of the pages that were not yet
 * durable, and so can leave holes with whole records behind them; none of those was acknowledged
 * as durable. Both end the log where the first record does not hold, and appending goes on there:
 * in a new epoch, which tells its records from the bytes of the old ones. Everything else is
 * damage, and nobody decides about that but the operator.
 *
 *   same boot    the control file says how far the writer had come: all before is there
 *   other boot   all before the durable mark is there. Segments become durable in order, so it
 *                takes a look at the newest one of which anything is, and at those after it
 */
import path from "node:path";
import { GaplessError } from "../errors.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { isOfThisBoot, readPosition, type Control, type Position } from "./control.ts";
import {
  controlOffset,
  endMark,
  recordHeaderBytes,
  recordOffset,
  segmentFileName,
  segmentOffset,
} from "./layout.ts";
import { Cursor, type Found } from "./record.ts";
import {
  durableEnd,
  listSegments,
  openSegment,
  readBeginning,
  readEnding,
  removeSegment,
  sealSegment,
  unsealSegment,
  type Beginning,
  type Segment,
} from "./segment.ts";
import { cutIndex, placeBeforeOffset } from "./sparse-index.ts";
import { segmentDamaged } from "./storage-errors.ts";

/** Where appending goes on. */
export interface Tail {
  readonly segment: Segment;
  readonly beginning: Beginning;
  /** Behind the last record. */
  readonly end: number;
  readonly lastSequence: number;
  /** Greatest time of all records. */
  readonly latestNs: bigint;
  /** Of the last record, or of the one that began the segment. */
  readonly epoch: number;
  /** Whether the segment has ended: then the next one is to be begun. */
  readonly hasEnded: boolean;
}

export interface Recovered {
  /** undefined where the queue has no segment yet. */
  readonly tail: Tail | undefined;
  /** The number that the next segment has. */
  readonly numberNext: number;
  /** The newest sequence that is known to be durable: what comes from the disk is. */
  readonly durableSequence: number;
  /** Where a torn tail was cut off; undefined where nothing was. */
  readonly cut: string | undefined;
}

interface Begun {
  readonly segment: Segment;
  readonly beginning: Beginning;
}

/**
 * Finds the end of the queue, and cuts off what a crash left behind it. Nobody writes.
 *
 * @throws GaplessError STORAGE_CORRUPT; then nothing has been changed
 */
export function recover(directory: string, control: Control): Recovered {
  const { tails, isSameBoot, behind, torn } = findEnd(directory, control);
  remove(directory, behind, isSameBoot);
  const tail = tails.at(-1);
  if (tail === undefined) return { ...beginningOf, cut: torn };
  for (const one of tails) if (one.hasEnded) seal(one);
  const cut = tail.hasEnded ? undefined : cutOff(tail, isSameBoot);
  unmapAll(tails.slice(0, -1));
  return resultOf(control, tail, isSameBoot, torn ?? cut);
}

/**
 * Finds the end of a queue whose writer may still be alive, and marks it, so that whatever that
 * one goes on to write fails. Its epoch is over already.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function fenceOff(directory: string, control: Control): Recovered {
  for (;;) {
    const { tails, isSameBoot, behind } = findEnd(directory, control);
    const last = tails.pop();
    for (const one of tails) if (one.hasEnded) seal(one);
    unmapAll(tails);
    const tail = last === undefined ? undefined : fence(last);
    // A segment that the writer has mapped already, and would begin next.
    if (behind.every((number) => fenceReserved(directory, control, number))) {
      remove(directory, behind, isSameBoot);
      if (tail === undefined) return { ...beginningOf, cut: undefined };
      return resultOf(control, tail, isSameBoot, undefined);
    }
    tail?.segment.mapping.unmap();
  }
}

const beginningOf = { tail: undefined, numberNext: 1, durableSequence: 0 } as const;

function resultOf(
  control: Control,
  tail: Tail,
  isSameBoot: boolean,
  cut: string | undefined,
): Recovered {
  const synced = control.doubles[controlOffset.durable / 8] ?? 0;
  const { lastSequence, segment } = tail;
  const durableSequence = isSameBoot ? Math.min(synced, lastSequence) : lastSequence;
  return { tail, numberNext: segment.number + 1, durableSequence, cut };
}

interface End {
  /** The segments that were looked at, through the one that appending goes on behind. */
  readonly tails: Tail[];
  readonly isSameBoot: boolean;
  /** Segments behind the end, in which there is nothing that counts. */
  readonly behind: readonly number[];
  /** What of a begun segment behind a torn one is lost. */
  readonly torn: string | undefined;
}

/** Looks, and changes nothing. The segments of the tails stay mapped. */
function findEnd(directory: string, control: Control): End {
  const isSameBoot = isOfThisBoot(control);
  const position = isSameBoot ? readPosition(control) : undefined;
  const { begun, reserved } = openUncertain(directory, control, position, isSameBoot);
  try {
    const { tails, torn } = walkAll(begun, position, isSameBoot);
    // Of a writer that was fenced before it could write here: the number is taken anew.
    if (tails.length > 1 && tails.at(-1)?.hasEnded === true && isEmpty(tails.at(-1))) tails.pop();
    const dropped = begun.slice(tails.length);
    unmapAll(dropped);
    const behind = [...dropped.map(({ segment }) => segment.number), ...reserved];
    return { tails, isSameBoot, behind, torn };
  } catch (error) {
    unmapAll(begun);
    throw error;
  }
}

function unmapAll(all: readonly Begun[]): void {
  for (const { segment } of all) segment.mapping.unmap();
}

/** Marks the end of the segment that is being written. Returns where that is. */
function fence(tail: Tail): Tail {
  const { segment, hasEnded } = tail;
  if (hasEnded) return tail;
  const cursor = new Cursor(segment, tail.end, tail.lastSequence + 1, tail.epoch);
  let { latestNs } = tail;
  while (cursor.offset < segment.capacity) {
    // SYNC segment-end: whoever is first in this place; pairs with Publisher.complete.
    if (Atomics.compareExchange(segment.words, cursor.offset >>> 2, 0, endMark) === 0) break;
    const found = cursor.look(true);
    if (found === "end") break;
    if (found !== "record") throw damagedAt(cursor, "no record holds here");
    latestNs = greater(latestNs, timeAt(cursor));
    cursor.advance();
  }
  const fenced = { ...tail, ...endOf(cursor), latestNs, hasEnded: true };
  seal(fenced);
  return fenced;
}

/** False where the writer has come to write there before. */
function fenceReserved(directory: string, control: Control, number: number): boolean {
  const { words, recordsStart, mapping } = openSegment(
    directory,
    number,
    control.identity,
    "write",
  );
  const before = Atomics.compareExchange(words, recordsStart >>> 2, 0, endMark);
  mapping.unmap();
  return before === 0 || before === endMark;
}

/** The newest first, so that none is missing between two others, whatever ends it. */
function remove(directory: string, numbers: readonly number[], isSameBoot: boolean): void {
  for (const number of [...numbers].sort((left, right) => right - left)) {
    removeSegment(directory, number);
    // Only then it is for good. Of this boot's, those that are left have not begun.
    if (!isSameBoot) syncDirectory(directory);
  }
  if (numbers.length > 0) syncDirectory(directory);
}

/** The segments to be looked at, oldest first, and those behind them that were only reserved. */
function openUncertain(
  directory: string,
  control: Control,
  position: Position | undefined,
  isSameBoot: boolean,
): { begun: Begun[]; reserved: number[] } {
  const begun: Begun[] = [];
  const reserved: number[] = [];
  let expected = position?.segment;
  try {
    for (const number of listSegments(directory).reverse()) {
      const one = openBegun(directory, control, number, isSameBoot);
      // What a power loss has not even left the beginning of, nothing behind it counts.
      if (one === undefined && !isSameBoot) {
        reserved.push(...begun.map(({ segment }) => segment.number));
        unmapAll(begun.splice(0));
        expected = undefined;
      }
      if (one === undefined && begun.length === 0) {
        reserved.push(number);
        continue;
      }
      if (one !== undefined) begun.unshift(one);
      if (expected !== undefined && number < expected) throw segmentMissing(directory, expected);
      if (one === undefined) throw segmentMissing(directory, number);
      if (isCertain(one, position, isSameBoot)) return { begun, reserved };
      expected = number - 1;
    }
    if (position !== undefined) throw segmentMissing(directory, position.segment);
    return { begun, reserved };
  } catch (error) {
    unmapAll(begun);
    throw error;
  }
}

/** Whether nothing before the segment can be missing. */
function isCertain(
  { segment }: Begun,
  position: Position | undefined,
  isSameBoot: boolean,
): boolean {
  if (!isSameBoot) return durableEnd(segment) > segment.recordsStart;
  return position === undefined
    ? readEnding(segment) !== undefined
    : segment.number === position.segment;
}

/** undefined where it was only reserved, or where a power loss has left no more of it than that. */
function openBegun(
  directory: string,
  control: Control,
  number: number,
  isSameBoot: boolean,
): Begun | undefined {
  const segment = openSegment(directory, number, control.identity, "write");
  try {
    const beginning = readBeginning(segment);
    if (beginning !== undefined) return { segment, beginning };
  } catch (error) {
    const canBeTorn = !isSameBoot && durableEnd(segment) === segment.recordsStart;
    if (!canBeTorn) {
      segment.mapping.unmap();
      throw error;
    }
  }
  segment.mapping.unmap();
  return undefined;
}

/** Walks through what is uncertain of each segment, up to the first that does not go on. */
function walkAll(
  begun: readonly Begun[],
  position: Position | undefined,
  isSameBoot: boolean,
): { tails: Tail[]; torn: string | undefined } {
  const tails: Tail[] = [];
  for (const [index, one] of begun.entries()) {
    let tail = walk(one, position, isSameBoot);
    const next = begun[index + 1];
    // A power loss can take the end mark of a segment whose records were durable before it.
    const isFollowed = next?.beginning.firstSequence === tail.lastSequence + 1;
    if (isFollowed && !isSameBoot) tail = { ...tail, hasEnded: true };
    tails.push(tail);
    if (next === undefined) break;
    const { segment, beginning } = next;
    if (tail.hasEnded && isFollowed) continue;
    const reason = `it begins with ${beginning.firstSequence}, behind ${tail.lastSequence}`;
    const isTorn = !isSameBoot && durableEnd(segment) === segment.recordsStart;
    if (!isTorn) throw segmentDamaged(segment.filePath, segmentOffset.firstSequence, reason);
    return { tails, torn: `${segment.filePath} and what comes behind it: ${reason}` };
  }
  return { tails, torn: undefined };
}

/** Walks to the end of a segment, from the nearest place before what is known to be there. */
function walk(one: Begun, position: Position | undefined, isSameBoot: boolean): Tail {
  const { segment, beginning } = one;
  const durable = durableEnd(segment);
  const isNoted = position?.segment === segment.number;
  const reach = isNoted ? Math.max(durable, position.end) : durable;
  const known = isSameBoot && !isNoted ? segment.capacity : reach;
  const place = placeBeforeOffset(segment, beginning, known);
  const cursor = new Cursor(segment, place.offset, place.sequence, beginning.epoch);
  let { latestNs } = place;
  let found: Found;
  let hasLanded = cursor.offset >= reach;
  for (;;) {
    found = lookWith(cursor, reach, isSameBoot);
    if (found !== "record") break;
    latestNs = greater(latestNs, timeAt(cursor));
    cursor.advance();
    hasLanded ||= cursor.offset === reach;
  }
  if (!hasLanded) throw damagedAt(cursor, `records were there through offset=${reach}`);
  if (isSameBoot && found === "damage") throw damagedAt(cursor, "no record holds here");
  return { ...one, ...endOf(cursor), latestNs, hasEnded: found === "end" };
}

/** What was not known to be there has to hold by its sum; without one, it is not believed. */
function lookWith(cursor: Cursor, reach: number, isSameBoot: boolean): Found {
  const isKnown = cursor.offset < reach;
  const found = cursor.look(!isKnown);
  const isBelieved = isKnown || isSameBoot || cursor.segment.checksum !== "none";
  return found === "record" && !isBelieved ? "nothing" : found;
}

/** Clears what is behind the end, so that nobody takes it for a record. Returns what it was. */
function cutOff({ segment, end }: Tail, isSameBoot: boolean): string | undefined {
  const { words, capacity } = segment;
  // A killed writer leaves neither behind the end.
  if (!isSameBoot) {
    cutIndex(segment, end);
    unsealSegment(segment);
  }
  const header = words.subarray(end >>> 2, Math.min(end + recordHeaderBytes, capacity) >>> 2);
  if (header.every((word) => word === 0)) return undefined;
  header.fill(0);
  return `${segment.filePath} from offset=${end} on: a record that was never completed`;
}

function seal(tail: Tail): void {
  const { segment, end, lastSequence } = tail;
  if (end < segment.capacity) Atomics.store(segment.words, end >>> 2, endMark);
  const ending = readEnding(segment);
  if (ending?.end === end && ending.lastSequence === lastSequence) return;
  // A power loss can bring back the end that an earlier one has taken.
  unsealSegment(segment);
  sealSegment(segment, tail);
}

function isEmpty(tail: Tail | undefined): boolean {
  return tail !== undefined && tail.end === tail.segment.recordsStart;
}

function endOf({ offset, sequence, epoch }: Cursor): Pick<Tail, "end" | "lastSequence" | "epoch"> {
  return { end: offset, lastSequence: sequence - 1, epoch };
}

function timeAt({ segment, offset }: Cursor): bigint {
  return segment.view.getBigUint64(offset + recordOffset.timestamp, true);
}

function greater(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}

function damagedAt({ segment, offset }: Cursor, reason: string): GaplessError {
  return segmentDamaged(segment.filePath, offset, reason);
}

function segmentMissing(directory: string, number: number): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${path.join(directory, segmentFileName(number))} is missing, and records behind it are ` +
      "there. Restore it from a copy; without one, gapless queue repair --control goes on without.",
  );
}
