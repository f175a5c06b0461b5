/** The `[channels]` table: checked once, across fields, then frozen. */
import { z } from "zod";
import { checkConfig, invalidConfig, parseSize, type ConfigMistake } from "../config.ts";
import { consumersMax, messageBytesLimit, ringBytesMax, ringBytesMin } from "./layout.ts";

/**
 * What a full ring means when a consumer that has not read it is dead:
 *
 *   wait   the producer waits for it to come back: for channels with nothing behind them
 *   evict  the producer goes on; the consumer fills what it missed from an archive
 */
export type DeadConsumerPolicy = "wait" | "evict";

export interface Channel {
  readonly name: string;
  readonly type: "SPSC" | "SPMC";
  readonly producer: string;
  /** In the order of their lines in the control block. */
  readonly consumers: readonly string[];
  readonly ringBytes: number;
  readonly messageBytesMax: number;
  readonly deadConsumer: DeadConsumerPolicy;
}

/** A checked `[channels]` table, by name. */
export type Channels = ReadonlyMap<string, Channel>;

const nameExpected = "expected letters, digits, - and _, at most 48";
const nameSchema = z
  .string({ error: "expected a name" })
  .regex(/^[a-z0-9][a-z0-9_-]{0,47}$/i, nameExpected);

const sizeExpected = 'expected a size such as "64MB", "8KB" or bytes';
const sizeSchema = z
  .union([z.string(), z.number()], { error: sizeExpected })
  .transform((value, context) => {
    const bytes = parseSize(value);
    if (bytes !== undefined) return bytes;
    context.addIssue({
      code: "custom",
      message: `${sizeExpected}, found ${JSON.stringify(value)}`,
    });
    return z.NEVER;
  });

const consumersExpected = `expected a list of 1 to ${consumersMax} names`;
const channelFields = {
  type: z.enum(["SPSC", "SPMC"], { error: 'expected "SPSC" or "SPMC"' }),
  producer: nameSchema,
  consumer: nameSchema.optional(),
  consumers: z
    .array(nameSchema, { error: consumersExpected })
    .min(1, consumersExpected)
    .max(consumersMax, consumersExpected)
    .optional(),
  buffer_size: sizeSchema,
  message_size_max: sizeSchema,
  dead_consumer: z.enum(["wait", "evict"], { error: 'expected "wait" or "evict"' }).default("wait"),
};

const channelSchema = z.strictObject(channelFields, {
  error: (issue) =>
    issue.code === "unrecognized_keys"
      ? `unknown ${issue.keys.join(", ")}, expected ${Object.keys(channelFields).join(", ")}`
      : "expected a table",
});

/** The schema of the whole table, for a file that has it as one of several. */
export const channelTableSchema = z.record(nameSchema, channelSchema, {
  error: (issue) => (issue.code === "invalid_key" ? nameExpected : "expected a table of channels"),
});

/**
 * Reads a `[channels]` table as TOML gives it.
 *
 * @throws GaplessError CONFIG_INVALID naming `source`, key and expectation for each mistake.
 */
export function parseChannels(table: unknown, source: string): Channels {
  return resolveChannels(checkConfig(channelTableSchema, table, source), source, "");
}

/** The checks across fields, for a table that has passed its schema at `prefix` of `source`. */
export function resolveChannels(
  table: z.output<typeof channelTableSchema>,
  source: string,
  prefix: string,
): Channels {
  const mistakes: ConfigMistake[] = [];
  const channels = new Map<string, Channel>();
  for (const [name, entry] of Object.entries(table)) {
    const wrong = (key: string, problem: string): void => {
      mistakes.push({ key: `${prefix}${name}.${key}`, problem });
    };
    const consumers = entry.consumers ?? (entry.consumer === undefined ? [] : [entry.consumer]);
    if (entry.consumer !== undefined && entry.consumers !== undefined) {
      wrong("consumer", "expected either consumer or consumers, not both");
    }
    if (consumers.length === 0) wrong("consumers", "expected at least one");
    if (entry.type === "SPSC" && consumers.length > 1) {
      wrong("consumers", `expected one for SPSC, found ${consumers.length}: use SPMC`);
    }
    if (new Set(consumers).size < consumers.length) wrong("consumers", "expected each name once");
    if (consumers.includes(entry.producer)) {
      wrong("producer", `expected another service than the consumers: ${entry.producer}`);
    }
    const ringBytes = entry.buffer_size;
    if (ringBytes < ringBytesMin || ringBytes > ringBytesMax || !isPowerOfTwo(ringBytes)) {
      wrong("buffer_size", `expected a power of two from 4KB to 8GB, found ${ringBytes} bytes`);
    } else if (entry.message_size_max > messageBytesLimit(ringBytes)) {
      wrong(
        "message_size_max",
        `expected at most ${messageBytesLimit(ringBytes)} bytes, an eighth of buffer_size less ` +
          `the record's header, found ${entry.message_size_max}`,
      );
    }
    channels.set(
      name,
      Object.freeze({
        name,
        type: entry.type,
        producer: entry.producer,
        consumers: Object.freeze(consumers),
        ringBytes,
        messageBytesMax: entry.message_size_max,
        deadConsumer: entry.dead_consumer,
      }),
    );
  }
  if (mistakes.length > 0) throw invalidConfig(source, mistakes);
  return channels;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}
