/** Pauses between attempts: longer each time, and never the same for two who began together. */

const firstMs = 20;
const longestMs = 1000;

/**
 * How long to wait after so many failures in a row: the second half of the pause is random.
 * Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export function jitteredMs(failures: number, random: () => number = Math.random): number {
  const wholeMs = Math.min(longestMs, firstMs * 2 ** failures);
  return (wholeMs / 2) * (1 + random());
}
