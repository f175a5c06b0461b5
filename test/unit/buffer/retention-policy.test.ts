/** What goes from a buffer: never too little, never too much, and whom it leaves behind. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  checkRetentionRules,
  decideRetention,
  type RetentionFacts,
  type RetentionMark,
  type RetentionRules,
} from "../../../src/buffer/retention-policy.ts";
import type { Message } from "../../../src/message.ts";
import { hasCode } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

/** Messages that came one a millisecond, with ids that skip, and a mark at each `step` of them. */
function streamOf(skips: readonly number[], step: number) {
  const marks: RetentionMark[] = [];
  const messages: (Message & { readonly atMs: number })[] = [];
  for (const [index, skip] of skips.entries()) {
    const prevId = messages.at(-1)?.id ?? 0n;
    const id = prevId + BigInt(skip);
    const message = { id, prevId, timestampNs: 0n, bytes: new Uint8Array(0), atMs: index + 1 };
    messages.push(message);
    if (index % step === 0) marks.push({ id, before: index, atMs: message.atMs });
  }
  return { messages, marks };
}

interface Case {
  readonly skips: readonly number[];
  readonly step: number;
  readonly rules: RetentionRules;
  readonly acknowledgedAt: readonly number[];
  readonly trimmedAt: number;
}

const names = ["oms", "audit", "risk"];
const share = fc.double({ min: 0, max: 1, noNaN: true });
const limit = fc.option(fc.integer({ min: 1, max: 80 }), { nil: undefined });
const cases: fc.Arbitrary<Case> = fc
  .record({
    skips: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 100 }),
    step: fc.integer({ min: 1, max: 9 }),
    count: limit,
    ageMs: limit,
    acknowledgedAt: fc.array(share, { maxLength: 3 }),
    trimmedAt: share,
  })
  .map(({ count, ageMs, ...others }) => ({
    ...others,
    rules: {
      ...(count === undefined ? {} : { count }),
      ...(ageMs === undefined ? {} : { ageMs }),
      consumers: names.slice(0, others.acknowledgedAt.length),
    },
  }));

function build({ skips, step, rules, acknowledgedAt, trimmedAt }: Case) {
  const { messages, marks } = streamOf(skips, step);
  const at = (where: number) => messages[Math.floor(where * (messages.length - 1))];
  const minId = at(trimmedAt)?.id ?? 1n;
  const consumers = rules.consumers ?? [];
  const facts: RetentionFacts = {
    minId,
    maxId: messages.at(-1)?.id,
    count: skips.length,
    marks: marks.filter(({ id }) => id >= minId),
    acknowledged: new Map(
      consumers.map((name, index) => [name, at(acknowledgedAt[index] ?? 0)?.id ?? 0n]),
    ),
    nowMs: messages.length,
  };
  return { messages: messages.filter(({ id }) => id >= minId), facts };
}

test("what goes is too much, moves forward, and leaves the newest message", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(cases, fc.boolean(), (example, isForced) => {
      const { messages, facts } = build(example);
      const { count = Infinity, ageMs = Infinity } = example.rules;
      const { beforeId } = decideRetention(example.rules, facts, isForced);
      if (beforeId === undefined) return;
      const gone = messages.filter(({ id }) => id < beforeId);
      const left = messages.length - gone.length;
      assert.ok(beforeId > (facts.minId ?? 0n) && left >= 1);
      const isByCount = left >= count;
      const isByAge = gone.every(({ atMs }) => facts.nowMs - atMs > ageMs);
      assert.ok(isByCount || isByAge, `left=${left}`);
    }),
    { seed, numRuns: 500 },
  );
});

test("what is too much goes, but for less than a step between two marks", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(cases, (example) => {
      const { messages, facts } = build(example);
      const { count = Infinity, ageMs = Infinity } = example.rules;
      const { beforeId = facts.minId ?? 0n } = decideRetention(example.rules, facts, true);
      const rest = messages.filter(({ id }) => id >= beforeId);
      const isOver = rest.length >= count + 2 * example.step;
      const oldEnough = rest.filter(({ atMs }) => facts.nowMs - atMs > ageMs).length;
      assert.ok(!isOver && oldEnough < 2 * example.step + 1, `rest=${rest.length}`);
    }),
    { seed, numRuns: 500 },
  );
});

test("G8: nothing goes that a declared consumer has not acknowledged, unless it is forced", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(cases, (example) => {
      const { facts } = build(example);
      const { beforeId, passedOver } = decideRetention(example.rules, facts);
      assert.deepEqual(passedOver, []);
      for (const acknowledged of facts.acknowledged.values()) {
        assert.ok(beforeId === undefined || beforeId <= acknowledged + 1n);
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("what is forced names every consumer that it passes over, with all that it misses", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(cases, (example) => {
      const { messages, facts } = build(example);
      const kept = decideRetention(example.rules, facts);
      const { beforeId, passedOver } = decideRetention(example.rules, facts, true);
      const gone = messages.filter(({ id }) => beforeId !== undefined && id < beforeId);
      for (const [consumer, acknowledged] of facts.acknowledged) {
        const missed = gone.filter(({ id }) => id > acknowledged).map(({ id }) => id);
        const told = passedOver.find((it) => it.consumer === consumer);
        if (missed.length === 0) continue;
        assert.ok(told !== undefined, `${consumer} misses ${missed.length}`);
        assert.ok(missed.every((id) => id >= told.fromId && id <= told.throughId));
        assert.ok(told.fromId > acknowledged && told.fromId >= (facts.minId ?? 0n));
        assert.ok(kept.heldBy.includes(consumer));
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("a consumer that is declared and has never come holds everything", () => {
  const { marks, messages } = streamOf(Array<number>(50).fill(1), 5);
  const facts: RetentionFacts = {
    minId: 1n,
    maxId: messages.at(-1)?.id,
    count: messages.length,
    marks,
    acknowledged: new Map([["oms", 50n]]),
    nowMs: 0,
  };
  const rules = { count: 10, consumers: ["oms", "audit"] };
  const held = decideRetention(rules, facts);
  assert.deepEqual(held, { beforeId: undefined, passedOver: [], heldBy: ["audit"] });
  assert.deepEqual(decideRetention(rules, facts, true), {
    beforeId: 41n,
    passedOver: [{ consumer: "audit", fromId: 1n, throughId: 40n }],
    heldBy: [],
  });
  assert.equal(decideRetention({ count: 10, consumers: ["oms"] }, facts).beforeId, 41n);
});

test("of an empty buffer nothing goes, and rules without a limit are refused", () => {
  const facts: RetentionFacts = {
    minId: undefined,
    maxId: undefined,
    count: 0,
    marks: [],
    acknowledged: new Map(),
    nowMs: 1,
  };
  assert.equal(decideRetention({ count: 1 }, facts).beforeId, undefined);
  assert.throws(() => checkRetentionRules({}), hasCode("CONFIG_INVALID"));
  assert.throws(() => checkRetentionRules({ count: 0 }), hasCode("CONFIG_INVALID"));
  assert.throws(() => checkRetentionRules({ count: 5, ageMs: 0.5 }), hasCode("CONFIG_INVALID"));
  checkRetentionRules({ count: 10_000 });
});
