/**
 * Sleeping on a 32-bit word of shared memory until another process changes it: futex(2).
 *
 * The kernel compares the word with `expected` before it puts the caller to sleep, so a change
 * between the caller's last look and the call is never slept through. Wake-ups can be spurious:
 * whoever waits looks again. Words are 4-byte aligned.
 */
import { futex, futexCall } from "./libc.ts";

// Without FUTEX_PRIVATE_FLAG: the waiters are other processes.
const operationWait = 0;
const operationWake = 1;
const wakeAll = 0x7fff_ffff;

/** A word that others change, as this process and as the kernel see it. */
export interface AwaitedWord {
  /** Empty once the memory is given back: then nobody sleeps on it any more. */
  readonly words: Int32Array;
  readonly index: number;
  /** Of that word itself. */
  readonly address: bigint;
  /** What it was at the last look. A sleep is for as long as it stays so. */
  expected: number;
}

/** Blocks the calling thread until a wake-up, a changed word, or the timeout. */
export function futexWait(word: bigint, expected: number, timeoutMs: number): void {
  futex(futexCall, word, operationWait, expected, timespec(timeoutMs), null, 0);
}

/**
 * The same on a pool thread: the event loop stays free. The promise never rejects. It settles
 * within `timeoutMs`, so a process that is closing wakes the word or waits that long.
 */
export function futexWaitAsync(word: bigint, expected: number, timeoutMs: number): Promise<void> {
  const timeout = timespec(timeoutMs);
  return new Promise((resolve) => {
    futex.async(futexCall, word, operationWait, expected, timeout, null, 0, () => resolve());
  });
}

/** Wakes everybody who sleeps on the word. */
export function futexWake(word: bigint): void {
  futex(futexCall, word, operationWake, wakeAll, null, null, 0);
}

function timespec(timeoutMs: number): BigInt64Array {
  const seconds = Math.floor(timeoutMs / 1000);
  // Never rounded up to a whole second, which the kernel would refuse.
  const nanoseconds = Math.floor((timeoutMs - seconds * 1000) * 1e6);
  return new BigInt64Array([BigInt(seconds), BigInt(nanoseconds)]);
}
