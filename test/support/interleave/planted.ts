/** Bugs that are planted in a copy of the source, and the scene in which they have to be found. */
import type { SceneName } from "./repertoire.ts";
import type { SourceEdit } from "./transform.ts";

export interface PlantedBug {
  readonly name: string;
  readonly edits: readonly SourceEdit[];
  readonly scene: SceneName;
  /** Whether it shows only where one can stop, and die, between plain stores. */
  readonly isFine?: boolean;
  /** One of the outcomes of the ledger, or the beginning of an error. */
  readonly outcome: RegExp;
}

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "a message is committed before it is copied",
    edits: [
      {
        file: "publisher.ts",
        from:
          "this.memory.bytes.set(bytes, offset);\n" +
          "    const { sequence } = this;\n" +
          "    this.commit();\n" +
          "    return",
        to:
          "const { sequence } = this;\n" +
          "    this.commit();\n" +
          "    this.memory.bytes.set(bytes, offset);\n" +
          "    return",
      },
    ],
    scene: "spsc",
    outcome: /^torn/,
  },
  {
    name: "the rest of the ring is not marked as skipped",
    edits: [
      {
        file: "solo-claims.ts",
        from: "this.words[this.lane.wordOf(start)] = record.hidden | skipped;",
        to: "",
      },
    ],
    scene: "spsc",
    outcome: /damaged|torn|invented/,
  },
  {
    name: "consumers are woken before the tail is stored",
    edits: [
      {
        file: "solo-claims.ts",
        from: "    const tail = this.head;\n",
        to: "    const tail = this.head;\n    wakeConsumers(this.lane);\n",
      },
      {
        file: "solo-claims.ts",
        from: "this.sequence;\n    wakeConsumers(this.lane);",
        to: "this.sequence;",
      },
    ],
    scene: "spsc",
    outcome: /^(lost|stuck)/,
  },
  {
    name: "a consumer looks, and then says that it will sleep",
    edits: [
      {
        file: "subscriber.ts",
        from:
          "    announceSleep(this.sleep, consumersBed);\n" +
          "    return this.readers.every((reader) => reader.isEmpty) && !this.ended;",
        to:
          "    const sleeps = this.readers.every((reader) => reader.isEmpty) && " +
          "!this.ended;\n" +
          "    announceSleep(this.sleep, consumersBed);\n" +
          "    return sleeps;",
      },
    ],
    scene: "spsc",
    outcome: /^lost/,
  },
  {
    name: "a producer looks for room, and then says that it will sleep",
    edits: [
      {
        file: "publisher.ts",
        from: "    if (this.claims.used() <= used) return true;",
        to: "    const hasFound = this.claims.used() <= used;\n    if (hasFound) return true;",
      },
      {
        file: "publisher.ts",
        from: "    return this.claims.used() <= used;",
        to: "    return hasFound;",
      },
    ],
    scene: "spscFull",
    outcome: /^stuck/,
  },
  {
    name: "nobody is told of the end",
    edits: [
      {
        file: "publisher.ts",
        from: "producerOffset.finished, 1);\n    wakeConsumers(this.lane);",
        to: "producerOffset.finished, 1);",
      },
    ],
    scene: "ending",
    outcome: /^stuck/,
  },
  {
    name: "the limit is a little too far",
    edits: [
      {
        file: "solo-claims.ts",
        from: "this.limit = (floor + room) | 0;",
        to: "this.limit = (floor + room + 8) | 0;",
      },
    ],
    scene: "spscFull",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
  {
    name: "the floor is not published before the oldest messages are overwritten",
    edits: [
      {
        file: "room.ts",
        from:
          "    Atomics.store(words, floorWord, floor);\n" +
          "    // A load keeps what is written next behind the store",
        to: "    this.pending = floor;\n    return floor;\n    //",
      },
      {
        file: "room.ts",
        from: "    let floor = Atomics.load(words, floorWord);\n    if (distance(floor, needed)",
        to:
          "    Atomics.store(words, floorWord, this.pending ?? Atomics.load(words, " +
          "floorWord));\n" +
          "    let floor = Atomics.load(words, floorWord);\n" +
          "    if (distance(floor, needed)",
      },
      {
        file: "room.ts",
        from: "  private readonly overwrites: boolean;",
        to: "  private readonly overwrites: boolean;\n  private pending: number | undefined;",
      },
    ],
    scene: "dropOldest",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
  {
    name: "a consumer looks at the floor before it copies",
    edits: [
      {
        file: "reader.ts",
        from: "      const start = lane.wordOf(position) * 4;\n",
        to:
          "      const start = lane.wordOf(position) * 4;\n" +
          "      const floor = Atomics.load(words, floorWord);\n",
      },
      {
        file: "reader.ts",
        from: "copied, position);\n      const floor = Atomics.load(words, floorWord);",
        to: "copied, position);",
      },
    ],
    scene: "dropOldest",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
  {
    name: "the tail is moved over claims that are not settled",
    edits: [{ file: "settling.ts", from: "      if (isOpenClaim(descriptor)) break;\n", to: "" }],
    scene: "mpsc",
    outcome: /damaged/,
  },
  {
    name: "the tail is moved before the record is settled",
    edits: [
      {
        file: "shared-claims.ts",
        from:
          "    const isFenced = !this.settle(0);\n" +
          "    if (advance(this.lane)) wakeConsumers(this.lane);",
        to:
          "    if (advance(this.lane)) wakeConsumers(this.lane);\n" +
          "    const isFenced = !this.settle(0);",
      },
    ],
    scene: "mpsc",
    outcome: /^(lost|stuck|invented)/,
  },
  {
    name: "the lock is taken by a look and a store",
    edits: [
      {
        file: "claim-lock.ts",
        from:
          "  let holder = Atomics.compareExchange(words, claimWord.lock, free, own);\n" +
          "  if (holder === free) return false;\n" +
          "  for",
        to:
          "  let holder = Atomics.load(words, claimWord.lock);\n" +
          "  if (holder === free) Atomics.store(words, claimWord.lock, own);\n" +
          "  if (holder === free) return false;\n" +
          "  for",
      },
    ],
    scene: "mpsc",
    outcome: /./,
  },
  {
    name: "a claim is known before its beginning is written",
    edits: [
      {
        file: "shared-claims.ts",
        from: "    words[word] = openMark |",
        to: "    Atomics.store(words, claimWord.claimed, end);\n    words[word] = openMark |",
      },
    ],
    scene: "mpscDeath",
    isFine: true,
    outcome: /./,
  },
  {
    name: "what the dead were at is not mended",
    edits: [
      {
        file: "settling.ts",
        from: "  doubles[claimWord.sequence / 2] = doubles[claimWord.sequenceBefore / 2] ?? 0;\n",
        to: "  doubles[claimWord.sequence / 2] = 0;\n",
      },
    ],
    scene: "mpscDeath",
    isFine: true,
    outcome: /duplicated|damaged|reordered/,
  },
  {
    name: "what was taken back looks like what the dead have left",
    edits: [
      {
        file: "shared-claims.ts",
        from: "this.settle(withdrawnMark);",
        to: "this.settle(record.hidden);",
      },
    ],
    scene: "wavering",
    outcome: /^lost/,
  },
  {
    name: "what the dead have left looks like what was taken back",
    edits: [
      {
        file: "settling.ts",
        from: "const settled = record.hidden |",
        to: "const settled = record.hidden | record.withdrawn |",
      },
    ],
    scene: "waveringDeath",
    outcome: /^invented/,
  },
  {
    name: "what was taken back covers what the dead have left before it",
    edits: [
      {
        file: "reader.ts",
        from: "if (sequence === next) this.withdrawnThrough = sequence;",
        to: "if (sequence >= next) this.withdrawnThrough = sequence;",
      },
    ],
    scene: "waveringDeath",
    outcome: /^invented/,
  },
  {
    name: "a consumer does not say what it has seen taken back",
    edits: [
      {
        file: "reader.ts",
        from: "[(base + consumerOffset.withdrawnThrough) >>> 1] = this.withdrawnThrough;\n",
        to: "[(base + consumerOffset.withdrawnThrough) >>> 1] = 0;\n",
      },
    ],
    scene: "waveringHeir",
    outcome: /^lost/,
  },
  {
    name: "claims of the dead are never settled",
    edits: [
      {
        file: "settling.ts",
        from: "      abandon(lane, position, Atomics.load(words, lane.wordOf(position)));",
        to: "      break;",
      },
      {
        file: "settling.ts",
        from: "    releaseClaimLock(lane);\n    hasMoved = advance(lane) || hasMoved;",
        to: "    releaseClaimLock(lane);\n    break;",
      },
    ],
    scene: "mpscDeath",
    outcome: /^(lost|stuck)/,
  },
  {
    name: "a record is settled by a store",
    edits: [
      {
        file: "shared-claims.ts",
        from: "const found = Atomics.compareExchange(words, lane.wordOf(position), open, settled);",
        to:
          "const found = Atomics.load(words, lane.wordOf(position));\n" +
          "      Atomics.store(words, lane.wordOf(position), settled);",
      },
    ],
    scene: "failover",
    outcome: /./,
  },
  {
    name: "nobody is kept off what a fenced producer still writes",
    edits: [
      {
        file: "shared-claims.ts",
        from: "    if (closed === 0) return skipped;",
        to: "    if (closed >= 0) return skipped;",
      },
    ],
    scene: "failoverFull",
    outcome: /torn|damaged/,
  },
  {
    name: "a backup has the lock while its end is nobody's",
    edits: [
      {
        file: "publisher.ts",
        from: "    takeOwnership(lane.words, owner,",
        to: "    if (takesOver) takeOver(lane, producer);\n    takeOwnership(lane.words, owner,",
      },
    ],
    scene: "failover",
    outcome: /./,
  },
  {
    name: "the lock of a dead consumer is taken for that of its heir",
    edits: [
      {
        file: "claim-lock.ts",
        from: "return ownerOf(lane.words, owner) === holder >>> pidShift && ",
        to: "return ",
      },
    ],
    scene: "doubleDeath",
    outcome: /^(lost|stuck)/,
  },
  {
    name: "a consumer that rejoins does not say so before it looks at the floor",
    edits: [
      {
        file: "seat.ts",
        from: "      Atomics.store(words, word, state | joining);\n",
        to: "",
      },
      {
        file: "seat.ts",
        from:
          "      if (Atomics.compareExchange(words, word, joined, state) === joined) " +
          "return position;",
        to: "      Atomics.store(words, word, state);\n      if (joined !== 0) return position;",
      },
    ],
    scene: "failed",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
  {
    name: "what was read while the consumer had failed is handed over",
    edits: [
      {
        file: "reader.ts",
        from: "if (hasRead && this.isOpen && this.seat.hasFailed) {",
        to: "if (hasRead && count < 0 && this.isOpen && this.seat.hasFailed) {",
      },
    ],
    scene: "failed",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
  {
    name: "what is overwritten is what was released and one more",
    edits: [
      {
        file: "reader.ts",
        from:
          "    Atomics.store(words, base + consumerOffset.position, this.taken);\n" +
          "    wakeProducers",
        to:
          "    Atomics.store(words, base + consumerOffset.position, this.lane.tail);\n" +
          "    wakeProducers",
      },
    ],
    scene: "spscFull",
    outcome: /torn|damaged|lost|duplicated|reordered|invented/,
  },
];
