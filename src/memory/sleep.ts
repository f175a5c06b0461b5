/**
 * Sleeping on a count in shared memory, and waking.
 *
 *   asleep   1 where somebody sleeps, or is about to: whoever brings something looks here first
 *   wakes    the count that sleepers sleep on
 *
 * A sleep that leaves the event loop free takes a thread of libuv's pool, where one is to be had:
 * see pool-threads.ts.
 */
import { futexWait, futexWaitAsync, futexWake } from "./futex.ts";
import { borrowPoolThread, lookNowAndThen } from "./pool-threads.ts";

/** Words in which there is a bed, and where they are for the kernel. */
export interface SleepMemory {
  readonly words: Int32Array;
  readonly address: bigint;
}

/** A pair of words to sleep on, by their index. */
export interface Bed {
  readonly asleep: number;
  readonly wakes: number;
}

/** Moves the count, so that nobody falls asleep on what it was, and wakes who already has. */
export function wake(memory: SleepMemory, bed: Bed): void {
  const { words } = memory;
  // Unmapped: nobody can be asleep here, and an abort may come late.
  if (words.length === 0) return;
  Atomics.store(words, bed.asleep, 0);
  Atomics.add(words, bed.wakes, 1);
  futexWake(addressOf(memory, bed));
}

/** The count, to be read before the last look that comes before a sleep. */
export function readWakes({ words }: SleepMemory, bed: Bed): number {
  return Atomics.load(words, bed.wakes);
}

/** Says that somebody is about to sleep: what would keep it awake is to be looked at after this. */
export function announceSleep({ words }: SleepMemory, bed: Bed): void {
  Atomics.store(words, bed.asleep, 1);
}

/** Sleeps until the count is no longer `wakes`, or the time is up. Wake-ups can be spurious. */
export async function sleepOn(
  memory: SleepMemory,
  bed: Bed,
  wakes: number,
  timeoutMs: number,
): Promise<void> {
  const giveBack = borrowPoolThread(() => wake(memory, bed));
  if (giveBack === undefined) {
    const isAwake = (): boolean => memory.words.length === 0 || readWakes(memory, bed) !== wakes;
    return lookNowAndThen(isAwake, timeoutMs);
  }
  await futexWaitAsync(addressOf(memory, bed), wakes, timeoutMs);
  giveBack();
}

/** The same for a thread of its own. */
export function sleepBlocking(
  memory: SleepMemory,
  bed: Bed,
  wakes: number,
  timeoutMs: number,
): void {
  futexWait(addressOf(memory, bed), wakes, timeoutMs);
}

function addressOf({ address }: SleepMemory, { wakes }: Bed): bigint {
  return address + BigInt(wakes * 4);
}
