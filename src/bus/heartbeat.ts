/** The heartbeat in the block of a party of a channel. */
import { beatAt, renewClock, silenceAt } from "../memory/heartbeat.ts";
import { partyOffset } from "./layout.ts";
import { isOwnerAlive, isVacant } from "./ownership.ts";

/** Notes in the block at `base` that its party is at work. */
export function beat(words: Int32Array, base: number): void {
  beatAt(words, base + partyOffset.heartbeat);
}

/** The same by a clock that is read now, for whoever may let no timer fire for long. */
export function beatNow(words: Int32Array, base: number): void {
  renewClock();
  beat(words, base);
}

/** Milliseconds since the party of the block at `base` was last seen at work. */
export function silenceMs(words: Int32Array, base: number): number {
  return silenceAt(words, base + partyOffset.heartbeat);
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
