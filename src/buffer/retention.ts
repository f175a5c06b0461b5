/**
 * Keeps a buffer from growing: looks from time to time, and trims what the policy says is too much.
 *
 *     await using retention = startRetention(buffer, { count: 100_000, consumers: ["oms"] });
 *     retention.acknowledge("oms", lastId); // whenever a consumer has dealt with more
 */
import { checkFunctions, checkOptions, checkWhole, type OptionNames } from "../arguments.ts";
import { describeError, isGaplessError } from "../errors.ts";
import { InvalidOperation } from "./buffer-errors.ts";
import type { LossRecorder } from "./loss-ledger.ts";
import type { ExcessRules } from "./buffer-stats.ts";
import { checkId } from "./range.ts";
import {
  checkRetentionRules,
  decideRetention,
  type RetentionDecision,
  type RetentionRules,
} from "./retention-policy.ts";

/** What of a `MsgBuffer` is looked at and trimmed. */
export interface RetainedBuffer extends LossRecorder {
  minId(): Promise<bigint | undefined>;
  excess(rules: ExcessRules): Promise<bigint | undefined>;
  trim(beforeId: bigint): Promise<number>;
}

export interface RetentionOptions extends RetentionRules {
  /** Between two looks. Default 1 second. */
  readonly intervalMs?: number;
  /**
   * Trims otherwise than by the buffer itself: of replicas, proposes it to their log. What it has
   * resolved for is on its way, and is not asked of it again.
   */
  readonly trim?: (beforeId: bigint) => Promise<unknown>;
  readonly onTrimmed?: (beforeId: bigint) => void;
  /** Told who keeps what is too much, whenever that has changed; of nobody too. */
  readonly onHeld?: (consumers: readonly string[]) => void;
  /** Told when a look fails; the next one is made. Without it, that is a warning of the process. */
  readonly onFailure?: (error: unknown) => void;
}

const intervalMsDefault = 1000;
const intervalMsMax = 2 ** 31 - 1;
const optionNames = {
  count: true,
  ageMs: true,
  consumers: true,
  intervalMs: true,
  trim: true,
  onTrimmed: true,
  onHeld: true,
  onFailure: true,
} as const satisfies OptionNames<RetentionOptions>;

/**
 * Starts to look after a buffer. Nothing that a declared consumer has not acknowledged goes:
 * one that has not said anything since this was called has acknowledged nothing. It keeps no
 * process from ending.
 *
 * @throws GaplessError CONFIG_INVALID
 */
export function startRetention(buffer: RetainedBuffer, options: RetentionOptions): Retention {
  checkOptions("startRetention", options, optionNames);
  checkFunctions(options, "trim", "onTrimmed", "onHeld", "onFailure");
  checkRetentionRules(options);
  const { intervalMs = intervalMsDefault } = options;
  checkWhole("intervalMs", intervalMs, 1, intervalMsMax);
  return new Retention(buffer, options, intervalMs);
}

export class Retention implements AsyncDisposable {
  private readonly buffer: RetainedBuffer;
  private readonly options: RetentionOptions;
  private readonly acknowledged = new Map<string, bigint>();
  private readonly timer: NodeJS.Timeout;
  private heldBy = "";
  /** Of the last trim: one that goes through a log is yet to be carried out. */
  private trimmedBefore = 0n;
  private isLookDue = false;
  /** Looks go one after the other. */
  private turn: Promise<unknown> = Promise.resolve();

  /** Use `startRetention`. */
  constructor(buffer: RetainedBuffer, options: RetentionOptions, intervalMs: number) {
    this.buffer = buffer;
    this.options = options;
    this.timer = setInterval(() => this.lookInTime(), intervalMs).unref();
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

  /** One that is under way, or waits, is as good as another one behind it. */
  private lookInTime(): void {
    if (this.isLookDue) return;
    this.isLookDue = true;
    void this.look()
      .catch(this.failed)
      .finally(() => (this.isLookDue = false));
  }

  private inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const result = this.turn.then(act);
    this.turn = result.catch(() => undefined);
    return result;
  }

  private async enforce(isForced: boolean): Promise<RetentionDecision> {
    const { buffer, options, acknowledged } = this;
    const { consumers = [] } = options;
    const [minId, wanted] = await Promise.all([buffer.minId(), buffer.excess(options)]);
    const decision = decideRetention({ minId, wanted, consumers, acknowledged }, isForced);
    const atMs = Date.now();
    for (const { consumer, fromId, throughId } of decision.passedOver) {
      buffer.recordLoss({ cause: "passed-over", consumer, fromId, throughId, atMs });
    }
    this.tellHeld(decision.heldBy);
    const { beforeId } = decision;
    if (beforeId === undefined || beforeId <= this.trimmedBefore) return decision;
    await (options.trim ?? ((id) => buffer.trim(id)))(beforeId);
    this.trimmedBefore = beforeId;
    options.onTrimmed?.(beforeId);
    return decision;
  }

  private tellHeld(consumers: readonly string[]): void {
    const names = consumers.join(", ");
    if (names !== this.heldBy) this.options.onHeld?.(consumers);
    this.heldBy = names;
  }

  /** Whatever it is: what a trim of the application's throws is not ours to end a process for. */
  private readonly failed = (error: unknown): void => {
    const { onFailure } = this.options;
    if (onFailure !== undefined) {
      onFailure(error);
      return;
    }
    const what = `Retention of ${this.buffer.component}: ${describeError(error)}`;
    const code = isGaplessError(error) ? { code: error.code } : {};
    process.emitWarning(what, { ...code, type: "Gapless" });
  };
}
