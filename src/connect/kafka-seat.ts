/**
 * The place of one member in its group: whether the partition is its own, and what is committed.
 *
 *   waiting ──assigned──► settling ──nobody else has committed──► holding
 *      ▲                     ▲  │                                    │
 *      └──another has it─────┘  └──somebody has──► FENCED ◄──another has it
 *
 * A new generation of the group asks anew. Where the partition is ours again, the committed offset
 * tells whether anybody had it in between: it is what we committed, or somebody else has been at
 * work, whose position is the true one. Then this member ends with FENCED, for good.
 *
 * Holding is a lease: a member that was stopped knows nothing of what the group has decided. What
 * it has in hand is delivered only while a heartbeat that was answered is younger than a session,
 * and a commit is refused by the broker itself.
 */
import { GaplessError } from "../errors.ts";
import { heldNever } from "./kafka-assignment.ts";
import { reasonsOf } from "./kafka-errors.ts";
import type { ResolvedKafkaOptions } from "./kafka-options.ts";
import { KafkaPartition, neverCommitted, type MembershipListener } from "./kafka-partition.ts";
import { orAborted, persist } from "./kafka-persistence.ts";

export class GroupSeat implements MembershipListener {
  private readonly options: ResolvedKafkaOptions;
  private readonly closing: AbortSignal;
  private state: "waiting" | "settling" | "holding" = "waiting";
  private generation = heldNever;
  private heldSince = heldNever;
  private hasHeld = false;
  /** What is committed: at least the first, at most the second. */
  private confirmed = neverCommitted;
  private attempted = neverCommitted;
  /** When the heartbeat was sent that was answered last, or the group was joined. */
  private provenMs = -Infinity;
  private sentMs = -Infinity;
  private mustJoin = true;
  private failure: Error | undefined;
  private changed = Promise.withResolvers<undefined>();
  private committing: Promise<void> = Promise.resolve();
  private opened: KafkaPartition | undefined;

  constructor(options: ResolvedKafkaOptions, closing: AbortSignal) {
    this.options = options;
    this.closing = closing;
  }

  /** @throws GaplessError CONFIG_INVALID where the client library is not installed. */
  async open(): Promise<KafkaPartition> {
    const partition = await KafkaPartition.open(this.options, this, () => this.heldSince);
    this.opened = partition;
    void this.stayJoined(partition);
    return partition;
  }

  /** Where reading begins: the committed offset, or `neverCommitted`. */
  get committedOffset(): bigint {
    return this.confirmed;
  }

  /**
   * Waits until the partition is this member's. False when `signal` aborts before that.
   *
   * @throws GaplessError FENCED, or why the group cannot be joined at all.
   */
  async holds(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      if (this.failure !== undefined) throw this.failure;
      if (this.state === "holding" && this.isFresh()) return true;
      await orAborted(this.changed.promise, signal);
    }
    return false;
  }

  /**
   * Commits, one after the other, and only forward. Tried until it is done.
   *
   * @throws GaplessError FENCED; PEER_UNAVAILABLE where `signal` aborts before it is done.
   */
  async commit(offset: bigint, signal: AbortSignal): Promise<void> {
    const before = this.committing;
    const commit = before.then(
      () => this.commitNext(offset, signal),
      () => this.commitNext(offset, signal),
    );
    this.committing = commit;
    await commit;
  }

  private async commitNext(offset: bigint, signal: AbortSignal): Promise<void> {
    if (offset <= this.confirmed) return;
    const partition = this.opened;
    if (partition === undefined) return;
    this.attempted = offset;
    const committed = await persist(
      async () => {
        // A stale lease is no hindrance: the broker knows the generation.
        while (this.state !== "holding" && this.failure === undefined && !signal.aborted) {
          await orAborted(this.changed.promise, signal);
        }
        if (this.failure !== undefined || signal.aborted) return false;
        await partition.commit(offset);
        return true;
      },
      this.options,
      signal,
    );
    if (this.failure !== undefined) throw this.failure;
    if (committed === true) {
      this.confirmed = offset;
      return;
    }
    throw new GaplessError(
      "PEER_UNAVAILABLE",
      `Offset ${offset.toString()} of ${this.place} was not committed before the end: what was ` +
        "delivered comes again.",
    );
  }

  joined(generation: number, isAssigned: boolean): void {
    this.generation = generation;
    this.provenMs = performance.now();
    if (isAssigned) {
      this.heldSince = generation;
      this.state = "settling";
      void this.settle(generation);
    } else if (this.hasHeld) {
      this.fail(this.fenced("another member of the group has it now"));
    } else {
      this.state = "waiting";
    }
    this.announce();
  }

  heartbeatSent(): void {
    this.sentMs = performance.now();
  }

  heartbeatAnswered(): void {
    this.provenMs = this.sentMs;
    this.announce();
  }

  heartbeatFailed(error: Error): void {
    this.options.onOutage?.(error);
  }

  expelled(error: Error): void {
    this.options.onOutage?.(error);
    this.state = "waiting";
    this.mustJoin = true;
    this.announce();
  }

  private async stayJoined(partition: KafkaPartition): Promise<void> {
    try {
      while (!this.closing.aborted && this.failure === undefined) {
        if (this.mustJoin) {
          this.mustJoin = false;
          await persist(() => partition.join(), this.options, this.closing);
        } else {
          await orAborted(this.changed.promise, this.closing);
        }
      }
    } catch (error) {
      this.fail(error);
    }
  }

  private async settle(generation: number): Promise<void> {
    const partition = this.opened;
    if (partition === undefined) return;
    try {
      const committed = await persist(() => partition.committed(), this.options, this.closing);
      // The group has moved on meanwhile: the next generation is settled by itself.
      if (committed === undefined || generation !== this.generation) return;
      if (this.state !== "settling") return;
      if (this.hasHeld && (committed < this.confirmed || committed > this.attempted)) {
        const expected = `between ${this.confirmed.toString()} and ${this.attempted.toString()}`;
        const found = `committed=${committed.toString()}, expected ${expected}`;
        this.fail(this.fenced(`another member of the group had it meanwhile: ${found}`));
        return;
      }
      this.hasHeld = true;
      this.confirmed = committed;
      if (this.attempted < committed) this.attempted = committed;
      this.state = "holding";
    } catch (error) {
      this.fail(error);
    }
    this.announce();
  }

  private isFresh(): boolean {
    return performance.now() - this.provenMs < this.options.sessionTimeoutMs;
  }

  private announce(): void {
    const { resolve } = this.changed;
    this.changed = Promise.withResolvers<undefined>();
    resolve(undefined);
  }

  private fail(error: unknown): void {
    this.failure ??= error instanceof Error ? error : new Error(reasonsOf(error));
    this.heldSince = heldNever;
    void this.opened?.leave();
    this.announce();
  }

  private get place(): string {
    const { topic, partition, group } = this.options;
    return `partition ${partition} of topic ${topic} for group ${group}`;
  }

  private fenced(how: string): GaplessError {
    return new GaplessError(
      "FENCED",
      `This process no longer reads ${this.place}: ${how}. Start it anew to wait for its turn.`,
    );
  }
}
