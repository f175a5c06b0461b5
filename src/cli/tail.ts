/** `gapless bus tail CHANNEL`: its messages as they come, without being one of its consumers. */
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { Command, Option } from "commander";
import { channelPath } from "../bus/channel-file.ts";
import { observeFile } from "../bus/observed-file.ts";
import { Observer, type ObservedMessage } from "../bus/observer.ts";
import { bootNs } from "../clock.ts";
import { invalidConfig } from "../config.ts";
import { locateBus, withBusOptions, type BusFlags } from "./bus-location.ts";
import { untilInterrupted } from "./interrupt.ts";
import { decodeMessage, formatDecoded } from "./message-text.ts";
import { formatCount, formatDuration } from "./table.ts";

const lookIntervalMs = 20;
/** Whether the channel is still the same is asked after so many looks that found nothing. */
const looksPerCheck = 25;
const batchMax = 256;

interface TailFlags extends BusFlags {
  readonly json?: boolean;
  readonly count?: number;
  readonly fromStart?: boolean;
}

export function tail(): Command {
  const command = new Command("tail")
    .description("Print the messages of a channel as they come. Disturbs nobody.")
    .argument("<channel>", "name of the channel")
    .argument("[config]", "file with [channels], or a topology file for its run")
    .option("--from-start", "begin with the oldest message that is still there")
    .option("--json", "print a JSON object a line")
    .addOption(
      new Option("--count <messages>", "end after so many").argParser((text) => parseCount(text)),
    );
  return withBusOptions(command).action(follow);
}

async function follow(name: string, config: string | undefined, flags: TailFlags): Promise<void> {
  const { directory, channels } = locateBus(config, flags);
  const filePath = channelPath(directory, name);
  const identity = identityOf(filePath);
  if (identity === undefined) {
    const known = channels.length === 0 ? "" : ` Configured are: ${channels.join(", ")}.`;
    const problem = `there is no channel ${name} in ${directory}, or nobody has opened it.${known}`;
    throw invalidConfig("command line", [{ key: "channel", problem }]);
  }
  using interrupt = untilInterrupted();
  const file = observeFile(filePath);
  const from = flags.fromStart === true ? "start" : "next";
  // The highest priority first, as a consumer has them.
  const observers = file.lanes.map((lane) => new Observer(lane, from)).reverse();
  const printer = makePrinter(flags.json === true, file.lanes.length > 1);
  let left = flags.count ?? Infinity;
  let idleLooks = 0;
  while (left > 0 && !interrupt.signal.aborted) {
    const before = left;
    for (const observer of observers) {
      left -= observer.observe(printer, Math.min(left, batchMax));
    }
    if (left < before) {
      idleLooks = 0;
      // Lets a full pipe run empty.
      await pause(0);
      continue;
    }
    await pause(lookIntervalMs, undefined, { signal: interrupt.signal }).catch(() => undefined);
    if (++idleLooks % looksPerCheck !== 0 || identityOf(filePath) === identity) continue;
    process.stderr.write(`Channel ${name} was removed.\n`);
    break;
  }
  file.unmap();
}

/** Prints each message, and before it what was missed since the one before. */
function makePrinter(isJson: boolean, hasPriorities: boolean): (message: ObservedMessage) => void {
  const newest = new Map<number, number>();
  const { isTTY, columns } = process.stdout;
  const print = (line: string): void => {
    process.stdout.write(`${isTTY ? line.slice(0, columns) : line}\n`);
  };
  return (message) => {
    const { priority, sequence, producer, topic, sentNs, memory, offset, length } = message;
    const before = newest.get(priority);
    newest.set(priority, sequence);
    if (before !== undefined && sequence > before + 1) {
      const missed = { from: before + 1, to: sequence - 1 };
      print(isJson ? JSON.stringify({ priority, missed }) : formatMissed(missed));
    }
    const decoded = decodeMessage(memory, offset, length);
    const ageMs = sentNs === 0 ? undefined : (bootNs() - sentNs) / 1e6;
    if (isJson) {
      const stamp = { sentNs: sentNs === 0 ? undefined : sentNs, ageMs };
      const named = { priority, sequence, producer, topic: topic === "" ? undefined : topic };
      print(JSON.stringify({ ...named, ...stamp, bytes: length, ...decoded }));
      return;
    }
    const cells = [
      `${hasPriorities ? `${priority} ` : ""}${formatCount(sequence).padStart(10)}`,
      producer.padEnd(16),
      topic.padEnd(8),
      (ageMs === undefined ? "-" : formatDuration(ageMs)).padStart(6),
      formatDecoded(decoded),
    ];
    print(cells.join("  "));
  };
}

function formatMissed({ from, to }: { from: number; to: number }): string {
  const range =
    from === to ? `#${formatCount(from)}` : `#${formatCount(from)} to #${formatCount(to)}`;
  return `         -  not seen: ${range}, overwritten before they could be, or never written`;
}

function identityOf(filePath: string): string | undefined {
  const found = fs.statSync(filePath, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

function parseCount(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
  const problem = `expected a whole number above 0, found ${JSON.stringify(text)}`;
  throw invalidConfig("command line", [{ key: "--count", problem }]);
}
