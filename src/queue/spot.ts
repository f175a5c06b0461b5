/** Where a reader can stand. */
import fs from "node:fs";
import path from "node:path";
import { isGaplessError } from "../errors.ts";
import type { Control, Position } from "./control.ts";
import { endMark, segmentFileName, segmentOffset } from "./layout.ts";
import { durableEnd, openSegment, readBeginning, type Beginning, type Segment } from "./segment.ts";

/** A queue, as whoever looks for something in its files knows it. */
export interface QueueFiles {
  readonly directory: string;
  readonly control: Control;
}

/** In front of a record, or where one is to come. Whoever gets it gives its segment back. */
export interface Spot {
  readonly segment: Segment;
  readonly offset: number;
  /** What is to come. Where that is not found at the offset, what is there is damaged. */
  readonly sequence: number;
  /** No record that comes is of an earlier one. */
  readonly epoch: number;
}

/** A segment that has begun. */
export interface Begun {
  readonly segment: Segment;
  readonly beginning: Beginning;
}

/** A segment without bytes: whoever stands in it is before the one with the next number. */
export function nowhere(number: number): Segment {
  const buffer = new ArrayBuffer(0);
  return {
    filePath: "",
    number,
    mapping: {
      address: 0n,
      buffer,
      pageBytes: 0,
      isMapped: false,
      sync: () => Promise.resolve(),
      syncBlocking: () => undefined,
      unmap: () => undefined,
      handOver: () => undefined,
    },
    checksum: "none",
    recordsStart: 0,
    capacity: 0,
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    words: new Int32Array(buffer),
  };
}

/**
 * The segment, mapped; undefined where it is not there, or only reserved.
 *
 * @throws GaplessError STORAGE_CORRUPT
 */
export function openBegun({ directory, control }: QueueFiles, number: number): Begun | undefined {
  let segment: Segment;
  try {
    segment = openSegment(directory, number, control.identity, "read");
  } catch (error) {
    if (isGaplessError(error, "DATA_TRIMMED")) return undefined;
    throw error;
  }
  try {
    const beginning = readBeginning(segment);
    if (beginning !== undefined) return { segment, beginning };
  } catch (error) {
    segment.mapping.unmap();
    throw error;
  }
  segment.mapping.unmap();
  return undefined;
}

/** The same, for whoever passes over what is damaged. */
export function openBegunIfWhole(queue: QueueFiles, number: number): Begun | undefined {
  try {
    return openBegun(queue, number);
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return undefined;
    throw error;
  }
}

/** In front of the first record of a segment. */
export function startOf({ segment, beginning }: Begun): Spot {
  const { firstSequence: sequence, epoch } = beginning;
  return { segment, offset: segment.recordsStart, sequence, epoch };
}

/** Where the next record is to come, as the writer has noted; undefined where that is not there. */
export function spotBehind(queue: QueueFiles, position: Position): Spot | undefined {
  const begun = openBegunIfWhole(queue, position.segment);
  if (begun === undefined) return undefined;
  return { ...startOf(begun), offset: position.end, sequence: position.sequence + 1 };
}

/** Whether there is a file of that number, begun or not. */
export function hasSegment({ directory }: QueueFiles, number: number): boolean {
  return fs.existsSync(path.join(directory, segmentFileName(number)));
}

/** Whether it is whole, and was never begun: reserved, or fenced as such. */
export function isUnused({ directory, control }: QueueFiles, number: number): boolean {
  let segment: Segment | undefined;
  try {
    segment = openSegment(directory, number, control.identity, "read");
    const { words, recordsStart } = segment;
    const lines = words.subarray(segmentOffset.firstSequence / 4, recordsStart / 4);
    const first = words[recordsStart / 4] ?? 0;
    return lines.every((word) => word === 0) && (first === 0 || first === endMark);
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT", "DATA_TRIMMED")) return false;
    throw error;
  } finally {
    segment?.mapping.unmap();
  }
}

/** As `durableEnd`, for whoever trusts nothing where that is damaged. */
export function durableEndOf(segment: Segment): number {
  try {
    return durableEnd(segment);
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return segment.recordsStart;
    throw error;
  }
}
