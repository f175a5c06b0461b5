/**
 * What of a buffer is too much, and whom that leaves behind: a pure choice, which retention.ts
 * carries out.
 *
 *     min     acknowledged by the slowest       wanted        max
 *      | . . . . . . . | . . . . . . . . . . . . | . . . . . . |
 *      └─ goes ────────┘                         │
 *      └─ goes where it is forced, and recorded ─┘
 *
 * Ids may skip, so how many messages there are from an id on is not in the ids: it is noted at some
 * of them as they come, and a cut is at one of those. What was there before the first mark, after a
 * restart too, stays until enough has come behind it.
 */
import { GaplessError } from "../errors.ts";

/** What is too much: what either limit says. The newest message always stays. */
export interface RetentionRules {
  /** Messages that stay: twice the memory ring, say, or ten times. */
  readonly count?: number;
  /** A message is too much once it came longer ago. */
  readonly ageMs?: number;
  /** Declared by name: nothing that one of them has not acknowledged goes, unless it is forced. */
  readonly consumers?: readonly string[];
}

/** Something known of a place in the stream. */
export interface RetentionMark {
  /** Of a message. */
  readonly id: bigint;
  /** How many messages came before it, counted from where all marks count. */
  readonly before: number;
  /** When it came, in milliseconds since 1970: those before it came no later. */
  readonly atMs: number;
}

/** What is known of a buffer when it is decided. */
export interface RetentionFacts {
  /** Oldest and newest id; undefined where nothing is there. */
  readonly minId: bigint | undefined;
  readonly maxId: bigint | undefined;
  /** Messages so far, counted as the marks count. */
  readonly count: number;
  /** Oldest first. */
  readonly marks: readonly RetentionMark[];
  /** Through which id each consumer has all; one that is missing has nothing. */
  readonly acknowledged: ReadonlyMap<string, bigint>;
  readonly nowMs: number;
}

/** What a consumer is not going to get, as far as it is there: ids may skip. */
export interface ConsumerPassedOver {
  readonly consumer: string;
  readonly fromId: bigint;
  readonly throughId: bigint;
}

export interface RetentionDecision {
  /** What to propose; undefined: nothing. */
  readonly beforeId: bigint | undefined;
  /** Only where it is forced: to be recorded durably before the trim is proposed. */
  readonly passedOver: readonly ConsumerPassedOver[];
  /** Consumers that keep what is too much, only where it is not forced. */
  readonly heldBy: readonly string[];
}

/** @throws GaplessError CONFIG_INVALID without a limit, or where one is no whole number above 0. */
export function checkRetentionRules(rules: RetentionRules): void {
  const { count, ageMs } = rules;
  if (count === undefined && ageMs === undefined) {
    throw new GaplessError("CONFIG_INVALID", "A retention without a limit: give count or ageMs.");
  }
  for (const [key, value] of Object.entries({ count, ageMs })) {
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) continue;
    throw new GaplessError(
      "CONFIG_INVALID",
      `${key}=${value} of a retention: expected a whole number above 0.`,
    );
  }
}

/** Decides once. With `isForced`, consumers are not waited for. */
export function decideRetention(
  rules: RetentionRules,
  facts: RetentionFacts,
  isForced = false,
): RetentionDecision {
  const { minId, acknowledged } = facts;
  const wanted = wantedCut(rules, facts);
  const isNeeded = wanted !== undefined && minId !== undefined && wanted > minId;
  if (!isNeeded) return { beforeId: undefined, passedOver: [], heldBy: [] };
  const behind = (rules.consumers ?? [])
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

/** Before which id everything is too much; consumers are not asked. */
function wantedCut(rules: RetentionRules, facts: RetentionFacts): bigint | undefined {
  const { count = Infinity, ageMs = Infinity } = rules;
  const { maxId, marks, nowMs } = facts;
  if (maxId === undefined) return undefined;
  const mark = marks.findLast(
    ({ id, before, atMs }) =>
      id <= maxId && (facts.count - before >= count || nowMs - atMs > ageMs),
  );
  return mark?.id;
}
