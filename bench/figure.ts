/** One measured figure. */
export interface Figure {
  /** What was measured: `room.subject.size`. */
  readonly bench: string;
  readonly value: number;
  readonly unit: string;
  /** The same work by other means in the same run: a C program, a raw device. */
  readonly reference?: number;
  /** value / reference. Travels between machines; absolute times do not. */
  readonly ratio?: number;
  /** Percentiles in µs, levels of durability, sizes. */
  readonly [field: string]: unknown;
}

/** A full run measures; a small one, in the tests, only proves that the benchmark still runs. */
export type Size = "full" | "small";

/** The figure with its ratio, where there is a reference. */
export function figure(
  bench: string,
  value: number,
  unit: string,
  reference?: number,
  fields: Readonly<Record<string, unknown>> = {},
): Figure {
  const rounded = { bench, value: round(value), unit };
  if (reference === undefined) return { ...rounded, ...fields };
  return { ...rounded, reference: round(reference), ratio: round(value / reference), ...fields };
}

/** Three significant digits, whole numbers from a thousand on. */
function round(value: number): number {
  return value >= 1000 ? Math.round(value) : Number(value.toPrecision(3));
}
