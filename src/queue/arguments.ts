/** What the doors of a queue check of what they are given: by its name, and what was expected. */
import { GaplessError } from "../errors.ts";

/** How many messages at most. Infinity is a limit as well. */
export function checkLimit(limit: number): void {
  if (typeof limit === "number" && limit >= 0) return;
  throw wrong("limit", limit, "a number of messages, 0 or more");
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
