/** Nanoseconds, passed in wherever code depends on time, so that tests and replays own the clock. */
export interface Clock {
  /** Nanoseconds since 1970. Follows the system's clock, so it may step. */
  nowNs(): bigint;
  /** Nanoseconds since some fixed moment. Never steps back: for durations and deadlines. */
  monotonicNs(): bigint;
}

/** The machine's own clocks; `nowNs` has the resolution of the monotonic clock. */
export const systemClock: Clock = {
  nowNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n,
  monotonicNs: () => process.hrtime.bigint(),
};
