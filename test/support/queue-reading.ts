/** Processes that read a queue, and what they tell. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import type { ReadTask } from "./queue-reader.ts";

export interface ReaderProcess {
  readonly child: ChildProcess;
  /** The newest that it has told of each kind; -1 before the first. */
  readonly told: { open: number; taken: number; committed: number };
  /** When it told `taken`, by the clock of this process. */
  readonly takenAtMs: number;
  readonly failed: string | undefined;
  /** Resolves once it is so; fails where the process ends, or fails, before. */
  until(isSo: () => boolean): Promise<void>;
  /** Resolves once it has ended, and all that it has told is here. */
  ended(): Promise<void>;
}

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
  const child = spawn(process.execPath, ["--conditions=source", program, JSON.stringify(whole)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close");
  const told = { open: -1, taken: -1, committed: -1 };
  let takenAtMs = 0;
  let failed: string | undefined;
  let isOver = false;
  let look = (): void => undefined;
  void closed.then(() => {
    isOver = true;
    look();
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [kind = "", value = ""] = line.split(" ");
    if (kind === "failed") failed = line;
    else told[kind as keyof typeof told] = Number(value);
    if (kind === "taken") takenAtMs = performance.now();
    look();
  });
  return {
    child,
    told,
    get takenAtMs() {
      return takenAtMs;
    },
    get failed() {
      return failed;
    },
    async until(isSo) {
      while (!isSo()) {
        if (isOver || failed !== undefined) {
          throw new Error(`the reader has ended: ${JSON.stringify(told)} ${failed}`);
        }
        await new Promise<void>((resolve) => (look = resolve));
      }
    },
    async ended() {
      await closed;
    },
  };
}
