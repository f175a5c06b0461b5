/**
 * Snapshots of a state machine, so that a restart replays what came since the last one, and not
 * everything.
 *
 *   DIRECTORY/snapshot-00000000000000040000    CRC-32 in eight hexadecimal digits, then the state
 *
 * The number is the id of the last message in the state. A snapshot is written under another
 * name, made durable, then renamed: under its own name it is whole. One that does not read back
 * is passed over for the one before it; the journal has what it lacks. One process at a time
 * writes in a directory.
 */
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";
import { storageFailed } from "../errors.ts";
import { syncDirectory } from "../memory/sync-files.ts";
import { reachedStep } from "../steps.ts";

const prefix = "snapshot-";
const idDigits = 20;
const namePattern = /^snapshot-\d{20}$/;
const temporaryPattern = /^snapshot-\d{20}\.tmp$/;
const checksumDigits = 8;
const kept = 2;

/** A state, and the id of the last message that is in it. */
export interface Snapshot {
  readonly lastId: bigint;
  readonly state: string;
}

/**
 * Keeps a state; returns when it is durable. The directory must exist.
 *
 * @throws GaplessError STORAGE_FULL; the snapshots before it are untouched.
 */
export function writeSnapshot(directory: string, { lastId, state }: Snapshot): void {
  const file = path.join(directory, prefix + lastId.toString().padStart(idDigits, "0"));
  const temporary = `${file}.tmp`;
  try {
    fs.writeFileSync(temporary, checksum(state) + state, { flush: true });
  } catch (error) {
    throw storageFailed(`writing ${temporary}`, error);
  }
  reachedStep("snapshot.written");
  fs.renameSync(temporary, file);
  syncDirectory(directory);
  reachedStep("snapshot.renamed");
  // What a process that died in between left under a temporary name is never looked at again.
  const abandoned = fs.readdirSync(directory).filter((name) => temporaryPattern.test(name));
  for (const old of [...abandoned, ...listSnapshots(directory).slice(kept)]) {
    fs.rmSync(path.join(directory, old));
  }
}

/**
 * The newest state that reads back and that `isUsable` takes; undefined where there is none. A
 * state is of no use where the journal or the store behind it does not reach as far: they may
 * have been moved away, and are made anew from the beginning.
 */
export function readSnapshot(
  directory: string,
  isUsable: (snapshot: Snapshot) => boolean,
  warn: (text: string) => void,
): Snapshot | undefined {
  for (const name of listSnapshots(directory)) {
    const text = fs.readFileSync(path.join(directory, name), "utf8");
    const state = text.slice(checksumDigits);
    if (text.slice(0, checksumDigits) === checksum(state)) {
      const snapshot = { lastId: BigInt(name.slice(prefix.length)), state };
      if (isUsable(snapshot)) return snapshot;
      warn(`${name} is ahead of what is stored; going on from the one before it`);
    } else {
      warn(`${name} is damaged; going on from the one before it`);
    }
  }
  return undefined;
}

/** Newest first. */
function listSnapshots(directory: string): string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => namePattern.test(name))
    .sort()
    .reverse();
}

function checksum(state: string): string {
  return zlib.crc32(state).toString(16).padStart(checksumDigits, "0");
}
