/**
 * Sleeping on a count in shared memory, and waking.
 *
 *   asleep   1 where somebody sleeps, or is about to: whoever brings something looks here first
 *   wakes    the count that sleepers sleep on
 *
 * A sleep that leaves the event loop free takes a thread of libuv's pool, and there are few: all
 * taken, no file would be read and no log flushed before a timeout. So half of them are left to the
 * others, and whoever comes when the rest is asleep looks at its count now and then: the longer
 * nothing comes the more rarely, so that many idle channels cost next to nothing. A service that
 * has more than two of them, and minds the delay, raises UV_THREADPOOL_SIZE.
 */
import { setTimeout as pause } from "node:timers/promises";
import { futexWait, futexWaitAsync, futexWake } from "./futex.ts";

const poolThreads = Number(process.env["UV_THREADPOOL_SIZE"]) || 4;
const sleepersMax = Math.max(1, poolThreads >> 1);
const lookIntervalMs = { first: 1, most: 32 };

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

interface Sleeper {
  readonly memory: SleepMemory;
  readonly bed: Bed;
}

const sleepers = new Set<Sleeper>();

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
  if (sleepers.size >= sleepersMax) return lookNowAndThen(memory, bed, wakes, timeoutMs);
  if (!process.listeners("exit").includes(wakeAll)) process.on("exit", wakeAll);
  const sleeper = { memory, bed };
  sleepers.add(sleeper);
  await futexWaitAsync(addressOf(memory, bed), wakes, timeoutMs);
  sleepers.delete(sleeper);
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

async function lookNowAndThen(
  memory: SleepMemory,
  bed: Bed,
  wakes: number,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let intervalMs = lookIntervalMs.first;
  while (memory.words.length > 0 && readWakes(memory, bed) === wakes) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return;
    await pause(Math.min(leftMs, intervalMs));
    intervalMs = Math.min(intervalMs * 2, lookIntervalMs.most);
  }
}

function addressOf({ address }: SleepMemory, { wakes }: Bed): bigint {
  return address + BigInt(wakes * 4);
}

/** A process that exits waits for its pool threads: without this, for the longest timeout. */
function wakeAll(): void {
  for (const { memory, bed } of sleepers) wake(memory, bed);
}
