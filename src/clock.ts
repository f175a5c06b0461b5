// The global of the same name is a getter, and costs a reading a third more.
import { performance } from "node:perf_hooks";

/** Nanoseconds, passed in wherever code depends on time: tests and replays own the clock. */
export interface Clock {
  /** Nanoseconds since 1970. Follows the system's clock, so it may step. */
  nowNs(): bigint;
  /** Nanoseconds since some fixed moment. Never steps back: for durations and deadlines. */
  monotonicNs(): bigint;
}

/** The machine's own clocks; `nowNs` has the resolution of the monotonic clock. */
export const systemClock: Clock = {
  nowNs: () => BigInt(Math.round(nowMs() * 1000)) * 1000n,
  monotonicNs: () => process.hrtime.bigint(),
};

/** Further apart than this, the system's clock was set, or the machine slept. */
const stepMs = 10;
/** Two readings so close together count as one. */
const sameMomentMs = 0.1;

let originMs = performance.timeOrigin;

/** The monotonic clock, counted from the origin that makes it agree with the system's clock. */
function nowMs(): number {
  const estimateMs = originMs + performance.now();
  if (Math.abs(estimateMs - Date.now()) <= stepMs) return estimateMs;
  // A thread that was put aside between the two readings looks like a step: read again.
  let beforeMs: number;
  let systemMs: number;
  let afterMs: number;
  do {
    beforeMs = performance.now();
    systemMs = Date.now();
    afterMs = performance.now();
  } while (afterMs - beforeMs > sameMomentMs);
  if (Math.abs(originMs + afterMs - systemMs) > stepMs) originMs = systemMs - afterMs;
  return originMs + afterMs;
}

/** Nanoseconds between boot and the origin of `performance.now()`, of this thread. */
const bootOriginNs = measureBootOrigin();

/**
 * Nanoseconds since boot (CLOCK_MONOTONIC): the same in all processes of a machine. A double, so
 * that a reading allocates nothing: exact for 104 days, then to 2 ns.
 */
export function bootNs(): number {
  return bootOriginNs + performance.now() * 1e6;
}

/** Milliseconds since boot. */
export function bootMs(): number {
  return bootMsAt(performance.now());
}

/** The same at a reading of `performance.now()`. */
export function bootMsAt(nowMs: number): number {
  return bootOriginNs / 1e6 + nowMs;
}

/** The nearest of some readings of both clocks: a thread can be put aside between the two. */
function measureBootOrigin(): number {
  let nearestMs = Infinity;
  let originNs = 0;
  for (let reading = 0; reading < 20; reading++) {
    const beforeMs = performance.now();
    const ns = Number(process.hrtime.bigint());
    const afterMs = performance.now();
    if (afterMs - beforeMs >= nearestMs) continue;
    nearestMs = afterMs - beforeMs;
    originNs = ns - ((beforeMs + afterMs) / 2) * 1e6;
  }
  return originNs;
}
