/** When a stream has ended: as its producers say, in all lanes of its channel. */
import type { Lane } from "./lane.ts";
import { claimWord, partyOffset, producerOffset } from "./layout.ts";
import { isVacant } from "./ownership.ts";

/**
 * Whether nothing will follow in any lane. A producer has finished when it has said so in some
 * lane, and in each other one has either said so too or has it open no longer.
 */
export function haveFinished(lanes: readonly Lane[]): boolean {
  const [first] = lanes;
  const producers = first === undefined ? 0 : first.channel.producers.length;
  if (first?.channel.hasBackup === true) return hasFinishedAll(lanes, undefined);
  for (let producer = 0; producer < producers; producer++) {
    if (!hasFinishedAll(lanes, producer)) return false;
  }
  return true;
}

/** Of one producer; undefined: of whichever may write, where one is the backup of another. */
function hasFinishedAll(lanes: readonly Lane[], producer: number | undefined): boolean {
  let hasFinishedSome = false;
  for (const lane of lanes) {
    const writer = producer ?? Atomics.load(lane.words, claimWord.active);
    if (writer < 0 || writer >= lane.channel.producers.length) return false;
    const base = lane.producer(writer);
    // SYNC stream-ended: the flag first; every tail before it is then visible.
    if (Atomics.load(lane.words, base + producerOffset.finished) !== 0) hasFinishedSome = true;
    else if (!isVacant(lane.words, base + partyOffset.owner)) return false;
  }
  return hasFinishedSome;
}
