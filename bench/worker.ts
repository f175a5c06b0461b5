/** A process of a benchmark that is told what to do, and answers each time. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";

export interface Worker {
  /** Sends a message, and resolves with the answer. Rejects once the process is gone. */
  ask<Answer>(message: object): Promise<Answer>;
  /** Ends it in the middle of whatever it does. */
  stop(): Promise<void>;
}

export function startWorker(program: string): Worker {
  const child = fork(program);
  const gone = failOnExit(child);
  return {
    async ask<Answer>(message: object) {
      const answer = once(child, "message");
      child.send(message);
      const [value] = (await Promise.race([answer, gone])) as [Answer];
      return value;
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
