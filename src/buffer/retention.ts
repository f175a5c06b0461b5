/**
 * Keeps a buffer from growing: looks from time to time, and trims what the policy says is too much.
 *
 *     await using retention = startRetention(buffer, { count: 100_000, consumers: ["oms"] });
 *     retention.acknowledge("oms", lastId); // whenever a consumer has dealt with more
 */
import { GaplessError, isGaplessError } from "../errors.ts";
import { InvalidOperation } from "./buffer-errors.ts";
import type { LossRecorder } from "./loss-ledger.ts";
import type { BufferStats } from "./message-store.ts";
import { checkId } from "./range.ts";
import {
  checkRetentionRules,
  decideRetention,
  type RetentionDecision,
  type RetentionMark,
  type RetentionRules,
} from "./retention-policy.ts";

/** What of a `MsgBuffer` is looked at and trimmed. */
export interface RetainedBuffer extends LossRecorder {
  stats(): Promise<BufferStats>;
  trim(beforeId: bigint): Promise<number>;
}

export interface RetentionOptions extends RetentionRules {
  /** Between two looks, which is how finely it cuts. Default 1 second. */
  readonly intervalMs?: number;
  /** Trims otherwise than by the buffer itself: of replicas, proposes it to their log. */
  readonly trim?: (beforeId: bigint) => Promise<unknown>;
  readonly onTrimmed?: (beforeId: bigint) => void;
  /** Told who keeps what is too much, whenever that has changed; of nobody too. */
  readonly onHeld?: (consumers: readonly string[]) => void;
  /** Told when a look fails; the next one is made. Without it, that is a warning of the process. */
  readonly onFailure?: (error: GaplessError) => void;
}

const intervalMsDefault = 1000;
/** Of what stays, the share that two marks are apart at least. */
const marksShare = 100;

/**
 * Starts to look after a buffer. Nothing that a declared consumer has not acknowledged goes:
 * one that has not said anything since this was called has acknowledged nothing. It keeps no
 * process from ending.
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function startRetention(buffer: RetainedBuffer, options: RetentionOptions): Retention {
  checkRetentionRules(options);
  const { intervalMs = intervalMsDefault } = options;
  if (typeof intervalMs !== "number" || !(intervalMs >= 1)) {
    const problem = `intervalMs=${String(intervalMs)}, expected 1 millisecond or more.`;
    throw new GaplessError("CONFIG_INVALID", `Retention of ${buffer.component}: ${problem}`);
  }
  return new Retention(buffer, options, intervalMs);
}

export class Retention implements AsyncDisposable {
  private readonly buffer: RetainedBuffer;
  private readonly options: RetentionOptions;
  private readonly acknowledged = new Map<string, bigint>();
  private readonly timer: NodeJS.Timeout;
  private marks: RetentionMark[] = [];
  private heldBy = "";
  /** Looks go one after the other. */
  private turn: Promise<unknown> = Promise.resolve();

  /** Use `startRetention`. */
  constructor(buffer: RetainedBuffer, options: RetentionOptions, intervalMs: number) {
    this.buffer = buffer;
    this.options = options;
    this.timer = setInterval(() => void this.look().catch(this.failed), intervalMs).unref();
  }

  /**
   * The consumer has dealt with everything through that id. One further back than before changes
   * nothing.
   *
   * @throws InvalidOperation for a consumer that is not declared
   */
  acknowledge(consumer: string, throughId: bigint): void {
    checkId("throughId", throughId);
    const { consumers = [] } = this.options;
    if (!consumers.includes(consumer)) {
      const declared = consumers.length === 0 ? "nobody" : consumers.join(", ");
      const what = `consumer=${consumer} is not declared, ${declared} is.`;
      throw new InvalidOperation(`Retention of ${this.buffer.component}: ${what}`);
    }
    if (throughId > (this.acknowledged.get(consumer) ?? -1n)) {
      this.acknowledged.set(consumer, throughId);
    }
  }

  /** Looks at once. @throws whatever the trim throws */
  look(): Promise<RetentionDecision> {
    return this.inTurn(() => this.enforce(false));
  }

  /**
   * Trims what is too much, whoever needs it still. What each declared consumer misses by that is
   * recorded durably in the buffer first.
   *
   * @throws GaplessError STORAGE_FULL where it cannot be recorded: then nothing is trimmed;
   *   whatever the trim throws
   */
  force(): Promise<RetentionDecision> {
    return this.inTurn(() => this.enforce(true));
  }

  /** Ends it behind the look under way. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.turn;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const result = this.turn.then(act);
    this.turn = result.catch(() => undefined);
    return result;
  }

  private async enforce(isForced: boolean): Promise<RetentionDecision> {
    const { buffer, options, acknowledged } = this;
    const nowMs = Date.now();
    const { minId, maxId, appended } = await buffer.stats();
    this.mark(maxId, appended, nowMs);
    const { marks } = this;
    const facts = { minId, maxId, count: appended, marks, acknowledged, nowMs };
    const decision = decideRetention(options, facts, isForced);
    for (const { consumer, fromId, throughId } of decision.passedOver) {
      const atMs = nowMs;
      buffer.recordLoss({ cause: "passed-over", consumer, fromId, throughId, atMs });
    }
    this.tellHeld(decision.heldBy);
    const { beforeId } = decision;
    if (beforeId === undefined) return decision;
    await (options.trim ?? ((id) => buffer.trim(id)))(beforeId);
    const kept = marks.findIndex(({ id }) => id >= beforeId);
    this.marks = kept === -1 ? [] : marks.slice(kept);
    options.onTrimmed?.(beforeId);
    return decision;
  }

  /** The newest message is a place to cut at, later. */
  private mark(maxId: bigint | undefined, appended: number, nowMs: number): void {
    if (maxId === undefined) return;
    const before = appended - 1;
    const newest = this.marks.at(-1);
    if (newest !== undefined) {
      const { count = Infinity, ageMs = Infinity } = this.options;
      const isByCount = before - newest.before >= Math.max(1, count / marksShare);
      const isByAge = before > newest.before && nowMs - newest.atMs >= ageMs / marksShare;
      if (!isByCount && !isByAge) return;
    }
    this.marks.push({ id: maxId, before, atMs: nowMs });
  }

  private tellHeld(consumers: readonly string[]): void {
    const names = consumers.join(", ");
    if (names !== this.heldBy) this.options.onHeld?.(consumers);
    this.heldBy = names;
  }

  private readonly failed = (error: unknown): void => {
    if (!isGaplessError(error)) throw error;
    const { onFailure } = this.options;
    if (onFailure !== undefined) onFailure(error);
    else process.emitWarning(error.message, { code: error.code, type: "Gapless" });
  };
}
