/**
 * Looks at every byte of a queue that says anything: each record with its sum, how the segments
 * follow each other, and whether the notes that are made of them are so. It changes nothing.
 *
 * A queue that is written meanwhile is looked at as far as it went when the look began: what is
 * behind is the writer's.
 */
import { setImmediate as rest } from "node:timers/promises";
import { isGaplessError } from "../errors.ts";
import { checkFunctions, checkOptions, checkSignal } from "../arguments.ts";
import { controlFileName, isOfThisBoot, readPosition } from "./control.ts";
import { readPositionSoon } from "./finding.ts";
import { rangeOf, reasonOf, type QueueFinding, type RepairName } from "./flaw.ts";
import { controlOffset, endMark, segmentFileName, segmentOffset } from "./layout.ts";
import { observeQueue, type ObservedQueue } from "./observed-queue.ts";
import { refuseOtherVersions } from "./other-version.ts";
import { checkNotes } from "./queue-notes.ts";
import { salvage } from "./salvage.ts";
import { checkSegment, type Check, type CheckStart, type Progress } from "./segment-check.ts";
import { TimeMax } from "./time-max.ts";
import {
  listSegments,
  openSegment,
  readBeginning,
  type Beginning,
  type Segment,
} from "./segment.ts";
import { durableEndOf, openBegunIfWhole } from "./spot.ts";

export interface VerifyOptions {
  /** Told of each finding as it is found. */
  readonly onFinding?: (finding: QueueFinding) => void;
  readonly signal?: AbortSignal;
}

export interface VerifyReport {
  readonly directory: string;
  /** Whether a writer was at work: then it was looked at up to `lastSequence` only. */
  readonly isLive: boolean;
  /** The segments that were looked at. */
  readonly segments: number;
  /** Records that are whole, and their bytes, headers included. */
  readonly records: number;
  readonly bytes: number;
  /** The first and the last sequence that there should be; the last is one less where none is. */
  readonly firstSequence: number;
  readonly lastSequence: number;
  /** Whether any of the findings is damage. */
  readonly isDamaged: boolean;
  readonly findings: readonly QueueFinding[];
}

/**
 * Verifies a queue, be it written right now, a copy, or damaged. It rests now and then, so that
 * others come to their turn.
 *
 * @throws GaplessError DATA_NOT_YET_AVAILABLE where there is nothing of a queue; STORAGE_CORRUPT
 *   where any file of it is of another version; SYSTEM_CALL_FAILED where one may not be read;
 *   CONFIG_INVALID; what `signal` was aborted with
 */
export async function verifyQueue(
  directory: string,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  checkOptions("verifyQueue", options, { onFinding: true, signal: true });
  checkFunctions(options, "onFinding");
  checkSignal(options.signal);
  using queue = observeQueue(directory);
  refuseOtherVersions(queue.directory);
  const findings: QueueFinding[] = [];
  const verification = new Verification(queue, (finding) => {
    findings.push(finding);
    options.onFinding?.(finding);
  });
  for (const _pause of verification.run()) {
    await rest();
    options.signal?.throwIfAborted();
  }
  const { progress, firstSequence, segments } = verification;
  return {
    directory: queue.directory,
    isLive: queue.isLive,
    segments,
    records: progress.records,
    bytes: progress.bytes,
    firstSequence,
    lastSequence: (progress.sequence ?? 1) - 1,
    isDamaged: findings.some(({ severity }) => severity === "damage"),
    findings,
  };
}

/** What a name of a segment leads to. */
type Opened =
  | { readonly kind: "missing" }
  /** Or fenced before anybody began it. */
  | { readonly kind: "reserved" }
  | { readonly kind: "broken"; readonly reason: string }
  | { readonly kind: "begun"; readonly segment: Segment; readonly beginning: Beginning };

class Verification {
  readonly progress: Progress = {
    sequence: undefined,
    epoch: 0,
    latest: undefined,
    isExact: true,
    records: 0,
    bytes: 0,
  };
  firstSequence = 1;
  segments = 0;

  private readonly queue: ObservedQueue;
  private readonly check: Check;

  constructor(queue: ObservedQueue, report: (finding: QueueFinding) => void) {
    const { control } = queue;
    this.queue = queue;
    // Before anything else is looked at: what is noted is there.
    const isSettled = isOfThisBoot(control);
    const position = isSettled ? readPositionSoon(control) : undefined;
    const through = queue.isLive && position !== undefined ? position.sequence : Infinity;
    const said = control.doubles[controlOffset.durable / 8] ?? 0;
    const durable = Number.isSafeInteger(said) && said > 0 ? said : 0;
    const written = readPosition(control)?.sequence ?? 0;
    this.check = { queue, isSettled, position, durable, written, through, report };
  }

  *run(): Generator<undefined, void> {
    const { queue, check, progress } = this;
    const { controlProblem } = queue;
    if (controlProblem !== undefined) {
      const what = reasonOf(controlProblem, queue.directory);
      check.report({ severity: "damage", file: controlFileName, what, repair: "control" });
    }
    let number = listSegments(queue.directory)[0];
    if (number === undefined) this.endBefore(1);
    while (number !== undefined) {
      yield;
      number = yield* this.visit(number);
    }
    checkNotes(queue, check, progress);
  }

  /** Looks at a segment, and returns the number of the one to go on with. */
  private *visit(number: number): Generator<undefined, number | undefined> {
    const opened = open(this.queue, number);
    if (opened.kind === "missing") return this.passMissing(number);
    let start: CheckStart | undefined;
    if (opened.kind === "begun") {
      start = this.enter(opened);
    } else {
      const isEmpty = opened.kind === "reserved";
      // Made ahead of time, and too late: nobody has ever begun it.
      if (isEmpty && this.progress.latest === undefined) return number + 1;
      if (isEmpty && nextBegun(this.queue, number) === undefined) {
        this.endBefore(number);
        return undefined;
      }
      if (this.isTornAway(number)) return undefined;
      const reason = isEmpty ? "it has not begun, and one behind it has" : opened.reason;
      const spot = this.enterBroken(number, reason);
      if (spot === undefined) return number + 1;
      start = spot;
    }
    if (start === undefined) return undefined;
    this.segments++;
    const { progress, check } = this;
    const latest = (progress.latest ??= new TimeMax(0n));
    try {
      const isOn = yield* checkSegment(check, Object.assign(progress, { latest }), start);
      return isOn ? number + 1 : undefined;
    } finally {
      start.segment.mapping.unmap();
    }
  }

  /** undefined where a power loss has taken what was before, so that the log has ended there. */
  private enter({ segment, beginning }: Opened & { kind: "begun" }): CheckStart | undefined {
    const { check, progress } = this;
    const { number, recordsStart: offset } = segment;
    const { firstSequence: sequence, epoch } = beginning;
    const expected = progress.sequence ?? (number === 1 ? 1 : sequence);
    if (progress.latest === undefined) this.firstSequence = expected;
    if (sequence !== expected) {
      if (this.isTornAway(number)) {
        segment.mapping.unmap();
        return undefined;
      }
      const what = `it begins with sequence=${sequence}, where ${expected} was to come`;
      this.reportLost(number, what, expected, sequence - 1, segmentOffset.firstSequence);
    } else if (progress.latest !== undefined && this.isOdd(beginning)) {
      check.report({
        severity: "flaw",
        file: segmentFileName(number),
        offset: segmentOffset.firstSequence,
        what: "the line of its beginning does not go on from the segment before it",
        repair: "header",
      });
    }
    progress.latest ??= new TimeMax(beginning.latestNs);
    return { segment, firstSequence: sequence, offset, sequence, epoch };
  }

  private isOdd({ latestNs, epoch }: Beginning): boolean {
    const { progress } = this;
    const isLate = progress.isExact && progress.latest?.ns !== latestNs;
    return isLate || epoch < progress.epoch;
  }

  /** In a segment whose header does not hold: at its first record that does. */
  private enterBroken(number: number, reason: string): CheckStart | undefined {
    const { queue, check, progress } = this;
    const expected = progress.sequence;
    const spot = salvage(queue, number, expected ?? 1);
    const next = nextBegun(queue, number);
    const noted = next === undefined ? check.position?.sequence : next.firstSequence - 1;
    const last = spot === undefined ? (noted ?? 0) : spot.sequence - 1;
    const mends = next === undefined ? "truncate" : undefined;
    const from = expected ?? (number === 1 ? 1 : last + 1);
    if (progress.latest === undefined) this.firstSequence = from;
    this.reportLost(number, reason, from, last, undefined, spot ? "header" : mends);
    if (spot === undefined) return undefined;
    const { segment, offset, sequence, epoch } = spot;
    return { segment, firstSequence: sequence, offset, sequence, epoch };
  }

  private passMissing(number: number): number | undefined {
    const { queue, progress } = this;
    const numbers = listSegments(queue.directory);
    const [later] = numbers.filter((one) => one > number);
    const next = nextBegun(queue, number);
    if (later === undefined || next === undefined) {
      this.endBefore(number);
      return undefined;
    }
    const isDeleted = queue.isLive && numbers[0] === later;
    if (isDeleted) {
      progress.sequence = undefined;
      progress.isExact = false;
      return later;
    }
    const expected = progress.sequence ?? next.firstSequence;
    this.reportLost(number, "it is missing", expected, next.firstSequence - 1);
    return later;
  }

  /** The log ends before this segment: unless the writer has noted that it does not. */
  private endBefore(number: number): void {
    const { check, progress } = this;
    const { position } = check;
    if (position === undefined || position.segment < number) return;
    const what = `records were in it through sequence=${position.sequence}`;
    this.reportLost(number, what, progress.sequence ?? 1, position.sequence, undefined, "control");
  }

  /** Whether it is what a power loss left of what was never durable: then that is noted. */
  private isTornAway(number: number): boolean {
    const { queue, check } = this;
    if (check.isSettled) return false;
    const isDurable = listSegments(queue.directory).some(
      (one) => one >= number && isDurableAtAll(queue, one),
    );
    if (isDurable) return false;
    const what =
      "the log ends before it: it was never durable, and a power loss has taken of it what it " +
      "liked. The next writer removes it";
    check.report({ severity: "note", file: segmentFileName(number), what });
    return true;
  }

  private reportLost(
    number: number,
    what: string,
    from: number,
    to: number,
    offset?: number,
    repair?: RepairName,
  ): void {
    const { check, progress } = this;
    const lost = rangeOf(from, to);
    const file = segmentFileName(number);
    check.report({
      severity: "damage",
      file,
      what,
      ...(offset !== undefined && { offset }),
      ...(lost && { lost }),
      ...(repair && { repair }),
    });
    progress.isExact = false;
    if (lost !== undefined) progress.sequence = to + 1;
  }
}

function open({ directory, control }: ObservedQueue, number: number): Opened {
  let segment: Segment | undefined;
  try {
    segment = openSegment(directory, number, control.identity, "read");
    const beginning = readBeginning(segment);
    if (beginning !== undefined) return { kind: "begun", segment, beginning };
    const first = segment.words[segment.recordsStart / 4] ?? 0;
    segment.mapping.unmap();
    if (first === 0 || first === endMark) return { kind: "reserved" };
    return { kind: "broken", reason: "it says that it has not begun, and something is in it" };
  } catch (error) {
    segment?.mapping.unmap();
    if (isGaplessError(error, "DATA_TRIMMED")) return { kind: "missing" };
    if (!isGaplessError(error, "STORAGE_CORRUPT")) throw error;
    return { kind: "broken", reason: reasonOf(error, directory) };
  }
}

/** What the first segment behind that number begins with that can be entered. */
function nextBegun(queue: ObservedQueue, number: number): Beginning | undefined {
  for (const later of listSegments(queue.directory).filter((one) => one > number)) {
    const begun = openBegunIfWhole(queue, later);
    if (begun === undefined) continue;
    begun.segment.mapping.unmap();
    return begun.beginning;
  }
  return undefined;
}

/** Also where its first line is damaged: a power loss takes nothing that was always there. */
function isDurableAtAll({ directory, control }: ObservedQueue, number: number): boolean {
  try {
    const segment = openSegment(directory, number, control.identity, "read");
    const isDurable = durableEndOf(segment) > segment.recordsStart;
    segment.mapping.unmap();
    return isDurable;
  } catch (error) {
    if (isGaplessError(error, "DATA_TRIMMED")) return false;
    if (isGaplessError(error, "STORAGE_CORRUPT")) return true;
    throw error;
  }
}
