/**
 * Histograms of nanoseconds in shared memory: 128 words, one party writes each, anybody reads it.
 * Four buckets an octave, as in HdrHistogram of two bits of precision: at most a quarter too much.
 */
export const latencyBuckets = 128;

const nsMax = 2 ** 31 - 1;

export function recordLatency(words: Int32Array, base: number, ns: number): void {
  const index = base + bucketOf(ns);
  words[index] = ((words[index] ?? 0) + 1) | 0;
}

export function bucketOf(ns: number): number {
  const whole = Math.max(0, Math.min(nsMax, ns)) | 0;
  if (whole < 4) return whole;
  const octave = 31 - Math.clz32(whole);
  return (octave - 1) * 4 + ((whole >>> (octave - 2)) & 3);
}

/** What is in the bucket is below this many nanoseconds. */
export function upperNs(bucket: number): number {
  return bucket < 4 ? bucket + 1 : (5 + (bucket & 3)) * 2 ** ((bucket >>> 2) - 1);
}

export interface Latency {
  readonly count: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly p999Ns: number;
  readonly maxNs: number;
  /** Those that hold anything, the shortest first. */
  readonly buckets: readonly LatencyBucket[];
}

export interface LatencyBucket {
  readonly belowNs: number;
  readonly count: number;
}

/** The upper ends of the buckets that the percentiles lie in. */
export function readLatency(words: Int32Array, base: number): Latency {
  // Without a sign: a bucket of 2^31 messages or more is negative in its word.
  const counts = Array.from(words.subarray(base, base + latencyBuckets), (count) => count >>> 0);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const at = (share: number): number => {
    let seen = 0;
    const bucket = counts.findIndex((count) => (seen += count) >= share * total);
    return total === 0 ? 0 : Math.round(upperNs(bucket));
  };
  const buckets = counts
    .map((count, bucket) => ({ belowNs: Math.round(upperNs(bucket)), count }))
    .filter(({ count }) => count > 0);
  const percentiles = { p50Ns: at(0.5), p99Ns: at(0.99), p999Ns: at(0.999), maxNs: at(1) };
  return { count: total, ...percentiles, buckets };
}
