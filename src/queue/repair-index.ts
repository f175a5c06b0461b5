/** Making the index of a segment anew. */
import { recordsStartOf, segmentFileName, segmentHeaderBytes, segmentOffset } from "./layout.ts";
import type { Workshop } from "./repair.ts";
import { listSegments, openSegment, type Beginning, type Segment } from "./segment.ts";
import { IndexCheck } from "./segment-notes.ts";
import { TimeMax } from "./time-max.ts";
import { addEntry, nextStride } from "./sparse-index.ts";
import { openBegunIfWhole } from "./spot.ts";
import { wholeRecords } from "./whole-records.ts";

/** Of each segment whose index has entries that are wrong. */
export function repairIndexes(workshop: Workshop): void {
  const { directory, control, announce } = workshop;
  for (const number of listSegments(directory)) {
    const begun = openBegunIfWhole(workshop, number);
    if (begun === undefined) continue;
    const problem = whatIsWrong(workshop, begun.segment, begun.beginning);
    begun.segment.mapping.unmap();
    if (problem === undefined) continue;
    const what = `makes its index anew from its records: ${problem}`;
    if (!announce({ repair: "index", file: segmentFileName(number), what })) continue;
    const segment = openSegment(directory, number, control.identity, "write");
    rebuildIndex(workshop, segment, begun.beginning);
    segment.mapping.syncBlocking(0, segment.recordsStart);
    segment.mapping.unmap();
  }
}

/** Whatever interrupts it leaves an index that is shorter than it could be, and right. */
export function rebuildIndex(workshop: Workshop, segment: Segment, beginning: Beginning): void {
  const { words, bytes, capacity } = segment;
  const latest = new TimeMax(beginning.latestNs);
  Atomics.store(words, segmentOffset.indexed / 4, 0);
  bytes.fill(0, segmentHeaderBytes, recordsStartOf(capacity));
  let due = nextStride(segment, segment.recordsStart);
  for (const { offset, sequence } of wholeRecords(workshop, segment, beginning)) {
    if (offset >= due) {
      addEntry(segment, sequence - beginning.firstSequence, latest.ns, offset);
      due = nextStride(segment, offset);
    }
    latest.see(segment, offset);
  }
}

function whatIsWrong(
  workshop: Workshop,
  segment: Segment,
  beginning: Beginning,
): string | undefined {
  const { firstSequence, latestNs } = beginning;
  const check = new IndexCheck(segment, firstSequence);
  const latest = new TimeMax(latestNs);
  let next = firstSequence;
  let isExact = true;
  for (const { offset, sequence } of wholeRecords(workshop, segment, beginning)) {
    if (sequence !== next) {
      isExact = false;
      check.passTo(offset);
    }
    check.see(offset, sequence, latest, isExact);
    latest.see(segment, offset);
    next = sequence + 1;
  }
  let problem: string | undefined;
  check.finish(({ what }) => (problem = what));
  return problem;
}
