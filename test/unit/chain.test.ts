import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { beginning, follow, type Link } from "../../src/chain.ts";

const u64Max = 2n ** 64n - 1n;

/** A stream whose ids skip as they like. */
const streams: fc.Arbitrary<Link[]> = fc
  .uniqueArray(fc.bigInt(1n, u64Max), { minLength: 1, maxLength: 40 })
  .map((ids) => {
    ids.sort((one, other) => (one < other ? -1 : 1));
    return ids.map((id, index) => ({ id, prevId: ids[index - 1] ?? beginning }));
  });

test("the messages of a stream follow one another, whatever ids it skips", () => {
  fc.assert(
    fc.property(streams, (stream) => {
      let last = beginning;
      for (const link of stream) {
        assert.equal(follow(last, link), "next");
        last = link.id;
      }
    }),
  );
});

test("what was delivered is a duplicate for ever", () => {
  fc.assert(
    fc.property(streams, fc.nat(), (stream, pick) => {
      const delivered = stream.slice(0, (pick % stream.length) + 1);
      const last = delivered.at(-1)?.id ?? beginning;
      for (const link of delivered) assert.equal(follow(last, link), "duplicate");
    }),
  );
});

test("a gap reaches from the last message to the predecessor, and holds what is missing", () => {
  fc.assert(
    fc.property(streams, fc.nat(), fc.nat(), (stream, one, other) => {
      const last = stream[one % stream.length]?.id ?? beginning;
      const link = stream[other % stream.length] as Link;
      const missing = stream.filter(({ id }) => id > last && id <= link.prevId);
      if (follow(last, link) === "gap") {
        assert.ok(missing.length > 0);
        assert.equal(missing.at(-1)?.id, link.prevId);
      } else {
        assert.deepEqual(missing, []);
      }
    }),
  );
});

test("a link that skips over the last message belongs to another stream", () => {
  fc.assert(
    fc.property(streams, fc.nat(), (stream, pick) => {
      const index = pick % stream.length;
      const { id, prevId } = stream[index] as Link;
      fc.pre(id - prevId > 1n);
      // Our stream has delivered an id in between, which this one does not know.
      assert.equal(follow(id - 1n, { id, prevId }), "broken");
    }),
  );
});

test("a link that does not go forward is broken, even where it would be a duplicate", () => {
  const last = fc.bigInt(beginning, u64Max);
  fc.assert(
    fc.property(last, fc.bigInt(1n, u64Max), fc.bigInt(0n, 1000n), (position, id, back) => {
      assert.equal(follow(position, { id, prevId: id + back }), "broken");
    }),
  );
  assert.equal(follow(5n, { id: 3n, prevId: -1n }), "broken");
  assert.equal(follow(beginning, { id: 0n, prevId: 0n }), "broken");
});

test("the placements that architecture.md and chain.ts draw", () => {
  assert.equal(follow(8n, { id: 8n, prevId: 7n }), "duplicate");
  assert.equal(follow(8n, { id: 12n, prevId: 8n }), "next");
  assert.equal(follow(8n, { id: 15n, prevId: 12n }), "gap");
  assert.equal(follow(8n, { id: 15n, prevId: 7n }), "broken");
  assert.equal(follow(beginning, { id: 1n, prevId: beginning }), "next");
});
