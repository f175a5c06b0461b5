/** Starts the far end of a way, gives it orders, and waits for what it reports. */
import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { Worker, type MessagePort } from "node:worker_threads";
import type { Order, Report, Task } from "./far-end.ts";

const lifetimeMsMax = 20_000;
const program = path.join(import.meta.dirname, "far-end.ts");

export interface FarEnd extends AsyncDisposable {
  /** What it reported last; undefined until it listens. */
  readonly report: Report | undefined;
  order(order: Order): void;
  /** Resolves when `holds` does. Rejects when the far end is gone, or lives for too long. */
  until(holds: () => boolean): Promise<void>;
  /** Looks again at what is waited for. */
  look(): void;
}

export function startFarEnd(task: Task): FarEnd {
  const { port } = task.address;
  const { post, stop, events } = port === undefined ? startProcess(task) : startThread(task, port);
  let report: Report | undefined;
  let failure: Error | undefined;
  let waiting = Promise.withResolvers<undefined>();
  const look = (): void => {
    waiting.resolve(undefined);
    waiting = Promise.withResolvers();
  };
  const fail = (error: Error): void => {
    failure ??= error;
    look();
  };
  events.on("message", (message: Report) => {
    report = message;
    look();
  });
  events.on("error", fail);
  events.on("exit", () => fail(new Error(`the far end of ${task.name} is gone`)));
  const watchdog = setTimeout(
    () => fail(new Error(`${task.name} took longer than ${lifetimeMsMax} ms`)),
    lifetimeMsMax,
  );
  return {
    get report() {
      return report;
    },
    order: post,
    look,
    async until(holds) {
      while (!holds()) {
        if (failure !== undefined) throw failure;
        await waiting.promise;
      }
    },
    async [Symbol.asyncDispose]() {
      clearTimeout(watchdog);
      await stop();
    },
  };
}

interface Started {
  readonly events: NodeJS.EventEmitter;
  readonly post: (order: Order) => void;
  readonly stop: () => Promise<unknown>;
}

function startProcess(task: Task): Started {
  const child = fork(program, [JSON.stringify(task)]);
  const exited = once(child, "exit");
  return {
    events: child,
    post: (order) => void child.send(order),
    async stop() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function startThread(task: Task, port: MessagePort): Started {
  const thread = new Worker(program, { workerData: task, transferList: [port] });
  return {
    events: thread,
    post: (order) => thread.postMessage(order),
    stop: () => thread.terminate(),
  };
}
