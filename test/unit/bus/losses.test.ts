/** What is kept of losses, and that each is counted once. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Loss } from "gapless/bus";
import { bootNs } from "../../../src/clock.ts";
import { consumerOffset, failed, lossCountWord, lossesKept } from "../../../src/bus/layout.ts";
import {
  countLosses,
  extendLoss,
  lossCauses,
  readLosses,
  recordLoss,
} from "../../../src/bus/losses.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const shared: Settings = { producers: ["engine", "router"] };

test("losses are kept with cause, party, range and time, oldest first", (t) => {
  const file = openFile(makeDirectory(t));
  const [lane] = file.lanes;
  const before = bootNs();
  assert.deepEqual(readLosses(lane), []);
  for (const [index, cause] of lossCauses.entries()) {
    const loss: Loss = { cause, party: index, from: 2 ** 40 + index, to: 2 ** 41, messages: 3 };
    assert.equal(recordLoss(lane, loss), index + 1);
    const newest = readLosses(lane).at(-1);
    assert.ok(newest && newest.atNs >= before && newest.atNs <= bootNs());
    assert.deepEqual(newest, { ...loss, number: index + 1, atNs: newest.atNs });
  }
  file.unmap();
});

test("only the newest losses are kept, and one that is no longer there is begun anew", (t) => {
  const file = openFile(makeDirectory(t));
  const [lane] = file.lanes;
  const loss: Loss = { cause: "dropped", party: 0, from: 1, to: 1, messages: 1 };
  const first = recordLoss(lane, loss);
  assert.equal(extendLoss(lane, first, { ...loss, to: 5, messages: 5 }), first);
  assert.deepEqual(
    readLosses(lane).map(({ from, to, messages }) => [from, to, messages]),
    [[1, 5, 5]],
  );
  for (let number = 2; number <= lossesKept + 1; number++) {
    assert.equal(recordLoss(lane, { ...loss, from: number, to: number }), number);
  }
  assert.deepEqual(
    readLosses(lane).map(({ number }) => number),
    Array.from({ length: lossesKept }, (_unused, index) => index + 2),
  );
  assert.equal(extendLoss(lane, first, { ...loss, to: 9, messages: 9 }), lossesKept + 2);
  file.unmap();
});

for (const [sign, before] of [
  ["their sign", 2 ** 31 - 3],
  ["their word", 2 ** 32 - 3],
] as const) {
  test(`losses are still seen once their number has outgrown ${sign}`, (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory);
    const [lane] = file.lanes;
    Atomics.store(lane.words, lossCountWord, before | 0);
    const loss: Loss = { cause: "dropped", party: 0, from: 1, to: 1, messages: 1 };
    const numbers = Array.from({ length: lossesKept + 3 }, (_unused, index) => before + 1 + index);
    for (const [index] of numbers.entries()) {
      const number = recordLoss(lane, { ...loss, from: index });
      if (number !== 0) assert.equal(extendLoss(lane, number, { ...loss, from: index }), number);
      const kept = numbers.slice(0, index + 1).slice(-lossesKept);
      // The number 0 is that of a place that is being written.
      const expected = kept.map((one) => one % 2 ** 32).filter((one) => one !== 0);
      assert.deepEqual(
        readLosses(lane).map((one) => one.number),
        expected,
      );
    }
    assert.equal(countLosses(lane), (before + numbers.length) % 2 ** 32);
    file.unmap();
  });
}

test("what a dead producer had claimed is recorded as abandoned, then skipped by each consumer", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, shared);
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", shared);
  using router = openAs(directory, "router", shared);
  using ledger = openAs(directory, "ledger", shared);
  const dead = engine.publisher(channelName);
  dead.offer(Uint8Array.of(1));
  dead.claim(8);
  dead.claim(8);
  const publisher = router.publisher(channelName);
  publisher.offer(Uint8Array.of(4));
  declareDead(lane, lane.producer(0));
  const subscriber = ledger.subscriber(channelName);
  subscriber.waitBlocking(1);
  assert.deepEqual(subscriber.read(), Uint8Array.of(1));
  subscriber.waitBlocking(1);
  assert.deepEqual(subscriber.read(), Uint8Array.of(4));
  assert.deepEqual(
    readLosses(lane).map(({ cause, party, from, to }) => [cause, party, from, to]),
    [
      ["abandoned", 0, 2, 2],
      ["abandoned", 0, 3, 3],
      ["skipped", 0, 2, 3],
    ],
  );
  file.unmap();
});

test("a gap that comes again after a crash is told again, and counted once", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, shared);
  const [lane] = file.lanes;
  const base = lane.consumer(0);
  const counter = (): number | undefined => lane.doubles[(base + consumerOffset.lost) / 2];
  using engine = openAs(directory, "engine", shared);
  using ledger = openAs(directory, "ledger", shared);
  const dead = engine.publisher(channelName);
  dead.offer(Uint8Array.of(1));
  dead.claim(8);
  declareDead(lane, lane.producer(0));
  engine.publisher(channelName).offer(Uint8Array.of(3));
  const told: number[] = [];
  for (const releases of [false, false, true, true]) {
    declareDead(lane, base);
    const subscriber = ledger.subscriber(channelName, {
      onLoss: ({ from, to }) => told.push(from, to),
    });
    // Before it has looked at anything: what comes may still have come before.
    subscriber.release();
    subscriber.poll(() => undefined, 10);
    if (releases) subscriber.release();
    assert.equal(counter(), 1);
  }
  assert.deepEqual(told, [2, 2, 2, 2, 2, 2]);
  assert.deepEqual(
    readLosses(lane).map(({ cause }) => cause),
    ["abandoned", "skipped"],
  );
  file.unmap();
});

test("where the listener of losses throws, the message behind the gap is not taken", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, shared);
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", shared);
  using ledger = openAs(directory, "ledger", shared);
  engine.publisher(channelName).claim(8);
  declareDead(lane, lane.producer(0));
  engine.publisher(channelName).offer(Uint8Array.of(2));
  let isReady = false;
  const subscriber = ledger.subscriber(channelName, {
    onLoss: () => {
      if (!isReady) throw new Error("no archive yet");
    },
  });
  for (let round = 0; round < 3; round++) assert.throws(() => subscriber.read(), /no archive yet/);
  isReady = true;
  assert.deepEqual(subscriber.read(), Uint8Array.of(2));
  file.unmap();
});

for (const producers of [["engine"], ["engine", "router"]]) {
  test(`a failed consumer of ${producers.length} producers loses what was overwritten, and no more`, (t) => {
    const directory = makeDirectory(t);
    const settings: Settings = { producers, failedConsumer: "evict" };
    const file = openFile(directory, settings);
    const [lane] = file.lanes;
    const state = lane.consumer(0) + consumerOffset.state;
    using engine = openAs(directory, "engine", settings);
    using ledger = openAs(directory, "ledger", settings);
    const publisher = engine.publisher(channelName);
    const body = new Uint8Array(496);
    const losses: Loss[] = [];
    ledger.subscriber(channelName);
    const come = (): number[] => {
      const sequences: number[] = [];
      losses.length = 0;
      declareDead(lane, lane.consumer(0));
      const subscriber = ledger.subscriber(channelName, { onLoss: (loss) => losses.push(loss) });
      assert.equal(subscriber.hadFailed, true);
      subscriber.poll(() => sequences.push(subscriber.envelope.sequence), 100);
      subscriber.release();
      return sequences;
    };
    // It has failed, but nothing of what it had to read is overwritten yet.
    while (publisher.offer(body) > 0);
    const fail = (): void => void (lane.words[state] = (lane.words[state] ?? 0) | failed);
    fail();
    assert.deepEqual(come(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(losses, []);
    fail();
    for (let count = 0; count < 20; count++) publisher.offer(body);
    const sequences = come();
    const [first = 0] = sequences;
    assert.ok(first > 9);
    assert.equal(sequences.at(-1), 28);
    const told = { cause: "overwritten", party: 0, from: 9, to: first - 1, messages: first - 9 };
    assert.deepEqual(losses, [told]);
    file.unmap();
  });
}
