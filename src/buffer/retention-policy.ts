/**
 * Whom a trim leaves behind: a pure choice, which retention.ts carries out.
 *
 *     min     acknowledged by the slowest       too much      max
 *      | . . . . . . . | . . . . . . . . . . . . | . . . . . . |
 *      └─ goes ────────┘                         │
 *      └─ goes where it is forced, and recorded ─┘
 */
import { checkArray, wrong } from "../arguments.ts";
import { GaplessError } from "../errors.ts";
import { checkExcessRules, type ExcessRules } from "./buffer-stats.ts";

/** What is too much: what either limit says. The newest message always stays. */
export interface RetentionRules extends ExcessRules {
  /** Declared by name: nothing that one of them has not acknowledged goes, unless it is forced. */
  readonly consumers?: readonly string[];
}

/** What is known of a buffer when it is decided. */
export interface RetentionFacts {
  /** Oldest id; undefined where nothing is kept. */
  readonly minId: bigint | undefined;
  /** Before which id everything is too much; undefined where nothing is. */
  readonly wanted: bigint | undefined;
  readonly consumers: readonly string[];
  /** Through which id each consumer has all; one that is missing has nothing. */
  readonly acknowledged: ReadonlyMap<string, bigint>;
}

/** What a consumer is not going to get, as far as it is there: ids may skip. */
export interface ConsumerPassedOver {
  readonly consumer: string;
  readonly fromId: bigint;
  readonly throughId: bigint;
}

export interface RetentionDecision {
  /** Before which id to trim; undefined: not at all. */
  readonly beforeId: bigint | undefined;
  /** Only where it is forced: to be recorded durably before the trim. */
  readonly passedOver: readonly ConsumerPassedOver[];
  /** Consumers that keep what is too much, only where it is not forced. */
  readonly heldBy: readonly string[];
}

/** @throws GaplessError CONFIG_INVALID without a limit, or where one is no whole number above 0. */
export function checkRetentionRules(rules: RetentionRules): void {
  const { count, ageMs, consumers } = rules;
  if (count === undefined && ageMs === undefined) {
    throw new GaplessError("CONFIG_INVALID", "A retention without a limit: give count or ageMs.");
  }
  checkExcessRules(rules);
  if (consumers === undefined) return;
  checkArray("consumers", consumers, "names");
  for (const name of consumers as readonly unknown[]) {
    if (typeof name !== "string") throw wrong("consumers", name, "names");
  }
}

/** Decides once. With `isForced`, consumers are not waited for. */
export function decideRetention(facts: RetentionFacts, isForced: boolean): RetentionDecision {
  const { minId, wanted, acknowledged } = facts;
  const isNeeded = wanted !== undefined && minId !== undefined && wanted > minId;
  if (!isNeeded) return { beforeId: undefined, passedOver: [], heldBy: [] };
  const behind = facts.consumers
    .map((consumer) => ({ consumer, nextId: (acknowledged.get(consumer) ?? 0n) + 1n }))
    .filter(({ nextId }) => nextId < wanted);
  if (isForced) {
    const passedOver = behind.map(({ consumer, nextId }) => ({
      consumer,
      // What went before, it has lost before.
      fromId: nextId > minId ? nextId : minId,
      throughId: wanted - 1n,
    }));
    return { beforeId: wanted, passedOver, heldBy: [] };
  }
  const beforeId = behind.reduce((cut, { nextId }) => (nextId < cut ? nextId : cut), wanted);
  return {
    beforeId: beforeId > minId ? beforeId : undefined,
    passedOver: [],
    heldBy: behind.map(({ consumer }) => consumer),
  };
}
