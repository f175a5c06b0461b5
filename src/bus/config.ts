/** The `[channels]` table: checked once, across fields, then frozen. */
import path from "node:path";
import type { z } from "zod";
import { checkConfig, invalidConfig, type ConfigMistake } from "../config.ts";
import { channelTableSchema, type ChannelEntry, type healthTableSchema } from "./config-schema.ts";
import { defaultHighWater, defaultLowWater } from "./backpressure.ts";
import { defaultHealthThresholds, type HealthThresholds } from "./health.ts";
import {
  consumersMax,
  messageBytesLimit,
  recordBytesOf,
  ringBytesMax,
  ringBytesMin,
} from "./layout.ts";

/**
 * What a channel does once its slowest consumer is behind by `highWater` of the ring, until it has
 * come back to `lowWater`:
 *
 *   Reject            nothing before the ring is full; then BACK_PRESSURED: nothing is lost
 *   DropNewest        new messages are not written: DROPPED
 *   DropOldest        the oldest messages are overwritten
 *   BlockProducer     `offer` blocks its thread up to `timeoutMs`, then BACK_PRESSURED
 *   AdaptiveThrottle  `offer` takes from `minDelayUs` to `maxDelayUs` longer, the more the fuller
 *   CircuitBreaker    BACK_PRESSURED; after `failureThreshold` of those within `failureWindowMs`
 *                     CIRCUIT_OPEN without a look, for `recoveryTimeoutMs`
 */
export type Backpressure = { readonly highWater: number; readonly lowWater: number } & (
  | { readonly mode: "Reject" | "DropNewest" | "DropOldest" }
  | { readonly mode: "BlockProducer"; readonly timeoutMs: number }
  | { readonly mode: "AdaptiveThrottle"; readonly minDelayUs: number; readonly maxDelayUs: number }
  | {
      readonly mode: "CircuitBreaker";
      readonly failureThreshold: number;
      readonly failureWindowMs: number;
      readonly recoveryTimeoutMs: number;
    }
);

/** The consumer that a channel with persistence has besides those that it names. */
export const recorderService = "recorder";

/** What is kept beside the ring, and what comes back when a consumer restarts. */
export interface Recovery {
  /** Absolute path of the folder of the durable queues; undefined: there is no recorder. */
  readonly persistencePath: string | undefined;
  /** undefined: nothing is replayed. */
  readonly replayWindowMs: number | undefined;
  readonly autoRestartConsumers: boolean;
  readonly restartDelayMs: number;
}

export interface Channel {
  readonly name: string;
  readonly type: "SPSC" | "SPMC" | "MPSC" | "MPMC";
  /** In the order of their blocks in the control block; a backup comes last. */
  readonly producers: readonly string[];
  /** Whether the last producer writes only once the first one is dead or silent. */
  readonly hasBackup: boolean;
  /** In the order of their blocks in the control block; a recorder comes last. */
  readonly consumers: readonly string[];
  /** Of each lane. */
  readonly ringBytes: number;
  readonly messageBytesMax: number;
  /** Levels, and so lanes. */
  readonly priorities: number;
  readonly backpressure: Backpressure;
  /** What a ring in need of room means for a consumer that has failed. */
  readonly failedConsumer: "evict" | "wait";
  /** Silence after which a living consumer counts as failed; a dead one has failed at once. */
  readonly consumerTimeoutMs: number;
  /** Silence of the first producer after which its backup takes over. */
  readonly producerTimeoutMs: number;
  readonly timestamps: "all" | "sampled" | "off";
  readonly hugePages: boolean;
  readonly numaNode: number | undefined;
  readonly prefault: boolean;
  /** Whether a wish about memory that cannot be met is an error. */
  readonly strict: boolean;
  readonly recovery: Recovery | undefined;
}

/** A checked `[channels]` table, by name. */
export type Channels = ReadonlyMap<string, Channel>;

/**
 * Reads a `[channels]` table as TOML gives it.
 *
 * @throws GaplessError CONFIG_INVALID naming `source`, key and expectation for each mistake.
 */
export function parseChannels(table: unknown, source: string): Channels {
  return resolveChannels(checkConfig(channelTableSchema, table, source), source, "");
}

/**
 * The checks across fields, for a table that has passed its schema at `prefix` of `source`. Paths
 * in it are relative to `directory`.
 */
export function resolveChannels(
  table: z.output<typeof channelTableSchema>,
  source: string,
  prefix: string,
  directory = ".",
): Channels {
  const mistakes: ConfigMistake[] = [];
  const channels = new Map<string, Channel>();
  const channelByProducer = new Map<string, string>();
  for (const [name, entry] of Object.entries(table)) {
    const wrong = (key: string, problem: string): void => {
      mistakes.push({ key: `${prefix}${name}.${key}`, problem });
    };
    const channel = resolveChannel(name, entry, directory, wrong);
    for (const producer of channel.producers) {
      const other = channelByProducer.get(producer);
      if (other !== undefined && other !== name) {
        wrong("producer", `expected a producer of its own: ${producer} produces ${other} already`);
      }
      channelByProducer.set(producer, name);
    }
    channels.set(name, channel);
  }
  if (mistakes.length > 0) throw invalidConfig(source, mistakes);
  return channels;
}

/** What a `[health]` table that has passed its schema says, with defaults for the rest. */
export function resolveHealth(table: z.output<typeof healthTableSchema>): HealthThresholds {
  return Object.freeze({
    utilisation: table.utilisation ?? defaultHealthThresholds.utilisation,
    lag: table.lag ?? defaultHealthThresholds.lag,
    silentMs: table.silent_ms ?? defaultHealthThresholds.silentMs,
  });
}

type Wrong = (key: string, problem: string) => void;

function resolveChannel(
  name: string,
  entry: ChannelEntry,
  directory: string,
  wrong: Wrong,
): Channel {
  const producers = resolveNames("producer", entry.producer, entry.producers, wrong);
  const consumers = resolveNames("consumer", entry.consumer, entry.consumers, wrong);
  const { type, backup_producer: backup } = entry;
  if (type.startsWith("SP") && producers.length > 1) {
    wrong(
      "producers",
      `expected one for ${type}, found ${producers.length}: use M${type.slice(1)}`,
    );
  }
  if (type.endsWith("SC") && consumers.length > 1) {
    const other = `${type.slice(0, 2)}MC`;
    wrong("consumers", `expected one for ${type}, found ${consumers.length}: use ${other}`);
  }
  if (backup !== undefined && type.startsWith("MP")) {
    wrong("backup_producer", `expected SPSC or SPMC: the producers of ${type} all write`);
  }
  const writers = backup === undefined ? producers : [...producers, backup];
  if (new Set(writers).size < writers.length) wrong("producers", "expected each name once");
  for (const producer of writers.filter((one) => consumers.includes(one))) {
    wrong("producer", `expected another service than the consumers: ${producer}`);
  }
  checkSizes(entry, wrong);
  const recovery = resolveRecovery(entry, directory, wrong);
  const persists = recovery?.persistencePath !== undefined;
  if (persists && [...writers, ...consumers].includes(recorderService)) {
    wrong("consumers", `expected other names than ${recorderService}, which persistence adds`);
  } else if (persists && consumers.length === consumersMax) {
    wrong("consumers", `expected at most ${consumersMax - 1} besides the recorder`);
  }
  return Object.freeze({
    name,
    type,
    producers: Object.freeze(writers),
    hasBackup: backup !== undefined,
    consumers: Object.freeze(persists ? [...consumers, recorderService] : consumers),
    ringBytes: entry.buffer_size,
    messageBytesMax: entry.message_size_max,
    priorities: entry.priorities,
    backpressure: resolveBackpressure(entry.backpressure, wrong),
    failedConsumer: entry.failed_consumer,
    consumerTimeoutMs: entry.consumer_timeout_ms,
    producerTimeoutMs: entry.producer_timeout_ms,
    timestamps: entry.timestamps,
    hugePages: entry.huge_pages,
    numaNode: entry.numa_node,
    prefault: entry.prefault,
    strict: entry.strict,
    recovery,
  });
}

function resolveNames(
  key: "producer" | "consumer",
  one: string | undefined,
  several: readonly string[] | undefined,
  wrong: Wrong,
): readonly string[] {
  if (one !== undefined && several !== undefined) {
    wrong(key, `expected either ${key} or ${key}s, not both`);
  }
  const names = several ?? (one === undefined ? [] : [one]);
  if (names.length === 0) wrong(`${key}s`, "expected at least one");
  if (new Set(names).size < names.length) wrong(`${key}s`, "expected each name once");
  return names;
}

function checkSizes(entry: ChannelEntry, wrong: Wrong): void {
  const ringBytes = entry.buffer_size;
  if (ringBytes < ringBytesMin || ringBytes > ringBytesMax || !isPowerOfTwo(ringBytes)) {
    wrong("buffer_size", `expected a power of two from 4KB to 8GB, found ${ringBytes} bytes`);
  } else if (entry.message_size_max > messageBytesLimit(ringBytes)) {
    wrong(
      "message_size_max",
      `expected at most ${messageBytesLimit(ringBytes)} bytes, an eighth of buffer_size less ` +
        `the record's header and never above 16MB, found ${entry.message_size_max}`,
    );
  }
  // A record, what is skipped before it, and the newest one, which is kept.
  const least = (3 * recordBytesOf(entry.message_size_max)) / ringBytes;
  const { high_water: highWater } = entry.backpressure;
  if (highWater !== undefined && highWater < least) {
    const share = Math.ceil(least * 1000) / 1000;
    wrong("backpressure.high_water", `expected at least ${share}: room for three large messages`);
  }
}

const settingsByMode = {
  Reject: [],
  DropNewest: [],
  DropOldest: [],
  BlockProducer: ["timeout_ms"],
  AdaptiveThrottle: ["min_delay_us", "max_delay_us"],
  CircuitBreaker: ["failure_threshold", "recovery_timeout_ms", "failure_window_ms"],
} as const satisfies Record<Backpressure["mode"], readonly (keyof ChannelEntry["backpressure"])[]>;

function resolveBackpressure(entry: ChannelEntry["backpressure"], wrong: Wrong): Backpressure {
  const {
    mode,
    high_water: highWater = defaultHighWater,
    low_water: lowWater = defaultLowWater,
  } = entry;
  const allowed: readonly string[] = settingsByMode[mode];
  for (const key of Object.values(settingsByMode).flat()) {
    if (entry[key] === undefined || allowed.includes(key)) continue;
    const expected = allowed.length === 0 ? "no such setting" : allowed.join(", ");
    wrong(`backpressure.${key}`, `expected ${expected} with mode = "${mode}"`);
  }
  if (mode === "Reject" && (entry.high_water !== undefined || entry.low_water !== undefined)) {
    wrong("backpressure.high_water", 'expected no water marks: "Reject" begins when it is full');
  } else if (lowWater > highWater) {
    wrong("backpressure.low_water", `expected at most high_water (${highWater}): ${lowWater}`);
  }
  const marks = { highWater, lowWater };
  switch (mode) {
    case "Reject":
      return Object.freeze({ highWater: 1, lowWater: 1, mode });
    case "DropNewest":
    case "DropOldest":
      return Object.freeze({ ...marks, mode });
    case "BlockProducer":
      return Object.freeze({ ...marks, mode, timeoutMs: entry.timeout_ms ?? 1000 });
    case "AdaptiveThrottle": {
      const { min_delay_us: minDelayUs = 10, max_delay_us: maxDelayUs = 1000 } = entry;
      if (minDelayUs > maxDelayUs) {
        wrong("backpressure.min_delay_us", `expected at most max_delay_us (${maxDelayUs})`);
      }
      return Object.freeze({ ...marks, mode, minDelayUs, maxDelayUs });
    }
    case "CircuitBreaker":
      return Object.freeze({
        ...marks,
        mode,
        failureThreshold: entry.failure_threshold ?? 5,
        failureWindowMs: entry.failure_window_ms ?? 1000,
        recoveryTimeoutMs: entry.recovery_timeout_ms ?? 5000,
      });
  }
}

function resolveRecovery(
  { recovery }: ChannelEntry,
  directory: string,
  wrong: Wrong,
): Recovery | undefined {
  if (recovery === undefined) return undefined;
  const {
    enable_persistence: persists,
    persistence_path: folder,
    enable_replay: replays,
  } = recovery;
  if (persists && folder === undefined) {
    wrong("recovery.persistence_path", "expected the path of a folder for enable_persistence");
  }
  if (replays && !persists) {
    wrong("recovery.enable_replay", "expected enable_persistence = true: a replay reads from it");
  }
  return Object.freeze({
    persistencePath: persists && folder !== undefined ? path.resolve(directory, folder) : undefined,
    replayWindowMs: replays ? recovery.replay_window_ms : undefined,
    autoRestartConsumers: recovery.auto_restart_consumers,
    restartDelayMs: recovery.restart_delay_ms,
  });
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}
