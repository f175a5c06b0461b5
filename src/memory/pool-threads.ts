/**
 * Threads of libuv's pool, to sleep on while the event loop goes on.
 *
 * There are few: all taken, no file would be read and no log flushed before a timeout. So half of
 * them are left to the others, and whoever comes when the rest is asleep looks at what it waits for
 * now and then: the longer nothing comes the more rarely, so that many who wait cost next to
 * nothing. A service that has more than two who wait, and minds the delay, raises
 * UV_THREADPOOL_SIZE.
 */
import { setTimeout as pause } from "node:timers/promises";

const poolThreads = Number(process.env["UV_THREADPOOL_SIZE"]) || 4;
const sleepersMax = Math.max(1, poolThreads >> 1);

/** How long it is between two looks, at first and at most. */
export const lookIntervalMs = { first: 1, most: 32 } as const;

/** What wakes each of those that sleep. */
const sleepers = new Set<() => void>();

/**
 * Takes one of the threads that may sleep.
 *
 * @param wakeUp Ends the sleep; called where the process exits while it lasts.
 * @returns what gives the thread back; undefined where none is left: then `lookNowAndThen`.
 */
export function borrowPoolThread(wakeUp: () => void): (() => void) | undefined {
  if (sleepers.size >= sleepersMax) return undefined;
  if (!process.listeners("exit").includes(wakeAll)) process.on("exit", wakeAll);
  // One that sleeps twice wakes itself by the same function.
  const sleeper = (): void => wakeUp();
  sleepers.add(sleeper);
  return () => void sleepers.delete(sleeper);
}

/** Resolves when `isAwake` is true of a look, or the time is up. */
export async function lookNowAndThen(isAwake: () => boolean, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let intervalMs: number = lookIntervalMs.first;
  while (!isAwake()) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return;
    await pause(Math.min(leftMs, intervalMs));
    intervalMs = Math.min(intervalMs * 2, lookIntervalMs.most);
  }
}

/** A process that exits waits for its pool threads: without this, for the longest timeout. */
function wakeAll(): void {
  for (const wakeUp of sleepers) wakeUp();
}
