/** What figures say of many measurements. */
import { build, type Histogram } from "hdr-histogram-js";

/** In µs. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly p9999: number;
  readonly max: number;
}

export function percentilesOf(nanoseconds: Iterable<number>): Percentiles {
  const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 1e11 });
  // Clocks of two processes agree to some ten nanoseconds, and the histogram knows no less than 1.
  for (const ns of nanoseconds) histogram.recordValue(Math.max(1, Math.round(ns)));
  return percentilesIn(histogram);
}

/** Of a histogram of nanoseconds. */
export function percentilesIn(histogram: Histogram): Percentiles {
  const micros = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000;
  return {
    p50: micros(50),
    p99: micros(99),
    p999: micros(99.9),
    p9999: micros(99.99),
    max: histogram.maxValue / 1000,
  };
}

/**
 * Of several passes: of each percentile the one in the middle, so that no single stall of the
 * machine decides it. The maximum is that of all: no stall is hidden.
 */
export function mediansOf(passes: readonly Percentiles[]): Percentiles {
  const median = (of: keyof Percentiles): number => {
    const sorted = passes.map((pass) => pass[of]).sort((a, b) => a - b);
    return sorted[sorted.length >>> 1] ?? NaN;
  };
  return {
    p50: median("p50"),
    p99: median("p99"),
    p999: median("p999"),
    p9999: median("p9999"),
    max: Math.max(...passes.map(({ max }) => max)),
  };
}

/** Of several passes: the one in the middle, and how far they are apart. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => Number((sorted[index] ?? NaN).toPrecision(3));
  return { median: at(sorted.length >>> 1), min: at(0), max: at(sorted.length - 1) };
}
