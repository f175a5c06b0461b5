/**
 * Where a run keeps things: its data on disk, and its channels and sockets in shared memory.
 *
 *   DATA/gapless.lock        who runs it
 *   DATA/SERVICE/...         each service's own
 *   /dev/shm/gapless-HASH/   owner.json, *.ring, *.sock; removed at the end of the run, or by the
 *                            next run of anything where its owner has died
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { acquireLock } from "../memory/lock-file.ts";
import { identifySelf, isAlive, type ProcessIdentity } from "../memory/process-identity.ts";

const shmRoot = "/dev/shm";
const shmPrefix = "gapless-";
const ownerFile = "owner.json";
const lockFile = "gapless.lock";

export interface RunDirectory extends Disposable {
  readonly data: string;
  readonly shm: string;
}

/**
 * Takes the data directory for this process, empties it unless it is kept, and makes a fresh
 * directory in shared memory.
 *
 * @throws GaplessError ALREADY_OPEN where another run has it.
 */
export function openRunDirectory(data: string, keepsData: boolean): RunDirectory {
  fs.mkdirSync(data, { recursive: true });
  const release = acquireLock(path.join(data, lockFile));
  if (!keepsData) {
    for (const name of fs.readdirSync(data)) {
      if (name !== lockFile) fs.rmSync(path.join(data, name), { recursive: true });
    }
  }
  removeLeftovers();
  const hash = createHash("sha256").update(fs.realpathSync(data)).digest("hex").slice(0, 12);
  const shm = path.join(shmRoot, `${shmPrefix}${hash}`);
  fs.rmSync(shm, { recursive: true, force: true });
  fs.mkdirSync(shm, { mode: 0o700 });
  fs.writeFileSync(path.join(shm, ownerFile), JSON.stringify(identifySelf()), { mode: 0o600 });
  return {
    data,
    shm,
    [Symbol.dispose]() {
      fs.rmSync(shm, { recursive: true, force: true });
      release();
    },
  };
}

export function socketPathOf(shm: string, service: string): string {
  return path.join(shm, `${service}.sock`);
}

/** Removes what runs that were killed have left in shared memory. */
function removeLeftovers(): void {
  for (const name of fs.readdirSync(shmRoot)) {
    if (!name.startsWith(shmPrefix)) continue;
    const directory = path.join(shmRoot, name);
    const owner = readOwner(directory);
    if (owner !== undefined && !isAlive(owner)) {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  }
}

/** undefined where it cannot be told: another user's, or one that is just being made. */
function readOwner(directory: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(fs.readFileSync(path.join(directory, ownerFile), "utf8")) as ProcessIdentity;
  } catch {
    return undefined;
  }
}
