/**
 * When somebody last did something, or had nothing to do: a word of milliseconds since boot.
 *
 * A clock read costs more than a message, so all of a process share one coarse reading. A timer
 * renews it and, for those that have nothing to do, their word; in a loop without a rest, where no
 * timer ever fires, every so many beats renew it.
 */
import { bootMs, bootMsAt } from "../clock.ts";

const intervalMs = 100;
/** So many beats renew the reading themselves. */
const beatsPerReading = 64;

let coarseMs = bootMs() | 0;
let beats = 0;

export interface Beating {
  /** Says that it is well where it has nothing to do; otherwise only its work can say so. */
  beatIfIdle(): void;
}

/** Who of this process is open. The timer keeps nobody from ending. */
const beating = new Set<Beating>();
let timer: NodeJS.Timeout | undefined;

export function startBeating(end: Beating): void {
  if (beating.size === 0) renewClock();
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

/** The same for whoever has read `performance.now()` anyway. */
export function renewClockWith(nowMs: number): void {
  coarseMs = bootMsAt(nowMs) | 0;
}

/** Notes in a word that its owner is at work. */
export function beatAt(words: Int32Array, index: number): void {
  if (++beats % beatsPerReading === 0) renewClock();
  words[index] = coarseMs;
}

/** The same for one that comes only now: the coarse reading may be of long ago. */
export function beatNow(words: Int32Array, index: number): void {
  renewClock();
  words[index] = coarseMs;
}

/** Milliseconds since the owner of the word was last seen at work. */
export function silenceAt(words: Int32Array, index: number): number {
  return Math.max(0, ((bootMs() | 0) - Atomics.load(words, index)) | 0);
}
