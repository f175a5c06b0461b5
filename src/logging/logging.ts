/**
 * Logging for threads that have no time: a line goes into a ring in memory, without a system call,
 * a lock or anything to wait for, and a sidecar makes JSON of it and writes it.
 *
 *     await using logging = openLogging({ file: "/var/log/exchange/orders.log" });
 *     const logger = logging.logger("orders");
 *     logger.info("rolled over", { segment: 12, sequence });
 *
 *     // In a worker thread, with the handle that logging.share() gave:
 *     const logging = joinLogging(handle);
 *
 * What was logged before `flush` or `close` is in the file when they resolve. A thread that calls
 * process.exit(), or that nobody catches an error of, writes at its end what is left, when it is
 * the main thread or the one that opened the logging. What is lost is what was logged within the
 * last few milliseconds (50 at most, more where the device is slow) before a SIGKILL, another
 * signal that nobody handles, a crash of Node itself, or a power failure: no line is synced.
 */
import fs from "node:fs";
import path from "node:path";
import { invalidConfig } from "../config.ts";
import { describeError, isGaplessError, storageFailed } from "../errors.ts";
import { makeDirectory } from "../memory/sync-files.ts";
import { logWord, makeLogMemory, openLogMemory, type LogLevel, type LogMemory } from "./layout.ts";
import { takeLogRing, type LogFields, type LogRing } from "./ring.ts";
import { closedError, JoinedLogging, OpenedLogging } from "./ends.ts";
import { resolveLoggingOptions, type LoggingHandle, type LoggingOptions } from "./options.ts";

export type { LogFields, LoggingHandle, LoggingOptions, LogLevel };

/** What parts of a program log with. None of it throws, waits, or fails in a way to be handled. */
export interface Logger {
  /** Whether lines of the level go anywhere: to save what it takes to know their fields. */
  isEnabled(level: LogLevel): boolean;
  debug(text: string, fields?: LogFields): void;
  info(text: string, fields?: LogFields): void;
  warn(text: string, fields?: LogFields): void;
  error(text: string, fields?: LogFields): void;
}

/** The logging of a process, as one of its threads has it. */
export interface Logging extends AsyncDisposable {
  /** A logger whose lines have `name`. @throws GaplessError CONFIG_INVALID */
  logger(name: string): Logger;
  /** What another thread of the process joins it with. @throws GaplessError CLOSED */
  share(): LoggingHandle;
  /**
   * Resolves when all that was logged before, by any thread, is in the file. Not a sync.
   *
   * @throws GaplessError STORAGE_FULL, SYSTEM_CALL_FAILED where lines cannot be written: they are
   *   kept, and tried again; PEER_UNAVAILABLE where the sidecar does not answer; CLOSED.
   */
  flush(): Promise<void>;
  /**
   * Flushes, and ends it: for all threads where this one opened it, else for this one. What is
   * logged afterwards goes nowhere. Idempotent.
   *
   * @throws GaplessError as `flush` where lines are lost.
   */
  close(): Promise<void>;
}

/**
 * Opens the logging of a process. To be called in the main thread, if it is to write what is left
 * when the process ends. Its sidecar keeps no process from ending.
 *
 * @throws GaplessError CONFIG_INVALID, also for a file that cannot be opened; STORAGE_FULL.
 */
export function openLogging(options: LoggingOptions): Logging {
  const resolved = resolveLoggingOptions(options);
  const { file, bytesMax, filesMax, stderr, level, ringBytes, threadsMax } = resolved;
  if (file !== undefined) prepareFile(file);
  const memory = makeLogMemory(threadsMax, ringBytes);
  const handle: LoggingHandle = {
    memory: memory.buffer,
    threadsMax,
    ringBytes,
    level,
    output: { file, bytesMax, filesMax, stderr },
  };
  return new OpenedLogging(handle, memory, takeRing(memory), resolved);
}

/**
 * Joins the logging that another thread of the process has opened. A thread that ends leaves it,
 * but for one that is ended with `terminate()`: that one counts as one of `threadsMax` ever after.
 *
 * @throws GaplessError CLOSED; CONFIG_INVALID where `threadsMax` threads log already.
 */
export function joinLogging(handle: LoggingHandle): Logging {
  if (!(handle.memory instanceof SharedArrayBuffer)) {
    throw invalidConfig("joinLogging", [{ key: "", problem: "expected what share() returned" }]);
  }
  const memory = openLogMemory(handle.memory, handle.threadsMax, handle.ringBytes);
  if (Atomics.load(memory.words, logWord.closed) !== 0) throw closedError();
  return new JoinedLogging(handle, memory, takeRing(memory));
}

function takeRing(memory: LogMemory): LogRing {
  const ring = takeLogRing(memory);
  if (ring !== undefined) return ring;
  const problem = `${memory.threadsMax} threads log already, which is all that openLogging allows`;
  throw invalidConfig("joinLogging", [{ key: "threadsMax", problem }]);
}

/** A mistake is told where it is made, not by the sidecar later. */
function prepareFile(file: string): void {
  try {
    makeDirectory(path.dirname(file));
    fs.closeSync(fs.openSync(file, "a"));
  } catch (error) {
    const failure = storageFailed(`opening ${file}`, error);
    if (isGaplessError(failure, "STORAGE_FULL")) throw failure;
    const problem = `expected a file that can be written: ${describeError(error)}`;
    throw invalidConfig("openLogging", [{ key: "file", problem }]);
  }
}
