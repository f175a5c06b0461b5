/**
 * The lock under which one of several producers claims: a word with the number of its holder.
 *
 * It is held for some ten stores. A holder that was put aside by the scheduler is waited for
 * asleep, so that it gets a processor; one that has died is known by its process, and the next in
 * line takes over from it and mends what it left half done.
 */
import { GaplessError } from "../errors.ts";
import type { Lane } from "./lane.ts";
import { claimWord, consumersMax, partyOffset, producersMax } from "./layout.ts";
import { isOwnerAlive } from "./ownership.ts";

const free = 0;
/** Low bits of the word; those above change where an end's new owner has it from the last one. */
const partyMask = 0xff;
const inheritance = partyMask + 1;
const spins = 200;
const napMs = { first: 0.05, most: 1 };
/** Naps between two looks at whether the holder lives. */
const napsPerLook = 4;
/** No living party holds it for so long, unless it is stopped, or the word is spoilt. */
const patienceMs = 5000;

const pillow = new Int32Array(new SharedArrayBuffer(4));
/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations?: number): void };

/** Numbers of the parties that may hold the lock. */
export function producerParty(producer: number): number {
  return 1 + producer;
}

export function consumerParty(consumer: number): number {
  return 1 + producersMax + consumer;
}

/**
 * Blocks until the lock is held by `party`. True where it was taken from the dead: then whatever
 * they were at has to be mended first.
 *
 * @throws GaplessError PEER_UNAVAILABLE where a living party does not release it for seconds
 */
export function acquireClaimLock(lane: Lane, party: number): boolean {
  const { words } = lane;
  let holder = Atomics.compareExchange(words, claimWord.lock, free, party);
  if (holder === free) return false;
  for (let spin = 0; spin < spins; spin++) {
    atomics.pause(spin >> 2);
    // A plain look first: to exchange takes the line away from the holder.
    if (words[claimWord.lock] !== free) continue;
    holder = Atomics.compareExchange(words, claimWord.lock, free, party);
    if (holder === free) return false;
  }
  const deadline = performance.now() + patienceMs;
  for (let nap = 1, forMs = napMs.first; ; nap++) {
    Atomics.wait(pillow, 0, 0, forMs);
    forMs = Math.min(forMs * 2, napMs.most);
    holder = Atomics.compareExchange(words, claimWord.lock, free, party);
    if (holder === free) return false;
    if (nap % napsPerLook !== 0) continue;
    // Nobody waits for itself: left by a forebear, or by what spoilt the word.
    if (holder !== party && isPartyAlive(lane, holder)) {
      if (performance.now() < deadline) continue;
      throw stopped(lane, holder);
    }
    if (Atomics.compareExchange(words, claimWord.lock, holder, party) === holder) return true;
  }
}

/**
 * For the new owner of an end: takes the lock over where the last one has died with it, which from
 * now on looks alive. True where it did: then whatever that was at has to be mended first.
 */
export function inheritClaimLock({ words }: Lane, party: number): boolean {
  const holder = Atomics.load(words, claimWord.lock);
  if ((holder & partyMask) !== party) return false;
  // Another number: who is about to take it from the dead one takes nothing from the new one.
  const next = (holder + inheritance) | 0;
  return Atomics.compareExchange(words, claimWord.lock, holder, next) === holder;
}

export function releaseClaimLock({ words }: Lane): void {
  // SYNC claims-known: what was claimed is visible to whoever acquires the lock next.
  Atomics.store(words, claimWord.lock, free);
}

function stopped({ channel }: Lane, holder: number): GaplessError {
  const producer = channel.producers[(holder & partyMask) - 1];
  const who = producer === undefined ? "A consumer" : `Producer ${producer}`;
  return new GaplessError(
    "PEER_UNAVAILABLE",
    `${who} of channel ${channel.name} was stopped in the middle of a claim and has not gone on ` +
      `for ${patienceMs} ms. Let it go on, or end it: then the others go on without it.`,
  );
}

function isPartyAlive(lane: Lane, holder: number): boolean {
  const producer = (holder & partyMask) - 1;
  const consumer = producer - producersMax;
  const { producers, consumers } = lane.channel;
  if (producer >= 0 && producer < producers.length) {
    return isOwnerAlive(lane.words, lane.producer(producer) + partyOffset.owner);
  }
  if (consumer >= 0 && consumer < Math.min(consumers.length, consumersMax)) {
    return isOwnerAlive(lane.words, lane.consumer(consumer) + partyOffset.owner);
  }
  return false;
}
