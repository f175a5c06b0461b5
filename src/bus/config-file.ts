/** A file with a bus: where its channels are, and what they are. */
import fs from "node:fs";
import path from "node:path";
import { z } from "zod";
import { checkConfig, invalidConfig, parseToml } from "../config.ts";
import { describeError } from "../errors.ts";
import { resolveChannels, resolveHealth, type Channels } from "./config.ts";
import { channelTableSchema, healthTableSchema } from "./config-schema.ts";
import type { HealthThresholds } from "./health.ts";

/** Where channels are whose configuration does not say. */
export const defaultBusDirectory = "/dev/shm/gapless";

const ownFields = {
  directory: z.string({ error: "expected the path of a folder" }).min(1).optional(),
  channels: channelTableSchema.default({}),
  health: healthTableSchema.default({}),
};

/** A file with services is a topology: what else it says, its own reader checks. */
const topologySchema = z.looseObject({ ...ownFields, services: z.unknown() });

const fileSchema = z.strictObject(ownFields, {
  error: (issue) =>
    issue.code === "unrecognized_keys"
      ? `unknown ${issue.keys.join(", ")}, expected ${Object.keys(ownFields).join(", ")}`
      : "expected a table",
});

/** What a file with a bus says. */
export interface BusFile {
  readonly directory: string;
  readonly channels: Channels;
  readonly health: HealthThresholds;
}

/**
 * Reads a TOML file with `[channels.NAME]` tables, thresholds in `[health]` and, unless that is
 * /dev/shm/gapless, the `directory` of the channels, relative to the file. What else a
 * topology says is passed over, in any other file it is a mistake.
 *
 * @throws GaplessError CONFIG_INVALID naming file, key and expectation for each mistake.
 */
export function loadBusFile(file: string): BusFile {
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    throw invalidConfig(file, [{ key: "", problem: `cannot be read: ${describeError(error)}` }]);
  }
  const parsed = parseToml(text, file);
  const isTopology = typeof parsed === "object" && parsed !== null && "services" in parsed;
  const table = checkConfig(isTopology ? topologySchema : fileSchema, parsed, file);
  const { directory = defaultBusDirectory, channels, health } = table;
  const folder = path.dirname(path.resolve(file));
  return {
    directory: path.resolve(folder, directory),
    channels: resolveChannels(channels, file, "channels.", folder),
    health: resolveHealth(health),
  };
}
