/**
 * Where the next segment comes from. A supply makes it ahead of time, so that the writer finds it
 * ready; what it has not made, the writer makes itself.
 */
import fs from "node:fs";
import path from "node:path";
import { threadId } from "node:worker_threads";
import { GaplessError, isGaplessError } from "../errors.ts";
import { mapFileToRead } from "../memory/mapping.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { segmentFileName, segmentHeaderBytes, segmentOffset } from "./layout.ts";
import {
  openSegment,
  reserveSegment,
  segmentOf,
  type Segment,
  type SegmentPlan,
} from "./segment.ts";

export interface SegmentSupply {
  /** Has pages made ready from `offset` on, of a segment that was not taken. Never waits. */
  makeReady(segment: Segment, offset: number): void;
  /** Says that the segment is going to be needed. Never waits. */
  wish(number: number): void;
  /** Takes in what has been made, so that `take` has less to do. Never waits. */
  look(): void;
  /** The segment, reserved and mapped, if it has been made by now. Never waits. */
  take(number: number): Segment | undefined;
  /** Gives the memory of a segment back that is not written any more. Never waits. */
  giveBack(segment: Segment): void;
  /** Resolves once nothing more is made: from then on the directory is the caller's alone. */
  close(): Promise<void>;
}

/** One that makes nothing ahead of time. */
export const noSupply: SegmentSupply = {
  makeReady: () => undefined,
  wish: () => undefined,
  look: () => undefined,
  take: () => undefined,
  giveBack: ({ mapping }) => mapping.unmap(),
  close: () => Promise.resolve(),
};

/**
 * A segment to begin: one that somebody has reserved, if it is as planned, else a new one.
 *
 * @throws GaplessError STORAGE_FULL, after which it may be tried again; FENCED where somebody else
 *   has begun it
 */
export function obtainSegment(directory: string, number: number, plan: SegmentPlan): Segment {
  if (!reserveSegment(directory, number, plan)) {
    const reserved = openReserved(directory, number, plan.identity);
    if (reserved !== undefined && isAsPlanned(reserved, plan)) {
      // Whoever has given it its name may not have come to make that durable.
      syncDirectory(directory);
      return reserved;
    }
    reserved?.mapping.unmap();
    replace(directory, number, plan);
  }
  const segment = openSegment(directory, number, plan.identity, "write");
  if (isAsPlanned(segment, plan)) return segment;
  segment.mapping.unmap();
  throw begunByAnother(segment.filePath);
}

/**
 * Another file than the one that is there. That may be a live one by now, where another writer has
 * taken over since it was looked at: so it is taken aside first, and put back.
 */
function replace(directory: string, number: number, plan: SegmentPlan): void {
  const filePath = path.join(directory, segmentFileName(number));
  // Left there by a crash, the next writer to open the queue removes it.
  const aside = `${filePath}.${process.pid}-${threadId}.tmp`;
  fs.renameSync(filePath, aside);
  if (hasBegun(aside, number, plan.identity)) {
    fs.linkSync(aside, filePath);
    fs.rmSync(aside);
    throw begunByAnother(filePath);
  }
  fs.rmSync(aside);
  syncDirectory(directory);
  reserveSegment(directory, number, plan);
}

function hasBegun(filePath: string, number: number, identity: bigint): boolean {
  const mapping = mapFileToRead(filePath, segmentHeaderBytes, { inPlace: true });
  try {
    const { words } = segmentOf(mapping, filePath, number, identity);
    return words[segmentOffset.begun / 4] !== 0;
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return false;
    throw error;
  } finally {
    mapping.unmap();
  }
}

/** Whether it can be begun, and is of the size and kind that is wanted. */
export function isAsPlanned(segment: Segment, plan: SegmentPlan): boolean {
  const { words, recordsStart } = segment;
  return (
    segment.capacity === plan.bytes &&
    segment.checksum === plan.checksum &&
    words[segmentOffset.begun / 4] === 0 &&
    words[recordsStart / 4] === 0
  );
}

/** undefined where it is damaged: nobody has written into it yet. */
function openReserved(directory: string, number: number, identity: bigint): Segment | undefined {
  let segment: Segment;
  try {
    segment = openSegment(directory, number, identity, "write");
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT", "DATA_TRIMMED")) return undefined;
    throw error;
  }
  if (segment.words[segmentOffset.begun / 4] === 0) return segment;
  segment.mapping.unmap();
  throw begunByAnother(segment.filePath);
}

function begunByAnother(filePath: string): GaplessError {
  return new GaplessError(
    "FENCED",
    `${filePath} was begun by another writer, which has taken over the queue.`,
  );
}
