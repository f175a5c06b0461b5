/** Where the channels are that a command is to look at. */
import fs from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import { defaultBusDirectory, loadBusFile } from "../bus/config-file.ts";
import type { HealthThresholds } from "../bus/health.ts";
import { invalidConfig, parseToml } from "../config.ts";
import { describeError } from "../errors.ts";
import { shmDirectoryOf } from "../supervise/run-directory.ts";
import { loadTopology } from "../supervise/topology.ts";

export interface BusFlags {
  readonly directory?: string;
  readonly data?: string;
}

export interface BusLocation {
  readonly directory: string;
  readonly health: Partial<HealthThresholds>;
  /** Names of the channels that there should be; none where nothing says so. */
  readonly channels: readonly string[];
}

/** The options by which a command is told where the channels are, besides a CONFIG argument. */
export function withBusOptions(command: Command): Command {
  return command
    .option("--directory <directory>", `where the channels are (${defaultBusDirectory})`)
    .option("--data <directory>", "of a run of `gapless up TOPOLOGY --data DIRECTORY`");
}

/**
 * @param config A file with `[channels]`, or a topology: the channels of its run are found.
 * @throws GaplessError CONFIG_INVALID
 */
export function locateBus(config: string | undefined, flags: BusFlags): BusLocation {
  if (flags.data !== undefined) return ofRun(config, flags.data);
  if (config === undefined) {
    return { directory: flags.directory ?? defaultBusDirectory, health: {}, channels: [] };
  }
  const location = isTopology(config) ? ofTopology(config) : ofBusFile(config);
  return flags.directory === undefined ? location : { ...location, directory: flags.directory };
}

function ofBusFile(config: string): BusLocation {
  const { directory, health, channels } = loadBusFile(config);
  return { directory, health, channels: [...channels.keys()] };
}

function ofTopology(config: string): BusLocation {
  const { dataDirectory } = loadTopology(config);
  return ofRun(config, dataDirectory);
}

function ofRun(config: string | undefined, data: string): BusLocation {
  const topology = config === undefined ? undefined : loadTopology(config);
  return {
    // Without its data there is no run, and so no channels.
    directory: fs.existsSync(data) ? shmDirectoryOf(data) : path.resolve(data),
    health: topology?.health ?? {},
    channels: [...(topology?.channels.keys() ?? [])],
  };
}

function isTopology(config: string): boolean {
  let text: string;
  try {
    text = fs.readFileSync(config, "utf8");
  } catch (error) {
    throw invalidConfig(config, [{ key: "", problem: `cannot be read: ${describeError(error)}` }]);
  }
  return Object.hasOwn(parseToml(text, config) as object, "services");
}
