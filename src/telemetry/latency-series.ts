/** A latency histogram as series of numbers: pure. */
import type { Latency } from "../bus/bus.ts";

const nsPerSecond = 1e9;
/** An octave a bound, 128 ns to a second: all of them are ends of buckets in shared memory. */
const boundsNs = Array.from({ length: 24 }, (_unused, index) => 2 ** (7 + index));

/** In seconds, as durations are in OpenTelemetry. */
export function quantilesOf(latency: Latency): { quantile: string; seconds: number }[] {
  return [
    { quantile: "0.5", seconds: latency.p50Ns / nsPerSecond },
    { quantile: "0.99", seconds: latency.p99Ns / nsPerSecond },
    { quantile: "0.999", seconds: latency.p999Ns / nsPerSecond },
    { quantile: "1", seconds: latency.maxNs / nsPerSecond },
  ];
}

/** How many were at most so many seconds. */
export function cumulate(latency: Latency): { le: string; count: number }[] {
  const bounded = boundsNs.map((boundNs) => ({
    le: String(boundNs / nsPerSecond),
    count: latency.buckets
      .filter(({ belowNs }) => belowNs <= boundNs)
      .reduce((sum, { count }) => sum + count, 0),
  }));
  return [...bounded, { le: "+Inf", count: latency.count }];
}
