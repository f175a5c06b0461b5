/** Moments as a person names them: pure. */
import { invalidConfig } from "../config.ts";

const msByUnit: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Nanoseconds since 1970 of "2026-01-31T09:00:00Z", or of so long ago as "90s", "15m", "2h", "1d".
 *
 * @throws GaplessError CONFIG_INVALID naming `key`
 */
export function parseTime(key: string, text: string, nowMs: number): bigint {
  const ago = /^(\d+)([smhd])$/.exec(text);
  const unitMs = msByUnit[ago?.[2] ?? ""];
  const isDate = /^\d{4}-\d{2}-\d{2}/.test(text);
  const ms =
    unitMs === undefined ? (isDate ? Date.parse(text) : NaN) : nowMs - Number(ago?.[1]) * unitMs;
  if (Number.isFinite(ms)) return BigInt(Math.max(0, Math.floor(ms))) * 1_000_000n;
  const found = JSON.stringify(text);
  const problem = `expected a time such as 2026-01-31T09:00:00Z, or 15m, found ${found}`;
  throw invalidConfig("command line", [{ key, problem }]);
}
