/** Starting processes at the ends of a channel, and killing them. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { until, type Settings } from "./bus-channel.ts";
import type { ConsumeTask, Report, Task } from "./bus-worker.ts";

export interface Worker {
  readonly child: ChildProcess;
  /** All that it has told, in order. */
  readonly reports: Report[];
  /** The numbers of the messages that it has told of. */
  readonly numbers: number[];
  /** Resolves with the first report of the kind. Fails where it tells of a failure instead. */
  told<Event extends Report["event"]>(event: Event): Promise<Extract<Report, { event: Event }>>;
  /** Kills it, and resolves when it is gone. */
  kill(): Promise<void>;
  /** Resolves when it is gone by itself. */
  readonly gone: Promise<unknown>;
}

const program = path.join(import.meta.dirname, "bus-worker.ts");

export function startWorker(context: Pick<TestContext, "after">, task: Task): Worker {
  const child = spawn(
    process.execPath,
    ["--conditions=source", "--disable-warning=ExperimentalWarning", program, JSON.stringify(task)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  context.after(() => child.kill("SIGKILL"));
  return follow(child);
}

/** Collects what a process that runs a worker tells. */
export function follow(child: ChildProcess): Worker {
  assert.ok(child.stdout);
  const reports: Report[] = [];
  const numbers: number[] = [];
  const gone = once(child, "close");
  createInterface({ input: child.stdout }).on("line", (line) => {
    const report = JSON.parse(line) as Report;
    reports.push(report);
    if (report.event === "message") numbers.push(report.number);
  });
  return {
    child,
    reports,
    numbers,
    gone,
    async told(event) {
      type Wanted = Extract<Report, { event: typeof event }>;
      const find = (): Wanted | undefined =>
        reports.find((report): report is Wanted => report.event === event);
      const failed = (): Report | undefined => reports.find((it) => it.event === "failed");
      await until(`a worker tells that ${event}`, () => (find() ?? failed()) !== undefined);
      const found = find();
      assert.ok(found, JSON.stringify(failed()));
      return found;
    },
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** One that takes what comes as `ledger`, and releases it all. */
export function consumeTask(
  directory: string,
  settings: Settings,
  changes: Partial<ConsumeTask> = {},
): ConsumeTask {
  return {
    kind: "consume",
    directory,
    settings,
    service: "ledger",
    waiting: "async",
    limit: 4,
    pauseMs: 0,
    releaseThrough: Number.MAX_SAFE_INTEGER,
    ...changes,
  };
}
