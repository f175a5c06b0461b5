/**
 * The right to write in a directory: a file that names the process that has it.
 *
 * The file appears whole, by a hard link, and only where there is none. A holder that died leaves
 * it behind; whoever wants to take over from it first acquires, by the same rules, a lock on that
 * dead holder, and so does it alone: two who saw the same dead holder cannot both replace it, nor
 * can the slower of them replace the quicker. Processes must share one PID namespace and host.
 */
import fs from "node:fs";
import { threadId } from "node:worker_threads";
import { GaplessError } from "../errors.ts";
import { identifySelf, isAlive, type ProcessIdentity } from "./process-identity.ts";

/**
 * Acquires the lock, and returns what gives it back.
 *
 * @throws GaplessError ALREADY_OPEN where a live process has it, this one included.
 */
export function acquireLock(lockPath: string): () => void {
  const temporary = `${lockPath}.${process.pid}-${threadId}.tmp`;
  try {
    for (;;) {
      writeIdentity(temporary);
      if (linkIfAbsent(temporary, lockPath)) break;
      const holder = readHolder(lockPath);
      if (holder === undefined) continue;
      if (isAlive(holder)) throw alreadyOpen(lockPath, holder);
      if (takeOver(lockPath, holder, temporary)) break;
    }
    return () => fs.rmSync(lockPath, { force: true });
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

/** @returns false where somebody else took over in between. */
function takeOver(lockPath: string, dead: ProcessIdentity, temporary: string): boolean {
  const release = acquireLock(`${lockPath}.${dead.pid}-${dead.startTicks}-${dead.bootId}`);
  try {
    const holder = readHolder(lockPath);
    if (holder === undefined || !isSame(holder, dead)) return false;
    fs.renameSync(temporary, lockPath);
    return true;
  } finally {
    release();
  }
}

function writeIdentity(filePath: string): void {
  const fd = fs.openSync(filePath, "w", 0o600);
  try {
    fs.writeFileSync(fd, `${JSON.stringify(identifySelf())}\n`);
    // The name must not come to the disk before what it stands for: an empty lock names nobody.
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function linkIfAbsent(existing: string, name: string): boolean {
  try {
    fs.linkSync(existing, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** undefined where the lock has just been given back. */
function readHolder(lockPath: string): ProcessIdentity | undefined {
  let text: string;
  try {
    text = fs.readFileSync(lockPath, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let found: Partial<ProcessIdentity> | null = null;
  try {
    found = JSON.parse(text) as Partial<ProcessIdentity> | null;
  } catch {
    // Falls through: it names nobody.
  }
  const { pid, startTicks, bootId } = found ?? {};
  if (typeof pid === "number" && typeof startTicks === "number" && typeof bootId === "string") {
    return { pid, startTicks, bootId };
  }
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `${lockPath} does not name a process. Make sure that none writes there, then remove it.`,
  );
}

function isSame(left: ProcessIdentity, right: ProcessIdentity): boolean {
  return (
    left.pid === right.pid && left.startTicks === right.startTicks && left.bootId === right.bootId
  );
}

function alreadyOpen(lockPath: string, holder: ProcessIdentity): GaplessError {
  const who = holder.pid === process.pid ? "this process" : "another live process";
  return new GaplessError(
    "ALREADY_OPEN",
    `${lockPath} is held by ${who}: pid=${holder.pid}. Close it there, or stop that process.`,
  );
}
