import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { SparseIndex } from "../../../src/queue/sparse-index.ts";

test("an index leads to the last place it knows of before an id", () => {
  const steps = fc.array(
    fc.record({ ids: fc.bigInt(1n, 9n), bytes: fc.integer({ min: 8, max: 200_000 }) }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(steps, fc.bigInt(0n, 400n), (walk, id) => {
      const places = [{ offset: 64, lastId: 7n }];
      const index = new SparseIndex({ offset: 64, lastId: 7n });
      let place = { offset: 64, lastId: 7n };
      for (const { ids, bytes } of walk) {
        place = { offset: place.offset + bytes, lastId: place.lastId + ids };
        index.note(place);
        index.note(place);
        if (place.offset - (places.at(-1)?.offset ?? 0) >= 64 * 1024) places.push(place);
      }
      const expected = places.findLast(({ lastId }) => lastId < id) ?? places[0];
      assert.deepEqual(index.before(id), expected);
    }),
  );
});
