/** The `gapless` command, as a person calls it. */
import {
  spawn,
  spawnSync,
  type ChildProcess,
  type ChildProcessByStdio,
  type SpawnSyncReturns,
} from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";

const program = path.join(import.meta.dirname, "../../src/cli/gapless.ts");
const node = ["--conditions=source", "--disable-warning=ExperimentalWarning", program];

export function gapless(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...node, ...args], { encoding: "utf8", timeout: 60_000 });
}

/** The same, with its output going to a file that is open. */
export function gaplessInto(file: number, ...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...node, ...args], {
    encoding: "utf8",
    stdio: ["ignore", file, "pipe"],
    timeout: 60_000,
  });
}

/** The same for one that goes on until it is stopped. */
export function startGapless(...args: string[]): ChildProcess {
  return spawn(process.execPath, [...node, ...args], { stdio: ["ignore", "pipe", "inherit"] });
}

/** The same, where what it complains of is of interest as well. */
export function startHeardGapless(
  ...args: string[]
): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(process.execPath, [...node, ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

/** The same for one that asks a server of the test's own process. */
export async function runGapless(
  ...args: string[]
): Promise<Pick<SpawnSyncReturns<string>, "status" | "stdout" | "stderr">> {
  const child = spawn(process.execPath, [...node, ...args], { timeout: 60_000 });
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close") as Promise<[number | null]>,
  ]);
  return { status, stdout, stderr };
}
