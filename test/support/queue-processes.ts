/** Processes that write to a queue, and what they tell. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";

export interface Appender {
  readonly child: ChildProcess;
  /** The newest sequence that it has told, of each kind; 0 before the first. */
  readonly told: { open: number; appended: number; durable: number };
  readonly failed: string | undefined;
  until(isSo: () => boolean): Promise<void>;
  /** Resolves once it has ended, and all that it has told is here. */
  ended(): Promise<void>;
}

/** Starts one; `when` says which signal it sends itself: see queue-appender.ts. */
export function startAppender(
  context: TestContext,
  directory: string,
  when = "",
  takeOverAfterMs?: number,
): Appender {
  const program = path.join(import.meta.dirname, "queue-appender.ts");
  const silence = takeOverAfterMs === undefined ? [] : [String(takeOverAfterMs)];
  const child = spawn(
    process.execPath,
    ["--conditions=source", program, directory, when, ...silence],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  context.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close");
  const told = { open: 0, appended: 0, durable: 0 };
  let failed: string | undefined;
  let isOver = false;
  let look = (): void => undefined;
  void closed.then(() => {
    isOver = true;
    look();
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [kind = "", value = ""] = line.split(" ");
    if (kind === "failed") failed = value;
    else told[kind as keyof typeof told] = Number(value);
    look();
  });
  return {
    child,
    told,
    get failed() {
      return failed;
    },
    async until(isSo) {
      while (!isSo()) {
        if (isOver) throw new Error(`the appender has ended: ${JSON.stringify(told)} ${failed}`);
        await new Promise<void>((resolve) => (look = resolve));
      }
    },
    async ended() {
      await closed;
    },
  };
}
