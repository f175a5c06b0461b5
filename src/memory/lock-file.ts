/**
 * The right to write in a directory: a file that names the process that has it.
 *
 * The file appears whole, by a hard link, and only where there is none. A holder that died leaves
 * it behind; whoever wants to take over from it first acquires, by the same rules, a lock on that
 * dead holder, and so does it alone: two who saw the same dead holder cannot both replace it, nor
 * can the slower of them replace the quicker. Processes must share one PID namespace and host.
 *
 * A live holder can be replaced too, by a caller who knows that it must not write any more. It
 * learns nothing of that here; when it gives its lock back, it leaves that of its successor alone.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { threadId } from "node:worker_threads";
import { GaplessError, isGaplessError } from "../errors.ts";
import { identifySelf, isAlive, type ProcessIdentity } from "./process-identity.ts";

/** Who has a lock. */
export interface LockHolder extends ProcessIdentity {
  /** Of this one time that it was acquired: a process can have a lock twice, by turns. */
  readonly token: string;
}

/** How a lock is acquired. */
export interface LockOptions {
  /**
   * Whether this live holder is to lose its lock. What it was about to do, it may still do: who
   * replaces it has to keep it from writing first or afterwards. By default it keeps the lock.
   */
  readonly mayReplace?: (holder: LockHolder) => boolean;
}

/**
 * Acquires the lock, and returns what gives it back: once, and only if nobody has replaced the
 * holder meanwhile.
 *
 * @throws GaplessError ALREADY_OPEN where a live process has it, this one included.
 */
export function acquireLock(lockPath: string, options: LockOptions = {}): () => void {
  return adoptLock(lockPath, acquire(lockPath, options.mayReplace ?? never));
}

/** What gives a lock back that another thread of this process has acquired: see `readHolder`. */
export function adoptLock(lockPath: string, token: string): () => void {
  let isMine = true;
  return () => {
    if (isMine) giveBack(lockPath, token);
    isMine = false;
  };
}

/**
 * Who has the lock, dead or alive; undefined where nobody has.
 *
 * @throws GaplessError STORAGE_CORRUPT where the file names no process.
 */
export function readHolder(lockPath: string): LockHolder | undefined {
  let text: string;
  try {
    text = fs.readFileSync(lockPath, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let found: Partial<LockHolder> | null = null;
  try {
    found = JSON.parse(text) as Partial<LockHolder> | null;
  } catch {
    // Falls through: it names nobody.
  }
  const { pid, startTicks, bootId, token = "" } = found ?? {};
  if (typeof pid === "number" && typeof startTicks === "number" && typeof bootId === "string") {
    return { pid, startTicks, bootId, token };
  }
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `${lockPath} does not name a process. Make sure that none writes there, then remove it.`,
  );
}

/** Whether a live process has the lock. Reads /proc: for slow paths. */
export function isHeld(lockPath: string): boolean {
  const holder = readHolder(lockPath);
  return holder !== undefined && isAlive(holder);
}

/** Returns the token of the new holder. */
function acquire(lockPath: string, mayReplace: (holder: LockHolder) => boolean): string {
  const temporary = `${lockPath}.${process.pid}-${threadId}.tmp`;
  const token = randomBytes(8).toString("hex");
  try {
    for (;;) {
      writeHolder(temporary, { ...identifySelf(), token });
      if (linkIfAbsent(temporary, lockPath)) return token;
      const holder = readHolder(lockPath);
      if (holder === undefined) continue;
      if (isAlive(holder) && !mayReplace(holder)) throw alreadyOpen(lockPath, holder);
      if (takeOver(lockPath, holder, temporary)) return token;
    }
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

/** @returns false where somebody else took over in between. */
function takeOver(lockPath: string, from: LockHolder, temporary: string): boolean {
  const release = acquireGuard(lockPath, from);
  try {
    if (!isSame(readHolder(lockPath), from)) return false;
    fs.renameSync(temporary, lockPath);
    return true;
  } finally {
    release();
  }
}

/** Removes the lock, unless somebody has replaced its holder, or is about to. */
function giveBack(lockPath: string, token: string): void {
  const holder = { ...identifySelf(), token };
  let release: () => void;
  try {
    release = acquireGuard(lockPath, holder);
  } catch (error) {
    // A live process is replacing this holder, or the directory was removed with its lock.
    const isGone = (error as NodeJS.ErrnoException).code === "ENOENT";
    if (isGone || isGaplessError(error, "ALREADY_OPEN")) return;
    throw error;
  }
  try {
    if (isSame(readHolder(lockPath), holder)) fs.rmSync(lockPath, { force: true });
  } finally {
    release();
  }
}

/** The right to take the lock away from its holder. Nobody is replaced who has that. */
function acquireGuard(lockPath: string, holder: LockHolder): () => void {
  const guard = `${lockPath}.${holder.pid}-${holder.startTicks}-${holder.bootId}`;
  acquire(guard, never);
  return () => fs.rmSync(guard, { force: true });
}

function never(): boolean {
  return false;
}

function writeHolder(filePath: string, holder: LockHolder): void {
  const fd = fs.openSync(filePath, "w", 0o600);
  try {
    fs.writeFileSync(fd, `${JSON.stringify(holder)}\n`);
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

function isSame(left: LockHolder | undefined, right: LockHolder): boolean {
  return (
    left !== undefined &&
    left.pid === right.pid &&
    left.startTicks === right.startTicks &&
    left.bootId === right.bootId &&
    left.token === right.token
  );
}

function alreadyOpen(lockPath: string, holder: ProcessIdentity): GaplessError {
  const who = holder.pid === process.pid ? "this process" : "another live process";
  return new GaplessError(
    "ALREADY_OPEN",
    `${lockPath} is held by ${who}: pid=${holder.pid}. Close it there, or stop that process.`,
  );
}
