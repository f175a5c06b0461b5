/**
 * Who owns an end of a channel: three words.
 *
 *   | pid; negative while it is taking over; 0: nobody | start time low | start time high |
 *
 * A process that dies leaves them behind, so whoever depends on the owner asks whether it lives.
 */
import fs from "node:fs";
import { GaplessError } from "../errors.ts";
import { identifySelf, isAlive } from "../memory/process-identity.ts";

const nobody = 0;
const wordRange = 2 ** 32;

/**
 * Makes this process the owner recorded at `index`.
 *
 * @throws GaplessError ALREADY_OPEN where a living process owns it, this one included.
 */
export function takeOwnership(words: Int32Array, index: number, what: string): void {
  const { pid, startTicks } = identifySelf();
  while (true) {
    const before = Atomics.load(words, index);
    if (isAliveAs(words, index, before)) throw alreadyOpen(what, Math.abs(before));
    if (Atomics.compareExchange(words, index, before, -pid) === before) break;
    // Somebody came or went in between: look again at who it is now.
  }
  Atomics.store(words, index + 1, startTicks | 0);
  Atomics.store(words, index + 2, Math.floor(startTicks / wordRange));
  // SYNC owner-known: the start time is in place; pairs with the load of the pid in isOwnerAlive.
  Atomics.store(words, index, pid);
}

/** Leaves the end to nobody. What it had reached stays for the next owner. */
export function giveUpOwnership(words: Int32Array, index: number): void {
  Atomics.store(words, index, nobody);
}

/** Whether nobody has the end: it was never taken, or its last owner has left it. */
export function isVacant(words: Int32Array, index: number): boolean {
  return Atomics.load(words, index) === nobody;
}

/** Process id of the owner, dead or alive. */
export function ownerOf(words: Int32Array, index: number): number | undefined {
  const pid = Math.abs(Atomics.load(words, index));
  return pid === nobody ? undefined : pid;
}

/** Reads /proc: for slow paths. */
export function isOwnerAlive(words: Int32Array, index: number): boolean {
  return isAliveAs(words, index, Atomics.load(words, index));
}

function isAliveAs(words: Int32Array, index: number, pid: number): boolean {
  if (pid === nobody) return false;
  if (pid < 0) return isRunning(-pid);
  const low = Atomics.load(words, index + 1) >>> 0;
  const startTicks = (Atomics.load(words, index + 2) >>> 0) * wordRange + low;
  return isAlive({ ...identifySelf(), pid, startTicks });
}

/**
 * Half-way in, an owner is known by its pid alone; nobody stays there for long. A process that is
 * dead but not yet reaped is dead.
 */
function isRunning(pid: number): boolean {
  let stat: string;
  try {
    stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // For any other reason nothing is known, and an end is not taken from a living process.
    return code !== "ENOENT" && code !== "ESRCH";
  }
  // The name is in parentheses and may hold anything, parentheses and blanks too.
  const [state] = stat.slice(stat.lastIndexOf(")") + 2);
  return state !== "Z" && state !== "X";
}

function alreadyOpen(what: string, pid: number): GaplessError {
  return new GaplessError(
    "ALREADY_OPEN",
    `${what} is in use by process ${pid}. Stop that process first.`,
  );
}
