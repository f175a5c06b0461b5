/**
 * Trims of one service's buffer by another that has dealt with what is in it. The matching engine's
 * buffer is keyed by trade id; once the order management system has dealt with the result of trade
 * X, nobody fills a gap before X from it, but for what is retained to be safe.
 *
 *   matching engine's buffer   | . . . . . . . . | . . . . . . . . | . . .
 *                                                └── retained ─────X
 *                              └── trim before ──┘
 *
 * The trim goes through the log, so that all replicas of the buffer carry it out at one position.
 */
import { assert } from "../errors.ts";
import type { ReplicatedLog } from "../flow/replicated-log.ts";

export interface CoordinatedTrimOptions {
  /** Of the buffer that is trimmed. */
  readonly log: Pick<ReplicatedLog, "propose">;
  /** How far behind the id that was dealt with, in ids, everything stays: 0n or more. */
  readonly retained: bigint;
  /** A trim is proposed once it would go so many ids further than the last. Default 1000n. */
  readonly step?: bigint;
}

const stepDefault = 1000n;

/**
 * The pure part: the trim that is due, or undefined. `proposedBefore` is that of the last one; 0n
 * where there was none.
 */
export function dueTrim(
  processedId: bigint,
  retained: bigint,
  step: bigint,
  proposedBefore: bigint,
): bigint | undefined {
  const beforeId = processedId - retained;
  return beforeId >= proposedBefore + step ? beforeId : undefined;
}

/** Proposes trims as results are dealt with, one at a time. */
export class CoordinatedTrim {
  private readonly log: Pick<ReplicatedLog, "propose">;
  private readonly retained: bigint;
  private readonly step: bigint;
  private newestId = 0n;
  private proposedBefore = 0n;
  private isProposing = false;

  constructor({ log, retained, step = stepDefault }: CoordinatedTrimOptions) {
    assert(retained >= 0n, `retained=${retained}`);
    assert(step > 0n, `step=${step}`);
    this.log = log;
    this.retained = retained;
    this.step = step;
  }

  /**
   * Told of each result that is durably dealt with, by its trade id, in any order. Resolves with
   * what was proposed, and undefined where nothing is due or a proposal is under way: a later call
   * makes up for it.
   *
   * @throws GaplessError as `ReplicatedLog.propose`; the next call proposes again, further on
   */
  async processed(tradeId: bigint): Promise<bigint | undefined> {
    if (tradeId > this.newestId) this.newestId = tradeId;
    if (this.isProposing) return undefined;
    const beforeId = dueTrim(this.newestId, this.retained, this.step, this.proposedBefore);
    if (beforeId === undefined) return undefined;
    this.isProposing = true;
    try {
      await this.log.propose({ kind: "trim", beforeId });
      this.proposedBefore = beforeId;
      return beforeId;
    } finally {
      this.isProposing = false;
    }
  }
}
