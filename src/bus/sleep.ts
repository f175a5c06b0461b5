/** The two pairs of words that parties of a channel sleep on: see `sleepWord`. */
import { wake, type Bed } from "../memory/sleep.ts";
import type { Lane } from "./lane.ts";
import { sleepWord } from "./layout.ts";

export const consumersBed: Bed = {
  asleep: sleepWord.consumersAsleep,
  wakes: sleepWord.consumersWakes,
};

export const producersBed: Bed = {
  asleep: sleepWord.producersAsleep,
  wakes: sleepWord.producersWakes,
};

/** Wakes the consumers that sleep, where there are any. */
export function wakeConsumers({ sleep }: Lane): void {
  // SYNC consumer-asleep: the tail is stored before; a consumer sets the flag, then looks at it.
  if (Atomics.load(sleep.words, sleepWord.consumersAsleep) !== 0) wake(sleep, consumersBed);
}

/** Wakes the producers that sleep for want of room, where there are any. */
export function wakeProducers({ sleep }: Lane): void {
  // SYNC producer-asleep: the position is stored before; a producer sets the flag, then looks.
  if (Atomics.load(sleep.words, sleepWord.producersAsleep) !== 0) wake(sleep, producersBed);
}
