/** Who wants to know what a buffer does: metrics, alerts. Costs nothing where nobody does. */
import type { BufferLoss } from "./loss-ledger.ts";

/** Where a message is found: in memory, or in RocksDB. */
export type Tier = "hot" | "cold";

/** Called when something is over; none may throw. Durations are in milliseconds. */
export interface BufferObserver {
  /** `error` where nothing of it was kept. */
  appended?(durationMs: number, error: unknown): void;
  /** From which tier the first message came; undefined where an error came instead. */
  queried?(durationMs: number, tier: Tier | undefined, error: unknown): void;
  trimmed?(durationMs: number, deleted: number, error: unknown): void;
  /** Somebody is not going to get something: once recorded, and once for each opening. */
  lost?(loss: BufferLoss): void;
}

export class Observers {
  private readonly all = new Set<BufferObserver>();

  add(observer: BufferObserver): Disposable {
    this.all.add(observer);
    return { [Symbol.dispose]: () => this.all.delete(observer) };
  }

  /** Tells everybody. */
  tell(tell: (observer: BufferObserver) => void): void {
    for (const observer of this.all) tell(observer);
  }

  /** Carries `act` out, and tells everybody how it went. */
  async watch<Result>(
    act: () => Promise<Result>,
    tell: (
      observer: BufferObserver,
      durationMs: number,
      result: Result | undefined,
      error: unknown,
    ) => void,
  ): Promise<Result> {
    if (this.all.size === 0) return act();
    const startMs = performance.now();
    let result: Result | undefined;
    let failure: unknown;
    try {
      result = await act();
      return result;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      const durationMs = performance.now() - startMs;
      this.tell((observer) => tell(observer, durationMs, result, failure));
    }
  }
}
