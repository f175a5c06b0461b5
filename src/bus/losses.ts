/**
 * The newest losses of a lane, with their cause and their range of sequences. They are in the
 * channel's own memory: whoever looks at it from outside sees them, and a crash keeps them.
 */
import { bootNs } from "../clock.ts";
import { announceBusEvent, placeOf } from "./events.ts";
import type { Lane } from "./lane.ts";
import { lossCountWord, lossesKept, lossOffset, lossWord } from "./layout.ts";

/**
 *   dropped      a producer did not write them, because its channel was full (DropNewest)
 *   rejected     a producer was told that it cannot write; `from` is the sequence it would have
 *                had, `messages` are its attempts: nothing is lost where it tries again
 *   overwritten  a consumer was too slow, or had failed: they were there and are no more
 *   skipped      a consumer found that these sequences do not exist: dropped or abandoned before
 *   abandoned    a producer died, or was fenced off, between its claim and its commit
 *   failed       a consumer holds producers back no longer; what it misses begins at `from`
 */
export const lossCauses = [
  "dropped",
  "rejected",
  "overwritten",
  "skipped",
  "abandoned",
  "failed",
] as const;

/** One of `lossCauses`. */
export type LossCause = (typeof lossCauses)[number];

/** First and last sequence. */
export interface SequenceRange {
  readonly from: number;
  readonly to: number;
}

/** Messages that are missing. */
export interface Loss extends SequenceRange {
  readonly cause: LossCause;
  /** The consumer that it happened to, else the producer, by its index in the channel. */
  readonly party: number;
  readonly messages: number;
}

export interface RecordedLoss extends Loss {
  /** Counted from 1 since the channel was made, modulo 2^32. */
  readonly number: number;
  /** Nanoseconds since boot. */
  readonly atNs: number;
}

/** Records a loss and returns its number. */
export function recordLoss(lane: Lane, loss: Loss): number {
  const { words } = lane;
  const number = (Atomics.add(words, lossCountWord, 1) + 1) | 0;
  const base = lossWord(number);
  // SYNC loss-written: 0, the fields, the number; pairs with the two loads in readLosses.
  Atomics.store(words, base + lossOffset.number, 0);
  words[base + lossOffset.cause] = lossCauses.indexOf(loss.cause);
  words[base + lossOffset.party] = loss.party;
  write(lane, base, loss);
  Atomics.store(words, base + lossOffset.number, number);
  // The one was told to the caller, the other has an event of its own.
  if (loss.cause !== "rejected" && loss.cause !== "failed") {
    announceBusEvent(() => ({ ...placeOf(lane), event: "loss", loss }));
  }
  return number;
}

/** Makes a loss longer where it is still kept; else records it as a new one. */
export function extendLoss(lane: Lane, number: number, loss: Loss): number {
  const base = lossWord(number);
  const known = Atomics.load(lane.words, base + lossOffset.number);
  if (number === 0 || known !== number) return recordLoss(lane, loss);
  write(lane, base, loss);
  return number;
}

function write({ doubles }: Lane, base: number, { from, to, messages }: Loss): void {
  doubles[(base + lossOffset.from) / 2] = from;
  doubles[(base + lossOffset.to) / 2] = to;
  doubles[(base + lossOffset.messages) / 2] = messages;
  doubles[(base + lossOffset.atNs) / 2] = bootNs();
}

/** How many losses there have been, modulo 2^32. */
export function countLosses({ words }: Lane): number {
  return Atomics.load(words, lossCountWord) >>> 0;
}

/**
 * The losses that are still kept, oldest first. Their numbers wrap around: they are told by their
 * distance from the count, and a place that holds another number has nothing of it.
 */
export function readLosses({ words, doubles }: Lane): RecordedLoss[] {
  const count = Atomics.load(words, lossCountWord);
  const losses: RecordedLoss[] = [];
  for (let before = lossesKept - 1; before >= 0; before--) {
    const number = (count - before) | 0;
    const base = lossWord(number);
    // 0 is what a place holds that is empty or being written.
    if (number === 0 || Atomics.load(words, base + lossOffset.number) !== number) continue;
    const at = (offset: number): number => doubles[(base + offset) / 2] ?? 0;
    const loss = {
      number: number >>> 0,
      cause: lossCauses[words[base + lossOffset.cause] ?? 0] ?? "dropped",
      party: words[base + lossOffset.party] ?? 0,
      from: at(lossOffset.from),
      to: at(lossOffset.to),
      messages: at(lossOffset.messages),
      atNs: at(lossOffset.atNs),
    };
    if (Atomics.load(words, base + lossOffset.number) === number) losses.push(loss);
  }
  return losses;
}
