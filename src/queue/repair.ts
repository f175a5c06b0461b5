/**
 * Mending a queue that nobody has open, by what is asked for by name and by nothing else:
 *
 *   header     lines of a segment's header that do not hold, from its records and its neighbours
 *   truncate   ends the log at the first damage of the last segment, where a writer cannot pass it
 *   index      the index of a segment whose entries are wrong, from its records
 *   control    queue.control where it is damaged, missing or says what cannot be, from the segments
 *
 * Each says what it is going to do before it does it, and first keeps what it changes in damaged/.
 * What is lost by it, besides what is lost already, is in the loss ledger, for the reader "*".
 * Where a segment is missing in the middle, or damaged there, nothing is to be made: readers go on
 * behind it with `skipUnreadable`.
 */
import path from "node:path";
import { GaplessError, isGaplessError, storageFailed } from "../errors.ts";
import { acquireLock, isHeld } from "../memory/lock-file.ts";
import { checkArray, checkFunctions, checkOptions } from "../arguments.ts";
import { resolveDirectory } from "./directory.ts";
import type { RepairName, SequenceRange } from "./flaw.ts";
import { observeQueue } from "./observed-queue.ts";
import { writerLockName } from "./control.ts";
import { refuseOtherVersions } from "./other-version.ts";
import { listReaders, readerLockOf } from "./reader-file.ts";
import { repairControl } from "./repair-control.ts";
import { repairHeaders } from "./repair-header.ts";
import { repairIndexes } from "./repair-index.ts";
import { truncateAtDamage } from "./repair-truncate.ts";
import type { QueueFiles } from "./spot.ts";

export interface RepairOptions {
  /** What is to be mended. */
  readonly repairs: readonly RepairName[];
  /** Whether to do it; by default it is only said what would be done. */
  readonly write?: boolean;
  /** Told of each step before it is done. */
  readonly onStep?: (step: RepairStep) => void;
}

/** One change to one file. */
export interface RepairStep {
  readonly repair: RepairName;
  /** Within the directory of the queue. */
  readonly file: string;
  readonly what: string;
  /** Sequences that the queue does not have any more, whole or not. */
  readonly lost?: SequenceRange;
  /** How many of them are whole: they are only in what is kept aside. */
  readonly wholeLost?: number;
  /** Where the file is kept as it was, within the directory. */
  readonly kept?: string;
}

export interface RepairReport {
  readonly directory: string;
  /** Whether the steps were done, and not only said. */
  readonly isWritten: boolean;
  readonly steps: readonly RepairStep[];
}

/** A queue that is mended, and who decides whether it is. */
export interface Workshop extends QueueFiles {
  readonly controlProblem: string | undefined;
  readonly asked: ReadonlySet<RepairName>;
  /** Whether what is announced is done. */
  readonly isWritten: boolean;
  /** Whether repairs have been announced that were not done: then not all is known yet. */
  readonly isPending: boolean;
  /** Says what is to be done next; true where it is to be done indeed. */
  readonly announce: (step: RepairStep) => boolean;
}

/** In the order in which each can build on what the one before has mended. */
const repairsInOrder = {
  header: repairHeaders,
  truncate: truncateAtDamage,
  index: repairIndexes,
  control: repairControl,
} as const satisfies Record<RepairName, (workshop: Workshop) => void>;

/** All there are, in the order in which they are done. */
export const repairNames = Object.keys(repairsInOrder) as RepairName[];

/**
 * Mends a queue, or says how it would. Nobody may write to it or read it meanwhile.
 *
 * @throws GaplessError WRITER_ALREADY_ACTIVE, ALREADY_OPEN with who has it open; CONFIG_INVALID for
 *   a repair that there is not; STORAGE_CORRUPT where one repair needs another one first, and
 *   where any file is of another version; SYSTEM_CALL_FAILED where one may not be read or written;
 *   STORAGE_FULL; DATA_NOT_YET_AVAILABLE where there is nothing of a queue
 */
export function repairQueue(directory: string, options: RepairOptions): RepairReport {
  const folder = resolveDirectory(directory);
  checkOptions("repairQueue", options, { repairs: true, write: true, onStep: true });
  checkFunctions(options, "onStep");
  checkArray("repairs", options.repairs, `some of ${repairNames.join(", ")}`);
  const isWritten = options.write === true;
  const asked = new Set(options.repairs);
  const unknown = [...asked].find((name) => !repairNames.includes(name));
  if (unknown !== undefined) {
    const expected = repairNames.join(", ");
    throw new GaplessError("CONFIG_INVALID", `repair=${unknown}: expected some of ${expected}.`);
  }
  // Before the lock: that would make a file in a directory that has nothing of a queue.
  observeQueue(folder)[Symbol.dispose]();
  refuseOtherVersions(folder);
  const release = isWritten ? lock(folder) : refuseWriter(folder);
  try {
    refuseReaders(folder);
    const steps: RepairStep[] = [];
    const announce = (step: RepairStep): boolean => {
      steps.push(step);
      options.onStep?.(step);
      return isWritten;
    };
    for (const name of repairNames.filter((one) => asked.has(one))) {
      // Each looks anew: the one before may have changed anything.
      using queue = observeQueue(folder);
      const isPending = steps.length > 0 && !isWritten;
      repairsInOrder[name]({ ...queue, asked, isWritten, isPending, announce });
    }
    return { directory: folder, isWritten, steps };
  } catch (error) {
    throw storageFailed(`repairing the queue in ${folder}`, error);
  } finally {
    release();
  }
}

function lock(directory: string): () => void {
  try {
    return acquireLock(path.join(directory, writerLockName));
  } catch (error) {
    if (isGaplessError(error, "ALREADY_OPEN")) throw hasWriter(directory, error);
    throw storageFailed(`taking ${directory}`, error);
  }
}

/** The answer that a lock would give, without one: nothing is written. */
function refuseWriter(directory: string): () => void {
  if (isHeld(path.join(directory, writerLockName))) throw hasWriter(directory);
  return () => undefined;
}

function hasWriter(directory: string, cause?: Error): GaplessError {
  return new GaplessError(
    "WRITER_ALREADY_ACTIVE",
    `The queue in ${directory} has a writer: close it first. Where this is a copy of one that ` +
      `has one, remove ${writerLockName} from the copy. ${cause?.message ?? ""}`.trimEnd(),
    { cause },
  );
}

/** A reader has mapped what is changed here, and stands where it may be no more. */
function refuseReaders(directory: string): void {
  const open = listReaders(directory).filter((name) => isHeld(readerLockOf(directory, name)));
  if (open.length === 0) return;
  throw new GaplessError(
    "ALREADY_OPEN",
    `The queue in ${directory} is read, by ${open.join(", ")}: close that first.`,
  );
}
