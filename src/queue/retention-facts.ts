/** What retention has to know of a queue, as its files say. */
import fs from "node:fs";
import path from "node:path";
import { isGaplessError } from "../errors.ts";
import { isOfThisBoot } from "./control.ts";
import { controlOffset, segmentFileName } from "./layout.ts";
import { listReaders, lookAtReader } from "./reader-file.ts";
import type { QueueFacts, ReaderFacts, SegmentFacts } from "./retention.ts";
import { listSegments, openSegment, readEnding, type Segment } from "./segment.ts";
import { isUnused, openBegunIfWhole, type QueueFiles } from "./spot.ts";

const nobodyKnows = { numbers: [], stale: [] };
/** The newest two segments stay: the one that is written, and the one that it came from. */
const staying = 2;

export interface FoundFacts extends QueueFacts {
  /**
   * Segments below the oldest one that have never begun: they were made ahead of time, and too
   * late. Nothing is in them.
   */
  readonly stale: readonly number[];
}

/** @throws GaplessError STORAGE_CORRUPT for a damaged file of a reader: who knows what it needs */
export function readFacts(queue: QueueFiles, nowMs: number): FoundFacts {
  // After a power loss it is for the next writer to say what of the queue there is.
  const { numbers, stale } = isOfThisBoot(queue.control) ? listBegun(queue) : nobodyKnows;
  return {
    segments: factsOf(queue, numbers.slice(0, -staying)),
    count: numbers.length,
    bytes: numbers.reduce((sum, number) => sum + sizeOf(queue, number), 0),
    newestSequence: queue.control.doubles[controlOffset.sequence / 8] ?? 0,
    readers: readReaders(queue),
    nowMs,
    stale,
  };
}

/** Whoever reads the queue, or has read it. */
export function readReaders({ directory, control }: QueueFiles): ReaderFacts[] {
  return listReaders(directory).flatMap((name) => {
    try {
      const presence = lookAtReader(directory, name, control.identity);
      const { isAlive, seenMs, passedOver, taken } = presence;
      const committed = presence.committed?.sequence ?? 0;
      const position = (isAlive ? Math.min(taken, committed) : committed) + 1;
      return [{ name, isAlive, committed, position, passedOver, seenMs }];
    } catch (error) {
      // Removed since.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  });
}

/** The segments from the oldest to the newest that has begun, damaged ones among them. */
function listBegun(queue: QueueFiles): { numbers: number[]; stale: number[] } {
  const numbers = listSegments(queue.directory);
  while (numbers.length > 0 && !hasBegun(queue, numbers.at(-1) ?? 0)) numbers.pop();
  const oldest = numbers.findIndex((number) => !isUnused(queue, number));
  return { numbers: numbers.slice(oldest), stale: numbers.slice(0, Math.max(oldest, 0)) };
}

function hasBegun(queue: QueueFiles, number: number): boolean {
  const begun = openBegunIfWhole(queue, number);
  begun?.segment.mapping.unmap();
  return begun !== undefined;
}

/** Oldest first, as far as it is known what they end with. */
function* factsOf(queue: QueueFiles, numbers: readonly number[]): Generator<SegmentFacts> {
  for (const number of numbers) {
    const ending = endingOf(queue, number);
    if (ending === undefined) return;
    yield { number, bytes: sizeOf(queue, number), ...ending };
  }
}

/** The next one says it, also where this one is damaged, or was not sealed before a crash. */
function endingOf(
  queue: QueueFiles,
  number: number,
): Omit<SegmentFacts, "number" | "bytes"> | undefined {
  const next = openBegunIfWhole(queue, number + 1);
  next?.segment.mapping.unmap();
  if (next !== undefined) {
    const { firstSequence, latestNs } = next.beginning;
    return { lastSequence: firstSequence - 1, latestNs };
  }
  let segment: Segment | undefined;
  try {
    segment = openSegment(queue.directory, number, queue.control.identity, "read");
    return readEnding(segment);
  } catch (error) {
    // Damaged, or gone since.
    if (isGaplessError(error, "STORAGE_CORRUPT", "DATA_TRIMMED")) return undefined;
    throw error;
  } finally {
    segment?.mapping.unmap();
  }
}

function sizeOf({ directory }: QueueFiles, number: number): number {
  const file = path.join(directory, segmentFileName(number));
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
