/** Whom a trim leaves behind: nobody who is waited for, and else nobody who is not named. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  checkRetentionRules,
  decideRetention,
  type RetentionFacts,
} from "../../../src/buffer/retention-policy.ts";
import { hasCode } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

const names = ["oms", "audit", "risk"];
const id = fc.bigInt(0n, 60n);
const facts: fc.Arbitrary<RetentionFacts> = fc.record({
  minId: fc.option(fc.bigInt(1n, 60n), { nil: undefined }),
  wanted: fc.option(fc.bigInt(1n, 60n), { nil: undefined }),
  consumers: fc.subarray(names),
  acknowledged: fc
    .dictionary(fc.constantFrom(...names), id)
    .map((entries) => new Map(Object.entries(entries))),
});

test("what goes is too much, and there", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(facts, fc.boolean(), (example, isForced) => {
      const { beforeId } = decideRetention(example, isForced);
      const { minId, wanted } = example;
      if (beforeId !== undefined) {
        assert.ok(minId !== undefined && beforeId > minId);
        assert.ok(wanted !== undefined && beforeId <= wanted);
      }
      const isTooMuch = minId !== undefined && wanted !== undefined && wanted > minId;
      if (isTooMuch && (isForced || example.consumers.length === 0)) {
        assert.equal(beforeId, wanted);
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("G8: nothing goes that a declared consumer has not acknowledged, unless it is forced", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(facts, (example) => {
      const { beforeId, passedOver, heldBy } = decideRetention(example, false);
      assert.deepEqual(passedOver, []);
      for (const consumer of example.consumers) {
        const acknowledged = example.acknowledged.get(consumer) ?? 0n;
        assert.ok(beforeId === undefined || beforeId <= acknowledged + 1n);
        const { minId, wanted } = example;
        const isTooMuch = minId !== undefined && wanted !== undefined && wanted > minId;
        assert.equal(heldBy.includes(consumer), isTooMuch && acknowledged + 1n < wanted);
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("what is forced names every consumer that it passes over, with all that it misses", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(facts, (example) => {
      const { beforeId, passedOver } = decideRetention(example, true);
      for (const consumer of example.consumers) {
        const acknowledged = example.acknowledged.get(consumer) ?? 0n;
        const told = passedOver.find((it) => it.consumer === consumer);
        for (let gone = example.minId ?? 0n; gone < (beforeId ?? 0n); gone++) {
          const isNamed = told !== undefined && gone >= told.fromId && gone <= told.throughId;
          assert.equal(isNamed, gone > acknowledged);
        }
        if (told !== undefined) assert.ok(told.fromId <= told.throughId);
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("rules without a limit are refused", () => {
  assert.throws(() => checkRetentionRules({}), hasCode("CONFIG_INVALID"));
  assert.throws(() => checkRetentionRules({ count: 0 }), hasCode("CONFIG_INVALID"));
  assert.throws(() => checkRetentionRules({ count: 5, ageMs: 0.5 }), hasCode("CONFIG_INVALID"));
  checkRetentionRules({ count: 10_000 });
});
