/** Runs the exchange as a user does, by its command, and reads what it printed. */
import { spawn, type ChildProcess } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

const root = path.resolve(import.meta.dirname, "../..");
const topology = "examples/exchange/exchange.toml";

export interface Outcome {
  readonly code: number | null;
  readonly output: string;
  /** Of the audit's lines, by label. */
  readonly audit: ReadonlyMap<string, string>;
}

export interface Run {
  readonly child: ChildProcess;
  /** Resolves once the output matches, and throws where the run ends before. */
  printed(pattern: RegExp): Promise<void>;
  readonly outcome: Promise<Outcome>;
}

/** A data directory of its own for each test: runs share nothing. */
export function makeDataDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-exchange-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Starts `gapless up` on the exchange. */
export function startExchange(
  data: string,
  args: readonly (string | number)[] = [],
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {},
): Run {
  const child = spawn(
    process.execPath,
    [
      "--conditions=source",
      "src/cli/gapless.ts",
      "up",
      topology,
      "--data",
      data,
      ...args.map(String),
    ],
    { cwd: root, env: { ...process.env, ...options.env }, stdio: ["pipe", "pipe", "pipe"] },
  );
  child.stdin.end(options.input ?? "");
  let output = "";
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      for (const look of waiting) look();
    });
  }
  const outcome = new Promise<Outcome>((resolve) => {
    child.on("close", (code) => resolve({ code, output, audit: parseAudit(output) }));
  });
  return {
    child,
    outcome,
    printed(pattern) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          if (!pattern.test(output)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
        child.on("close", () => reject(new Error(`the run ended before ${pattern}:\n${output}`)));
      });
    },
  };
}

/** Runs it to its end. */
export async function runExchange(...args: Parameters<typeof startExchange>): Promise<Outcome> {
  return await startExchange(...args).outcome;
}

function parseAudit(output: string): Map<string, string> {
  const lines = output.matchAll(/^ {2}[✓✗ ] (\w+(?: \w+)?) {2,}(\S.*)$/gm);
  return new Map([...lines].map(([, label = "", value = ""]) => [label, value]));
}

/** The digests of a run, as one value to compare. */
export function digestsOf({ audit }: Outcome): string {
  return ["trades", "balances", "candles"]
    .map((what) => audit.get(`digest ${what}`) ?? "none")
    .join(" ");
}

/** The shared memory that runs of this data directory use. */
export function shmLeftovers(): string[] {
  return fs.readdirSync("/dev/shm").filter((name) => name.startsWith("gapless-"));
}
