/** What is decided when consumers are behind: pure, the clock is passed in. */
import type { Backpressure } from "./config.ts";

/** A named answer of `claim` and `offer` instead of an offset or a sequence: all are negative. */
export const BACK_PRESSURED = -1;
/** DropNewest: the message is gone; its sequence is recorded, and consumers see the gap. */
export const DROPPED = -2;
/** CircuitBreaker: nothing was tried, and nothing will be until it has recovered. */
export const CIRCUIT_OPEN = -3;

/** Shares of the ring where backpressure begins and ends, unless the channel says otherwise. */
export const defaultHighWater = 0.8;
export const defaultLowWater = 0.6;

/** The delay of one message: from the least at the high-water mark to the most in a full ring. */
export function throttleDelayUs(
  { highWater, minDelayUs, maxDelayUs }: Backpressure & { mode: "AdaptiveThrottle" },
  utilisation: number,
): number {
  const above = highWater < 1 ? (utilisation - highWater) / (1 - highWater) : 0;
  return minDelayUs + (maxDelayUs - minDelayUs) * Math.min(1, Math.max(0, above));
}

/** What `offer` meets: `open` rejects, `half-open` lets one message try. */
export type CircuitState = "closed" | "open" | "half-open";

/** Closed, open after too many failures in a window, half-open after a rest: one trial decides. */
export class CircuitBreaker {
  private readonly settings: Backpressure & { mode: "CircuitBreaker" };
  /** When the newest failures were, oldest first: as many as would open it. */
  private failuresMs: number[] = [];
  private openSinceMs: number | undefined;

  constructor(settings: Backpressure & { mode: "CircuitBreaker" }) {
    this.settings = settings;
  }

  state(nowMs: number): CircuitState {
    if (this.openSinceMs === undefined) return "closed";
    const hasRested = nowMs - this.openSinceMs >= this.settings.recoveryTimeoutMs;
    return hasRested ? "half-open" : "open";
  }

  succeeded(): void {
    this.openSinceMs = undefined;
    this.failuresMs = [];
  }

  failed(nowMs: number): void {
    if (this.openSinceMs !== undefined) {
      this.openSinceMs = nowMs;
      return;
    }
    const { failureThreshold, failureWindowMs } = this.settings;
    this.failuresMs = this.failuresMs.filter((atMs) => nowMs - atMs < failureWindowMs);
    this.failuresMs.push(nowMs);
    if (this.failuresMs.length >= failureThreshold) this.openSinceMs = nowMs;
  }
}
