/** What a look at every byte of a queue finds. */
import { describeError } from "../errors.ts";

/**
 *   damage   records cannot be read, or the queue cannot be opened for writing as it is
 *   flaw     something beside the records is not as it was written: nothing is lost by that
 *   note     what a crash leaves behind, and whoever opens the queue next sees to
 */
export type Severity = "damage" | "flaw" | "note";

/** What can be made anew or taken away: see `repairQueue`. */
export type RepairName = "header" | "index" | "truncate" | "control";

/** One thing that is not as its writer has left it. */
export interface QueueFinding {
  readonly severity: Severity;
  /** Within the directory of the queue. */
  readonly file: string;
  readonly offset?: number;
  readonly what: string;
  /** Sequences that cannot be read, both ends included. */
  readonly lost?: SequenceRange;
  /** What would mend it, where something does. */
  readonly repair?: RepairName;
}

/** Both ends included. */
export interface SequenceRange {
  readonly from: number;
  readonly to: number;
}

/** undefined where it ends before it begins. */
export function rangeOf(from: number, to: number): SequenceRange | undefined {
  return from <= to ? { from, to } : undefined;
}

/** What an error says is wrong with a file, without what it advises and where it is. */
export function reasonOf(error: unknown, directory: string): string {
  const text = typeof error === "string" ? error : describeError(error);
  const [reason = ""] = text.split(". ");
  return reason
    .replaceAll(`${directory}/`, "")
    .replace(/^\S+ is (damaged: (offset=\d+, )?)?/, "")
    .replace(/\.$/, "");
}
