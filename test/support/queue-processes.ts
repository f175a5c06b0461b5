/** Processes that write to a queue, and what they tell. */
import path from "node:path";
import type { TestContext } from "node:test";
import { startTelling, type TellingProcess } from "./telling-process.ts";

/** Tells the newest sequence of each kind; 0 before the first. */
export type Appender = TellingProcess<"open" | "appended" | "durable">;

/** Starts one; `when` says which signal it sends itself: see queue-appender.ts. */
export function startAppender(
  context: TestContext,
  directory: string,
  when = "",
  takeOverAfterMs?: number,
): Appender {
  const program = path.join(import.meta.dirname, "queue-appender.ts");
  const silence = takeOverAfterMs === undefined ? [] : [String(takeOverAfterMs)];
  const told = { open: 0, appended: 0, durable: 0 };
  return startTelling(context, program, [directory, when, ...silence], told);
}
