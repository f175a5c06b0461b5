/**
 * What becomes of claims in a channel of several producers: the tail moves over what is settled,
 * and what the dead have left is abandoned by whoever waits.
 */
import { channelDamaged } from "./channel-file.ts";
import { acquireClaimLock, isClaimLockBusy, lockedBy, releaseClaimLock } from "./claim-lock.ts";
import { distance, type Lane } from "./lane.ts";
import {
  claimWord,
  isOpenClaim,
  partyOffset,
  producerOf,
  record,
  tailWord,
  unitsOfRecord,
} from "./layout.ts";
import { recordLoss } from "./losses.ts";
import { isOwnerAlive } from "./ownership.ts";
import { wakeConsumers } from "./sleep.ts";

/**
 * Moves the tail over what is settled. Returns whether it moved.
 *
 * Nobody's record stays behind: who settles one looks at the tail after that, and who moves the
 * tail to that record looks at the record after that, so one of them sees what the other did.
 */
export function advance(lane: Lane): boolean {
  const { words } = lane;
  let hasMoved = false;
  while (true) {
    const tail = Atomics.load(words, tailWord.tail);
    const claimed = Atomics.load(words, claimWord.claimed);
    const available = distance(tail, claimed);
    if (available > lane.capacity) {
      // Seen at two times, they may be far apart.
      if (Atomics.load(words, tailWord.tail) !== tail) continue;
      throw channelDamaged(lane, `tail ${tail >>> 0} does not belong to claims ${claimed >>> 0}`);
    }
    let end = tail;
    while (end !== claimed) {
      const descriptor = Atomics.load(words, lane.wordOf(end));
      if (isOpenClaim(descriptor)) break;
      const units = unitsOfRecord(descriptor);
      // Somebody else has moved the tail, and what is here now is not what was: begin again.
      if (units === 0 || distance(tail, end) + units > available) break;
      end = (end + units) | 0;
    }
    if (end === tail) return hasMoved;
    // SYNC record-visible: pairs with Reader.loadTail.
    if (Atomics.compareExchange(words, tailWord.tail, tail, end) === tail) hasMoved = true;
  }
}

/**
 * Settles the claim at the tail, and those behind it, as far as their producers are dead. For
 * whoever waits: reads /proc where there is such a claim.
 */
export function settleTheDead(lane: Lane, party: number): void {
  const { words } = lane;
  if (lane.tail === Atomics.load(words, claimWord.claimed)) return;
  let hasMoved = advance(lane);
  while (isDeadClaim(lane, lane.tail) && !isClaimLockBusy(lane)) {
    if (acquireClaimLock(lane, lockedBy(party))) mend(lane);
    // Under the lock nothing is claimed, so what is at the tail stays what it is.
    const position = lane.tail;
    if (isDeadClaim(lane, position)) {
      abandon(lane, position, Atomics.load(words, lane.wordOf(position)));
    }
    releaseClaimLock(lane);
    hasMoved = advance(lane) || hasMoved;
  }
  if (hasMoved) wakeConsumers(lane);
}

function isDeadClaim(lane: Lane, position: number): boolean {
  if (position === Atomics.load(lane.words, claimWord.claimed)) return false;
  const descriptor = Atomics.load(lane.words, lane.wordOf(position));
  if (!isOpenClaim(descriptor)) return false;
  return !isProducerAlive(lane, producerOf(descriptor));
}

export function isProducerAlive(lane: Lane, producer: number): boolean {
  if (producer < 0 || producer >= lane.channel.producers.length) return false;
  return isOwnerAlive(lane.words, lane.producer(producer) + partyOffset.owner);
}

/** Makes nothing of a claim. With the lock. */
export function abandon(lane: Lane, position: number, descriptor: number): void {
  const settled = record.hidden | unitsOfRecord(descriptor);
  const word = lane.wordOf(position);
  if (Atomics.compareExchange(lane.words, word, descriptor, settled) !== descriptor) return;
  const sequence = lane.sequenceAt(position);
  const party = producerOf(descriptor);
  recordLoss(lane, { cause: "abandoned", party, from: sequence, to: sequence, messages: 1 });
}

/** A claim of the dead that had not come to `claimed` never was. With the lock. */
export function mend({ words, doubles }: Lane): void {
  const claimed = Atomics.load(words, claimWord.claimed);
  if ((((words[claimWord.claiming] ?? 0) - claimed) | 0) < 0) return;
  doubles[claimWord.sequence / 2] = doubles[claimWord.sequenceBefore / 2] ?? 0;
  words[claimWord.claiming] = claimed - 1;
}

/** Where the record behind the one at `position` begins. With the lock. */
export function recordBehind(lane: Lane, position: number, claimed: number): number {
  const next = lane.nextOf(position);
  const units = distance(position, next);
  const rest = distance(position, claimed);
  if (units === 0 || units > rest || rest > lane.capacity) {
    throw channelDamaged(lane, `the record at position ${position >>> 0} has no right end`);
  }
  return next;
}
