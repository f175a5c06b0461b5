/**
 * `gapless queue bench`: what this disk and this machine make of a queue. One process appends, then
 * reads back what it has appended, then waits for the device message by message.
 */
import fs from "node:fs";
import path from "node:path";
import { setImmediate as rest } from "node:timers/promises";
import { Command, Option } from "commander";
import { latencyBuckets, readLatency, recordLatency, type Latency } from "../bus/latency.ts";
import { invalidConfig, parseSize } from "../config.ts";
import { assert, storageFailed } from "../errors.ts";
import { checksumKinds, recordHeaderBytes, spaceOf, type ChecksumKind } from "../queue/layout.ts";
import { openPublisher } from "../queue/open-publisher.ts";
import type { Publisher } from "../queue/publisher.ts";
import { openSubscriber } from "../queue/subscriber.ts";
import { exitInterrupted, untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import { formatBytes, formatCount, formatNs, formatRow } from "./table.ts";

/** A turn of the event loop comes after so long, for Ctrl-C. */
const turnMs = 20;
/** The time of each so manieth append is taken: two readings of the clock cost as much as it. */
const sampling = 16;
const messagesPerLook = 1024;
const widths = [-8, -12, 16, 10, 9, 9, 9, 9] as const;

/** As a shell has it of a command that Ctrl-C has ended. */

interface BenchFlags {
  readonly seconds: number;
  readonly size: number;
  readonly maxBytes: number;
  readonly checksum: ChecksumKind;
  readonly json?: boolean;
}

/** What a phase of it gives. */
interface Figure {
  readonly phase: "append" | "read" | "flush";
  /** What a message survives once it was counted; undefined where none is written. */
  readonly survives: "SIGKILL" | "power loss" | undefined;
  readonly messages: number;
  readonly messagesPerSecond: number;
  readonly bytesPerSecond: number;
  /** Of one message; undefined where they come in batches. */
  readonly latency: Latency | undefined;
}

export function queueBench(): Command {
  return new Command("bench")
    .description(
      "Measure a queue on this disk: appends to one made for it in the directory, reads it back, " +
        "flushes message by message, and removes it.",
    )
    .argument("<path>", "directory on the disk that is asked about")
    .addOption(
      new Option("--seconds <seconds>", "for appending, and for flushing, at most")
        .default(2)
        .argParser((text) => parseWhole("--seconds", text, 3600)),
    )
    .addOption(
      new Option("--size <bytes>", "of a payload")
        .default(64)
        .argParser((text) => parseWhole("--size", text, 1024 * 1024)),
    )
    .addOption(
      new Option("--max-bytes <size>", "what the queue may take of the disk")
        .default(2 ** 30, "1GB")
        .argParser((text) => parseBytes("--max-bytes", text)),
    )
    .addOption(
      new Option("--checksum <kind>", "how records are summed")
        .choices(checksumKinds)
        .default("fast"),
    )
    .option("--json", "print a JSON object a figure")
    .action(bench);
}

async function bench(directory: string, flags: BenchFlags): Promise<void> {
  if (fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    const problem = `expected a directory, found none at ${directory}`;
    throw invalidConfig("command line", [{ key: "path", problem }]);
  }
  using interrupt = untilInterrupted();
  const { signal } = interrupt;
  const scratch = makeScratch(path.resolve(directory));
  try {
    const print = makePrinter(flags, scratch);
    await using publisher = openPublisher(scratch, {
      checksum: flags.checksum,
      durability: "process",
      segmentBytes: Math.min(2 ** 27, Math.floor(flags.maxBytes / 4)),
    });
    print(await append(publisher, flags, signal));
    await publisher.flush();
    if (!signal.aborted) print(await readBack(scratch, publisher, signal));
    if (!signal.aborted) print(await flush(publisher, flags, signal));
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
  // What was printed is of a part of the time that was asked for.
  if (signal.aborted) process.exitCode = exitInterrupted;
}

function makeScratch(directory: string): string {
  try {
    return fs.mkdtempSync(path.join(directory, "gapless-bench-"));
  } catch (error) {
    throw storageFailed(`making a directory in ${directory}`, error);
  }
}

/** Appends as fast as it goes; the device is left to the kernel. */
async function append(
  publisher: Publisher,
  flags: BenchFlags,
  signal: AbortSignal,
): Promise<Figure> {
  const { size, seconds, maxBytes } = flags;
  const payload = new Uint8Array(size).fill(0x5a);
  const most = Math.floor(maxBytes / spaceOf(recordHeaderBytes + size));
  const histogram = new Int32Array(latencyBuckets);
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  let turnAtMs = startMs + turnMs;
  let nowMs = startMs;
  let messages = 0;
  while (messages < most && nowMs < endMs && !signal.aborted) {
    const beforeMs = performance.now();
    publisher.append(1, payload);
    nowMs = performance.now();
    recordLatency(histogram, 0, (nowMs - beforeMs) * 1e6);
    for (let more = 1; more < sampling; more++) publisher.append(1, payload);
    messages += sampling;
    if (nowMs < turnAtMs) continue;
    await rest();
    turnAtMs = performance.now() + turnMs;
  }
  const latency = readLatency(histogram, 0);
  return figureOf("append", "SIGKILL", messages, performance.now() - startMs, size, latency);
}

/** All of it, every sum checked; and every byte summed up, so that none is left out. */
async function readBack(
  directory: string,
  publisher: Publisher,
  signal: AbortSignal,
): Promise<Figure> {
  await using subscriber = openSubscriber(directory, "bench");
  const startMs = performance.now();
  let messages = 0;
  let bytes = 0;
  let sum = 0;
  let turnAtMs = startMs + turnMs;
  for (;;) {
    const count = subscriber.poll((memory, offset, length) => {
      bytes += length;
      sum += memory.bytes[offset] ?? 0;
    }, messagesPerLook);
    messages += count;
    if (count === 0 || signal.aborted) break;
    if (performance.now() < turnAtMs) continue;
    await rest();
    turnAtMs = performance.now() + turnMs;
  }
  const elapsedMs = performance.now() - startMs;
  const isAll = messages === publisher.lastSequence && sum === messages * 0x5a;
  assert(isAll || signal.aborted, `${messages} of ${publisher.lastSequence} messages were read`);
  return figureOf("read", undefined, messages, elapsedMs, bytes / messages, undefined);
}

/** One message after the other, each once the one before it is on the device. */
async function flush(
  publisher: Publisher,
  { size, seconds }: BenchFlags,
  signal: AbortSignal,
): Promise<Figure> {
  const payload = new Uint8Array(size).fill(0x5a);
  const histogram = new Int32Array(latencyBuckets);
  const startMs = performance.now();
  let nowMs = startMs;
  let messages = 0;
  while (nowMs < startMs + seconds * 1000 && !signal.aborted) {
    const beforeMs = nowMs;
    publisher.append(1, payload);
    await publisher.flush();
    nowMs = performance.now();
    recordLatency(histogram, 0, (nowMs - beforeMs) * 1e6);
    messages++;
  }
  const latency = readLatency(histogram, 0);
  return figureOf("flush", "power loss", messages, nowMs - startMs, size, latency);
}

function figureOf(
  phase: Figure["phase"],
  survives: Figure["survives"],
  messages: number,
  elapsedMs: number,
  size: number,
  latency: Latency | undefined,
): Figure {
  const messagesPerSecond = messages / (elapsedMs / 1000);
  const bytesPerSecond = messagesPerSecond * size;
  return { phase, survives, messages, messagesPerSecond, bytesPerSecond, latency };
}

function makePrinter(flags: BenchFlags, scratch: string): (figure: Figure) => void {
  if (flags.json === true) {
    return ({ latency, ...figure }) => {
      const { p50Ns, p99Ns, p999Ns, maxNs } = latency ?? {};
      const { size, checksum } = flags;
      const line = { ...figure, size, checksum, p50Ns, p99Ns, p999Ns, maxNs };
      process.stdout.write(`${formatJson(line)}\n`);
    };
  }
  const { size, checksum } = flags;
  const titles = ["", "survives", "messages/s", "bytes/s", "p50", "p99", "p99.9", "max"];
  process.stdout.write(
    `payloads of ${formatBytes(size)}, sums: ${checksum}, in ${scratch}\n` +
      `${formatRow(widths, titles)}\n`,
  );
  return ({ phase, survives, messagesPerSecond, bytesPerSecond, latency }) => {
    const times =
      latency === undefined
        ? ["-", "-", "-", "-"]
        : [latency.p50Ns, latency.p99Ns, latency.p999Ns, latency.maxNs].map(formatNs);
    const rate = formatMillions(messagesPerSecond);
    const cells = [phase, survives ?? "-", rate, formatBytes(bytesPerSecond), ...times];
    process.stdout.write(`${formatRow(widths, cells)}\n`);
  };
}

function formatMillions(perSecond: number): string {
  return perSecond < 1e5 ? formatCount(perSecond) : `${(perSecond / 1e6).toFixed(2)} M`;
}

function parseWhole(key: string, text: string, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= most) return value;
  const problem = `expected a whole number from 1 to ${most}, found ${JSON.stringify(text)}`;
  throw invalidConfig("command line", [{ key, problem }]);
}

function parseBytes(key: string, text: string): number {
  const bytes = parseSize(text);
  const least = 16 * 1024 * 1024;
  if (bytes !== undefined && bytes >= least) return bytes;
  const problem = `expected a size of at least 16MB, such as 1GB, found ${JSON.stringify(text)}`;
  throw invalidConfig("command line", [{ key, problem }]);
}
