/** Processes that read a queue, and what they tell. */
import path from "node:path";
import type { TestContext } from "node:test";
import type { ReadTask } from "./queue-reader.ts";
import { startTelling, type TellingProcess } from "./telling-process.ts";

/** Tells the newest sequence of each kind; -1 before the first. */
export type ReaderProcess = TellingProcess<"open" | "taken" | "committed">;

/** Starts a reader; what the task does not say is as for one that sleeps and commits each poll. */
export function startReader(
  context: TestContext,
  task: Pick<ReadTask, "directory"> & Partial<ReadTask>,
): ReaderProcess {
  const whole: ReadTask = {
    name: "reader",
    options: {},
    waiting: "async",
    pollsPerCommit: 1,
    limit: 100,
    through: Number.MAX_SAFE_INTEGER,
    ...task,
  };
  const program = path.join(import.meta.dirname, "queue-reader.ts");
  const told = { open: -1, taken: -1, committed: -1 };
  return startTelling(context, program, [JSON.stringify(whole)], told);
}
