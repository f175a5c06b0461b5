/**
 * The thread that writes what others log. Nobody wakes it for a line, because that would be a
 * system call of a hot thread: it looks every few milliseconds while lines come, and the longer
 * none does the more rarely.
 */
import { setTimeout as pause } from "node:timers/promises";
import { bootNs } from "../clock.ts";
import { describeError, errorCodes, GaplessError } from "../errors.ts";
import { LogDrain } from "./drain.ts";
import { handOver } from "./hand-over.ts";
import { logWord, openLogMemory } from "./layout.ts";
import { openLogSink, type OpenLogSink } from "./sink.ts";
import { endTurn, takeTurn } from "./turns.ts";
import type { LoggingData } from "./options.ts";
import { serveSidecar } from "../sidecar/serve-sidecar.ts";

const napMs = { first: 2, most: 50 };
const retryMs = 1000;
/**
 * A line is left alone for so long: one of another thread, logged before it, may not be written
 * yet. Lines of a thread that was interrupted for longer in the middle of one come late.
 */
const settleMs = 2;

type Tell = (lines: readonly string[]) => void;

class LogWriter {
  private readonly words: Int32Array;
  private readonly log: LogDrain;
  private readonly sink: OpenLogSink;
  private readonly running: Promise<void>;
  private isFailing = false;
  /** Why lines cannot be written, where nobody was told of it yet. */
  private untold: Error | undefined;
  private giveNotice: (() => void) | undefined;

  constructor({ handle, handsOver }: LoggingData, tell: Tell) {
    const memory = openLogMemory(handle.memory, handle.threadsMax, handle.ringBytes);
    const { words } = memory;
    this.words = words;
    this.sink = openLogSink(
      handle.output,
      handsOver ? (lines) => handOver(words, lines, tell) : undefined,
    );
    this.log = new LogDrain(memory, this.sink);
    // Where the one before it has died.
    endTurn(words);
    this.running = this.run();
  }

  /** Resolves when the logging is closed. Rejects where lines can no longer be written. */
  async watch(): Promise<void> {
    const noticed = new Promise<void>((resolve) => {
      this.giveNotice = resolve;
    });
    if (this.untold === undefined) await Promise.race([noticed, this.running]);
    const { untold } = this;
    this.untold = undefined;
    if (untold !== undefined) throw untold;
  }

  /** Writes what is left. */
  finish(): void {
    const { words } = this;
    const asked = Atomics.load(words, logWord.flushesAsked);
    this.drain(Infinity);
    Atomics.store(words, logWord.flushesDone, asked);
    this.sink.close();
  }

  private async run(): Promise<void> {
    const { words } = this;
    let nextNapMs = napMs.first;
    while (Atomics.load(words, logWord.closed) === 0) {
      const wishes = Atomics.load(words, logWord.wishes);
      const asked = Atomics.load(words, logWord.flushesAsked);
      const isAsked = asked !== Atomics.load(words, logWord.flushesDone);
      // Then all that was logged before it was asked for is older than what is left alone.
      if (isAsked) await pause(2 * settleMs);
      try {
        const hasFound = this.drain(bootNs() - settleMs * 1e6);
        Atomics.store(words, logWord.flushesDone, asked);
        this.isFailing = false;
        nextNapMs = hasFound ? napMs.first : Math.min(2 * nextNapMs, napMs.most);
      } catch (error) {
        this.fail(error);
        nextNapMs = retryMs;
      }
      await Atomics.waitAsync(words, logWord.wishes, wishes, nextNapMs).value;
    }
  }

  private drain(untilNs: number): boolean {
    let hasFound = false;
    while (takeTurn(this.words, () => this.log.drain(untilNs))) hasFound = true;
    return hasFound;
  }

  private fail(error: unknown): void {
    const { words } = this;
    const code = error instanceof GaplessError ? error.code : "SYSTEM_CALL_FAILED";
    Atomics.store(words, logWord.failureCode, [...errorCodes.keys()].indexOf(code));
    Atomics.add(words, logWord.failures, 1);
    if (this.isFailing) return;
    this.isFailing = true;
    this.untold = error instanceof Error ? error : new Error(describeError(error));
    this.giveNotice?.();
  }
}

let writer: LogWriter | undefined;

serveSidecar<"watch", readonly string[] | undefined, LoggingData>(
  async (_, data, tell) => {
    writer ??= new LogWriter(data, tell);
    await writer.watch();
    return undefined;
  },
  () => writer?.finish(),
);
