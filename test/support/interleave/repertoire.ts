/** The scenes that are played, and within which bounds. */
import type { ConsumerRole, ProducerRole, Scene } from "./scenes.ts";

const asleep = "asleep";
const napping = "napping";

/** Eight records of 7 units: of the 64 of the ring, 8 are left before its end, or altogether. */
const nearTheEnd = Array.from({ length: 8 }, () => 40);
const nearlyFull = nearTheEnd;

function producer(index: number, sizes: readonly number[], batch = 1): ProducerRole {
  return { producer: index, id: 1000 * (index + 1), sizes, batch, waits: asleep };
}

/** Follows a dead producer, with messages of its own. */
function heir(index: number, sizes: readonly number[]): ProducerRole {
  return { ...producer(index, sizes), id: 1000 * (index + 11) };
}

function consumer(index: number, limit = 100): ConsumerRole {
  return { consumer: index, limit, waits: asleep };
}

const dropOldest = {
  backpressure: { mode: "DropOldest", highWater: 1, lowWater: 0.8 },
} as const;

export const scenes = {
  spsc: {
    name: "one producer, one consumer, around the end of the ring",
    producers: 1,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40, 48, 40])],
    consuming: [consumer(0)],
  },
  spscBatch: {
    name: "one producer that commits batches",
    producers: 1,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [24, 40, 48, 16], 2)],
    consuming: [consumer(0, 1)],
  },
  spscFull: {
    name: "one producer in a full ring",
    producers: 1,
    consumers: 1,
    before: [40, 40, 40],
    backlog: nearlyFull,
    producing: [producer(0, [48, 40, 48])],
    consuming: [consumer(0, 2)],
  },
  ending: {
    name: "two producers that finish, and a consumer that waits for the end",
    producers: 2,
    consumers: 1,
    producing: [
      { ...producer(0, [40]), finishes: true },
      { ...producer(1, []), finishes: true },
    ],
    consuming: [{ ...consumer(0), ends: true }],
  },
  spmc: {
    name: "one producer, two consumers, in a full ring",
    producers: 1,
    consumers: 2,
    backlog: nearlyFull,
    producing: [producer(0, [48, 40])],
    consuming: [consumer(0), consumer(1, 5)],
  },
  mpsc: {
    name: "two producers, one consumer, around the end of the ring",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0)],
  },
  wavering: {
    name: "two producers, of which one takes claims back",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [{ ...producer(0, [40]), wavers: true }, producer(1, [48])],
    consuming: [consumer(0)],
  },
  waveringDeath: {
    name: "the death of a producer beside one that takes claims back",
    producers: 2,
    consumers: 1,
    producing: [producer(0, [40]), { ...producer(1, [48, 24]), wavers: true }],
    consuming: [consumer(0)],
    mortal: ["producer0"],
  },
  waveringHeir: {
    name: "a producer that takes claims back, the death of its consumer, and an heir of that",
    producers: 2,
    consumers: 1,
    producing: [{ ...producer(0, [40]), wavers: true }, producer(1, [48])],
    consuming: [consumer(0)],
    consumingHeirs: [consumer(0)],
    mortal: ["consumer0"],
  },
  mpscFull: {
    name: "two producers in a full ring",
    producers: 2,
    consumers: 1,
    backlog: nearlyFull,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0, 3)],
  },
  mpmc: {
    name: "two producers, two consumers",
    producers: 2,
    consumers: 2,
    before: nearTheEnd,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0), consumer(1)],
  },
  dropOldest: {
    name: "one producer that overtakes its consumer",
    producers: 1,
    consumers: 1,
    channel: dropOldest,
    before: [40, 40],
    backlog: nearlyFull,
    producing: [producer(0, [40, 40, 40])],
    consuming: [consumer(0, 2)],
  },
  dropOldestShared: {
    name: "two producers that overtake their consumer",
    producers: 2,
    consumers: 1,
    channel: dropOldest,
    before: [40, 40],
    backlog: nearlyFull,
    producing: [producer(0, [40, 40]), producer(1, [40])],
    consuming: [consumer(0, 2)],
  },
  failed: {
    name: "a consumer that counts as failed and comes back",
    producers: 1,
    consumers: 1,
    channel: { failedConsumer: "evict" },
    backlog: nearlyFull,
    producing: [{ ...producer(0, [48, 40, 40]), waits: napping }],
    consuming: [consumer(0, 2)],
    isImpatient: true,
  },
  failedShared: {
    name: "a consumer of two producers that counts as failed and comes back",
    producers: 2,
    consumers: 1,
    channel: { failedConsumer: "evict" },
    backlog: nearlyFull,
    producing: [
      { ...producer(0, [48, 40]), waits: napping },
      { ...producer(1, [40]), waits: napping },
    ],
    consuming: [consumer(0, 2)],
    isImpatient: true,
  },
  failover: {
    name: "a backup that takes over from a living producer",
    producers: 2,
    consumers: 1,
    channel: { hasBackup: true },
    before: nearTheEnd,
    producing: [producer(0, [40, 48])],
    heirs: [{ ...heir(1, [24, 40, 48, 40]), comes: "to take over" }],
    consuming: [consumer(0)],
    isImpatient: true,
  },
  failoverFull: {
    name: "a backup that takes over and goes round the ring",
    producers: 2,
    consumers: 1,
    channel: { hasBackup: true },
    backlog: nearlyFull.slice(4),
    producing: [producer(0, [40])],
    heirs: [
      {
        ...heir(
          1,
          Array.from({ length: 12 }, () => 40),
        ),
        comes: "to take over",
      },
    ],
    consuming: [consumer(0)],
    isImpatient: true,
  },
  spscDeath: {
    name: "the death of the one producer, and its heir",
    producers: 1,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40, 48])],
    heirs: [{ ...heir(0, [40]), comes: "after death" }],
    consuming: [consumer(0)],
    mortal: ["producer0"],
  },
  mpscDeath: {
    name: "the death of one of two producers",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40, 48]), producer(1, [48])],
    consuming: [consumer(0)],
    mortal: ["producer0"],
  },
  mpscHeir: {
    name: "the death of one of two producers, and its heir",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40]), producer(1, [48])],
    heirs: [{ ...heir(0, [24]), comes: "after death" }],
    consuming: [consumer(0)],
    mortal: ["producer0"],
  },
  mpmcDeath: {
    name: "the death of one of two producers, with two consumers",
    producers: 2,
    consumers: 2,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0), consumer(1)],
    mortal: ["producer0"],
  },
  consumerDeath: {
    name: "the death of a consumer in a full ring, and its heir",
    producers: 1,
    consumers: 1,
    backlog: nearlyFull,
    producing: [producer(0, [48, 40])],
    consuming: [consumer(0, 3)],
    consumingHeirs: [consumer(0, 3)],
    mortal: ["consumer0"],
  },
  evictedDeath: {
    name: "the death of a consumer that is not waited for, and its heir",
    producers: 1,
    consumers: 2,
    channel: { failedConsumer: "evict" },
    backlog: nearlyFull,
    producing: [producer(0, [48, 40])],
    consuming: [consumer(0, 3), consumer(1)],
    consumingHeirs: [consumer(0, 3)],
    mortal: ["consumer0"],
  },
  doubleDeath: {
    name: "the death of a producer, and of the consumer that settles what it left, and its heir",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0)],
    consumingHeirs: [consumer(0)],
    mortal: ["producer0", "consumer0"],
  },
  failoverDeath: {
    name: "the death of a producer while its backup takes over",
    producers: 2,
    consumers: 1,
    channel: { hasBackup: true },
    before: nearTheEnd,
    producing: [producer(0, [40])],
    heirs: [{ ...heir(1, [24, 40]), comes: "to take over" }],
    consuming: [consumer(0)],
    mortal: ["producer0"],
    isImpatient: true,
  },
  batchDeath: {
    name: "the death of one of two producers that commit batches, in a full ring, and its heir",
    producers: 2,
    consumers: 1,
    backlog: nearlyFull.slice(3),
    producing: [producer(0, [40, 24], 2), producer(1, [48, 16], 2)],
    heirs: [{ ...heir(0, [24]), comes: "after death" }],
    consuming: [consumer(0)],
    mortal: ["producer0"],
  },
  dropOldestDeath: {
    name: "the death of one of two producers that overtake their consumer",
    producers: 2,
    consumers: 1,
    channel: dropOldest,
    backlog: nearlyFull,
    producing: [producer(0, [40, 48]), producer(1, [40, 40])],
    consuming: [consumer(0, 2)],
    mortal: ["producer0"],
  },
  overtakenDeath: {
    name: "the death of a consumer that is overtaken, and its heir",
    producers: 1,
    consumers: 1,
    channel: dropOldest,
    backlog: nearlyFull,
    producing: [
      producer(
        0,
        Array.from({ length: 12 }, () => 40),
      ),
    ],
    consuming: [consumer(0, 2)],
    consumingHeirs: [consumer(0, 3)],
    mortal: ["consumer0"],
  },
  failedDeath: {
    name: "the death of a consumer of two producers that is not waited for, and its heir",
    producers: 2,
    consumers: 1,
    channel: { failedConsumer: "evict" },
    backlog: nearlyFull,
    producing: [
      { ...producer(0, [48, 40]), waits: napping },
      { ...producer(1, [40]), waits: napping },
    ],
    consuming: [consumer(0, 2)],
    consumingHeirs: [consumer(0, 3)],
    mortal: ["consumer0"],
    isImpatient: true,
  },
  opening: {
    name: "ends that are opened while others publish",
    producers: 2,
    consumers: 1,
    before: nearTheEnd,
    producing: [producer(0, [40]), producer(1, [48])],
    consuming: [consumer(0)],
    opensInPlay: true,
  },
} as const satisfies Record<string, Scene>;

export type SceneName = keyof typeof scenes;
