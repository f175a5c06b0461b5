/** What a buffer holds, in numbers. */
import { checkWhole } from "../arguments.ts";

export interface BufferStats {
  readonly component: string;
  /** Messages that are kept. */
  readonly total: number;
  /** Of those, how many are in memory, and how many only in RocksDB. */
  readonly hot: number;
  readonly cold: number;
  /** undefined where nothing is kept. */
  readonly minId: bigint | undefined;
  readonly maxId: bigint | undefined;
  /** Share of the reads that memory has answered since the opening; 0 before the first. */
  readonly hitRate: number;
  /** Encoded, of all that are kept. */
  readonly bytes: number;
  /** Of memory, for those that are hot. */
  readonly hotBytes: number;
  /** Messages that came again since the opening. */
  readonly duplicates: number;
  /** Of the replicated log; 0n where there is none. */
  readonly logPosition: bigint;
  /** Messages that trims have taken, all of them together: with `total`, as many as ever came. */
  readonly trimmed: number;
  readonly lastTrim: LastTrim | undefined;
}

export interface LastTrim {
  readonly beforeId: bigint;
  readonly deleted: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** What is too much in a buffer: what either says. */
export interface ExcessRules {
  /** Messages that stay. */
  readonly count?: number;
  /** By the messages' own times, which are taken to rise. 0n is no time. */
  readonly ageMs?: number;
}

/** @throws GaplessError CONFIG_INVALID where a limit is no whole number above 0 */
export function checkExcessRules({ count, ageMs }: ExcessRules): void {
  if (count !== undefined) checkWhole("count", count, 1, Number.MAX_SAFE_INTEGER);
  if (ageMs !== undefined) checkWhole("ageMs", ageMs, 1, Number.MAX_SAFE_INTEGER);
}
