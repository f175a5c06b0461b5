/** Sleeping on a count of the control block, and waking: see `sleepWord`. */
import { futexWake } from "../memory/futex.ts";
import type { ChannelFile } from "./channel-file.ts";

export function addressOfWord(file: ChannelFile, word: number): bigint {
  return file.address + BigInt(word * 4);
}

/** Moves the count, so that nobody falls asleep on what it was, and wakes who already has. */
export function wakeSleepers(file: ChannelFile, wakesWord: number): void {
  Atomics.add(file.words, wakesWord, 1);
  futexWake(addressOfWord(file, wakesWord));
}
