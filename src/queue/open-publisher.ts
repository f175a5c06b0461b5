/** Opening a queue to write: who may, and where it goes on. */
import fs from "node:fs";
import path from "node:path";
import { GaplessError, isGaplessError, storageFailed } from "../errors.ts";
import { acquireLock } from "../memory/lock-file.ts";
import type { ProcessIdentity } from "../memory/process-identity.ts";
import { reachedStep } from "../steps.ts";
import {
  controlMissing,
  createControl,
  enterWriter,
  epochProblem,
  isQueue,
  isSilent,
  mayHaveWriter,
  newIdentity,
  notePosition,
  openControl,
  openWriter,
  writerLockName,
  type Control,
  type Position,
} from "./control.ts";
import { makeDirectory } from "../memory/sync-files.ts";
import { resolveDirectory } from "./directory.ts";
import { controlMagic, controlOffset } from "./layout.ts";
import { resolveOptions, type PublisherOptions, type ResolvedOptions } from "./options.ts";
import { preallocate } from "./preallocation.ts";
import { Publisher } from "./publisher.ts";
import { fenceOff, recover, type Recovered, type Tail } from "./recovery.ts";
import { listSegments, removeUnfinishedSegments } from "./segment.ts";
import { fileDamaged } from "./storage-errors.ts";
import { noSupply } from "./supply.ts";

/**
 * Opens a queue for writing, and makes it, with its folders, where there is none. What a crash
 * left behind its end is cut off: see `onCut`. How long that takes does not depend on the size.
 *
 *     await using publisher = openPublisher("/var/lib/exchange/trades");
 *     const sequence = publisher.append(1, bytes);
 *
 * @throws GaplessError CONFIG_INVALID; WRITER_ALREADY_ACTIVE with the process that has it;
 *   STORAGE_CORRUPT where what cannot have been lost in a crash is damaged or missing, and for
 *   another version; STORAGE_FULL
 */
export function openPublisher(directory: string, options: PublisherOptions = {}): Publisher {
  const folder = resolveDirectory(directory);
  const resolved = resolveOptions(folder, options);
  const release = takeDirectory(folder, resolved);
  try {
    return open(folder, resolved, release);
  } catch (error) {
    release();
    throw storageFailed(`opening the queue in ${folder}`, error);
  }
}

function open(directory: string, options: ResolvedOptions, release: () => void): Publisher {
  refuseFirstVersion(directory);
  removeUnfinishedSegments(directory);
  if (!isQueue(directory)) begin(directory);
  const control = openControl(directory, "write");
  try {
    const problem = epochProblem(control);
    if (problem !== undefined) throw fileDamaged(control.filePath, controlMagic, problem);
    // Only with takeOverAfterMs: the lock is another's as long as it lives.
    const isFencing = mayHaveWriter(control);
    let recovered = isFencing ? undefined : recover(directory, control);
    const epoch = nextEpoch(control, recovered?.tail);
    // Before the boot: in another one, what is noted there does not count.
    if (recovered !== undefined) notePosition(control, positionOf(recovered));
    enterWriter(control, epoch, isFencing);
    // Durable before the first record of it: no two writers have the same.
    control.mapping.syncBlocking(0, controlOffset.segment);
    reachedStep("queue.entered");
    if (recovered === undefined) {
      recovered = fenceOff(directory, control);
      notePosition(control, positionOf(recovered));
    }
    openWriter(control);
    if (recovered.cut !== undefined) options.onCut?.(recovered.cut);
    const { segmentBytes: bytes, checksum } = options;
    const supply = options.preallocate
      ? preallocate(directory, { identity: control.identity, bytes, checksum })
      : noSupply;
    return new Publisher({ directory, control, epoch, recovered, options, supply, release });
  } catch (error) {
    control.mapping.unmap();
    throw error;
  }
}

function takeDirectory(directory: string, { takeOverAfterMs }: ResolvedOptions): () => void {
  try {
    makeDirectory(directory);
    return acquireLock(path.join(directory, writerLockName), {
      mayReplace: (holder) => hasFallenSilent(directory, holder, takeOverAfterMs),
    });
  } catch (error) {
    if (!isGaplessError(error, "ALREADY_OPEN")) throw storageFailed(`taking ${directory}`, error);
    throw new GaplessError(
      "WRITER_ALREADY_ACTIVE",
      `The queue in ${directory} has a writer. ${error.message}`,
      { cause: error },
    );
  }
}

/** Nobody is replaced who is still opening the queue: what he is about to change is not fenced. */
function hasFallenSilent(directory: string, holder: ProcessIdentity, ms: number): boolean {
  if (!isQueue(directory)) return false;
  const control = openControl(directory, "read");
  const is = isSilent(control, holder, ms);
  control.mapping.unmap();
  return is;
}

/** Makes the control file of a new queue. */
function begin(directory: string): void {
  if (listSegments(directory).length > 0) throw controlMissing(directory);
  createControl(directory, newIdentity());
}

function positionOf({ tail }: Recovered): Position {
  if (tail === undefined) return { segment: 0, end: 0, sequence: 0 };
  return { segment: tail.segment.number, end: tail.end, sequence: tail.lastSequence };
}

/** Greater than that of any writer before. */
function nextEpoch({ words }: Control, tail: Tail | undefined): number {
  const known = Atomics.load(words, controlOffset.epoch / 4) >>> 0;
  return (Math.max(known, tail?.epoch ?? 0, tail?.beginning.epoch ?? 0) + 1) | 0;
}

function refuseFirstVersion(directory: string): void {
  if (!fs.readdirSync(directory).some((name) => /^\d{20}\.log$/.test(name))) return;
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `${directory} holds a queue of another format: version=1. Open it with the release that ` +
      "wrote it, or move it away.",
  );
}
