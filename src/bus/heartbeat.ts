/**
 * When an end last did something, or had nothing to do: a word of milliseconds since boot.
 *
 * A clock read costs more than a message, so all ends of a process share one coarse reading. A
 * timer renews it and, for ends that have nothing to do, their word; in a loop without a rest,
 * where no timer ever fires, every so many beats renew it.
 */
import { bootMs } from "../clock.ts";
import { partyOffset } from "./layout.ts";
import { isOwnerAlive, isVacant } from "./ownership.ts";

const intervalMs = 100;
/** So many beats renew the reading themselves. */
const beatsPerReading = 64;

let coarseMs = bootMs() | 0;
let beats = 0;

export interface Beating {
  /** Says that it is well where it has nothing to do; otherwise only its work can say so. */
  beatIfIdle(): void;
}

/** Ends of this process that are open. The timer keeps nobody from ending. */
const beating = new Set<Beating>();
let timer: NodeJS.Timeout | undefined;

export function startBeating(end: Beating): void {
  beating.add(end);
  timer ??= setInterval(() => {
    renewClock();
    for (const one of beating) one.beatIfIdle();
  }, intervalMs).unref();
}

export function stopBeating(end: Beating): void {
  beating.delete(end);
  if (beating.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}

export function renewClock(): void {
  coarseMs = bootMs() | 0;
}

/** Notes in the block at `base` that its party is at work. */
export function beat(words: Int32Array, base: number): void {
  if (++beats % beatsPerReading === 0) renewClock();
  words[base + partyOffset.heartbeat] = coarseMs;
}

/** The same by a clock that is read now, for whoever may let no timer fire for long. */
export function beatNow(words: Int32Array, base: number): void {
  renewClock();
  beat(words, base);
}

/** Milliseconds since the party of the block at `base` was last seen at work. */
export function silenceMs(words: Int32Array, base: number): number {
  const since = ((bootMs() | 0) - Atomics.load(words, base + partyOffset.heartbeat)) | 0;
  return Math.max(0, since);
}

/**
 * Whether a party is there no more: dead, or silent for longer than `timeoutMs`. One that has left,
 * or has not come yet, has that long to come.
 */
export function isLost(words: Int32Array, base: number, timeoutMs: number): boolean {
  const owner = base + partyOffset.owner;
  if (!isVacant(words, owner) && !isOwnerAlive(words, owner)) return true;
  return silenceMs(words, base) > timeoutMs;
}
