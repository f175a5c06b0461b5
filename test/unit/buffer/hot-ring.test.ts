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
    fc.property(actions, fc.integer({ min: 0, max: 50 }), (steps, capacity) => {
      const ring = new HotRing({ capacity, bytesMax: 4000 });
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

test("the hot ring holds so many messages, and an id that was skipped before them", () => {
  const ring = new HotRing({ capacity: 60, bytesMax: Infinity });
  for (let round = 0n; round < 20n; round++) {
    for (const chunk of packChunks(makeMessages(round * 20n, 10, 100, 2n))) ring.add(chunk);
  }
  assert.equal(ring.count, 60);
  assert.equal(ring.read(1n, 1), null);
  assert.equal(ring.read(280n, 1), null);
  assert.equal(ring.read(281n, 1)?.[0].id, 282n);
  assert.equal(ring.read(301n, 500)?.length, 50);
  assert.equal(ring.read(401n, 1), null);
  ring.trim(281n);
  assert.equal(ring.count, 60);
  ring.trim(283n);
  assert.equal(ring.count, 59);
  assert.equal(ring.read(282n, 1), null);
});

test("the hot ring holds no more bytes than it may, whatever it has room for", () => {
  const ring = new HotRing({ capacity: 1000, bytesMax: 10_000 });
  for (const chunk of packChunks(makeMessages(0n, 500, 968))) ring.add(chunk);
  assert.equal(ring.count, 10);
  assert.equal(ring.read(491n, 100)?.length, 10);
  for (const chunk of packChunks(makeMessages(500n, 1, 20_000))) ring.add(chunk);
  assert.equal(ring.count, 0);
});

test("what was read of the hot ring stays whole when it is evicted", () => {
  const ring = new HotRing({ capacity: 10, bytesMax: Infinity });
  for (const chunk of packChunks(makeMessages(0n, 10))) ring.add(chunk);
  const read = ring.read(1n, 10);
  for (let at = 10n; at < 5000n; at += 10n) {
    for (const chunk of packChunks(makeMessages(at, 10))) ring.add(chunk);
  }
  assert.deepEqual(read, makeMessages(0n, 10));
  assert.ok(ring.bytes < 3 * 64 * 1024, `${ring.bytes}`);
});

test("a hot ring without room keeps nothing", () => {
  const ring = new HotRing({ capacity: 0, bytesMax: Infinity });
  for (const chunk of packChunks(makeMessages(0n, 10))) ring.add(chunk);
  assert.equal(ring.read(1n, 1), null);
});
