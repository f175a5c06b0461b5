/** What the header and the index of a segment say of its records, for who does not believe it. */
import path from "node:path";
import { crc32 } from "node:zlib";
import { reasonOf, type QueueFinding } from "./flaw.ts";
import {
  indexEntriesOf,
  indexEntryBytes,
  indexOffset,
  segmentFileName,
  segmentHeaderBytes,
  segmentOffset,
} from "./layout.ts";
import { durableEnd, indexedOf, readEnding, type Ending, type Segment } from "./segment.ts";
import type { TimeMax } from "./time-max.ts";

type Report = (finding: QueueFinding) => void;

/** As they were before the records are looked at: so they are to be confirmed. */
export interface HeaderNotes {
  /** undefined where the segment is not sealed, or that line is damaged. */
  readonly ending: Ending | undefined;
  /** undefined where what is there cannot be. */
  readonly durable: number | undefined;
}

/** Reads the notes of the header; what of them is damaged is a flaw. */
export function readHeaderNotes(segment: Segment, report: Report): HeaderNotes {
  const file = segmentFileName(segment.number);
  const read = <Note>(offset: number, note: () => Note): Note | undefined => {
    try {
      return note();
    } catch (error) {
      const what = reasonOf(error, path.dirname(segment.filePath));
      report({ severity: "flaw", file, offset, what, repair: "header" });
      return undefined;
    }
  };
  return {
    durable: read(segmentOffset.durable, () => durableEnd(segment)),
    ending: read(segmentOffset.lastSequence, () => readEnding(segment)),
  };
}

interface Entry {
  readonly number: number;
  readonly isWhole: boolean;
  readonly offset: number;
  readonly count: number;
  readonly latestNs: bigint;
}

/** The entries of an index, to be confirmed by a walk over the records. */
export class IndexCheck {
  private readonly segment: Segment;
  private readonly firstSequence: number;
  private readonly entries: readonly Entry[];
  private readonly wrong: number[] = [];
  /** The entry that is to be confirmed next, and where its record begins. */
  private at = 0;
  private offsetNext = Infinity;

  constructor(segment: Segment, firstSequence: number) {
    this.segment = segment;
    this.firstSequence = firstSequence;
    this.entries = Array.from({ length: indexedOf(segment) }, (_, number) =>
      readEntry(segment, number),
    );
    this.findNext();
  }

  /** Told of each record before its time is seen. `isExact`: those of all before it were. */
  see(offset: number, sequence: number, latest: TimeMax, isExact: boolean): void {
    if (offset < this.offsetNext) return;
    const entry = this.entries[this.at];
    const isRight =
      entry?.offset === offset &&
      entry.count === sequence - this.firstSequence &&
      (entry.latestNs === latest.ns || !isExact);
    if (!isRight) this.wrong.push(this.at);
    this.at++;
    this.findNext();
    if (entry !== undefined && entry.offset < offset) this.see(offset, sequence, latest, isExact);
  }

  /** What lies before `offset` cannot be read, so nothing is said of its entries. */
  passTo(offset: number): void {
    while ((this.entries[this.at]?.offset ?? Infinity) < offset) this.at++;
    this.findNext();
  }

  /** To be called where no more records come. */
  finish(report: Report): void {
    const { segment, entries, wrong } = this;
    for (; this.at < entries.length; this.at++) wrong.push(this.at);
    const [first] = wrong;
    const file = segmentFileName(segment.number);
    if (segment.view.getUint32(segmentOffset.indexed, true) > indexEntriesOf(segment.capacity)) {
      const what = "the index says that it has more entries than there is room for";
      const offset = segmentOffset.indexed;
      report({ severity: "flaw", file, offset, what, repair: "index" });
    }
    if (first === undefined) return;
    const offset = segmentHeaderBytes + first * indexEntryBytes;
    const what = `${wrong.length} of ${entries.length} index entries are wrong: ${listOf(wrong)}`;
    report({ severity: "flaw", file, offset, what, repair: "index" });
  }

  /** Passes over entries that are damaged themselves. */
  private findNext(): void {
    const { entries, wrong } = this;
    while (entries[this.at]?.isWhole === false) wrong.push(this.at++);
    this.offsetNext = entries[this.at]?.offset ?? Infinity;
  }
}

function readEntry({ view, bytes }: Segment, number: number): Entry {
  const at = segmentHeaderBytes + number * indexEntryBytes;
  const crc = crc32(bytes.subarray(at, at + indexOffset.crc));
  return {
    number,
    isWhole: crc === view.getUint32(at + indexOffset.crc, true),
    offset: view.getUint32(at + indexOffset.record, true),
    count: view.getUint32(at + indexOffset.count, true),
    latestNs: view.getBigUint64(at + indexOffset.latestNs, true),
  };
}

const listed = 5;

function listOf(numbers: readonly number[]): string {
  const shown = numbers.slice(0, listed).join(", ");
  return numbers.length <= listed ? shown : `${shown} and ${numbers.length - listed} more`;
}
