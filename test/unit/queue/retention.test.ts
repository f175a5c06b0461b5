import assert from "node:assert/strict";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import {
  checkPolicy,
  chooseSegments,
  neededFrom,
  type QueueFacts,
  type ReaderFacts,
  type RetentionPolicy,
  type SegmentFacts,
} from "../../../src/queue/retention.ts";
import { seededRandom, type Random } from "../../../src/random.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const nowMs = 1_000_000;

/** `count` segments of ten messages and 100 bytes; each a second younger than the one before. */
function segmentsOf(count: number): SegmentFacts[] {
  return Array.from({ length: count }, (_, index) => ({
    number: index + 1,
    bytes: 100,
    lastSequence: (index + 1) * 10,
    latestNs: BigInt(nowMs - (count - index) * 1000) * 1_000_000n,
  }));
}

function reader(changes: Partial<ReaderFacts> = {}): ReaderFacts {
  const committed = changes.committed ?? 0;
  return {
    name: "ledger",
    isAlive: false,
    committed,
    position: committed + 1,
    passedOver: 0,
    seenMs: nowMs,
    ...changes,
  };
}

/** Ten segments, eight of which may go at all. */
function queueOf(readers: readonly ReaderFacts[], changes: Partial<QueueFacts> = {}): QueueFacts {
  const segments = segmentsOf(10);
  return {
    segments: segments.slice(0, -2),
    count: segments.length,
    bytes: 1000,
    newestSequence: 100,
    readers,
    nowMs,
    ...changes,
  };
}

function chosen(queue: QueueFacts, policy: RetentionPolicy, most = 100): number[] {
  return chooseSegments(queue, policy, most).segments.map(({ number }) => number);
}

const done = reader({ committed: 100 });

test("a queue that nobody is known to read stays whole", () => {
  assert.deepEqual(chosen(queueOf([]), { segments: 0, readerTtlMs: 0, readerLagMax: 0 }), []);
});

test("what is too many, too large or too old goes, oldest first", () => {
  const queue = queueOf([done]);
  assert.deepEqual(chosen(queue, { segments: 7 }), [1, 2, 3]);
  assert.deepEqual(chosen(queue, { segments: 10 }), []);
  assert.deepEqual(chosen(queue, { bytes: 800 }), [1, 2]);
  assert.deepEqual(chosen(queue, { bytes: 799 }), [1, 2, 3]);
  assert.deepEqual(chosen(queue, { ageMs: 7000 }), [1, 2, 3]);
  assert.deepEqual(chosen(queue, { ageMs: 7000, segments: 6 }), [1, 2, 3, 4]);
  assert.deepEqual(chosen(queue, { ageMs: 20_000 }), []);
  assert.deepEqual(chosen(queue, {}), []);
});

test("the two newest segments stay, whatever the policy says", () => {
  assert.deepEqual(chosen(queueOf([done]), { segments: 0 }), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("as many go at once as are asked for", () => {
  assert.deepEqual(chosen(queueOf([done]), { segments: 0 }, 3), [1, 2, 3]);
  assert.deepEqual(chosen(queueOf([done]), { segments: 0 }, 0), []);
});

test("what any reader needs stays, alive or not", () => {
  for (const isAlive of [true, false]) {
    const slow = reader({ name: "slow", committed: 34, isAlive });
    assert.deepEqual(chosen(queueOf([done, slow]), { segments: 0 }), [1, 2, 3]);
    // The fortieth is the last of its segment.
    const slower = reader({ name: "slow", committed: 39, isAlive });
    assert.deepEqual(chosen(queueOf([slower]), { segments: 0 }), [1, 2, 3]);
    const next = reader({ name: "slow", committed: 40, isAlive });
    assert.deepEqual(chosen(queueOf([next]), { segments: 0 }), [1, 2, 3, 4]);
  }
});

test("a reader that went back needs what it has committed before", () => {
  const back = reader({ committed: 100, position: 15, isAlive: true });
  assert.deepEqual(chosen(queueOf([back]), { segments: 0 }), [1]);
});

test("a reader that is gone for too long is passed over, and it is said what that takes", () => {
  const gone = reader({ name: "gone", committed: 34, seenMs: nowMs - 5001 });
  const choice = chooseSegments(queueOf([done, gone]), { segments: 4, readerTtlMs: 5000 }, 100);
  assert.deepEqual(
    choice.segments.map(({ number }) => number),
    [1, 2, 3, 4, 5, 6],
  );
  assert.deepEqual(choice.passedOver, [{ reader: "gone", reason: "ttl", from: 35, to: 60 }]);
});

test("a reader that is alive, or was seen just now, is waited for however long it takes", () => {
  const policy = { segments: 0, readerTtlMs: 5000 };
  const silent = reader({ isAlive: true, seenMs: 0 });
  assert.deepEqual(chooseSegments(queueOf([silent]), policy, 100), {
    segments: [],
    passedOver: [],
  });
  const away = reader({ seenMs: nowMs - 5000 });
  assert.deepEqual(chooseSegments(queueOf([away]), policy, 100), { segments: [], passedOver: [] });
});

test("a reader that is too far behind is passed over, alive as it is", () => {
  const slow = reader({ committed: 49, isAlive: true });
  assert.deepEqual(chosen(queueOf([slow]), { segments: 0, readerLagMax: 51 }), [1, 2, 3, 4]);
  const choice = chooseSegments(queueOf([slow]), { segments: 0, readerLagMax: 50 }, 100);
  assert.equal(choice.segments.length, 8);
  assert.deepEqual(choice.passedOver, [{ reader: "ledger", reason: "lag", from: 50, to: 80 }]);
});

test("what a reader was passed over before is not said again", () => {
  const gone = reader({ committed: 5, passedOver: 60, seenMs: 0 });
  const policy = { segments: 0, readerTtlMs: 5000 };
  const { passedOver } = chooseSegments(queueOf([gone]), policy, 100);
  assert.deepEqual(passedOver, [{ reader: "ledger", reason: "ttl", from: 61, to: 80 }]);
  assert.deepEqual(chooseSegments(queueOf([gone]), policy, 6).passedOver, []);
});

test("where all readers are gone for too long, nothing is held", () => {
  const gone = reader({ seenMs: 0 });
  assert.equal(neededFrom(queueOf([gone]), { readerTtlMs: 1 }), Infinity);
  assert.deepEqual(chosen(queueOf([gone]), { segments: 9, readerTtlMs: 1 }), [1]);
});

test("a segment of which nothing is known, and those behind it, stay", () => {
  const segments = segmentsOf(4);
  assert.deepEqual(chosen(queueOf([done], { segments }), { segments: 0 }), [1, 2, 3, 4]);
});

test("no more is looked at than it takes", () => {
  let looks = 0;
  function* segments(): Generator<SegmentFacts> {
    for (const segment of segmentsOf(8)) {
      looks++;
      yield segment;
    }
  }
  assert.deepEqual(chosen(queueOf([done], { segments: segments() }), { segments: 8 }), [1, 2]);
  assert.equal(looks, 3);
});

test("a policy that says nothing, or nonsense, is refused", () => {
  for (const policy of [{}, { readerTtlMs: 5 }, { segments: -1 }, { bytes: NaN }]) {
    assert.throws(
      () => checkPolicy("/queue", policy),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
      JSON.stringify(policy),
    );
  }
  checkPolicy("/queue", { segments: 0 });
  checkPolicy("/queue", { ageMs: 1, bytes: 2, readerLagMax: 3, readerTtlMs: 4 });
});

function randomReader(random: Random, index: number): ReaderFacts {
  const committed = random.below(120);
  return reader({
    name: `reader-${index}`,
    committed,
    isAlive: random.below(2) === 0,
    position: random.below(4) === 0 ? random.below(committed + 1) + 1 : committed + 1,
    passedOver: random.below(4) === 0 ? random.below(60) : 0,
    seenMs: nowMs - random.below(20_000),
  });
}

test("whatever the readers and the policy, nobody loses what is waited for", (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  for (let round = 0; round < 2000; round++) {
    const readers = Array.from({ length: random.below(4) }, (_, index) =>
      randomReader(random, index),
    );
    const maybe = (below: number): number | undefined =>
      random.below(2) === 0 ? undefined : random.below(below);
    const policy = Object.fromEntries(
      Object.entries({
        segments: maybe(12),
        bytes: maybe(1200),
        ageMs: maybe(12_000),
        readerTtlMs: maybe(20_000),
        readerLagMax: maybe(120),
      }).filter(([, value]) => value !== undefined),
    ) as RetentionPolicy;
    const queue = queueOf(readers);
    const { segments, passedOver } = chooseSegments(queue, policy, 1 + random.below(10));
    const to = segments.at(-1)?.lastSequence ?? 0;
    const where = `round=${round} ${JSON.stringify({ readers, policy })}`;
    if (readers.length === 0) assert.equal(to, 0, where);
    for (const one of readers) {
      const isGone = !one.isAlive && nowMs - one.seenMs > (policy.readerTtlMs ?? Infinity);
      const isBehind = 101 - one.position > (policy.readerLagMax ?? Infinity);
      if (!isGone && !isBehind) assert.ok(to < one.position, where);
      const from = Math.max(one.committed, one.passedOver) + 1;
      const expected =
        (isGone || isBehind) && from <= to
          ? [{ reader: one.name, reason: isGone ? "ttl" : "lag", from, to }]
          : [];
      assert.deepEqual(
        passedOver.filter((passed) => passed.reader === one.name),
        expected,
        where,
      );
    }
    assert.deepEqual(
      segments.map(({ number }) => number),
      segments.map((_, index) => index + 1),
      where,
    );
  }
});
