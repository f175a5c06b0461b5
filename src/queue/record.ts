/** Records in the memory of a segment: completing one, and walking over many. */
import { checksums } from "./checksum.ts";
import { endMark, recordHeaderBytes, recordOffset, spaceOf, type ChecksumKind } from "./layout.ts";
import type { Segment, SegmentMemory } from "./segment.ts";

const wordRange = 2 ** 32;

/** Where a length is, by its offset: what follows is counted from there. */
export const recordWord = {
  sum: recordOffset.sum / 4,
  sequence: recordOffset.sequence / 4,
  timestamp: recordOffset.timestamp / 4,
  type: recordOffset.type / 4,
  epoch: recordOffset.epoch / 4,
} as const;

/** The sum over the record of `length` bytes at `offset`. */
export function sumOf(
  memory: SegmentMemory,
  kind: ChecksumKind,
  offset: number,
  length: number,
): number {
  return checksums[kind](memory, offset + recordOffset.sequence, offset + length, offset);
}

/** The sequence of the record at `offset`, which is complete. */
export function sequenceAt({ words }: SegmentMemory, offset: number): number {
  const word = (offset >>> 2) + recordWord.sequence;
  return ((words[word + 1] ?? 0) >>> 0) * wordRange + ((words[word] ?? 0) >>> 0);
}

/**
 * - `record`: one that follows the last
 * - `nothing`: no record was completed here
 * - `end`: none will be: the segment has ended
 * - `damage`: bytes that no writer leaves in this place
 */
export type Found = "record" | "nothing" | "end" | "damage";

/** A walk over the records of a segment. */
export class Cursor {
  readonly segment: Segment;
  /** Where the walk is. */
  offset: number;
  /** Of the record at `offset`, if there is one. */
  sequence: number;
  /** Of the record before it. */
  epoch: number;
  /** Of the record that `look` has found. */
  length = 0;

  constructor(segment: Segment, offset: number, sequence: number, epoch: number) {
    this.segment = segment;
    this.offset = offset;
    this.sequence = sequence;
    this.epoch = epoch;
  }

  /** Looks at the record at `offset`: at its structure, and with `verify` at its sum as well. */
  look(verify: boolean): Found {
    const { segment, offset } = this;
    const { words, capacity } = segment;
    if (offset === capacity) return "end";
    // SYNC record-complete: before anything of the record is read; pairs with Publisher.commit.
    const length = Atomics.load(words, offset >>> 2);
    if (length === 0) return "nothing";
    if (length === endMark) return "end";
    if (length < recordHeaderBytes || length > capacity - offset) return "damage";
    if (sequenceAt(segment, offset) !== this.sequence) return "damage";
    if (this.epochHere >>> 0 < this.epoch >>> 0) return "damage";
    this.length = length;
    if (!verify || segment.checksum === "none") return "record";
    const sum = words[(offset >>> 2) + recordWord.sum];
    return sum === sumOf(segment, segment.checksum, offset, length) ? "record" : "damage";
  }

  /** Moves behind the record that `look` has found. */
  advance(): void {
    this.epoch = this.epochHere;
    this.offset += spaceOf(this.length);
    this.sequence++;
  }

  /** Of the record at `offset`, if there is one. */
  get epochHere(): number {
    return this.segment.words[(this.offset >>> 2) + recordWord.epoch] ?? 0;
  }
}
