/** Where a reader begins. */
import { GaplessError } from "../errors.ts";
import { epochOf, nextSequence, oldestSpot, spotOfEpochAfter } from "./finding.ts";
import type { LossCause } from "./loss-ledger.ts";
import type { Committed } from "./reader-file.ts";
import type { QueueFiles, Spot } from "./spot.ts";

/**
 *   resume-strict     behind what it has committed. An error where that was deleted, or taken back
 *                     by a power loss
 *   resume-snapshot   the same; where messages behind it were deleted, at the oldest that is left,
 *                     and the loss is recorded
 *   resume-latest     the same, but at the end then
 *   latest            at the end: what it passes over is recorded
 *   earliest          at the oldest message that is left
 *
 * A reader that has never committed begins at the oldest, and with `latest` and `resume-latest` at
 * the end.
 */
export type StartMode =
  "resume-strict" | "resume-snapshot" | "resume-latest" | "latest" | "earliest";

/** What is known of a queue and of the reader that comes. */
export interface Arrival {
  /** How the reader is called in errors. */
  readonly reader: string;
  readonly mode: StartMode;
  /** undefined for one that has never committed. */
  readonly committed: number | undefined;
  /** The oldest sequence that is left. */
  readonly oldest: number;
  /** The sequence that comes next in the queue. */
  readonly next: number;
  /** Through which sequence retention has passed the reader over. */
  readonly passedOver: number;
  /**
   * Where a power loss took from the queue what the reader had committed: the first sequence that
   * is now another message, or is to come again.
   */
  readonly rewoundTo: number | undefined;
}

/** Where to begin, and what is lost by that. */
export interface Start {
  readonly sequence: number;
  readonly losses: readonly StartLoss[];
}

export interface StartLoss {
  readonly cause: LossCause;
  readonly from: number;
  readonly to: number;
}

/** @throws GaplessError DATA_TRIMMED, CHAIN_BROKEN: of `resume-strict` */
export function decideStart(arrival: Arrival): Start {
  const { mode, committed, oldest, next, rewoundTo } = arrival;
  if (mode === "earliest") return { sequence: oldest, losses: [] };
  if (committed === undefined) {
    const isAtEnd = mode === "latest" || mode === "resume-latest";
    return { sequence: isAtEnd ? next : oldest, losses: [] };
  }
  const isRewound = rewoundTo !== undefined;
  const resumed = isRewound ? rewoundTo : committed + 1;
  const isDeleted = resumed < oldest;
  if (mode === "resume-strict" && isRewound) throw rewound(arrival, rewoundTo, committed);
  if (mode === "resume-strict" && isDeleted) throw deleted(arrival, resumed);
  const isKept = mode !== "latest" && !(mode === "resume-latest" && (isRewound || isDeleted));
  const sequence = isKept ? Math.max(resumed, oldest) : next;
  const losses: StartLoss[] = [];
  const lose = (cause: LossCause, from: number, to: number): void => {
    if (from <= to) losses.push({ cause, from, to });
  };
  if (isRewound) lose("rewound", rewoundTo, committed);
  const passedOver = Math.min(arrival.passedOver, oldest - 1);
  lose("passed-over", resumed, passedOver);
  lose("deleted", Math.max(resumed, passedOver + 1), oldest - 1);
  lose("passed-over", Math.max(resumed, oldest), sequence - 1);
  return { sequence, losses };
}

/** What there is to know before a reader begins. */
export function arrivalOf(
  queue: QueueFiles,
  reader: string,
  mode: StartMode,
  committed: Committed | undefined,
  passedOver: number,
): Arrival {
  const oldest = give(oldestSpot(queue));
  const next = Math.max(oldest, nextSequence(queue));
  const known = { reader, mode, oldest, next, passedOver };
  if (committed === undefined) return { ...known, committed: undefined, rewoundTo: undefined };
  const { sequence } = committed;
  const isLost = sequence >= next || isOfAnother(queue, committed, oldest);
  const rewoundTo = isLost ? rewoundBy(queue, committed, next) : undefined;
  return { ...known, committed: sequence, rewoundTo };
}

/** Whether the record that was committed is not the one that is there now. */
function isOfAnother(queue: QueueFiles, { sequence, epoch }: Committed, oldest: number): boolean {
  if (epoch === 0 || sequence < oldest) return false;
  const found = epochOf(queue, sequence);
  return found !== 0 && found !== epoch;
}

/** The first sequence that the reader was given as another message, or is to be given again. */
function rewoundBy(queue: QueueFiles, { epoch }: Committed, next: number): number {
  return epoch === 0 ? next : Math.min(next, give(spotOfEpochAfter(queue, epoch)));
}

function give({ segment, sequence }: Spot): number {
  segment.mapping.unmap();
  return sequence;
}

function deleted({ reader, oldest }: Arrival, resumed: number): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `${reader} was to go on with sequence=${resumed}, and that was deleted: the oldest left is ` +
      `${oldest}. Open it with start=resume-snapshot to go on there, which is recorded as a loss.`,
  );
}

function rewound({ reader }: Arrival, rewoundTo: number, committed: number): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `${reader} has committed sequence=${committed}, and a power loss, or a repair, has taken ` +
      `from the queue what it was given from ${rewoundTo} on: other messages have these ` +
      "sequences now, or will. Undo what it made of the old ones, then open it with " +
      "start=resume-snapshot.",
  );
}
