/** A process that tells how far it is: a line "KIND NUMBER" each time, or "failed REASON". */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";

export interface TellingProcess<Kind extends string> {
  readonly child: ChildProcess;
  /** The newest number that it has told of each kind. */
  readonly told: Record<Kind, number>;
  /** When it told that last, by the clock of this process; 0 before. */
  readonly toldAtMs: Record<Kind, number>;
  /** What it has failed with, in its own words. */
  readonly failed: string | undefined;
  /** Resolves once it is so; fails where the process ends before. */
  until(isSo: () => boolean): Promise<void>;
  /** Resolves once it has ended, and all that it has told is here. */
  ended(): Promise<void>;
}

/** Starts a program with Node; `told` is what counts before the first line. */
export function startTelling<Kind extends string>(
  context: TestContext,
  program: string,
  args: readonly string[],
  told: Record<Kind, number>,
): TellingProcess<Kind> {
  const child = spawn(process.execPath, ["--conditions=source", program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close");
  const toldAtMs = Object.fromEntries(Object.keys(told).map((kind) => [kind, 0]));
  let failed: string | undefined;
  let isOver = false;
  let look = (): void => undefined;
  void closed.then(() => {
    isOver = true;
    look();
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [kind = "", ...words] = line.split(" ");
    if (kind === "failed") {
      failed = words.join(" ");
    } else {
      told[kind as Kind] = Number(words[0]);
      toldAtMs[kind] = performance.now();
    }
    look();
  });
  return {
    child,
    told,
    toldAtMs: toldAtMs as Record<Kind, number>,
    get failed() {
      return failed;
    },
    async until(isSo) {
      while (!isSo()) {
        if (isOver) throw new Error(`it has ended: ${JSON.stringify(told)} ${failed}`);
        await new Promise<void>((resolve) => (look = resolve));
      }
    },
    async ended() {
      await closed;
    },
  };
}
