/**
 * One run of a topology, from the first process to the audit.
 *
 *   start consumers → start producers → … input ends, stage by stage … → stop → audit
 *
 * A stream ends in band: the service that brings messages in says so on its channel, and each
 * stage ends when it has taken everything before it. A drain is that, begun early.
 */
import { pathToFileURL } from "node:url";
import { GaplessError } from "../errors.ts";
import { killIntervalMs, planKills, type Kill } from "./chaos.ts";
import { inflict } from "./inflict.ts";
import type { Progress } from "./protocol.ts";
import { openRunDirectory } from "./run-directory.ts";
import type { Audit, AuditReport } from "./service.ts";
import { SupervisedService } from "./supervised-service.ts";
import type { OptionValue, ServiceEntry, Topology } from "./topology.ts";
import path from "node:path";

export interface RunOptions {
  readonly options: Readonly<Record<string, OptionValue>>;
  /** What decides whether two runs are about the same; by default the options. */
  readonly input?: Readonly<Record<string, OptionValue>>;
  readonly dataDirectory: string;
  readonly keepsData: boolean;
  /** Milliseconds to spread the input over. By default as long as the chaos, or not at all. */
  readonly paceMs?: number;
  readonly chaos?: { readonly kills: number; readonly seed: number };
  /** Takes the first abort as a drain; `kill` ends the run without one. */
  readonly drain: AbortSignal;
  readonly kill: AbortSignal;
  readonly watch: RunWatcher;
}

/** Where a run shows itself. */
export interface RunWatcher {
  log(service: string, text: string): void;
  killed(kill: Kill, index: number): void;
  /** The services are there to be looked at, in the order of the stages. */
  started(services: readonly SupervisedService[]): void;
  finished(): void;
}

export interface RunResult {
  /** undefined where the topology has none. */
  readonly audit: AuditReport | undefined;
  readonly wasDrained: boolean;
}

/**
 * Runs until every service is done, then audits.
 *
 * @throws GaplessError where a service fails for good, or the audit cannot be made; every process
 *   has ended and nothing is left in shared memory.
 */
export async function runTopology(topology: Topology, run: RunOptions): Promise<RunResult> {
  using directory = openRunDirectory({
    data: run.dataDirectory,
    keepsData: run.keepsData,
    services: topology.services.map(({ name }) => name),
    input: run.input ?? run.options,
  });
  const { watch } = run;
  const outcome = Promise.withResolvers<never>();
  outcome.promise.catch(() => undefined);
  let changed = Promise.withResolvers<undefined>();

  const paceMs = run.paceMs ?? (run.chaos?.kills ?? 0) * killIntervalMs;
  const supervise = (entry: ServiceEntry): SupervisedService =>
    new SupervisedService(
      entry,
      [...topology.channels.values()]
        .filter(({ consumers }) => consumers.includes(entry.name))
        .flatMap(({ producers }) => producers),
      {
        topologyFile: topology.file,
        service: entry.name,
        dataDirectory: directory.data,
        shmDirectory: directory.shm,
        options: run.options,
        paceMs,
      },
      {
        log: (text) => watch.log(entry.name, text),
        changed: () => {
          changed.resolve(undefined);
          changed = Promise.withResolvers();
        },
        failed: (error) => outcome.reject(error),
      },
    );
  const services = topology.services.map(supervise);

  /** Waits for something that is true of the services, or for the end of everything. */
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await Promise.race([changed.promise, outcome.promise]);
  };
  const drain = (): void => {
    for (const service of services) service.drain();
  };
  const kill = (): void => outcome.reject(new Interrupted());
  const over = new AbortController();

  run.drain.addEventListener("abort", drain, { once: true });
  run.kill.addEventListener("abort", kill, { once: true });
  try {
    if (run.kill.aborted) throw new Interrupted();
    watch.started(services.toReversed());
    for (const service of services) service.launch();
    for (const service of services) {
      service.begin();
      await until(() => service.state !== "starting");
    }
    const victims = services.map(({ entry }) => entry);
    const kills =
      run.chaos === undefined ? [] : planKills(run.chaos.kills, victims, run.chaos.seed);
    const killed = (kill: Kill, index: number): void => watch.killed(kill, index);
    const ending = AbortSignal.any([over.signal, run.drain]);
    const chaos = inflict(kills, services, killed, ending);
    await Promise.race([chaos, outcome.promise]);
    await until(() => services.every(({ state }) => state === "done"));
  } finally {
    over.abort();
    run.drain.removeEventListener("abort", drain);
    run.kill.removeEventListener("abort", kill);
    // Producers first: a consumer that stops is not waited for by a producer that goes on.
    for (const service of services.toReversed()) await service.stop();
    watch.finished();
  }
  const progress = new Map(services.map(({ entry, progress: last }) => [entry.name, last]));
  const wasDrained = run.drain.aborted;
  const audit = await runAudit(topology, directory.data, progress, run.options);
  return { audit, wasDrained };
}

/** The run was ended before it was done, and without a drain. */
export class Interrupted extends Error {
  constructor() {
    super("Interrupted: what was not yet durable comes again with --resume.");
  }
}

async function runAudit(
  topology: Topology,
  data: string,
  progress: ReadonlyMap<string, Progress>,
  options: Readonly<Record<string, OptionValue>>,
): Promise<AuditReport | undefined> {
  if (topology.auditModule === undefined) return undefined;
  const loaded = (await import(pathToFileURL(topology.auditModule).href)) as { default?: unknown };
  if (typeof loaded.default !== "function") {
    throw new GaplessError(
      "CONFIG_INVALID",
      `${topology.auditModule}: expected a function as default export`,
    );
  }
  const audit = loaded.default as Audit;
  return await audit({
    dataDirectory: (service) => path.join(data, service),
    progress,
    options,
  });
}
