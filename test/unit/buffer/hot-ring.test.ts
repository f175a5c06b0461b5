import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { packChunks } from "../../../src/buffer/chunk.ts";
import { HotRing } from "../../../src/buffer/hot-ring.ts";
import type { Message } from "../../../src/message.ts";
import { makeMessage, makeMessages } from "./fixture.ts";

test("the hot ring serves what a list of all messages would, or is cold", () => {
  const actions = fc.array(
    fc.oneof(
      fc.record({ add: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 9 }) }),
      fc.record({ read: fc.nat(80), limit: fc.integer({ min: 1, max: 30 }) }),
      fc.record({ trim: fc.nat(80) }),
    ),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(actions, fc.integer({ min: 0, max: 6000 }), (steps, bytesMax) => {
      const ring = new HotRing(bytesMax);
      const all: Message[] = [];
      for (const step of steps) {
        if ("add" in step) {
          const added = step.add.map((skip) => {
            const lastId = all.at(-1)?.id ?? 0n;
            const message = makeMessage(lastId + BigInt(skip), lastId);
            all.push(message);
            return message;
          });
          for (const chunk of packChunks(added)) ring.add(chunk);
        } else if ("trim" in step) {
          ring.trim(BigInt(step.trim));
        } else {
          const fromId = BigInt(step.read);
          const expected = all.filter(({ id }) => id >= fromId).slice(0, step.limit);
          const found = ring.read(fromId, step.limit);
          if (found !== null) assert.deepEqual(found, expected);
        }
      }
    }),
  );
});

test("the hot ring holds what fits its bytes, and an id that was skipped before it", () => {
  const ring = new HotRing(10_000);
  for (let round = 0n; round < 20n; round++) {
    for (const chunk of packChunks(makeMessages(round * 20n, 10, 100, 2n))) ring.add(chunk);
  }
  assert.equal(ring.read(1n, 1), null);
  // A chunk of ten costs 1,584 bytes with what is around it, so six fit: from behind 280.
  assert.equal(ring.read(280n, 1), null);
  assert.equal(ring.read(281n, 1)?.[0].id, 282n);
  assert.equal(ring.read(301n, 500)?.length, 50);
  assert.equal(ring.read(401n, 1), null);
});

test("a hot ring without room keeps nothing", () => {
  const ring = new HotRing(0);
  for (const chunk of packChunks(makeMessages(0n, 10))) ring.add(chunk);
  assert.equal(ring.read(1n, 1), null);
});
