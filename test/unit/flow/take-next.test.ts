import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { follow } from "../../../src/chain.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { takeNext } from "../../../src/flow/pump.ts";
import type { Message } from "../../../src/message.ts";
import { makeStream } from "./doubles.ts";

const bytes = new Uint8Array(0);
const anyMessage: fc.Arbitrary<Message> = fc.record({
  id: fc.bigInt(0n, 12n),
  prevId: fc.bigInt(0n, 12n),
  timestampNs: fc.constant(0n),
  bytes: fc.constant(bytes),
});
const stream = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 12 }).map(makeStream);
/** Of a stream some messages, some of them again, mostly in order. */
const delivered = stream.chain((messages) =>
  fc
    .array(fc.nat(Math.max(0, messages.length - 1)), { maxLength: 12 })
    .map((picks) =>
      [...messages.keys(), ...picks].flatMap((index) => messages[index] ?? []).slice(picks.length),
    ),
);
const last = fc.bigInt(0n, 12n);

test("what is fresh follows without a hole, and only duplicates are left out before the gap", () => {
  fc.assert(
    fc.property(last, fc.oneof(delivered, fc.array(anyMessage, { maxLength: 8 })), (from, list) => {
      let result: ReturnType<typeof takeNext>;
      try {
        result = takeNext(from, list);
      } catch (error) {
        assert.ok(isGaplessError(error, "CHAIN_BROKEN"), String(error));
        return;
      }
      const { fresh, gapEnd, later } = result;
      let position = from;
      for (const message of fresh) {
        assert.equal(message.prevId, position);
        position = message.id;
      }
      const before = list.slice(0, list.length - later.length);
      assert.deepEqual(later, list.slice(before.length));
      // Those before the gap are fresh or duplicates of earlier ones, in the order of the list.
      let index = 0;
      let reached = from;
      for (const message of before) {
        if (message === fresh[index]) {
          index++;
          reached = message.id;
        } else {
          assert.ok(message.id <= reached);
        }
      }
      assert.equal(index, fresh.length);
      assert.equal(gapEnd === undefined, later.length === 0);
      if (gapEnd !== undefined) {
        assert.ok(gapEnd > position);
        assert.equal(later[0]?.prevId, gapEnd);
      }
    }),
    { numRuns: 2000 },
  );
});

test("a chain that breaks is told with both ids, and where nothing before it is a gap", () => {
  fc.assert(
    fc.property(last, fc.array(anyMessage, { minLength: 1, maxLength: 6 }), (from, list) => {
      let position = from;
      let expected: string | undefined;
      for (const message of list) {
        const placement = follow(position, message);
        if (placement === "gap") break;
        if (placement === "next") position = message.id;
        if (placement === "broken") {
          expected = `last=${position}, id=${message.id}, prevId=${message.prevId}`;
          break;
        }
      }
      let found: string | undefined;
      try {
        takeNext(from, list);
      } catch (error) {
        assert.ok(isGaplessError(error, "CHAIN_BROKEN"));
        found = /last=\d+, id=\d+, prevId=\d+/.exec(error.message)?.[0];
      }
      assert.equal(found, expected);
    }),
    { numRuns: 2000 },
  );
});

test("a whole stream, delivered from anywhere before its reader, is taken without a gap", () => {
  fc.assert(
    fc.property(stream, fc.nat(12), fc.nat(12), (messages, read, first) => {
      const done = Math.min(read, messages.length);
      const from = messages[done - 1]?.id ?? 0n;
      const list = messages.slice(Math.min(first, done));
      const { fresh, gapEnd, later } = takeNext(from, list);
      assert.deepEqual(fresh, messages.slice(done));
      assert.equal(gapEnd, undefined);
      assert.deepEqual(later, []);
    }),
  );
});
