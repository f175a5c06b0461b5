/**
 * Removing the segments of a queue that retention is done with. Anybody may, at any time, one at
 * a time; the publisher is not asked.
 *
 *   1. who is not waited for is recorded, in the loss ledger and then in the reader's own file
 *   2. the segment behind a few of them is made durable, as far as the publisher has not: a power
 *      loss that took it as well would leave nothing to tell the next sequence by
 *   3. those few are moved into removed/, oldest first, so that never one is missing between two
 *      others, and each move is made durable before the next
 *   4. the readers are looked at again: where one has come meanwhile, or gone back, that needs any
 *      of them, they are moved back
 *   5. they are deleted. What a crash leaves in removed/, the next one deletes
 *
 * A reader that has a segment open keeps its memory, and reads it to the end.
 */
import fs from "node:fs";
import path from "node:path";
import { isGaplessError, storageFailed } from "../errors.ts";
import { acquireLock } from "../memory/lock-file.ts";
import { syncDirectory, syncFile } from "../memory/sync-files.ts";
import { reachedStep } from "../steps.ts";
import { openControl } from "./control.ts";
import { resolveDirectory } from "./directory.ts";
import { controlOffset, parseSegmentFileName, segmentFileName } from "./layout.ts";
import { recordLoss } from "./loss-ledger.ts";
import { notePassedOver } from "./reader-file.ts";
import {
  checkPolicy,
  chooseSegments,
  neededFrom,
  type Choice,
  type PassedOver,
  type RetentionPolicy,
  type SegmentFacts,
} from "./retention.ts";
import { readFacts, readReaders } from "./retention-facts.ts";
import { durableEnd, openSegment, readEnding, type Segment } from "./segment.ts";
import type { QueueFiles } from "./spot.ts";

export const removedFolder = "removed";
const lockName = "cleanup.lock";
/** Segments that are moved aside at once. */
const batchSegments = 8;

/** What a cleanup has done. */
export interface Cleanup {
  /** Numbers of the segments that were deleted. */
  readonly segments: readonly number[];
  readonly bytes: number;
  /** Messages through this sequence are gone; 0 where none were deleted. */
  readonly throughSequence: number;
  readonly passedOver: readonly PassedOver[];
  /** Another process or thread is at it: nothing was done. */
  readonly isLeftToAnother: boolean;
}

/**
 * Deletes the segments that are too much by the policy and that no reader needs. Nothing is deleted
 * where no reader is known. Blocks for milliseconds a segment: beside a hot path, `startRetention`.
 *
 * @throws GaplessError DATA_NOT_YET_AVAILABLE where there is no queue; CONFIG_INVALID;
 *   STORAGE_CORRUPT where the file of a reader is damaged; STORAGE_FULL where a loss cannot be
 *   recorded: then what would be lost stays
 */
export function cleanupSegments(directory: string, policy: RetentionPolicy): Cleanup {
  const folder = resolveDirectory(directory);
  checkPolicy(folder, policy);
  const control = openControl(folder, "read");
  try {
    return new Cleaner({ directory: folder, control }, policy).run();
  } catch (error) {
    throw storageFailed(`cleaning up the queue in ${folder}`, error);
  } finally {
    control.mapping.unmap();
  }
}

class Cleaner {
  private readonly queue: QueueFiles;
  private readonly directory: string;
  private readonly removed: string;
  private readonly policy: RetentionPolicy;
  private readonly deleted: SegmentFacts[] = [];
  private readonly passedOver: PassedOver[] = [];

  constructor(queue: QueueFiles, policy: RetentionPolicy) {
    this.queue = queue;
    this.directory = queue.directory;
    this.removed = path.join(queue.directory, removedFolder);
    this.policy = policy;
  }

  run(): Cleanup {
    // Most of the time there is nothing to do, and no lock to be taken.
    const isDue = this.listMoved().length > 0 || this.choose().numbers.length > 0;
    const release = isDue ? this.lock() : undefined;
    if (release !== undefined) {
      try {
        this.clean();
      } finally {
        release();
      }
    }
    const { deleted, passedOver } = this;
    return {
      segments: deleted.map(({ number }) => number),
      bytes: deleted.reduce((sum, { bytes }) => sum + bytes, 0),
      throughSequence: deleted.at(-1)?.lastSequence ?? 0,
      passedOver,
      isLeftToAnother: isDue && release === undefined,
    };
  }

  private clean(): void {
    this.deleteMoved();
    for (;;) {
      const { numbers, segments, passedOver } = this.choose();
      if (numbers.length === 0) return;
      passedOver.forEach((passed) => this.record(passed));
      const last = segments.at(-1);
      if (last !== undefined) this.makeDurable(last.number + 1);
      this.moveAside(numbers);
      const back = this.moveBack(segments);
      this.deleteMoved();
      this.deleted.push(...segments.filter((segment) => !back.includes(segment)));
      if (back.length > 0) return;
    }
  }

  /** A batch of segments to be moved aside, `segments` with messages, and others without. */
  private choose(): Choice & { numbers: number[] } {
    const facts = readFacts(this.queue, Date.now());
    const choice = chooseSegments(facts, this.policy, batchSegments);
    return { ...choice, numbers: [...facts.stale, ...choice.segments.map(({ number }) => number)] };
  }

  /** In this order: the reader counts what its file says as recorded. */
  private record(passed: PassedOver): void {
    const { directory, queue } = this;
    const { reader, from, to } = passed;
    recordLoss(directory, { cause: "passed-over", reader, from, to, atMs: Date.now() });
    notePassedOver(directory, reader, queue.control.identity, to);
    this.passedOver.push(passed);
    reachedStep("queue.passed-over");
  }

  private moveAside(numbers: readonly number[]): void {
    fs.mkdirSync(this.removed, { recursive: true });
    for (const number of numbers) {
      const name = segmentFileName(number);
      fs.renameSync(path.join(this.directory, name), path.join(this.removed, name));
      // Before the next one: names come to the disk in any order.
      syncDirectory(this.directory);
    }
    syncDirectory(this.removed);
    reachedStep("queue.moved-aside");
  }

  /** What somebody needs who has come since it was chosen, newest first. */
  private moveBack(segments: readonly SegmentFacts[]): SegmentFacts[] {
    const { control } = this.queue;
    const newestSequence = control.doubles[controlOffset.sequence / 8] ?? 0;
    const facts = { readers: readReaders(this.queue), newestSequence, nowMs: Date.now() };
    const needed = neededFrom(facts, this.policy);
    const back = segments.filter(({ lastSequence }) => lastSequence >= needed).reverse();
    for (const { number } of back) {
      const name = segmentFileName(number);
      // A publisher that has not found it meanwhile takes all that was in it for durable.
      syncFile(path.join(this.removed, name));
      fs.renameSync(path.join(this.removed, name), path.join(this.directory, name));
      syncDirectory(this.directory);
    }
    if (back.length > 0) syncDirectory(this.removed);
    return back;
  }

  /**
   * Without a mark of that: segments before it are still there, and a mark would say that they are
   * durable as well.
   */
  private makeDurable(number: number): void {
    let segment: Segment | undefined;
    try {
      segment = openSegment(this.directory, number, this.queue.control.identity, "read");
      // A publisher that was killed before it could seal it may have left it so.
      const end = readEnding(segment)?.end ?? segment.capacity;
      if (durableEnd(segment) < end) syncFile(segment.filePath);
    } catch (error) {
      // It is the operator's to mend.
      if (!isGaplessError(error, "STORAGE_CORRUPT", "DATA_TRIMMED")) throw error;
    } finally {
      segment?.mapping.unmap();
    }
  }

  private deleteMoved(): void {
    for (const name of this.listMoved()) fs.rmSync(path.join(this.removed, name), { force: true });
    reachedStep("queue.removed");
  }

  private listMoved(): string[] {
    if (!fs.existsSync(this.removed)) return [];
    return fs
      .readdirSync(this.removed)
      .filter((name) => parseSegmentFileName(name) !== undefined)
      .sort();
  }

  /** undefined where another one has it. */
  private lock(): (() => void) | undefined {
    try {
      return acquireLock(path.join(this.directory, lockName));
    } catch (error) {
      if (isGaplessError(error, "ALREADY_OPEN")) return undefined;
      throw error;
    }
  }
}
