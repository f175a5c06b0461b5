/**
 * Who owns an end of a channel: three words.
 *
 *   | pid; negative while it is taking over; 0: nobody | start time low | start time high |
 *
 * A process that dies leaves them behind, so whoever depends on the owner asks whether it lives.
 */
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
  const before = Atomics.load(words, index);
  if (isOwnerAlive(words, index)) throw alreadyOpen(what, Math.abs(before));
  const found = Atomics.compareExchange(words, index, before, -pid);
  if (found !== before) throw alreadyOpen(what, Math.abs(found));
  Atomics.store(words, index + 1, startTicks | 0);
  Atomics.store(words, index + 2, Math.floor(startTicks / wordRange));
  // SYNC owner-known: the start time is in place; pairs with the load of the pid in isOwnerAlive.
  Atomics.store(words, index, pid);
}

/** Leaves the end to nobody. What it had reached stays for the next owner. */
export function giveUpOwnership(words: Int32Array, index: number): void {
  Atomics.store(words, index, nobody);
}

/** Reads /proc: for slow paths. */
export function isOwnerAlive(words: Int32Array, index: number): boolean {
  const pid = Atomics.load(words, index);
  if (pid === nobody) return false;
  if (pid < 0) return isRunning(-pid);
  const low = Atomics.load(words, index + 1) >>> 0;
  const startTicks = (Atomics.load(words, index + 2) >>> 0) * wordRange + low;
  return isAlive({ ...identifySelf(), pid, startTicks });
}

/** Half-way in, an owner is known by its pid alone; nobody stays there for long. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function alreadyOpen(what: string, pid: number): GaplessError {
  return new GaplessError(
    "ALREADY_OPEN",
    `${what} is in use by process ${pid}. Stop that process first.`,
  );
}
