/**
 * Sleeping on a count of the control block, and waking: see `sleepWord`.
 *
 * A sleep that leaves the event loop free takes a thread of libuv's pool, and there are few: all
 * taken, no file would be read and no log flushed before a timeout. So half of them are left to the
 * others, and whoever comes when the rest is asleep looks at its count now and then: the longer
 * nothing comes the more rarely, so that many idle channels cost next to nothing. A service that
 * has more than two of them, and minds the delay, raises UV_THREADPOOL_SIZE.
 */
import { setTimeout as pause } from "node:timers/promises";
import { futexWaitAsync, futexWake } from "../memory/futex.ts";
import type { ChannelFile } from "./channel-file.ts";

const poolThreads = Number(process.env["UV_THREADPOOL_SIZE"]) || 4;
const sleepersMax = Math.max(1, poolThreads >> 1);
const lookIntervalMs = { first: 1, most: 32 };

interface Sleeper {
  readonly file: ChannelFile;
  readonly wakesWord: number;
}

const sleepers = new Set<Sleeper>();

export function addressOfWord(file: ChannelFile, word: number): bigint {
  return file.address + BigInt(word * 4);
}

/** Moves the count, so that nobody falls asleep on what it was, and wakes who already has. */
export function wakeSleepers(file: ChannelFile, wakesWord: number): void {
  // Unmapped: nobody can be asleep here, and an abort may come late.
  if (file.words.length === 0) return;
  Atomics.add(file.words, wakesWord, 1);
  futexWake(addressOfWord(file, wakesWord));
}

/** Sleeps until the count is no longer `wakes`, or the time is up. Wake-ups can be spurious. */
export async function sleepOn(
  file: ChannelFile,
  wakesWord: number,
  wakes: number,
  timeoutMs: number,
): Promise<void> {
  if (sleepers.size >= sleepersMax) return lookNowAndThen(file, wakesWord, wakes, timeoutMs);
  if (!process.listeners("exit").includes(wakeAll)) process.on("exit", wakeAll);
  const sleeper = { file, wakesWord };
  sleepers.add(sleeper);
  await futexWaitAsync(addressOfWord(file, wakesWord), wakes, timeoutMs);
  sleepers.delete(sleeper);
}

async function lookNowAndThen(
  { words }: ChannelFile,
  wakesWord: number,
  wakes: number,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let intervalMs = lookIntervalMs.first;
  while (words.length > 0 && Atomics.load(words, wakesWord) === wakes) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return;
    await pause(Math.min(leftMs, intervalMs));
    intervalMs = Math.min(intervalMs * 2, lookIntervalMs.most);
  }
}

/** A process that exits waits for its pool threads: without this, for the longest timeout. */
function wakeAll(): void {
  for (const { file, wakesWord } of sleepers) wakeSleepers(file, wakesWord);
}
