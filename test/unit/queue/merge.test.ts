import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { HELD, Merge, NOTHING } from "../../../src/queue/merge.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const latestTime = 2n ** 64n - 1n;

function makeMerge(sources: number): Merge {
  const merge = new Merge();
  for (let source = 0; source < sources; source++) merge.add();
  return merge;
}

function setHead(merge: Merge, source: number, time: bigint): void {
  merge.setHead(source, {
    timestampHigh: Number(time >> 32n),
    timestampLow: Number(time & 0xffff_ffffn),
  });
}

function setHorizon(merge: Merge, time: bigint): void {
  merge.setHorizon(Number(time >> 32n), Number(time & 0xffff_ffffn));
}

/** Delivers what is next, whose source has nothing then. */
function takeNext(merge: Merge): number {
  const source = merge.next();
  if (source < 0) return source;
  merge.noteDelivered(source);
  merge.clearHead(source);
  return source;
}

test("without a source, and without a head, there is nothing", () => {
  const merge = new Merge();
  assert.equal(merge.next(), NOTHING);
  merge.add();
  assert.equal(merge.next(), NOTHING);
  setHead(merge, 0, latestTime);
  assert.equal(merge.next(), 0);
  merge.remove(0);
  assert.equal(merge.next(), NOTHING);
});

test("the oldest is next, by all 64 bits of its time", () => {
  const times = [latestTime, 2n ** 32n, 2n ** 32n - 1n, 0n, latestTime - 1n, 2n ** 63n];
  const merge = makeMerge(times.length);
  for (const [source, time] of times.entries()) setHead(merge, source, time);
  assert.deepEqual(
    times.map(() => takeNext(merge)),
    [3, 2, 1, 5, 4, 0],
  );
  assert.equal(merge.late, 0);
});

test("of equal times the source that was added first is next, however many there are", () => {
  for (const count of [2, 3, 4, 5, 64, 65]) {
    const merge = makeMerge(count);
    for (let source = count - 1; source >= 0; source--) setHead(merge, source, 7n);
    for (let source = 0; source < count; source++) assert.equal(takeNext(merge), source);
  }
});

test("what is as old as the horizon is held, what is older is not, and what is late goes at once", () => {
  const merge = makeMerge(2);
  setHorizon(merge, 1000n);
  setHead(merge, 0, 1000n);
  assert.equal(merge.next(), HELD);
  assert.equal(merge.heldForNs, 1);
  setHead(merge, 0, 2n ** 32n + 5n);
  assert.equal(merge.heldForNs, 2 ** 32 + 5 - 1000 + 1);
  setHead(merge, 0, 999n);
  assert.equal(takeNext(merge), 0);

  // With all heads there, the horizon holds nothing back.
  setHead(merge, 0, 5000n);
  setHead(merge, 1, 6000n);
  assert.equal(takeNext(merge), 0);
  assert.equal(merge.next(), HELD);
  setHead(merge, 0, 4999n);
  assert.equal(takeNext(merge), 0);
  assert.equal(merge.late, 1);
  merge.clearHead(1);
  setHead(merge, 0, 5000n);
  assert.equal(takeNext(merge), HELD, "as old as the youngest that was delivered is not late");

  // Nobody waits for a source that was removed.
  merge.remove(1);
  assert.equal(merge.next(), 0);
});

type Step =
  | readonly ["add"]
  | readonly ["takeNext"]
  | readonly ["remove", pick: number]
  | readonly ["clearHead", pick: number]
  | readonly ["setHead", pick: number, time: bigint]
  | readonly ["setHorizon", time: bigint];

/** The same by looking through all of them. */
class Model {
  readonly heads: (bigint | undefined)[];
  horizon = 2n ** 64n;
  latest = 0n;
  late = 0;

  constructor(sources: number) {
    this.heads = Array.from({ length: sources }, () => undefined);
  }

  next(): number {
    let first = NOTHING;
    for (const [source, head] of this.heads.entries()) {
      const oldest = this.heads[first];
      if (head !== undefined && (oldest === undefined || head < oldest)) first = source;
    }
    const head = this.heads[first];
    if (head === undefined) return NOTHING;
    const isFree = head < this.horizon || head < this.latest;
    return isFree || this.heads.every((one) => one !== undefined) ? first : HELD;
  }

  takeNext(): number {
    const source = this.next();
    const head = this.heads[source];
    if (head === undefined) return source;
    if (head < this.latest) this.late++;
    else this.latest = head;
    this.heads[source] = undefined;
    return source;
  }
}

function step(merge: Merge, model: Model, [name, ...values]: Step): void {
  const [first = 0, second = 0n] = values;
  if (name === "add") {
    merge.add();
    model.heads.push(undefined);
  } else if (name === "takeNext") {
    assert.equal(takeNext(merge), model.takeNext());
  } else if (name === "setHorizon") {
    setHorizon(merge, BigInt(first));
    model.horizon = BigInt(first);
  } else if (model.heads.length > 0) {
    const source = Number(first) % model.heads.length;
    if (name === "setHead") setHead(merge, source, second);
    else merge[name](source);
    if (name === "remove") model.heads.splice(source, 1);
    else model.heads[source] = name === "setHead" ? second : undefined;
  }
}

test("whatever comes and goes, the next is the one that looking through all of them finds", (t) => {
  t.diagnostic(`SEED=${seed}`);
  const pick = fc.nat(1000);
  // Few times, so that many are equal; with the upper half equal and not, and at both ends.
  const time = fc.oneof(
    fc.bigInt(0n, 3n),
    fc.tuple(fc.bigInt(0n, 2n), fc.bigInt(0n, 2n)).map(([high, low]) => high * 2n ** 32n + low),
    fc.bigInt(latestTime - 2n, latestTime),
  );
  const steps = fc.array(
    fc.oneof<{ weight: number; arbitrary: fc.Arbitrary<Step> }[]>(
      { weight: 3, arbitrary: fc.constant(["add"] as const) },
      { weight: 8, arbitrary: fc.constant(["takeNext"] as const) },
      { weight: 1, arbitrary: fc.tuple(fc.constant("remove" as const), pick) },
      { weight: 2, arbitrary: fc.tuple(fc.constant("clearHead" as const), pick) },
      { weight: 12, arbitrary: fc.tuple(fc.constant("setHead" as const), pick, time) },
      { weight: 2, arbitrary: fc.tuple(fc.constant("setHorizon" as const), time) },
    ),
    { maxLength: 300, size: "max" },
  );
  fc.assert(
    fc.property(fc.nat(9), steps, (sources, list) => {
      const merge = makeMerge(sources);
      const model = new Model(sources);
      for (const one of list) {
        step(merge, model, one);
        assert.equal(merge.next(), model.next());
        assert.equal(merge.late, model.late);
        for (const [source, head] of model.heads.entries()) {
          assert.equal(merge.hasHead(source), head !== undefined);
        }
      }
    }),
    { seed, numRuns: 500 },
  );
});
