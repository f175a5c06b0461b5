/**
 * Which segments of a queue may go, and whom that leaves behind. A pure choice; cleanup.ts carries
 * it out.
 *
 *     1   2   3 | 4   5   6 | 7   8
 *      too much    needed    stay
 *
 * From the oldest on, as long as a segment is too much by the policy and no reader needs it. The
 * one that is written and the one before it always stay, and a queue that nobody is known to read
 * stays whole. A reader that is gone for too long, or too far behind, is not waited for: that is
 * recorded.
 */
import { GaplessError } from "../errors.ts";
import { checkOptions, checkWhole, type OptionNames } from "../arguments.ts";

const nsPerMs = 1_000_000n;

/** What is too much, and for whom nobody waits. Without a word on either nothing is. */
export interface RetentionPolicy {
  /** A segment is too much once its newest record, by the records' own times, is older. */
  readonly ageMs?: number;
  /** Bytes of all segments. */
  readonly bytes?: number;
  /** How many segments. The newest two stay in any case. */
  readonly segments?: number;
  /** A reader that has not been seen for so long, and is not alive, is not waited for. */
  readonly readerTtlMs?: number;
  /** A reader that is so many messages behind is not waited for, alive or not. */
  readonly readerLagMax?: number;
}

export interface SegmentFacts {
  readonly number: number;
  readonly bytes: number;
  /** Of its last record. */
  readonly lastSequence: number;
  /** Greatest time of all records through it. */
  readonly latestNs: bigint;
}

export interface ReaderFacts {
  readonly name: string;
  readonly isAlive: boolean;
  /** Everything through it is dealt with. */
  readonly committed: number;
  /** What it needs next: before the committed ones where it has gone back. */
  readonly position: number;
  /** It has been passed over through this sequence before. */
  readonly passedOver: number;
  readonly seenMs: number;
}

export interface QueueFacts {
  /** Oldest first, without the newest two. Not looked at further than it takes. */
  readonly segments: Iterable<SegmentFacts>;
  /** Of all segments that have begun. */
  readonly count: number;
  readonly bytes: number;
  readonly newestSequence: number;
  readonly readers: readonly ReaderFacts[];
  readonly nowMs: number;
}

/**
 *   ttl   it was not seen for too long
 *   lag   it is too far behind
 */
export type PassReason = "ttl" | "lag";

/** A reader that was not waited for, and what that takes from it. */
export interface PassedOver {
  readonly reader: string;
  readonly reason: PassReason;
  readonly from: number;
  readonly to: number;
}

export interface Choice {
  readonly segments: readonly SegmentFacts[];
  readonly passedOver: readonly PassedOver[];
}

/** At most `most` segments that may go, oldest first, and the readers that needed any of them. */
export function chooseSegments(queue: QueueFacts, policy: RetentionPolicy, most: number): Choice {
  const { readers } = queue;
  if (readers.length === 0 || most <= 0) return { segments: [], passedOver: [] };
  const needed = neededFrom(queue, policy);
  let { count, bytes } = queue;
  const segments: SegmentFacts[] = [];
  for (const segment of queue.segments) {
    if (segment.lastSequence >= needed || !isTooMuch(segment, count, bytes, queue, policy)) break;
    segments.push(segment);
    if (segments.length === most) break;
    count--;
    bytes -= segment.bytes;
  }
  const to = segments.at(-1)?.lastSequence ?? 0;
  const passedOver = readers.flatMap((reader) => {
    const reason = reasonToPassOver(reader, queue, policy);
    const from = Math.max(reader.committed, reader.passedOver) + 1;
    return reason !== undefined && from <= to ? [{ reader: reader.name, reason, from, to }] : [];
  });
  return { segments, passedOver };
}

/** The first sequence that any reader needs who is waited for; Infinity where nobody is. */
export function neededFrom(
  queue: Pick<QueueFacts, "readers" | "newestSequence" | "nowMs">,
  policy: RetentionPolicy,
): number {
  const waitedFor = queue.readers.filter(
    (reader) => reasonToPassOver(reader, queue, policy) === undefined,
  );
  return Math.min(...waitedFor.map(({ position }) => position));
}

const names = {
  ageMs: true,
  bytes: true,
  segments: true,
  readerTtlMs: true,
  readerLagMax: true,
} as const satisfies OptionNames<RetentionPolicy>;

/** @throws GaplessError CONFIG_INVALID */
export function checkPolicy(directory: string, policy: RetentionPolicy): void {
  checkOptions("a retention policy", policy, names);
  const { ageMs, bytes, segments, readerTtlMs, readerLagMax } = policy;
  const limits = { ageMs, bytes, segments, readerTtlMs, readerLagMax };
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined || (typeof value === "number" && value >= 0)) continue;
    throw invalid(directory, `${name}=${value}, expected a number that is not negative`);
  }
  if (segments !== undefined && segments !== Infinity) {
    checkWhole("segments", segments, 0, Number.MAX_SAFE_INTEGER);
  }
  if (ageMs === undefined && bytes === undefined && segments === undefined) {
    throw invalid(directory, "no limit, expected ageMs, bytes, segments or several of them");
  }
}

function reasonToPassOver(
  { isAlive, seenMs, position }: ReaderFacts,
  { nowMs, newestSequence }: Pick<QueueFacts, "newestSequence" | "nowMs">,
  { readerTtlMs = Infinity, readerLagMax = Infinity }: RetentionPolicy,
): PassReason | undefined {
  if (!isAlive && nowMs - seenMs > readerTtlMs) return "ttl";
  return newestSequence + 1 - position > readerLagMax ? "lag" : undefined;
}

/** Whether the oldest of `count` segments with `bytes` bytes is one too many. */
function isTooMuch(
  { latestNs }: SegmentFacts,
  count: number,
  bytes: number,
  { nowMs }: QueueFacts,
  policy: RetentionPolicy,
): boolean {
  const { ageMs = Infinity, bytes: bytesMax = Infinity, segments = Infinity } = policy;
  return count > segments || bytes > bytesMax || nowMs - Number(latestNs / nsPerMs) > ageMs;
}

function invalid(directory: string, problem: string): GaplessError {
  return new GaplessError("CONFIG_INVALID", `Retention of ${directory}: ${problem}.`);
}
