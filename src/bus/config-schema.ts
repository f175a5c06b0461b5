/** The keys of a `[channels]` table and what each may be; `config.ts` checks them together. */
import { z } from "zod";
import { parseSize } from "../config.ts";
import { consumersMax, prioritiesMax, producersMax } from "./layout.ts";

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

function namesSchema(max: number) {
  const expected = `expected a list of 1 to ${max} names`;
  return z.array(nameSchema, { error: expected }).min(1, expected).max(max, expected).readonly();
}

/** One of the texts. */
export function oneOf<const Value extends string>(...values: Value[]) {
  const error = `expected ${values.map((value) => `"${value}"`).join(", ")}`;
  return z.enum(values, { error: error.replace(/, (?="[^"]*"$)/, " or ") });
}

const flagSchema = z.boolean({ error: "expected true or false" });

function wholeSchema(min: number, max: number, what: string) {
  const error = `expected ${what}, a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, error).max(max, error);
}

/** A table of these keys; any other is a mistake that names them. */
export function strict<Shape extends z.core.$ZodLooseShape>(fields: Shape) {
  return z.strictObject(fields, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `unknown ${issue.keys.join(", ")}, expected ${Object.keys(fields).join(", ")}`
        : "expected a table",
  });
}

const dayMs = 86_400_000;
const millisecondsSchema = wholeSchema(1, dayMs, "milliseconds");
/** Ends show a few times within it that they are well. */
const timeoutSchema = wholeSchema(250, dayMs, "milliseconds");
const microsecondsSchema = wholeSchema(1, 10_000_000, "microseconds");
const shareExpected = "expected a share of the ring, above 0 and at most 1";
const shareSchema = z.number({ error: shareExpected }).gt(0, shareExpected).lte(1, shareExpected);

const backpressureSchema = strict({
  mode: oneOf(
    "Reject",
    "DropNewest",
    "DropOldest",
    "BlockProducer",
    "AdaptiveThrottle",
    "CircuitBreaker",
  ),
  high_water: shareSchema.optional(),
  low_water: shareSchema.optional(),
  timeout_ms: millisecondsSchema.optional(),
  min_delay_us: microsecondsSchema.optional(),
  max_delay_us: microsecondsSchema.optional(),
  failure_threshold: wholeSchema(1, 1_000_000, "failures").optional(),
  recovery_timeout_ms: millisecondsSchema.optional(),
  failure_window_ms: millisecondsSchema.optional(),
});

const recoverySchema = strict({
  enable_persistence: flagSchema.default(false),
  persistence_path: z.string({ error: "expected the path of a folder" }).min(1).optional(),
  enable_replay: flagSchema.default(false),
  replay_window_ms: millisecondsSchema.default(60_000),
  auto_restart_consumers: flagSchema.default(false),
  restart_delay_ms: wholeSchema(0, dayMs, "milliseconds").default(1000),
});

const channelSchema = strict({
  type: oneOf("SPSC", "SPMC", "MPSC", "MPMC"),
  producer: nameSchema.optional(),
  producers: namesSchema(producersMax).optional(),
  backup_producer: nameSchema.optional(),
  consumer: nameSchema.optional(),
  consumers: namesSchema(consumersMax).optional(),
  buffer_size: sizeSchema,
  message_size_max: sizeSchema,
  priorities: wholeSchema(1, prioritiesMax, "levels").default(1),
  timestamps: oneOf("all", "sampled", "off").default("sampled"),
  huge_pages: flagSchema.default(false),
  numa_node: wholeSchema(0, 1023, "a node").optional(),
  prefault: flagSchema.default(false),
  strict: flagSchema.default(false),
  failed_consumer: oneOf("evict", "wait").default("evict"),
  consumer_timeout_ms: timeoutSchema.default(60_000),
  producer_timeout_ms: timeoutSchema.default(1000),
  backpressure: backpressureSchema.default({ mode: "Reject" }),
  recovery: recoverySchema.optional(),
});

/** The schema of the whole table, for a file that has it as one of several. */
export const channelTableSchema = z.record(nameSchema, channelSchema, {
  error: (issue) => (issue.code === "invalid_key" ? nameExpected : "expected a table of channels"),
});

/** What `[health]` of a file may have; see `HealthThresholds`. */
export const healthTableSchema = strict({
  utilisation: shareSchema.optional(),
  lag: wholeSchema(1, Number.MAX_SAFE_INTEGER, "messages").optional(),
  silent_ms: millisecondsSchema.optional(),
});

/** A `[channels]` table, as TOML has it or as it is written in code. */
export type ChannelTable = z.input<typeof channelTableSchema>;
export type ChannelEntry = z.output<typeof channelSchema>;
