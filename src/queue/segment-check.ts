/** Looks at every record of a segment, and whether what its header and index say of them is so. */
import type { Position } from "./control.ts";
import { rangeOf, type QueueFinding, type RepairName } from "./flaw.ts";
import { recordAlignment, recordHeaderBytes, segmentFileName, segmentOffset } from "./layout.ts";
import { Cursor, recordWord, sequenceAt, sumOf, type Found } from "./record.ts";
import { firstWhole } from "./salvage.ts";
import { listSegments, type Segment } from "./segment.ts";
import { IndexCheck, readHeaderNotes, type HeaderNotes } from "./segment-notes.ts";
import type { TimeMax } from "./time-max.ts";
import { lookThoroughly } from "./segment-end.ts";
import { placeBeforeOffset } from "./sparse-index.ts";
import { durableEndOf, openBegunIfWhole, type QueueFiles } from "./spot.ts";

/** What is known of the queue before it is checked. */
export interface Check {
  readonly queue: QueueFiles;
  /** Whether the writer is of this boot: then nothing that was stored can be missing. */
  readonly isSettled: boolean;
  /** What the writer had noted; undefined where that does not count. */
  readonly position: Position | undefined;
  /** The newest sequence that was said to be durable; 0 where nothing says so. */
  readonly durable: number;
  /** The newest sequence that a writer has noted, in whatever boot; 0 where that is not known. */
  readonly written: number;
  /** Nothing behind this sequence is looked at: the writer is at work there. */
  readonly through: number;
  readonly report: (finding: QueueFinding) => void;
}

/** How far the check has come. */
export interface Progress {
  /** What comes next; undefined before the first segment. */
  sequence: number | undefined;
  /** Of the last record. */
  epoch: number;
  /** Greatest time of all records; undefined before the first segment. */
  latest: TimeMax | undefined;
  /** Whether all records before could be read: then that time is exact. */
  isExact: boolean;
  records: number;
  bytes: number;
}

/** Where a check of a segment begins, and with which sequence the segment does. */
export interface CheckStart {
  readonly segment: Segment;
  readonly firstSequence: number;
  readonly offset: number;
  readonly sequence: number;
  readonly epoch: number;
}

/** So many bytes are followed by a rest. */
const restBytes = 4 * 1024 * 1024;

/**
 * Walks through a segment; whoever drives it may rest where it yields. False where the log ends in
 * it, as far as it is to be checked.
 */
export function* checkSegment(
  check: Check,
  progress: Progress & { latest: TimeMax },
  start: CheckStart,
): Generator<undefined, boolean> {
  const walk = new SegmentWalk(check, progress, start);
  let restedAt = start.offset;
  for (;;) {
    const step = walk.step();
    if (step !== "record") {
      const { cursor } = walk;
      progress.sequence = Math.max(cursor.sequence, walk.lastKnown + 1);
      progress.epoch = cursor.epoch >>> 0;
      return step === "next";
    }
    const { offset } = walk.cursor;
    if (offset - restedAt < restBytes) continue;
    restedAt = offset;
    yield;
  }
}

/** What is known to come behind a place in a segment, whether it can be found there or not. */
interface Known {
  /** The last sequence that the segment has to have. */
  readonly sequence: number;
  /** Records have to be there through this offset. */
  readonly end: number;
  /** Whether no later segment has begun. */
  readonly isLast: boolean;
}

class SegmentWalk {
  cursor: Cursor;
  /** The last sequence that the segment should have, where it has fewer. */
  lastKnown = 0;

  private readonly check: Check;
  private readonly progress: Progress & { latest: TimeMax };
  private readonly segment: Segment;
  private readonly file: string;
  private readonly firstSequence: number;
  private readonly notes: HeaderNotes;
  private readonly index: IndexCheck;
  /** Behind it nothing is believed: there are no sums, and it may never have come to the disk. */
  private readonly limit: number;
  /** Whether a record ends where what is durable does. */
  private hasLanded: boolean;

  constructor(check: Check, progress: Progress & { latest: TimeMax }, start: CheckStart) {
    const { segment, offset, sequence, epoch, firstSequence } = start;
    this.check = check;
    this.progress = progress;
    this.segment = segment;
    this.firstSequence = firstSequence;
    this.file = segmentFileName(segment.number);
    this.cursor = new Cursor(segment, offset, sequence, epoch);
    this.notes = readHeaderNotes(segment, check.report);
    this.index = new IndexCheck(segment, firstSequence);
    const isUnchecked = segment.checksum === "none" && !check.isSettled && !this.isDurableBehind();
    this.limit = isUnchecked ? durableEndOf(segment) : segment.capacity;
    this.hasLanded = (this.notes.durable ?? 0) <= offset;
  }

  /** One record further, or around what is none. `next`: on to the segment behind. */
  step(): "record" | "next" | "end" {
    const { cursor, check, progress, segment, index } = this;
    const { offset, sequence } = cursor;
    if (sequence > check.through) return "end";
    const found = this.look();
    if (found === "end") return this.endAtMark();
    if (found !== "record") return this.lookCloser(found);
    index.see(offset, sequence, progress.latest, progress.isExact);
    progress.latest.see(segment, offset);
    progress.records++;
    progress.bytes += cursor.length;
    cursor.advance();
    this.hasLanded ||= cursor.offset === this.notes.durable;
    return "record";
  }

  private look(): Found {
    const { cursor, limit, segment } = this;
    const isBelieved = cursor.offset < limit || limit === segment.capacity;
    const found = lookThoroughly(this.check.queue, cursor);
    return found === "record" && !isBelieved ? "nothing" : found;
  }

  /** Where a record should be, or nothing more. */
  private lookCloser(found: "nothing" | "damage"): "record" | "next" | "end" {
    const { cursor, segment, check, notes, progress } = this;
    const { offset, sequence, epoch } = cursor;
    const known = this.known();
    const isMissing = known.sequence >= sequence || known.end > offset;
    const durable = notes.durable ?? segment.recordsStart;
    if (!check.isSettled && offset >= durable && !this.isDurableBehind()) {
      if (check.durable >= sequence && cursor.look(false) === "record") return this.endBeforeMark();
      const wasMore = isMissing || check.written >= sequence;
      if (found === "damage" || !known.isLast || wasMore) this.noteTorn();
      // What it says of records behind is cut off with them.
      this.index.passTo(Infinity);
      this.finish();
      return "end";
    }
    if (found === "nothing" && known.isLast && !isMissing) {
      this.finish();
      return "end";
    }
    // It has come since.
    if (found === "nothing" && this.look() !== "nothing") return "record";
    const from = offset + recordAlignment;
    const whole = firstWhole(check.queue, segment, from, sequence, epoch);
    const last = known.isLast ? Math.max(known.sequence, check.durable) : known.sequence;
    const lost = rangeOf(sequence, whole === undefined ? last : whole.sequence - 1);
    const repair: RepairName | undefined = this.stopsWriter(known) ? "truncate" : undefined;
    if (lost !== undefined || known.isLast) {
      const what = whatIsWrong(cursor, found);
      check.report({
        severity: "damage",
        file: this.file,
        offset,
        what,
        ...(lost && { lost }),
        ...(repair && { repair }),
      });
    } else {
      const what = `${whatIsWrong(cursor, found)}: it should be the mark of its end`;
      check.report({ severity: "flaw", file: this.file, offset, what, repair: "header" });
    }
    if (lost !== undefined) progress.isExact = false;
    if (whole !== undefined) {
      this.index.passTo(whole.offset);
      this.cursor = new Cursor(segment, whole.offset, whole.sequence, epoch);
      this.hasLanded ||= durable <= whole.offset;
      return "record";
    }
    this.lastKnown = last;
    this.hasLanded = true;
    this.finish(known.isLast ? undefined : lost === undefined);
    return "next";
  }

  /** The segment has ended: with what it should have? */
  private endAtMark(): "next" {
    const { cursor, check, progress } = this;
    const { offset, sequence } = cursor;
    const known = this.known();
    const lost = rangeOf(sequence, known.sequence);
    if (lost !== undefined || known.end > offset) {
      const what = "it ends here, and records were behind it";
      const severity = "damage";
      check.report({ severity, file: this.file, offset, what, ...(lost && { lost }) });
      progress.isExact = false;
      this.lastKnown = known.sequence;
      this.hasLanded = true;
    }
    this.finish(lost === undefined);
    return "next";
  }

  /** What of the segment's notes can be said once its end is found. */
  private finish(isWhole = false): void {
    const { check, cursor, file, notes, progress } = this;
    const { ending } = notes;
    const { offset } = cursor;
    this.index.finish(check.report);
    if (!this.hasLanded) {
      const what = `what is durable should end with a record, not at offset=${notes.durable ?? 0}`;
      const at = segmentOffset.durable;
      check.report({ severity: "damage", file, offset: at, what, repair: "header" });
    }
    if (!isWhole || ending === undefined) return;
    const isRight =
      ending.end === offset &&
      ending.lastSequence === cursor.sequence - 1 &&
      (ending.latestNs === progress.latest.ns || !progress.isExact);
    if (isRight) return;
    const what =
      `the line of its end says sequence=${ending.lastSequence} at offset=${ending.end}, ` +
      `latestNs=${ending.latestNs}; found were ${cursor.sequence - 1}, ${offset}, ` +
      `${progress.latest.ns}`;
    const at = segmentOffset.lastSequence;
    check.report({ severity: "flaw", file, offset: at, what, repair: "header" });
  }

  /** Whether whoever opens the queue to write comes past here, and cannot. */
  private stopsWriter({ isLast }: Known): boolean {
    const { cursor, check, segment, notes, firstSequence } = this;
    const position = check.position?.segment === segment.number ? check.position : undefined;
    const reach = Math.max(notes.durable ?? 0, position?.end ?? 0);
    const beginning = { firstSequence, latestNs: 0n, epoch: 0 };
    // What is known to be there is believed without its sum.
    const isPassed = cursor.offset < reach && cursor.look(false) === "record";
    const { offset } = placeBeforeOffset(segment, beginning, reach);
    return isLast && !isPassed && cursor.offset >= offset;
  }

  /** Without sums, what is durable is all that is believed: and that line says too little. */
  private endBeforeMark(): "end" {
    const { cursor, check, file } = this;
    const lost = { from: cursor.sequence, to: check.durable };
    const what = `sequence=${lost.to} was durable, and this says that ${lost.from} was not`;
    const offset = segmentOffset.durable;
    check.report({ severity: "damage", file, offset, what, lost, repair: "header" });
    this.lastKnown = lost.to;
    this.index.passTo(Infinity);
    this.finish();
    return "end";
  }

  private noteTorn(): void {
    const { cursor, check, file } = this;
    const { written } = check;
    const newest = written >= cursor.sequence ? `, through sequence=${written},` : "";
    const what =
      `the log ends before sequence=${cursor.sequence}: what was behind it${newest} was never ` +
      "durable, and a power loss has taken of it what it liked. The next writer cuts off the rest";
    check.report({ severity: "note", file, offset: cursor.offset, what });
  }

  private known(): Known {
    const { check, segment, notes } = this;
    const { number } = segment;
    const position = check.position?.segment === number ? check.position : undefined;
    const next = openBegunIfWhole(check.queue, number + 1);
    next?.segment.mapping.unmap();
    const isNoted = (check.position?.segment ?? 0) > number;
    return {
      sequence: Math.max(
        notes.ending?.lastSequence ?? 0,
        position?.sequence ?? 0,
        (next?.beginning.firstSequence ?? 1) - 1,
      ),
      end: Math.max(notes.ending?.end ?? 0, position?.end ?? 0, notes.durable ?? 0),
      isLast: next === undefined && !isNoted && !this.isAnyBegunBehind(),
    };
  }

  private isAnyBegunBehind(): boolean {
    return this.isAnyBehind(() => true);
  }

  private isDurableBehind(): boolean {
    return this.isAnyBehind((segment) => durableEndOf(segment) > segment.recordsStart);
  }

  private isAnyBehind(isSo: (segment: Segment) => boolean): boolean {
    const { queue } = this.check;
    return listSegments(queue.directory)
      .filter((number) => number > this.segment.number)
      .some((number) => {
        const begun = openBegunIfWhole(queue, number);
        if (begun === undefined) return false;
        const answer = isSo(begun.segment);
        begun.segment.mapping.unmap();
        return answer;
      });
  }
}

/** Why what is at the cursor is no record. */
function whatIsWrong(cursor: Cursor, found: "nothing" | "damage"): string {
  const { segment, offset, sequence } = cursor;
  if (found === "nothing") return `there is nothing where sequence=${sequence} was`;
  const { words, capacity } = segment;
  const length = words[offset >>> 2] ?? 0;
  if (length < recordHeaderBytes || length > capacity - offset) {
    return `the length of the record is ${length}, where sequence=${sequence} was to come`;
  }
  const other = sequenceAt(segment, offset);
  if (other !== sequence) return `sequence=${other}, where ${sequence} was to come`;
  const epoch = cursor.epochHere >>> 0;
  if (cursor.look(true) === "record")
    return `sequence=${sequence} is of epoch=${epoch}, which is none`;
  if (epoch < cursor.epoch >>> 0) {
    return `sequence=${sequence} is of epoch=${epoch}, behind one of ${cursor.epoch >>> 0}`;
  }
  const sum = (words[(offset >>> 2) + recordWord.sum] ?? 0) >>> 0;
  const expected = sumOf(segment, segment.checksum, offset, length) >>> 0;
  return `the sum of sequence=${sequence} is ${sum}, its bytes give ${expected}`;
}
