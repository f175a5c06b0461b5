/** `gapless queue tail`: the messages of a queue, without being one of its readers. */
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { Command, Option } from "commander";
import { invalidConfig } from "../config.ts";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { nextSequence, spotOf, spotOfTime } from "../queue/finding.ts";
import { observeQueue, type ObservedQueue } from "../queue/observed-queue.ts";
import { Reading, type Stretch } from "../queue/reading.ts";
import type { Spot } from "../queue/spot.ts";
import { untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import { decodeMessage, formatDecoded } from "./message-text.ts";
import { parseTime } from "./moment.ts";
import { formatRange, formatTime } from "./queue-table.ts";
import { formatCount } from "./table.ts";

const lookIntervalMs = 20;
/** Whether the queue is still there is asked after so many looks that found nothing. */
const looksPerCheck = 25;
const batchMax = 256;
const newestShown = 10;
const exitDamaged = 1;

interface TailFlags {
  readonly follow?: boolean;
  readonly from?: number;
  readonly since?: bigint;
  readonly limit?: number;
  readonly type?: number;
  readonly json?: boolean;
}

export function queueTail(): Command {
  const number = (name: string, least: number) => (text: string) => parseNumber(name, least, text);
  return new Command("tail")
    .description("Print messages of a queue, the newest 10 by default. Disturbs nobody.")
    .argument("<path>", "directory of the queue, or of a copy")
    .option("-f, --follow", "go on with what comes, until Ctrl-C; by default with that alone")
    .addOption(
      new Option("--from <sequence>", "begin with this message")
        .argParser(number("--from", 1))
        .conflicts("since"),
    )
    .addOption(
      new Option(
        "--since <time>",
        "begin there: 2026-01-31T09:00:00Z, or 15m, 2h, 1d ago",
      ).argParser((text) => parseTime("--since", text, Date.now())),
    )
    .addOption(
      new Option("--limit <messages>", "end after so many").argParser(number("--limit", 1)),
    )
    .addOption(
      new Option("--type <type>", "only messages of this type").argParser(number("--type", 0)),
    )
    .option("--json", "print a JSON object a line")
    .action(tail);
}

async function tail(directory: string, flags: TailFlags): Promise<void> {
  using queue = observeQueue(directory);
  if (queue.controlProblem !== undefined) {
    process.stderr.write(`${queue.controlProblem}\n`);
    process.exitCode = exitDamaged;
  }
  using interrupt = untilInterrupted();
  const { start, end } = rangeOf(queue, flags);
  const reading = new Reading(queue, start, { verify: true, through: "written" });
  const print = makePrinter(reading, flags);
  let left = flags.limit ?? Infinity;
  let idleLooks = 0;
  try {
    while (left > 0 && reading.position < end && !interrupt.signal.aborted) {
      const before = reading.position;
      left -= step(reading, print, Math.min(left, batchMax, end - before), flags);
      if (reading.position > before) {
        idleLooks = 0;
        // Lets a full pipe run empty.
        await pause(0);
        continue;
      }
      if (flags.follow !== true) break;
      await pause(lookIntervalMs, undefined, { signal: interrupt.signal }).catch(() => undefined);
      if (++idleLooks % looksPerCheck !== 0 || fs.existsSync(queue.control.filePath)) continue;
      process.stderr.write(`The queue in ${queue.directory} was removed.\n`);
      break;
    }
  } finally {
    reading.close();
  }
}

/** Prints at most so many, or what cannot be read; returns how many were printed. */
function step(reading: Reading, print: Printer, limit: number, flags: TailFlags): number {
  let printed = 0;
  try {
    reading.poll((memory, offset, length) => {
      if (flags.type !== undefined && reading.envelope.type !== flags.type) return;
      print.message(memory, offset, length);
      printed++;
    }, limit);
  } catch (error) {
    if (!isGaplessError(error, "STORAGE_CORRUPT", "DATA_TRIMMED")) throw error;
    process.exitCode = exitDamaged;
    print.unread(skip(reading), error);
  }
  return printed;
}

/** undefined where nothing whole is behind the damage. */
function skip(reading: Reading): Stretch | undefined {
  try {
    // Nobody misses anything by it: it is no reader.
    return reading.skipUnreadable(() => undefined);
  } catch (error) {
    if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return undefined;
    throw error;
  }
}

interface Printer {
  message(memory: Reading["memory"], offset: number, length: number): void;
  unread(stretch: Stretch | undefined, error: GaplessError): void;
}

function makePrinter({ envelope }: Reading, { json }: TailFlags): Printer {
  const { isTTY, columns } = process.stdout;
  const print = (line: string): void => {
    process.stdout.write(`${isTTY ? line.slice(0, columns) : line}\n`);
  };
  let toldOf = "";
  return {
    message(memory, offset, length) {
      const { sequence, type, timestampNs, epoch } = envelope;
      const decoded = decodeMessage(memory, offset, length);
      if (json === true) {
        print(formatJson({ sequence, timestampNs, type, epoch, bytes: length, ...decoded }));
        return;
      }
      const cells = [
        formatCount(sequence).padStart(12),
        formatTime(timestampNs, 6),
        String(type).padStart(5),
        `${formatCount(length).padStart(6)} B`,
        formatDecoded(decoded),
      ];
      print(cells.join("  "));
    },
    unread(stretch, error) {
      const problem = describeError(error);
      // It stays so until something whole is behind it.
      if (stretch === undefined && toldOf === problem) return;
      toldOf = problem;
      if (json === true) {
        print(formatJson({ unread: stretch ?? null, code: error.code, problem }));
        return;
      }
      const range = stretch === undefined ? "the rest" : formatRange(stretch.from, stretch.to);
      print(`           -  not to be read: ${range}. ${problem}`);
    },
  };
}

/** Where it begins; and the sequence before which it ends, which is that of what is yet to come. */
function rangeOf(queue: ObservedQueue, flags: TailFlags): { start: Spot; end: number } {
  const next = nextSequence(queue);
  const end = flags.follow === true ? Infinity : next;
  const isAtEnd = flags.follow === true && flags.from === undefined && flags.since === undefined;
  return { start: isAtEnd ? spotOf(queue, next) : startOf(queue, next, flags), end };
}

function startOf(queue: ObservedQueue, next: number, { from, since, limit }: TailFlags): Spot {
  if (since !== undefined) return spotOfTime(queue, since);
  if (from === undefined) {
    return spotOf(queue, Math.max(1, next - Math.min(newestShown, limit ?? newestShown)));
  }
  if (from > next) {
    throw new GaplessError(
      "DATA_NOT_YET_AVAILABLE",
      `sequence=${from} is not in the queue in ${queue.directory} yet: the next one is ${next}.`,
    );
  }
  const spot = spotOf(queue, from);
  if (spot.sequence > from) {
    const gone = formatRange(from, spot.sequence - 1);
    process.stderr.write(`${gone}: deleted. It begins with #${formatCount(spot.sequence)}.\n`);
  }
  return spot;
}

function parseNumber(key: string, least: number, text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  const problem = `expected a whole number, at least ${least}, found ${JSON.stringify(text)}`;
  throw invalidConfig("command line", [{ key, problem }]);
}
