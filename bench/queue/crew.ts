/** Processes that do the work of the figures: a publisher, a subscriber, or both in turns. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Size } from "../figure.ts";
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
      const worker = idle.pop() ?? startWorker();
      let isHired = true;
      const kill = async (): Promise<void> => {
        isHired = false;
        await worker.stop();
      };
      return {
        run: worker.run,
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

interface Worker {
  readonly run: Member["run"];
  stop(): Promise<void>;
}

function startWorker(): Worker {
  const child = fork(program);
  const gone = failOnExit(child);
  return {
    async run<Name extends JobName>(job: Name, task: Task<Name>): Promise<Outcome<Name>> {
      const answer = once(child, "message");
      child.send({ job, task });
      const [{ outcome }] = (await Promise.race([answer, gone])) as [{ outcome: Outcome<Name> }];
      return outcome;
    },
    async stop() {
      child.kill("SIGKILL");
      await gone.catch(() => undefined);
    },
  };
}

async function failOnExit(child: ChildProcess): Promise<never> {
  const exited = once(child, "exit");
  exited.catch(() => undefined);
  const [code] = (await exited) as [number | null];
  throw new Error(`a process of the benchmark is gone: code=${code ?? "none"}`);
}
