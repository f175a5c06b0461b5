/**
 * Where a run keeps things: its data on disk, and its channels and sockets in shared memory.
 *
 *   DATA/gapless.lock        who runs it
 *   DATA/gapless.input.json  the options that decide what the run is about
 *   DATA/SERVICE/...         each service's own
 *   /dev/shm/gapless-HASH/   owner.json, *.ring, *.sock; removed at the end of the run, or by the
 *                            next run of anything where its owner has died
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { GaplessError } from "../errors.ts";
import { removeHugePageFiles } from "../memory/huge-page-file.ts";
import { acquireLock } from "../memory/lock-file.ts";
import { identifySelf, isAlive, type ProcessIdentity } from "../memory/process-identity.ts";

const shmRoot = "/dev/shm";
const shmPrefix = "gapless-";
const ownerFile = "owner.json";
const lockFile = "gapless.lock";
const inputFile = "gapless.input.json";

export interface RunDirectory extends Disposable {
  readonly data: string;
  readonly shm: string;
}

/** What a directory is taken for. */
export interface RunClaim {
  readonly data: string;
  readonly keepsData: boolean;
  /** Names of the services: what a run may have put there. */
  readonly services: readonly string[];
  /** Two runs over the same data have the same. */
  readonly input: Readonly<Record<string, string | number>>;
}

/**
 * Takes the data directory for this process, empties it unless it is kept, and makes a fresh
 * directory in shared memory.
 *
 * @throws GaplessError ALREADY_OPEN where another run has it; CONFIG_INVALID where it holds what
 *   no run has put there, or the data of a run with other input.
 */
export function openRunDirectory(claim: RunClaim): RunDirectory {
  const { data } = claim;
  fs.mkdirSync(data, { recursive: true });
  refuseForeign(claim);
  const release = acquireLock(path.join(data, lockFile));
  try {
    prepareData(claim);
    return { data, ...openShm(data, release) };
  } catch (error) {
    release();
    throw error;
  }
}

/** Emptying a directory that is somebody's would be a loss of another kind. */
function refuseForeign({ data, services }: RunClaim): void {
  const foreign = fs
    .readdirSync(data)
    .filter((name) => !services.includes(name) && !name.startsWith("gapless."));
  if (foreign.length === 0) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `${data} holds what no run has put there: ${foreign.slice(0, 3).join(", ")}. Expected an ` +
      "empty directory, or that of an earlier run.",
  );
}

function prepareData({ data, keepsData, services, input }: RunClaim): void {
  const file = path.join(data, inputFile);
  const text = JSON.stringify(input);
  if (keepsData && fs.existsSync(file)) {
    const before = fs.readFileSync(file, "utf8");
    if (before === text) return;
    throw new GaplessError(
      "CONFIG_INVALID",
      `${data} is the data of a run with other options: ${before}, now ${text}. Give the same ` +
        "options again, or another directory.",
    );
  }
  for (const service of keepsData ? [] : services) {
    fs.rmSync(path.join(data, service), { recursive: true, force: true });
  }
  fs.writeFileSync(file, text);
}

function openShm(data: string, release: () => void): Disposable & { readonly shm: string } {
  removeLeftovers();
  const shm = shmDirectoryOf(data);
  removeShm(shm);
  fs.mkdirSync(shm, { mode: 0o700 });
  fs.writeFileSync(path.join(shm, ownerFile), JSON.stringify(identifySelf()), { mode: 0o600 });
  return {
    shm,
    [Symbol.dispose]() {
      removeShm(shm);
      release();
    },
  };
}

/** Where a run over this data directory, which exists, has its channels and sockets. */
export function shmDirectoryOf(data: string): string {
  const hash = createHash("sha256").update(fs.realpathSync(data)).digest("hex").slice(0, 12);
  return path.join(shmRoot, `${shmPrefix}${hash}`);
}

export function socketPathOf(shm: string, service: string): string {
  return path.join(shm, `${service}.sock`);
}

/** Removes what runs that were killed have left in shared memory. */
function removeLeftovers(): void {
  for (const directory of findDeadRuns()) removeShm(directory);
}

/** What runs that were killed have left in shared memory: the next run removes it. */
export function findDeadRuns(): string[] {
  return fs
    .readdirSync(shmRoot)
    .filter((name) => name.startsWith(shmPrefix))
    .map((name) => path.join(shmRoot, name))
    .filter((directory) => {
      const owner = readOwner(directory);
      return owner !== undefined && !isAlive(owner);
    });
}

export function removeShm(directory: string): void {
  removeHugePageFiles(directory);
  fs.rmSync(directory, { recursive: true, force: true });
}

/** undefined where it cannot be told: another user's, or one that is just being made. */
function readOwner(directory: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(fs.readFileSync(path.join(directory, ownerFile), "utf8")) as ProcessIdentity;
  } catch {
    return undefined;
  }
}
