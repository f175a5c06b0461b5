/**
 * What readers were never given: a line of JSON each, in the order in which it was found out.
 *
 *   {"cause":"damaged","reader":"ledger","from":17,"to":17,"atMs":1764547200000}
 *
 * It is durable before the reader goes on. A line that a crash cut short is no loss that anybody
 * went on behind: it is found out, and recorded, again.
 */
import path from "node:path";
import { appendDurableLine, readDurableLines, syncDurableLines } from "../memory/durable-lines.ts";
import { resolveDirectory } from "./directory.ts";

export const lossesFileName = "losses.jsonl";

/** In place of a reader's name, which this cannot be: a loss of all who had not read it. */
export const everyReader = "*";

/**
 *   deleted       its segment was removed before the reader came to it
 *   damaged       it cannot be read any more, and the reader said skip
 *   rewound       the reader had committed it, and a power loss has taken it from the queue: other
 *                 messages have these sequences now, and are delivered
 *   passed-over   the reader was told to begin at the end, or retention did not wait for it
 */
export type LossCause = "deleted" | "damaged" | "rewound" | "passed-over";

/** A stretch of sequences, both ends included. */
export interface QueueLoss {
  readonly cause: LossCause;
  readonly reader: string;
  readonly from: number;
  readonly to: number;
  /** When it was found out, in milliseconds since 1970. */
  readonly atMs: number;
}

/** What the ledger of a queue says. */
export interface LossLedger {
  readonly losses: readonly QueueLoss[];
  /** Lines that say nothing: cut short by a crash, or damaged. */
  readonly unreadable: number;
}

/**
 * Records a loss so that it survives power loss. One that is found out again, as the reader has
 * died before it went on behind it, is recorded once.
 *
 * @throws GaplessError STORAGE_FULL
 */
export function recordLoss(directory: string, loss: QueueLoss): void {
  const { cause, reader, from, to, atMs } = loss;
  const filePath = path.join(directory, lossesFileName);
  if (isRecorded(directory, loss)) {
    syncDurableLines(filePath);
    return;
  }
  appendDurableLine(filePath, JSON.stringify({ cause, reader, from, to, atMs }));
}

/**
 * All that was recorded, of every reader.
 *
 * @throws GaplessError CONFIG_INVALID; SYSTEM_CALL_FAILED where it may not be read
 */
export function readLosses(directory: string): LossLedger {
  const filePath = path.join(resolveDirectory(directory), lossesFileName);
  const { entries, unreadable } = readDurableLines(filePath, lossOf);
  return { losses: entries, unreadable };
}

/**
 * Whether each of the sequences is recorded already, for the same cause or by retention. A queue
 * can be rewound to the same place again, and that is another loss.
 */
function isRecorded(directory: string, { cause, reader, from, to }: QueueLoss): boolean {
  if (cause === "rewound") return false;
  const known = readLosses(directory)
    .losses.filter((one) => one.reader === reader)
    .filter((one) => one.cause === cause || one.cause === "passed-over")
    .sort((left, right) => left.from - right.from);
  let next = from;
  for (const one of known) if (one.from <= next) next = Math.max(next, one.to + 1);
  return next > to;
}

const causes: readonly unknown[] = [
  "deleted",
  "damaged",
  "rewound",
  "passed-over",
] satisfies LossCause[];

function lossOf(document: unknown): QueueLoss | undefined {
  const { cause, reader, from, to, atMs } = (document ?? {}) as Partial<QueueLoss>;
  const isLoss =
    cause !== undefined &&
    causes.includes(cause) &&
    typeof reader === "string" &&
    [from, to, atMs].every((value) => Number.isSafeInteger(value));
  return isLoss ? (document as QueueLoss) : undefined;
}
