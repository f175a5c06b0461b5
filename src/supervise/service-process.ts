/** The process of one service: its module, its context, and the line to the supervisor. */
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { openBus } from "../bus/bus.ts";
import { describeError, GaplessError } from "../errors.ts";
import type { FromService, Progress, ServiceStart, ToService } from "./protocol.ts";
import { socketPathOf } from "./run-directory.ts";
import type { Service } from "./service.ts";
import { loadTopology } from "./topology.ts";

const reportIntervalMs = 100;

const stop = new AbortController();
const drain = new AbortController();
const stopped = new Promise<void>((resolve) => {
  stop.signal.addEventListener("abort", () => resolve(), { once: true });
});

/** Resolves when the message is on its way; a supervisor that is gone is noticed elsewhere. */
function send(message: FromService): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, undefined, () => resolve());
  });
}

/** Loaded while the others start; what it throws is told once the service is to run. */
const [, , modulePath = ""] = process.argv;
const service = importService(modulePath);
service.catch(() => undefined);

async function main(start: ServiceStart): Promise<void> {
  const topology = loadTopology(start.topologyFile);
  const entry = topology.services.find(({ name }) => name === start.service);
  if (entry === undefined) {
    throw new GaplessError("CONFIG_INVALID", `${topology.file}: no service ${start.service}`);
  }
  const dataDirectory = path.join(start.dataDirectory, entry.name);
  fs.mkdirSync(dataDirectory, { recursive: true });
  const run = await service;
  using bus = openBus(
    { directory: start.shmDirectory, channels: topology.channels, health: topology.health },
    { service: entry.name },
  );

  let newest: Progress | undefined;
  const report = (progress: Progress): void => {
    newest = progress;
  };
  const sendNewest = async (): Promise<void> => {
    if (newest === undefined) return;
    const progress = newest;
    newest = undefined;
    await send({ type: "progress", progress });
  };
  const timer = setInterval(() => void sendNewest(), reportIntervalMs);
  try {
    await run({
      name: entry.name,
      bus,
      dataDirectory,
      options: start.options,
      paceMs: start.paceMs,
      startedAtMs: start.startedAtMs,
      signal: stop.signal,
      drain: drain.signal,
      socketPath: (name) => socketPathOf(start.shmDirectory, name),
      ready: () => void send({ type: "ready" }),
      report,
      log: (text) => void send({ type: "log", text }),
      done: async (progress) => {
        newest = undefined;
        await send({ type: "done", progress });
        await stopped;
      },
    });
  } finally {
    clearInterval(timer);
  }
}

async function importService(module: string): Promise<Service> {
  const loaded = (await import(pathToFileURL(module).href)) as { default?: unknown };
  if (typeof loaded.default !== "function") {
    throw new GaplessError("CONFIG_INVALID", `${module}: expected a function as default export`);
  }
  return loaded.default as Service;
}

let isBegun = false;

async function begin(start: ServiceStart): Promise<void> {
  isBegun = true;
  try {
    await main(start);
  } catch (error) {
    const known = error instanceof GaplessError ? error : undefined;
    // An abort of our own making is the end that was asked for.
    if (!stop.signal.aborted || known !== undefined) {
      process.exitCode = 1;
      await send({
        type: "failed",
        message:
          known?.message ??
          (error instanceof Error ? error.stack : undefined) ??
          describeError(error),
        code: known?.code,
        mayRetry: known === undefined || known.advice === "retry",
      });
    }
  }
  // Whatever else keeps the loop alive (a pool thread asleep, a socket) has nothing left to say.
  process.exit();
}

process.on("message", (message: ToService) => {
  if (message.type === "start") void begin(message.start);
  else if (message.type === "drain") drain.abort();
  else if (isBegun) stop.abort();
  else process.exit();
});
// Without its supervisor a service has nobody to restart its neighbours: it ends at once, as by a
// kill, and a later run goes on from what is durable.
process.on("disconnect", () => process.exit(1));
if (!process.connected) process.exit(1);
// A terminal, or who stops a whole group, signals every process of it: it is the supervisor's to
// answer, and it will say what to do.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
