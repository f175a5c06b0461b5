/**
 * The lock under which one of several producers claims: a word that names its holder.
 *
 * It is held for some ten stores. A holder that was put aside by the scheduler is waited for
 * asleep, so that it gets a processor; one that has died is known by its process, and the next in
 * line takes over from it and mends what it left half done.
 */
import { GaplessError } from "../errors.ts";
import { identifySelf } from "../memory/process-identity.ts";
import type { Lane } from "./lane.ts";
import { claimWord, partyOffset, producersMax } from "./layout.ts";
import { isOwnerAlive, ownerOf } from "./ownership.ts";

const free = 0;
/** The word: the party in the low bits, its process id above them. */
const partyMask = 0xff;
const pidShift = 8;
const spins = 200;
const napMs = { first: 0.05, most: 1 };
/** Naps between two looks at whether the holder lives. */
const napsPerLook = 4;
/** No living party holds it for so long, unless it is stopped, or the word is spoilt. */
const patienceMs = 1000;

const pillow = new Int32Array(new SharedArrayBuffer(4));
/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations?: number): void };

/** Parties that may hold the lock, by number. */
export function producerParty(producer: number): number {
  return 1 + producer;
}

export function consumerParty(consumer: number): number {
  return 1 + producersMax + consumer;
}

/**
 * What the lock holds while a process, this one as a rule, has it for `party`. The process id is
 * part of it, because a party outlives its owners: what is judged to be the dead one's must not be
 * its heir's.
 */
export function lockedBy(party: number, pid = identifySelf().pid): number {
  return party | (pid << pidShift);
}

/**
 * Blocks until the lock holds `own`, see `lockedBy`. True where it was taken from the dead: then
 * whatever they were at has to be mended first.
 *
 * @throws GaplessError PEER_UNAVAILABLE where a living party does not release it for seconds
 */
export function acquireClaimLock(lane: Lane, own: number): boolean {
  const { words } = lane;
  let holder = Atomics.compareExchange(words, claimWord.lock, free, own);
  if (holder === free) return false;
  for (let spin = 0; spin < spins; spin++) {
    atomics.pause(spin >> 2);
    // A plain look first: to exchange takes the line away from the holder.
    if (words[claimWord.lock] !== free) continue;
    holder = Atomics.compareExchange(words, claimWord.lock, free, own);
    if (holder === free) return false;
  }
  const deadline = performance.now() + patienceMs;
  for (let nap = 1, forMs = napMs.first; ; nap++) {
    Atomics.wait(pillow, 0, 0, forMs);
    forMs = Math.min(forMs * 2, napMs.most);
    holder = Atomics.compareExchange(words, claimWord.lock, free, own);
    if (holder === free) return false;
    if (nap % napsPerLook !== 0) continue;
    if (isHolderAlive(lane, holder)) {
      if (performance.now() < deadline) continue;
      throw stopped(lane, holder);
    }
    if (Atomics.compareExchange(words, claimWord.lock, holder, own) === holder) return true;
  }
}

/** Whether a living party has the lock: who need not wait for it, comes again. */
export function isClaimLockBusy(lane: Lane): boolean {
  const holder = Atomics.load(lane.words, claimWord.lock);
  return holder !== free && isHolderAlive(lane, holder);
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

/** A holder is no longer there where its end is another process's, or its process is gone. */
function isHolderAlive(lane: Lane, holder: number): boolean {
  const producer = (holder & partyMask) - 1;
  const consumer = producer - producersMax;
  const { producers, consumers } = lane.channel;
  const isProducer = producer >= 0 && producer < producers.length;
  if (!isProducer && !(consumer >= 0 && consumer < consumers.length)) return false;
  const block = isProducer ? lane.producer(producer) : lane.consumer(consumer);
  const owner = block + partyOffset.owner;
  return ownerOf(lane.words, owner) === holder >>> pidShift && isOwnerAlive(lane.words, owner);
}
