/** A process that does one job after the other, on a core of its own. */
import { appendMessages } from "./append.ts";
import { mergeQueues } from "./fan-in.ts";
import { abandonQueue, fillQueue } from "./fill.ts";
import { receiveMessages, sendMessages } from "./ipc.ts";
import { openQueue } from "./open.ts";
import { readMessages } from "./read.ts";
import { rollSegments } from "./roll.ts";
import { syncMessages } from "./sync.ts";

const jobs = {
  appendMessages,
  readMessages,
  mergeQueues,
  sendMessages,
  receiveMessages,
  rollSegments,
  fillQueue,
  abandonQueue,
  openQueue,
  syncMessages,
} as const;

type Jobs = typeof jobs;
export type JobName = keyof Jobs;
export type Task<Name extends JobName> = Parameters<Jobs[Name]>[0];
export type Outcome<Name extends JobName> = Awaited<ReturnType<Jobs[Name]>>;

interface Message {
  readonly job: JobName;
  readonly task: never;
}

/** Nobody is left to report to. */
function leaveOnError(error: Error | null): void {
  if (error !== null) process.exit(1);
}

if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  process.on("disconnect", () => process.exit(1));
  process.on("message", ({ job, task }: Message) => {
    void Promise.resolve(jobs[job](task)).then((outcome) =>
      process.send?.({ outcome }, leaveOnError),
    );
  });
}
