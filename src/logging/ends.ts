/** The logging as a thread has it: the one that opened it, and those that joined. */
import { setTimeout as pause } from "node:timers/promises";
import { isMainThread } from "node:worker_threads";
import { bootMs } from "../clock.ts";
import { invalidConfig } from "../config.ts";
import { describeError, errorCodes, GaplessError } from "../errors.ts";
import { LogDrain } from "./drain.ts";
import { describeMissed, splitLines, takeOver } from "./hand-over.ts";
import { logWord, type LogLevel, type LogMemory } from "./layout.ts";
import type { LogFields, LogRing } from "./ring.ts";
import { openLogSink, writeStderr } from "./sink.ts";
import { endTurn, takeLastTurn } from "./turns.ts";
import type { LoggingData, LoggingHandle, ResolvedLoggingOptions } from "./options.ts";
import type { Logger, Logging } from "./logging.ts";
import { siblingModule, startSidecar, type Sidecar } from "../sidecar/sidecar.ts";

const flushMsMax = 10_000;
const flushLookMs = 1;
const watchPauseMs = 1000;
const nameBytesMax = 256;

const weight = { debug: 0, info: 1, warn: 2, error: 3 } as const satisfies Record<LogLevel, number>;

class RingLogger implements Logger {
  private readonly ring: LogRing;
  private readonly name: Uint8Array;
  private readonly level: number;

  constructor(ring: LogRing, name: Uint8Array, level: number) {
    this.ring = ring;
    this.name = name;
    this.level = level;
  }

  isEnabled(level: LogLevel): boolean {
    return weight[level] >= this.level;
  }

  debug(text: string, fields?: LogFields): void {
    if (this.level <= weight.debug) this.ring.write(weight.debug, this.name, text, fields);
  }

  info(text: string, fields?: LogFields): void {
    if (this.level <= weight.info) this.ring.write(weight.info, this.name, text, fields);
  }

  warn(text: string, fields?: LogFields): void {
    if (this.level <= weight.warn) this.ring.write(weight.warn, this.name, text, fields);
  }

  error(text: string, fields?: LogFields): void {
    this.ring.write(weight.error, this.name, text, fields);
  }
}

abstract class ThreadLogging implements Logging {
  protected readonly handle: LoggingHandle;
  protected readonly memory: LogMemory;
  protected readonly ring: LogRing;
  private closing: Promise<void> | undefined;

  constructor(handle: LoggingHandle, memory: LogMemory, ring: LogRing) {
    this.handle = handle;
    this.memory = memory;
    this.ring = ring;
    process.on("exit", this.onExit);
  }

  logger(name: string): Logger {
    const bytes = new TextEncoder().encode(name);
    if (bytes.length === 0 || bytes.length > nameBytesMax) {
      const problem = `expected 1 to ${nameBytesMax} bytes, found ${bytes.length}`;
      throw invalidConfig("logger", [{ key: "name", problem }]);
    }
    return new RingLogger(this.ring, bytes, weight[this.handle.level]);
  }

  share(): LoggingHandle {
    if (this.closing !== undefined || this.isClosed) throw closedError();
    return this.handle;
  }

  async flush(): Promise<void> {
    if (this.closing !== undefined || this.isClosed) throw closedError();
    await this.waitForFlush();
  }

  close(): Promise<void> {
    this.closing ??= this.end().finally(() => process.off("exit", this.onExit));
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected abstract end(): Promise<void>;
  /** The same for a thread that has no time to wait. */
  protected abstract endNow(): void;

  /** Whether the thread that opened it has closed it. */
  protected get isClosed(): boolean {
    return Atomics.load(this.memory.words, logWord.closed) !== 0;
  }

  protected async waitForFlush(): Promise<void> {
    const { words } = this.memory;
    const failures = Atomics.load(words, logWord.failures);
    const asked = Atomics.add(words, logWord.flushesAsked, 1) + 1;
    this.wakeSidecar();
    const deadlineMs = bootMs() + flushMsMax;
    while (((Atomics.load(words, logWord.flushesDone) - asked) | 0) < 0) {
      if (Atomics.load(words, logWord.failures) !== failures) throw this.describeFailure();
      if (bootMs() > deadlineMs) {
        throw new GaplessError(
          "PEER_UNAVAILABLE",
          `The thread that writes what is logged has not answered for ${flushMsMax} ms: its ` +
            "device may hang. Lines are kept as far as the rings have room for them.",
        );
      }
      // A timer, because it keeps the process from ending meanwhile.
      await pause(flushLookMs);
    }
  }

  protected wakeSidecar(): void {
    const { words } = this.memory;
    Atomics.add(words, logWord.wishes, 1);
    Atomics.notify(words, logWord.wishes);
  }

  /** Writes with this thread what is left, after `takeLastTurn`. */
  protected writeRest(handOver?: (lines: Buffer) => void): void {
    const sink = openLogSink(this.handle.output, handOver);
    const log = new LogDrain(this.memory, sink);
    try {
      while (log.drain(Infinity));
    } finally {
      sink.close();
    }
  }

  private describeFailure(): GaplessError {
    const code = [...errorCodes.keys()][Atomics.load(this.memory.words, logWord.failureCode)];
    return new GaplessError(
      code ?? "SYSTEM_CALL_FAILED",
      `No lines can be written to ${this.handle.output.file ?? "stderr"}. Those that the rings ` +
        "have room for are kept, and tried again. onFailure of openLogging was told why.",
    );
  }

  private readonly onExit = (): void => {
    try {
      this.endNow();
    } catch (error) {
      // There is nobody left to throw it at.
      writeStderr(Buffer.from(`${describeError(error)}\n`));
    }
  };
}

/** Of a thread that joined. */
export class JoinedLogging extends ThreadLogging {
  protected async end(): Promise<void> {
    this.ring.leave();
    if (!this.isClosed) await this.waitForFlush();
  }

  protected endNow(): void {
    this.ring.leave();
    // The end of the main thread is that of the process, so also that of the sidecar.
    if (isMainThread && takeLastTurn(this.memory.words)) this.writeRest();
  }
}

/** Of the thread that opened it, and has the sidecar. */
export class OpenedLogging extends ThreadLogging {
  private readonly sidecar: Sidecar<"watch", readonly string[]>;
  private readonly onLine: ((line: string) => void) | undefined;
  private readonly onFailure: ((error: GaplessError) => void) | undefined;

  constructor(
    handle: LoggingHandle,
    memory: LogMemory,
    ring: LogRing,
    { onLine, onFailure }: ResolvedLoggingOptions,
  ) {
    super(handle, memory, ring);
    this.onLine = onLine;
    this.onFailure = onFailure;
    const data: LoggingData = { handle, handsOver: onLine !== undefined };
    this.sidecar = startSidecar(siblingModule("worker", import.meta.url), data, {
      name: "gapless-logging",
      requestsMax: 1,
      onReply: (lines) => this.take(lines),
      onFailure: (error) => this.fail(error),
    });
    this.watch();
  }

  protected async end(): Promise<void> {
    Atomics.store(this.memory.words, logWord.closed, 1);
    this.wakeSidecar();
    await this.sidecar.close();
    // It may have died in the middle of a pass.
    endTurn(this.memory.words);
    this.endNow();
  }

  protected endNow(): void {
    const { words } = this.memory;
    Atomics.store(words, logWord.closed, 1);
    if (!takeLastTurn(words)) return;
    for (let lines = this.sidecar.take(); lines !== undefined; lines = this.sidecar.take()) {
      this.take(lines);
    }
    this.take(describeMissed(words));
    const { onLine } = this;
    this.writeRest((lines) => onLine && splitLines(lines).forEach((line) => onLine(line)));
  }

  private take(lines: readonly string[]): void {
    if (this.onLine !== undefined) takeOver(this.memory.words, lines, this.onLine);
  }

  /** Asks the sidecar to say what goes wrong, which also starts it where it has died. */
  private watch(): void {
    if (this.isClosed || this.sidecar.post("watch")) return;
    setTimeout(() => this.watch(), watchPauseMs).unref();
  }

  private fail(error: GaplessError): void {
    // Then whoever closes it is told.
    if (this.isClosed) return;
    if (this.onFailure !== undefined) this.onFailure(error);
    else process.emitWarning(error.message, { code: error.code, type: "Gapless" });
    this.watch();
  }
}

/** What the methods of a closed logging throw, but for those of its loggers. */
export function closedError(): GaplessError {
  return new GaplessError("CLOSED", "The logging is closed: nothing more is taken or written.");
}
