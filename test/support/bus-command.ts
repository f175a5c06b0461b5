/** The `gapless` command, as a person calls it. */
import { spawn, spawnSync, type ChildProcess, type SpawnSyncReturns } from "node:child_process";
import path from "node:path";

const program = path.join(import.meta.dirname, "../../src/cli/gapless.ts");
const node = ["--conditions=source", "--disable-warning=ExperimentalWarning", program];

export function gapless(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...node, ...args], { encoding: "utf8", timeout: 60_000 });
}

/** The same for one that goes on until it is stopped. */
export function startGapless(...args: string[]): ChildProcess {
  return spawn(process.execPath, [...node, ...args], { stdio: ["ignore", "pipe", "inherit"] });
}
