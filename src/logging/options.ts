/** What may be passed to `openLogging`, checked where it is passed. */
import path from "node:path";
import { z } from "zod";
import { checkConfig } from "../config.ts";
import type { GaplessError } from "../errors.ts";
import { logLevels, type LogLevel } from "./layout.ts";

export interface LoggingOptions {
  /**
   * Lines are appended to this file, which is made, with its folder, where there is none. It
   * belongs to this process: two that rotate one file would lose lines.
   */
  readonly file?: string;
  /** A file is at most so long, 64 MiB by default; then it becomes `file.1`, that one `file.2`. */
  readonly bytesMax?: number;
  /** How many files are kept, the newest included. Default 4. */
  readonly filesMax?: number;
  /** Whether lines are also written to stderr. */
  readonly stderr?: boolean;
  /**
   * Given each line, without its newline, in the thread that opened it, as its event loop turns.
   * Where it falls behind by more than 10,000 lines it misses some, and a line says how many.
   */
  readonly onLine?: (line: string) => void;
  /** Below this nothing is logged. Default info. */
  readonly level?: LogLevel;
  /**
   * What each thread may log until the sidecar looks again, which is 50 ms at most where little is
   * logged. Rounded up to a power of two, default 1 MiB. A line of more than half is dropped.
   */
  readonly ringBytes?: number;
  /** Threads that may log at once. Default 32: those that never come take no memory. */
  readonly threadsMax?: number;
  /** What becomes of a line that finds its ring full: it is dropped, and a later line says so. */
  readonly overflow?: "drop";
  /**
   * Told once where lines cannot be written, and where the thread that writes them has died. They
   * stay in the rings, and are tried again. Without it, that is a warning of the process.
   */
  readonly onFailure?: (error: GaplessError) => void;
}

/** Where lines go, as far as one thread can tell another. */
export interface LogOutput {
  readonly file: string | undefined;
  readonly bytesMax: number;
  readonly filesMax: number;
  readonly stderr: boolean;
}

/** What `joinLogging` needs: to be posted to a worker thread, or passed as its `workerData`. */
export interface LoggingHandle {
  readonly memory: SharedArrayBuffer;
  readonly threadsMax: number;
  readonly ringBytes: number;
  readonly level: LogLevel;
  readonly output: LogOutput;
}

/** What the sidecar is started with. */
export interface LoggingData {
  readonly handle: LoggingHandle;
  /** Whether lines go to the thread that opened the logging. */
  readonly handsOver: boolean;
}

export interface ResolvedLoggingOptions extends LogOutput {
  readonly onLine: ((line: string) => void) | undefined;
  readonly onFailure: ((error: GaplessError) => void) | undefined;
  readonly level: LogLevel;
  readonly ringBytes: number;
  readonly threadsMax: number;
}

const megabyte = 2 ** 20;
/** Before rounding up. */
const ringsBytesMax = 2 ** 31;
const fileExpected = "expected the path of a file";
const outputExpected = "expected at least one of file, stderr and onLine";

const optionsSchema = z
  .strictObject(
    {
      file: z.string({ error: fileExpected }).min(1, fileExpected).optional(),
      bytesMax: wholeSchema(4096, 2 ** 40).default(64 * megabyte),
      filesMax: wholeSchema(1, 1000).default(4),
      stderr: z.boolean({ error: "expected true or false" }).default(false),
      onLine: functionSchema<(line: string) => void>(),
      level: z
        .enum(logLevels, { error: `expected one of ${logLevels.join(", ")}` })
        .default("info"),
      ringBytes: wholeSchema(4096, 2 ** 28).default(megabyte),
      threadsMax: wholeSchema(1, 1024).default(32),
      overflow: z.literal("drop", { error: 'expected "drop"' }).default("drop"),
      onFailure: functionSchema<(error: GaplessError) => void>(),
    },
    {
      error: (issue) =>
        issue.code === "unrecognized_keys"
          ? `unknown ${issue.keys.join(", ")}`
          : "expected an object of options",
    },
  )
  .refine(({ file, stderr, onLine }) => file !== undefined || stderr || onLine !== undefined, {
    error: outputExpected,
  })
  .refine(({ ringBytes, threadsMax }) => ringBytes * threadsMax <= ringsBytesMax, {
    error: "expected threadsMax rings of ringBytes to be 2 GiB at most",
  });

/** @throws GaplessError CONFIG_INVALID */
export function resolveLoggingOptions(options: unknown): ResolvedLoggingOptions {
  const checked = checkConfig(optionsSchema, options, "openLogging");
  return Object.freeze({
    file: checked.file === undefined ? undefined : path.resolve(checked.file),
    bytesMax: checked.bytesMax,
    filesMax: checked.filesMax,
    stderr: checked.stderr,
    onLine: checked.onLine,
    onFailure: checked.onFailure,
    level: checked.level,
    ringBytes: 2 ** Math.ceil(Math.log2(checked.ringBytes)),
    threadsMax: checked.threadsMax,
  });
}

function wholeSchema(min: number, max: number) {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, error).max(max, error);
}

function functionSchema<Type>() {
  return z.custom<Type>((value) => typeof value === "function", "expected a function").optional();
}
