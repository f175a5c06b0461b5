/**
 * A small ring against a model of it: whatever is done at its ends, in whatever order, what goes in
 * comes out. Ends are also closed and killed, and the positions pass 2^31 and 2^32.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import fc from "fast-check";
import { BACK_PRESSURED } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { unitBytes } from "../../../src/bus/layout.ts";
import { channelName, makeDirectory, openAs, type Settings } from "../../support/bus-channel.ts";
import { World } from "../../support/bus-model.ts";

const messageSizeMax = 496;
const consumers = ["ledger", "candles"];
const settings: Settings = { consumers, messageSizeMax };
const capacity = 4096 / unitBytes;
const types: [type: string, settings: Settings][] = [
  ["SPMC", settings],
  ["MPMC", { ...settings, producers: ["engine", "router"] }],
];

const length = fc.oneof(fc.nat(24), fc.nat(messageSizeMax), fc.constant(messageSizeMax));
const limit = fc.oneof(fc.nat(3), fc.constant(1000));
const who = fc.nat(1);
const fill = fc.nat(255);

type Step =
  | ["claim" | "offer", who: number, length: number, fill: number]
  | ["commit" | "abort" | "finish" | "checkLast" | "release", who: number]
  | ["askForRoom", who: number, length: number]
  | ["poll", who: number, limit: number, throwAt?: number]
  | ["reopenPublisher" | "reopenReader", who: number, killed: boolean];

const step = fc.oneof<{ weight: number; arbitrary: fc.Arbitrary<Step> }[]>(
  { weight: 6, arbitrary: fc.tuple(fc.constant("claim"), who, length, fill) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("offer"), who, length, fill) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("commit"), who) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom("abort", "finish", "checkLast"), who) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("askForRoom"), who, length) },
  { weight: 8, arbitrary: fc.tuple(fc.constant("poll"), who, limit) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("poll"), who, limit, fc.nat(3)) },
  { weight: 6, arbitrary: fc.tuple(fc.constant("release"), who) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("reopenPublisher"), who, fc.boolean()) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("reopenReader"), who, fc.boolean()) },
);

function take(world: World, [name, ...values]: Step): void {
  Reflect.apply(Reflect.get(world, name) as (...values: unknown[]) => void, world, values);
}

const beginnings: [what: string, position: fc.Arbitrary<number>, sequence: fc.Arbitrary<number>][] =
  [
    ["a new ring", fc.constant(0), fc.constant(0)],
    ["a ring anywhere", fc.nat(2 * capacity).map((it) => (it + 1) * 2), fc.constant(5)],
    [
      "a ring whose positions pass 2^31",
      fc.nat(capacity).map((it) => 2 ** 31 - it * 2),
      fc.nat(40).map((it) => 2 ** 31 - 1 - it),
    ],
    [
      "a ring whose positions pass 2^32",
      fc.nat(capacity).map((it) => 2 ** 32 - it * 2),
      fc.nat(40).map((it) => 2 ** 32 - 1 - it),
    ],
  ];

for (const [type, of] of types) {
  for (const [what, position, sequence] of beginnings) {
    test(`${type}: ${what} loses, repeats, reorders and tears nothing, and is full when it is full`, (t) => {
      const root = makeDirectory(t);
      const steps = fc.array(step, { maxLength: 200, size: "max" });
      fc.assert(
        fc.property(position, sequence, steps, (from, count, list) => {
          const directory = fs.mkdtempSync(`${root}/run-`);
          const world = new World(directory, of, from, count);
          for (const it of list) take(world, it);
          world.close();
        }),
        { numRuns: 200 },
      );
    });
  }
}

test("a message that is too large, or of a negative size, is refused and claims nothing", (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  using publisher = bus.publisher(channelName);
  const offset = publisher.claim(8);
  for (const size of [497, 2 ** 31, 2 ** 32, 2 ** 32 + 8, -1, -8, NaN, 1.5]) {
    assert.throws(
      () => publisher.claim(size),
      (error) => {
        const isSize = Number.isInteger(size) && size >= 0;
        assert.ok(isGaplessError(error, isSize ? "MESSAGE_TOO_LARGE" : "INPUT_MALFORMED"));
        if (isSize) assert.match(error.message, /channel trades.*message_size_max=496/);
        return true;
      },
    );
  }
  assert.ok(publisher.claim(8) > offset);
  assert.equal(publisher.sequence, 2);
});

test("claims that are open at once do not lie on one another", (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  let end = 0;
  let count = 0;
  for (let offset = publisher.claim(20); offset !== BACK_PRESSURED; offset = publisher.claim(20)) {
    assert.ok(offset >= end);
    end = offset + 20;
    publisher.memory.bytes.fill(++count, offset, end);
  }
  publisher.commit();
  using other = openAs(directory, "ledger", settings);
  let seen = 0;
  other.subscriber(channelName).poll((memory, offset, size) => {
    assert.deepEqual(memory.bytes.slice(offset, offset + size), new Uint8Array(20).fill(++seen));
  }, count);
  assert.equal(seen, count);
});

test("an end that is closed says so, and does nothing to whoever has it next", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine", settings);
  using other = openAs(directory, "ledger", settings);
  const closed = bus.publisher(channelName);
  const left = other.subscriber(channelName);
  closed.offer(new Uint8Array(3));
  closed.offer(new Uint8Array(4));
  assert.equal(
    left.poll(() => undefined, 1),
    1,
  );
  closed.claim(8);
  closed.close();
  left.close();
  const publisher = bus.publisher(channelName);
  const subscriber = other.subscriber(channelName);
  publisher.offer(new Uint8Array(5));

  const { signal } = new AbortController();
  const uses: (() => unknown)[] = [
    () => closed.claim(8),
    () => closed.offer(new Uint8Array(8)),
    () => closed.commit(),
    () => closed.last(),
    () => closed.finish(),
    () => closed.waitForRoomBlocking(8, 1000),
    () => left.poll(() => assert.fail("a message from a closed end"), 10),
    () => left.release(),
    () => left.ended,
    () => left.lagBytes,
    () => left.waitBlocking(1000),
  ];
  for (const use of uses)
    assert.throws(use, (error) => isGaplessError(error, "CLOSED"), String(use));
  closed.close();
  left.close();

  const lengths: number[] = [];
  subscriber.poll((_memory, _offset, size) => lengths.push(size), 10);
  assert.deepEqual(lengths, [3, 4, 5]);
  assert.equal(publisher.sequence, 3);
  bus.close();
  other.close();
  assert.throws(
    () => publisher.claim(8),
    (error) => isGaplessError(error, "CLOSED"),
  );
  assert.throws(
    () => subscriber.poll(() => assert.fail("a message from unmapped memory"), 10),
    (error) => isGaplessError(error, "CLOSED"),
  );
  for (const wait of [publisher.waitForRoom(8, signal), subscriber.wait(1000, signal)]) {
    await assert.rejects(wait, (error) => isGaplessError(error, "CLOSED"));
  }
});
