/** `gapless up TOPOLOGY`: runs it, shows it, and says whether it was right. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { Command, Option } from "commander";
import { invalidConfig } from "../config.ts";
import { Interrupted, runTopology, type RunResult } from "../supervise/supervisor.ts";
import {
  loadTopology,
  type OptionEntry,
  type OptionValue,
  type Topology,
} from "../supervise/topology.ts";
import { openDisplay } from "./display.ts";
import { formatAudit } from "./audit-text.ts";
import { exitInterrupted } from "./interrupt.ts";

const exitAuditFailed = 1;
const standardInput = "-";

interface UpFlags {
  readonly data?: string;
  readonly resume?: boolean;
  readonly duration?: number;
  readonly chaos?: number;
  readonly chaosSeed?: number;
}

export function up(): Command {
  return new Command("up")
    .description("Run the services of a topology file, supervised, until their input ends.")
    .argument("<topology>", "topology file (TOML)")
    .argument("[options...]", "options that the topology declares: --NAME VALUE")
    .option("--data <directory>", "keep the run's data here instead of where the topology says")
    .option("--resume", "go on with the data of the last run instead of beginning empty")
    .addOption(
      new Option("--duration <seconds>", "spread the input over this long").argParser((text) =>
        parseWhole("--duration", text),
      ),
    )
    .addOption(
      new Option("--chaos <kills>", "kill a random service, or a whole side, this often").argParser(
        (text) => parseWhole("--chaos", text),
      ),
    )
    .addOption(
      new Option("--chaos-seed <seed>", "repeat the victims of an earlier run").argParser((text) =>
        parseWhole("--chaos-seed", text),
      ),
    )
    .allowUnknownOption()
    .passThroughOptions(false)
    .helpOption("-h, --help", "show this, and the options that the topology declares")
    .action(runUp);
}

async function runUp(file: string, words: string[], flags: UpFlags): Promise<void> {
  const topology = loadTopology(file);
  const dataDirectory =
    flags.data === undefined ? topology.dataDirectory : path.resolve(callerDirectory(), flags.data);
  const given = parseOptions(topology, words);
  const input = { ...given };
  const kept = await keepStandardInput(topology, given);
  const chaos =
    flags.chaos === undefined
      ? undefined
      : { kills: flags.chaos, seed: flags.chaosSeed ?? Math.floor(Math.random() * 2 ** 31) };

  const drain = new AbortController();
  const kill = new AbortController();
  using display = openDisplay(topology.name);
  const interrupt = (signal: NodeJS.Signals): void => {
    if (drain.signal.aborted) {
      kill.abort();
    } else {
      display.note(`${signal}: draining. What is under way is finished; again to end at once.`);
      drain.abort();
    }
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  // Nobody reads on: what is under way is finished all the same.
  process.stdout.on("error", () => drain.abort());

  let result: RunResult;
  try {
    if (chaos !== undefined)
      display.note(`chaos: ${chaos.kills} kills, --chaos-seed ${chaos.seed}`);
    result = await runTopology(topology, {
      options: given,
      input,
      dataDirectory,
      keepsData: topology.keepsData || flags.resume === true,
      ...(flags.duration === undefined ? {} : { paceMs: flags.duration * 1000 }),
      ...(chaos === undefined ? {} : { chaos }),
      drain: drain.signal,
      kill: kill.signal,
      watch: display,
    });
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    display.note(error.message);
    process.exitCode = exitInterrupted;
    return;
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    if (kept !== undefined) fs.rmSync(kept, { recursive: true });
  }
  if (result.wasDrained) display.note("Drained: the audit is of what came in until then.");
  if (result.audit === undefined) return;
  process.stdout.write(formatAudit(result.audit));
  process.stdout.write(`\ndata in ${path.relative(process.cwd(), dataDirectory)}\n`);
  if (!result.audit.holds) process.exitCode = exitAuditFailed;
}

/** npm runs scripts in the package's directory and says in INIT_CWD where it was called. */
function callerDirectory(): string {
  return process.env["INIT_CWD"] ?? process.cwd();
}

function parseOptions(topology: Topology, words: readonly string[]): Record<string, OptionValue> {
  const given: Record<string, OptionValue> = Object.fromEntries(
    topology.options.map((option) => [option.name, option.default]),
  );
  const known = new Map(topology.options.map((option) => [`--${option.name}`, option]));
  const rest = words.flatMap((word) =>
    /^--[^=]+=/.test(word)
      ? [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]
      : [word],
  );
  for (let index = 0; index < rest.length; index += 2) {
    const flag = rest[index] ?? "";
    const option = known.get(flag);
    if (option === undefined) {
      throw invalidConfig("command line", [{ key: flag, problem: expectedOptions(topology) }]);
    }
    given[option.name] = parseOption(option, rest[index + 1]);
  }
  return given;
}

function expectedOptions(topology: Topology): string {
  const lines = topology.options.map(
    ({ name, type, help }) => `\n  --${`${name} <${type}>`.padEnd(20)} ${help}`,
  );
  return `unknown option. ${topology.name} has:${lines.join("")}`;
}

function parseOption(option: OptionEntry, text: string | undefined): OptionValue {
  const flag = `--${option.name}`;
  if (text === undefined) throw wrong(flag, `expected ${option.type}, found nothing`);
  switch (option.type) {
    case "integer":
      return parseWhole(flag, text);
    case "text":
      return text;
    case "file": {
      if (text === standardInput) return text;
      const file = path.resolve(callerDirectory(), text);
      if (fs.statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
        throw wrong(flag, `expected a file, found none at ${file}`);
      }
      return file;
    }
  }
}

function parseWhole(flag: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw wrong(flag, `expected a whole number of 0 or more, found ${JSON.stringify(text)}`);
  }
  return value;
}

function wrong(flag: string, problem: string): Error {
  return invalidConfig("command line", [{ key: flag, problem }]);
}

/**
 * Keeps standard input in a file: a service that reads it may be killed and has to find the
 * beginning again, which a pipe has not. Gives back the directory to remove in the end.
 */
async function keepStandardInput(
  topology: Topology,
  given: Record<string, OptionValue>,
): Promise<string | undefined> {
  const option = topology.options.find(
    ({ name, type }) => type === "file" && given[name] === standardInput,
  );
  if (option === undefined) return undefined;
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-input-"));
  const file = path.join(directory, option.name);
  await pipeline(process.stdin, fs.createWriteStream(file));
  given[option.name] = file;
  return directory;
}
