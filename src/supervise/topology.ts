/** The topology file: services, channels, options. Read once, checked whole, then frozen. */
import fs from "node:fs";
import path from "node:path";
import { z } from "zod";
import { channelTableSchema, healthTableSchema } from "../bus/config-schema.ts";
import { resolveChannels, resolveHealth } from "../bus/config.ts";
import type { Channel, Channels, HealthThresholds } from "../bus/bus.ts";
import { checkConfig, invalidConfig, parseToml, type ConfigMistake } from "../config.ts";
import { describeError } from "../errors.ts";

export interface ServiceEntry {
  readonly name: string;
  /** Absolute path of the module whose default export is the service. */
  readonly module: string;
  /** Services of one side fail together at times, as if on one machine; undefined: on none. */
  readonly side: string | undefined;
  readonly restart: "always" | "on-failure" | "never";
  readonly restartDelayMs: number;
  /** Unplanned ends within `restartWindowMs` after which the run is given up. */
  readonly restartsMax: number;
  readonly restartWindowMs: number;
}

export type OptionValue = string | number;

/** A value that services read, and that the command line may give: `--seed 7`. */
export interface OptionEntry {
  readonly name: string;
  /** `file`: an existing file, "-" for standard input, "" for none. */
  readonly type: "integer" | "text" | "file";
  readonly default: OptionValue;
  readonly help: string;
}

export interface Topology {
  readonly file: string;
  readonly name: string;
  readonly dataDirectory: string;
  /** Whether a run goes on with what the last one left, or begins with an empty directory. */
  readonly keepsData: boolean;
  readonly options: readonly OptionEntry[];
  /** Consumers before their producers: the order to start in. */
  readonly services: readonly ServiceEntry[];
  readonly channels: Channels;
  readonly health: HealthThresholds;
  /** Absolute path of the module that proves the run right at its end. */
  readonly auditModule: string | undefined;
}

const nameSchema = z
  .string({ error: "expected a name" })
  .regex(/^[a-z][a-z0-9-]{0,31}$/, "expected lower case letters, digits and -, at most 32");
const moduleSchema = z.string({ error: "expected the path of a module" }).min(1);
const countSchema = z
  .int({ error: "expected a whole number" })
  .nonnegative("expected a number of 0 or more");

const topologySchema = z.strictObject({
  name: nameSchema,
  data: z.strictObject({
    directory: z.string({ error: "expected a directory" }).min(1),
    keep: z.boolean({ error: "expected true or false" }).default(true),
  }),
  options: z
    .record(
      nameSchema,
      z.strictObject({
        type: z.enum(["integer", "text", "file"], {
          error: 'expected "integer", "text" or "file"',
        }),
        default: z.union([z.string(), z.int()], { error: "expected a text or a whole number" }),
        help: z.string({ error: "expected a sentence" }),
      }),
    )
    .default({}),
  services: z.record(
    nameSchema,
    z.strictObject({
      module: moduleSchema,
      side: nameSchema.optional(),
      restart: z
        .enum(["always", "on-failure", "never"], {
          error: 'expected "always", "on-failure" or "never"',
        })
        .optional(),
      restart_delay_ms: countSchema.optional(),
      restarts_max: countSchema.default(5),
      restart_window_ms: countSchema.default(10_000),
    }),
    { error: "expected at least one [services.NAME] table" },
  ),
  channels: channelTableSchema.default({}),
  health: healthTableSchema.default({}),
  audit: z.strictObject({ module: moduleSchema }).optional(),
});

/**
 * Reads a topology file.
 *
 * @throws GaplessError CONFIG_INVALID naming file, key and expectation for each mistake.
 */
export function loadTopology(file: string): Topology {
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    throw invalidConfig(file, [{ key: "", problem: `cannot be read: ${describeError(error)}` }]);
  }
  return parseTopology(text, file);
}

/** The same for a text; `file` names it and is what its paths are relative to. */
export function parseTopology(text: string, file: string): Topology {
  const table = checkConfig(topologySchema, parseToml(text, file), file);
  const directory = path.dirname(path.resolve(file));
  const mistakes: ConfigMistake[] = [];

  const resolveModule = (key: string, module: string): string => {
    const resolved = path.resolve(directory, module);
    if (!fs.existsSync(resolved)) {
      mistakes.push({ key, problem: `expected the path of a module, found no file ${resolved}` });
    }
    return resolved;
  };

  const channels = resolveChannels(table.channels, file, "channels.", directory);
  const services = Object.entries(table.services).map(([name, entry]) => ({
    name,
    module: resolveModule(`services.${name}.module`, entry.module),
    side: entry.side,
    restart: entry.restart ?? defaultRestart,
    restartDelayMs: entry.restart_delay_ms ?? findRestartDelayMs(name, channels),
    restartsMax: entry.restarts_max,
    restartWindowMs: entry.restart_window_ms,
  }));
  if (services.length === 0) mistakes.push({ key: "services", problem: "expected at least one" });
  for (const { name, restart } of services) {
    const channel = findRestarting(name, channels)[0];
    if (restart !== "never" || channel === undefined) continue;
    mistakes.push({
      key: `services.${name}.restart`,
      problem:
        `expected "always" or "on-failure": channels.${channel.name}.recovery has ` +
        "auto_restart_consumers = true",
    });
  }

  for (const { name, producers, consumers } of channels.values()) {
    for (const service of [...producers, ...consumers]) {
      if (services.some((known) => known.name === service)) continue;
      const key = producers.includes(service) ? "producer" : "consumers";
      mistakes.push({
        key: `channels.${name}.${key}`,
        problem: `expected a service of this file, found ${JSON.stringify(service)}`,
      });
    }
  }
  const options = Object.entries(table.options).map(([name, entry]) => {
    const isInteger = typeof entry.default === "number";
    if (isInteger !== (entry.type === "integer")) {
      mistakes.push({ key: `options.${name}.default`, problem: `expected ${entry.type}` });
    }
    return { name, ...entry };
  });
  const auditModule =
    table.audit === undefined ? undefined : resolveModule("audit.module", table.audit.module);
  if (mistakes.length > 0) throw invalidConfig(file, mistakes);

  return Object.freeze({
    file: path.resolve(file),
    name: table.name,
    dataDirectory: path.resolve(directory, table.data.directory),
    keepsData: table.data.keep,
    options,
    services: sortConsumersFirst(services, channels),
    channels,
    health: resolveHealth(table.health),
    auditModule,
  });
}

const defaultRestart = "always";
const defaultRestartDelayMs = 100;

/** Channels that want this service restarted when it dies: it consumes them. */
function findRestarting(service: string, channels: Channels): Channel[] {
  return [...channels.values()].filter(
    ({ consumers, recovery }) =>
      recovery?.autoRestartConsumers === true && consumers.includes(service),
  );
}

/** The longest delay that a channel asks for; what the service says itself comes before that. */
function findRestartDelayMs(service: string, channels: Channels): number {
  const delaysMs = findRestarting(service, channels).map(
    ({ recovery }) => recovery?.restartDelayMs ?? 0,
  );
  return delaysMs.length === 0 ? defaultRestartDelayMs : Math.max(...delaysMs);
}

/** Depth-first along the channels; a cycle is cut where it is entered. */
export function sortConsumersFirst(
  services: readonly ServiceEntry[],
  channels: Channels,
): readonly ServiceEntry[] {
  const sorted = new Set<ServiceEntry>();
  const entered = new Set<ServiceEntry>();
  const visit = (service: ServiceEntry): void => {
    if (entered.has(service)) return;
    entered.add(service);
    for (const channel of channels.values()) {
      if (!channel.producers.includes(service.name)) continue;
      for (const consumer of services) {
        if (channel.consumers.includes(consumer.name)) visit(consumer);
      }
    }
    sorted.add(service);
  };
  for (const service of services) visit(service);
  return [...sorted];
}
