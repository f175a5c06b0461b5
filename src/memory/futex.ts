/**
 * Sleeping on 32-bit words of shared memory until another process changes one: futex(2), and
 * futex_waitv(2) for several of them, which Linux has since 5.16.
 *
 * The kernel compares a word with what is `expected` before it puts the caller to sleep, so a
 * change between the caller's last look and the call is never slept through. Wake-ups can be
 * spurious: whoever waits looks again. Words are 4-byte aligned.
 */
import { assert } from "../errors.ts";
import { addressOf, futex, futexCall, futexWaitv, futexWaitvCall, lastErrno } from "./libc.ts";
import { lookIntervalMs, lookNowAndThen } from "./pool-threads.ts";

// Without FUTEX_PRIVATE_FLAG: the waiters are other processes.
const operationWait = 0;
const operationWake = 1;
const wakeAll = 0x7fff_ffff;

/** FUTEX2_SIZE_U32, again without the flag for private ones. */
const sizeOfWord = 2n;
const clockMonotonic = 1;
const errnoWordDiffers = 11;
/** `struct futex_waitv`: the value, the address, the flags with 32 bits that are zero. */
const wordsPerWaiter = 3;
/** The kernel takes no more at once. */
const waitersMax = 128;

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

/**
 * Blocks the calling thread until a wake-up of any of the words, a changed one, or the timeout.
 * Where the kernel cannot, or not for so many, only the first word wakes at once: the others are
 * looked at every 1 to 32 ms.
 */
export function futexWaitAny(words: readonly AwaitedWord[], timeoutMs: number): void {
  if (!canWaitOn(words)) {
    lookBlocking(words, timeoutMs);
    return;
  }
  if (words.some(hasChanged)) return;
  const waiters = waitersOf(words);
  const deadline = deadlineIn(timeoutMs);
  futexWaitv(futexWaitvCall, waiters, words.length, 0, deadline, clockMonotonic);
}

/**
 * The same on a pool thread, of which it takes none where the words are looked at: the first one
 * wakes no sooner then. The promise never rejects, and settles within `timeoutMs`.
 */
export async function futexWaitAnyAsync(
  words: readonly AwaitedWord[],
  timeoutMs: number,
): Promise<void> {
  if (!canWaitOn(words)) return lookNowAndThen(() => words.some(hasChanged), timeoutMs);
  if (words.some(hasChanged)) return;
  const waiters = waitersOf(words);
  const deadline = deadlineIn(timeoutMs);
  const call = { waiters, deadline };
  calls.add(call);
  await new Promise<void>((resolve) => {
    const wake = (): void => resolve();
    futexWaitv.async(futexWaitvCall, waiters, words.length, 0, deadline, clockMonotonic, wake);
  });
  calls.delete(call);
}

/** Wakes everybody who sleeps on the word. */
export function futexWake(word: bigint): void {
  futex(futexCall, word, operationWake, wakeAll, null, null, 0);
}

/** Whether a word is not what was expected, or not there any more. */
export function hasChanged({ words, index, expected }: AwaitedWord): boolean {
  return index >= words.length || Atomics.load(words, index) !== expected;
}

/** What the kernel may still look at: nothing else keeps it in its place. */
const calls = new Set<object>();

let hasWaitv: boolean | undefined;

/** Whether the kernel takes so many words at once, and knows the call at all. */
function canWaitOn(words: readonly AwaitedWord[]): boolean {
  assert(words.length > 0, "nothing to wait for");
  hasWaitv ??= tryWaitv();
  return hasWaitv && words.length <= waitersMax;
}

/** By a wait that has to be refused, as the word differs: a filter of calls refuses otherwise. */
function tryWaitv(): boolean {
  const words = new Int32Array(new ArrayBuffer(64));
  const waiters = waitersOf([{ words, index: 0, address: addressOf(words.buffer), expected: 1 }]);
  const result = futexWaitv(futexWaitvCall, waiters, 1, 0, deadlineIn(0), clockMonotonic);
  return result === -1 && lastErrno() === errnoWordDiffers;
}

function lookBlocking(words: readonly AwaitedWord[], timeoutMs: number): void {
  const end = performance.now() + timeoutMs;
  let intervalMs: number = lookIntervalMs.first;
  const [first] = words;
  while (first !== undefined && !words.some(hasChanged)) {
    const leftMs = end - performance.now();
    if (leftMs <= 0) return;
    futexWait(first.address, first.expected, Math.min(leftMs, intervalMs));
    intervalMs = Math.min(intervalMs * 2, lookIntervalMs.most);
  }
}

function waitersOf(words: readonly AwaitedWord[]): BigUint64Array {
  const waiters = new BigUint64Array(words.length * wordsPerWaiter);
  words.forEach(({ address, expected }, index) => {
    waiters[index * wordsPerWaiter] = BigInt(expected >>> 0);
    waiters[index * wordsPerWaiter + 1] = address;
    waiters[index * wordsPerWaiter + 2] = sizeOfWord;
  });
  return waiters;
}

/** Unlike futex(2), futex_waitv(2) wants a moment. */
function deadlineIn(timeoutMs: number): BigInt64Array {
  const deadlineNs = process.hrtime.bigint() + BigInt(Math.ceil(timeoutMs * 1e6));
  return new BigInt64Array([deadlineNs / 1_000_000_000n, deadlineNs % 1_000_000_000n]);
}

function timespec(timeoutMs: number): BigInt64Array {
  const seconds = Math.floor(timeoutMs / 1000);
  // Never rounded up to a whole second, which the kernel would refuse.
  const nanoseconds = Math.floor((timeoutMs - seconds * 1000) * 1e6);
  return new BigInt64Array([BigInt(seconds), BigInt(nanoseconds)]);
}
