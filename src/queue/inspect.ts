/**
 * What there is to know of a queue, as plain values, read from outside.
 *
 * Nothing is stopped for this: the values of a queue that is written are some microseconds apart,
 * each by itself is whole. It works on a copy and on what damage has left as well.
 */
import fs from "node:fs";
import path from "node:path";
import { isGaplessError } from "../errors.ts";
import { silenceAt } from "../memory/heartbeat.ts";
import { isMappedBy } from "../memory/mapped-files.ts";
import { controlFileName, epochProblem, isOfThisBoot, writerOf, type Position } from "./control.ts";
import { readPositionSoon } from "./finding.ts";
import { reasonOf } from "./flaw.ts";
import { controlOffset, recordOffset, segmentFileName, type ChecksumKind } from "./layout.ts";
import { lossesFileName, readLosses, type LossLedger } from "./loss-ledger.ts";
import { observeQueue, type ObservedQueue } from "./observed-queue.ts";
import { listReaders, lookAtReader, readerFileOf, type ReaderPresence } from "./reader-file.ts";
import { Cursor } from "./record.ts";
import {
  indexedOf,
  listSegments,
  openSegment,
  readBeginning,
  readEnding,
  type Segment,
} from "./segment.ts";
import { endNear } from "./segment-end.ts";
import { durableEndOf } from "./spot.ts";

/** So many segments that are missing are named. */
const missingMax = 10;

export interface QueueSnapshot {
  readonly directory: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** 16 hexadecimal digits, in all files of the queue. */
  readonly identity: string;
  /** undefined where the control file is damaged or missing, or nobody has ever written. */
  readonly writer: WriterSnapshot | undefined;
  /** Where the writer has noted that it is; undefined where that does not count (any more). */
  readonly position: Position | undefined;
  /** The oldest sequence that is left, written or not yet. */
  readonly firstSequence: number;
  /** The newest sequence; `firstSequence` - 1 where no record is left. */
  readonly lastSequence: number;
  /** The newest sequence that is known to survive a power loss. */
  readonly durableSequence: number;
  /** The oldest first, those that are only reserved included. */
  readonly segments: readonly SegmentSnapshot[];
  /** By their names. */
  readonly readers: readonly ReaderSnapshot[];
  readonly losses: LossLedger;
  /** What could not be read, or only in part. */
  readonly unreadable: readonly UnreadableFile[];
}

/** A file of the queue, and what is wrong with it. */
export interface UnreadableFile {
  readonly file: string;
  readonly reason: string;
  /** Whether it is damaged, or missing; else it may not be read, and nothing is known of it. */
  readonly isDamaged: boolean;
}

/**
 *   open     it is there, and writes
 *   closed   it has closed the queue
 *   gone     it has not, and is not there: killed, or of another boot or machine
 */
export type WriterState = "open" | "closed" | "gone";

export interface WriterSnapshot {
  readonly state: WriterState;
  readonly pid: number;
  /** Counts the writers of the queue. */
  readonly epoch: number;
  /** Since it last wrote, or had nothing to write; undefined where it is of another boot. */
  readonly silentMs: number | undefined;
}

/**
 *   reserved   nobody has begun to write it
 *   open       what comes next is written here
 *   ended      nothing more comes
 */
export type SegmentState = "reserved" | "open" | "ended";

export interface SegmentSnapshot {
  readonly file: string;
  readonly number: number;
  readonly state: SegmentState;
  /** Whether its header says with what it has ended. */
  readonly isSealed: boolean;
  readonly checksum: ChecksumKind;
  /** Of the file. */
  readonly bytes: number;
  /** Where its last record ends. */
  readonly end: number;
  /** Below it, everything is known to be durable. */
  readonly durableEnd: number;
  /** Of its first record, written or not yet; 0 of one that is only reserved. */
  readonly firstSequence: number;
  /** `firstSequence` - 1 where it has none. */
  readonly lastSequence: number;
  /** Of the writer that has begun it. */
  readonly epoch: number;
  /** Of its first record, in nanoseconds since 1970. */
  readonly firstNs: bigint | undefined;
  /** Greatest of all records through its last one. */
  readonly latestNs: bigint;
  /** How many entries its index has. */
  readonly indexed: number;
}

export interface ReaderSnapshot extends Omit<ReaderPresence, "committed" | "silentMs"> {
  /** The newest sequence that is dealt with; undefined before its first commit. */
  readonly committed: number | undefined;
  /** Sequences between what it has committed and the newest. */
  readonly lag: number;
  /** Since it last did something; undefined where that was before this boot. */
  readonly silentMs: number | undefined;
}

/**
 * Looks at a queue, be it written right now, a copy, or damaged: what cannot be read is in
 * `unreadable`, by its file.
 *
 * @throws GaplessError DATA_NOT_YET_AVAILABLE where there is nothing of a queue
 */
export function inspectQueue(directory: string): QueueSnapshot {
  using queue = observeQueue(directory);
  const { control, controlProblem } = queue;
  const unreadable: UnreadableFile[] = [];
  const report = (file: string, error: unknown): void => {
    const isDamaged = typeof error === "string" || isGaplessError(error, "STORAGE_CORRUPT");
    unreadable.push({ file, reason: reasonOf(error, queue.directory), isDamaged });
  };
  const problem = controlProblem ?? epochProblem(control);
  if (problem !== undefined) report(controlFileName, problem);
  // Before the segments: what is noted is there.
  const isSettled = isOfThisBoot(control);
  const position = isSettled ? readPositionSoon(control) : undefined;
  const durable = control.doubles[controlOffset.durable / 8] ?? 0;
  const segments = inspectSegments(queue, isSettled, report);
  const begun = segments.filter(({ state }) => state !== "reserved");
  const firstSequence = begun[0]?.firstSequence ?? 1;
  const found = Math.max(firstSequence - 1, ...begun.map(({ lastSequence }) => lastSequence));
  const noted = queue.isLive ? (position?.sequence ?? 0) : 0;
  const lastSequence = Math.max(found, noted);
  return {
    directory: queue.directory,
    atMs: Date.now(),
    identity: control.identity.toString(16).padStart(16, "0"),
    writer: inspectWriter(queue),
    position,
    firstSequence,
    lastSequence,
    // What has come from the disk is on it.
    durableSequence: isSettled ? Math.min(durable, lastSequence) : lastSequence,
    segments,
    readers: inspectReaders(queue, firstSequence, lastSequence, report),
    losses: inspectLosses(queue, report),
    unreadable,
  };
}

type Report = (file: string, error: unknown) => void;

function inspectWriter({ control, isLive }: ObservedQueue): WriterSnapshot | undefined {
  const { words } = control;
  const { pid } = writerOf(control);
  if (pid === 0) return undefined;
  const isOpen = Atomics.load(words, controlOffset.open / 4) !== 0;
  return {
    state: isLive ? "open" : isOpen ? "gone" : "closed",
    pid,
    epoch: Atomics.load(words, controlOffset.epoch / 4) >>> 0,
    silentMs: isOfThisBoot(control) ? silenceAt(words, controlOffset.heartbeat / 4) : undefined,
  };
}

function inspectSegments(
  queue: ObservedQueue,
  isSettled: boolean,
  report: Report,
): SegmentSnapshot[] {
  const { directory, control } = queue;
  const segments: SegmentSnapshot[] = [];
  const problems: [string, unknown][] = [];
  // The newest first: one that was seen to have begun has ended the one before it.
  for (const number of listSegments(directory).reverse()) {
    const file = segmentFileName(number);
    let segment: Segment | undefined;
    try {
      segment = openSegment(directory, number, control.identity, "read");
      const note = (name: string, error: unknown): void => void problems.unshift([name, error]);
      segments.unshift(inspectSegment(segment, isSettled, note));
    } catch (error) {
      // Deleted in between.
      if (!isGaplessError(error, "DATA_TRIMMED")) problems.unshift([file, error]);
    } finally {
      segment?.mapping.unmap();
    }
  }
  for (const [file, error] of problems) report(file, error);
  const first = segments.find(({ state }) => state !== "reserved")?.number ?? Infinity;
  for (const number of missingBehind(directory, first)) {
    report(segmentFileName(number), "missing, and one behind it is there");
  }
  return segments;
}

/** Of the segments behind that one: the oldest go first, so none is ever missing between others. */
function missingBehind(directory: string, first: number): number[] {
  const numbers = listSegments(directory);
  // Deleted in between.
  if (!numbers.includes(first)) return [];
  const last = numbers.at(-1) ?? first;
  const missing: number[] = [];
  for (let number = first + 1; number < last; number++) {
    if (!numbers.includes(number)) missing.push(number);
    if (missing.length === missingMax) break;
  }
  return missing;
}

function inspectSegment(segment: Segment, isSettled: boolean, report: Report): SegmentSnapshot {
  const { number, checksum, capacity: bytes, recordsStart } = segment;
  const file = segmentFileName(number);
  const common = { file, number, checksum, bytes, indexed: indexedOf(segment) };
  const beginning = readBeginning(segment);
  if (beginning === undefined) {
    const unwritten = { firstSequence: 0, lastSequence: -1, epoch: 0, latestNs: 0n };
    const ends = { end: recordsStart, durableEnd: recordsStart, firstNs: undefined };
    return { ...common, state: "reserved", isSealed: false, ...unwritten, ...ends };
  }
  const { firstSequence, epoch } = beginning;
  const durableEnd = durableEndOf(segment);
  const ending = endingOf(segment, report);
  const last =
    ending === undefined
      ? endNear(segment, beginning, isSettled)
      : ({ ...ending, found: "end" } as const);
  const { end, lastSequence, latestNs } = last;
  if (last.found === "damage" && (isSettled || end < durableEnd)) {
    report(file, `at offset=${end} is no record`);
  }
  const first = new Cursor(segment, recordsStart, firstSequence, 0);
  const firstNs =
    lastSequence >= firstSequence && first.look(false) === "record"
      ? segment.view.getBigUint64(recordsStart + recordOffset.timestamp, true)
      : undefined;
  return {
    ...common,
    state: last.found === "end" ? "ended" : "open",
    isSealed: ending !== undefined,
    end,
    durableEnd,
    firstSequence,
    lastSequence,
    epoch,
    firstNs,
    latestNs,
  };
}

function endingOf(segment: Segment, report: Report) {
  try {
    return readEnding(segment);
  } catch (error) {
    report(segmentFileName(segment.number), error);
    return undefined;
  }
}

function inspectReaders(
  { directory, control }: ObservedQueue,
  firstSequence: number,
  lastSequence: number,
  report: Report,
): ReaderSnapshot[] {
  const readers: ReaderSnapshot[] = [];
  for (const name of listReaders(directory)) {
    try {
      const presence = lookAtReader(directory, name, control.identity);
      const committed = presence.committed?.sequence;
      const lag = Math.max(0, lastSequence - (committed ?? firstSequence - 1));
      const isAlive = presence.isAlive && isReadBy(presence.pid, readerFileOf(directory, name));
      const silentMs = Number.isFinite(presence.silentMs) ? presence.silentMs : undefined;
      readers.push({ ...presence, committed, isAlive, silentMs, lag });
    } catch (error) {
      const filePath = readerFileOf(directory, name);
      // Removed in between.
      if (fs.existsSync(filePath)) report(path.relative(directory, filePath), error);
    }
  }
  return readers;
}

/** A copy says of its reader what the original does. */
function isReadBy(pid: number | undefined, filePath: string): boolean {
  return pid !== undefined && isMappedBy(pid, filePath) !== false;
}

function inspectLosses({ directory }: ObservedQueue, report: Report): LossLedger {
  try {
    return readLosses(directory);
  } catch (error) {
    report(lossesFileName, error);
    return { losses: [], unreadable: 0 };
  }
}
