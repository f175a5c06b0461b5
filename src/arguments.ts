/**
 * What doors check of what they are given: by its name, and what was expected. All of it is beside
 * the hot paths.
 */
import { GaplessError } from "./errors.ts";

/** The names of all options that there are. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** An object of options, and none that there is not. Where they are left out, there are none. */
export function checkOptions<Options extends object>(
  door: string,
  options: Options,
  names: OptionNames<Options>,
): void {
  if (typeof options !== "object" || (options as unknown) === null || Array.isArray(options)) {
    throw wrong(`options of ${door}`, options, "an object");
  }
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name));
  if (unknown === undefined) return;
  const known = Object.keys(names).join(", ");
  throw new GaplessError("CONFIG_INVALID", `${door} has no option ${unknown}: there are ${known}.`);
}

/** Those of `names` that are given have to be functions. */
export function checkFunctions<Options extends object>(
  options: Options,
  ...names: (keyof Options & string)[]
): void {
  for (const name of names) {
    const value: unknown = options[name];
    if (value !== undefined && typeof value !== "function") throw wrong(name, value, "a function");
  }
}

/** The items of an array, and nothing of what is none. */
export function checkArray(name: string, value: unknown, of: string): void {
  if (!Array.isArray(value)) throw wrong(name, value, `an array of ${of}`);
}

/** A whole number within bounds, both included. */
export function checkWhole(name: string, value: unknown, least: number, most: number): number {
  const isRight = Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
  if (isRight) return Number(value);
  const found = typeof value === "string" ? ", a number and not a text" : "";
  const bounds =
    most === Number.MAX_SAFE_INTEGER ? `, ${least} or more` : ` from ${least} to ${most}`;
  throw wrong(name, value, `a whole number${bounds}${found}`);
}

/** How many messages at most. Infinity is a limit as well. */
export function checkLimit(limit: number): void {
  if (typeof limit === "number" && limit >= 0) return;
  throw wrong("limit", limit, "a number of messages, 0 or more");
}

/** A time to wait. Infinity is one as well. */
export function checkTimeout(timeoutMs: number): void {
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return;
  throw wrong("timeoutMs", timeoutMs, "a number that is not negative");
}

/** What ends a wait, where something does. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || (signal as unknown) instanceof AbortSignal) return;
  throw wrong("signal", signal, "an AbortSignal");
}

/** The error for an argument, as it is called where it is documented. */
export function wrong(name: string, value: unknown, expected: string): GaplessError {
  return new GaplessError("CONFIG_INVALID", `${name}=${shown(value)}: expected ${expected}.`);
}

/** In one line, whatever it is. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value);
  } catch {
    return "an object";
  }
}
