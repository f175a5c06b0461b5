/** Processes that do the work of the figures: a publisher, a subscriber, or both in turns. */
import path from "node:path";
import type { Size } from "../figure.ts";
import { startWorker, type Worker } from "../worker.ts";
import type { JobName, Outcome, Task } from "./member.ts";

const program = path.join(import.meta.dirname, "member.ts");

export interface Member extends AsyncDisposable {
  /** Has a job done, and resolves with its outcome. */
  run<Name extends JobName>(job: Name, task: Task<Name>): Promise<Outcome<Name>>;
  /** Ends it in the middle of whatever it has open. */
  kill(): Promise<void>;
}

export interface Crew extends AsyncDisposable {
  hire(): Member;
}

/**
 * In a full run every figure has processes of its own: what V8 has made of the code for one is not
 * what it would make for another. A small run has no time for that.
 */
export function gatherCrew(size: Size): Crew {
  const idle: Worker[] = [];
  return {
    hire() {
      const worker = idle.pop() ?? startWorker(program);
      let isHired = true;
      const kill = async (): Promise<void> => {
        isHired = false;
        await worker.stop();
      };
      return {
        async run<Name extends JobName>(job: Name, task: Task<Name>): Promise<Outcome<Name>> {
          const { outcome } = await worker.ask<{ outcome: Outcome<Name> }>({ job, task });
          return outcome;
        },
        kill,
        async [Symbol.asyncDispose]() {
          if (size === "full") await kill();
          else if (isHired) idle.push(worker);
        },
      };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(idle.map((worker) => worker.stop()));
    },
  };
}
