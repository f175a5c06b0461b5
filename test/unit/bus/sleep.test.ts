import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { openBus, parseChannels, type Publisher, type Subscriber } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { sleepWord } from "../../../src/bus/layout.ts";
import { channelName, makeDirectory, openAs, openFile, until } from "../../support/bus-channel.ts";
import { startWorker } from "../../support/bus-processes.ts";

/** Longer than the test may take: a wait that nobody ends is a failure. */
const forEverMs = 300_000;
const never = new AbortController().signal;

function openEnds(directory: string): { publisher: Publisher; subscriber: Subscriber } {
  const publisher = openAs(directory, "engine").publisher(channelName);
  const subscriber = openAs(directory, "ledger").subscriber(channelName);
  return { publisher, subscriber };
}

function fill(publisher: Publisher): void {
  while (publisher.offer(new Uint8Array(100)) > 0);
}

test("waiting leaves the event loop free, on either side", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const abort = new AbortController();
  const idle = subscriber.wait(forEverMs, abort.signal);
  for (let turn = 0; turn < 1000; turn++) await nextTurn();
  publisher.offer(new Uint8Array(8));
  await idle;
  fill(publisher);
  let hasRoom = false;
  const full = publisher.waitForRoom(496, abort.signal).then(() => (hasRoom = true));
  for (let turn = 0; turn < 1000; turn++) await nextTurn();
  assert.equal(hasRoom, false);
  subscriber.poll(() => undefined, 1000);
  subscriber.release();
  await full;
});

test("an abort ends a wait, before it has begun and while it lasts", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const reason = new Error("enough");
  const aborted = AbortSignal.abort(reason);
  await subscriber.wait(forEverMs, aborted);
  fill(publisher);
  await assert.rejects(publisher.waitForRoom(8, aborted), reason);
  subscriber.poll(() => undefined, 1000);

  for (const turns of [0, 1, 100]) {
    const abort = new AbortController();
    const waits = [
      subscriber.wait(forEverMs, abort.signal),
      publisher.waitForRoom(496, abort.signal).then(
        () => assert.fail("there was no room"),
        (error: unknown) => assert.equal(error, reason),
      ),
    ];
    for (let turn = 0; turn < turns; turn++) await nextTurn();
    abort.abort(reason);
    await Promise.all(waits);
  }
});

test("a wait ends when its time is up, and not before, where nothing comes", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  fill(publisher);
  subscriber.poll(() => undefined, 1000);
  for (const timeoutMs of [0, 0.5, 20]) {
    const before = performance.now();
    await subscriber.wait(timeoutMs, never);
    subscriber.waitBlocking(timeoutMs);
    assert.equal(publisher.waitForRoomBlocking(496, timeoutMs), false);
    assert.ok(performance.now() - before >= 3 * timeoutMs - 1);
  }
});

test("there is no wait where there is something to poll, an end, or room", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  await publisher.waitForRoom(496, never);
  assert.ok(publisher.waitForRoomBlocking(496, forEverMs));
  publisher.offer(new Uint8Array(8));
  await subscriber.wait(forEverMs, never);
  subscriber.waitBlocking(forEverMs);
  subscriber.poll(() => undefined, 1);
  publisher.finish();
  await subscriber.wait(forEverMs, never);
  subscriber.waitBlocking(forEverMs);
  assert.ok(subscriber.ended);
});

test("a producer that asks for room with a claim open is told of its mistake", async (t) => {
  const { publisher } = openEnds(makeDirectory(t));
  publisher.claim(8);
  const isMistake = (error: unknown): boolean => isGaplessError(error, "CLAIM_OPEN");
  assert.throws(() => publisher.waitForRoomBlocking(8, 0), isMistake);
  await assert.rejects(publisher.waitForRoom(8, never), isMistake);
  await assert.rejects(publisher.waitForRoom(500, never), (error) =>
    isGaplessError(error, "MESSAGE_TOO_LARGE"),
  );
});

test("who waits on an end that is closed wakes up, also where its memory is unmapped", async (t) => {
  const directory = makeDirectory(t);
  for (const unmap of [false, true]) {
    const engine = openAs(directory, "engine");
    const ledger = openAs(directory, "ledger");
    const publisher = engine.publisher(channelName);
    const subscriber = ledger.subscriber(channelName);
    fill(publisher);
    subscriber.poll(() => undefined, 1000);
    const abort = new AbortController();
    const idle = subscriber.wait(forEverMs, abort.signal);
    const full = assert.rejects(publisher.waitForRoom(496, abort.signal), (error) =>
      isGaplessError(error, "CLOSED"),
    );
    await nextTurn();
    publisher.close();
    subscriber.close();
    if (unmap) {
      engine.close();
      ledger.close();
      // Comes too late for both, and must not reach for the memory.
      abort.abort();
    }
    await Promise.all([idle, full]);
    engine.close();
    ledger.close();
  }
});

test("however many ends wait, each is woken, and files can still be read", async (t) => {
  const directory = makeDirectory(t);
  const table = { type: "SPSC", consumer: "ledger", buffer_size: "4KB", message_size_max: 64 };
  const names = Array.from({ length: 9 }, (_unused, index) => `channel-${index}`);
  const channels = parseChannels(
    Object.fromEntries(names.map((name) => [name, { ...table, producer: `engine-of-${name}` }])),
    "test",
  );
  const publishers = names.map((name) =>
    openBus({ directory, channels }, { service: `engine-of-${name}` }).publisher(name),
  );
  using ledger = openBus({ directory, channels }, { service: "ledger" });
  const waits = names.map((name) => ledger.subscriber(name).wait(forEverMs, never));
  await fs.promises.stat(directory);
  for (const [index, wait] of [...waits.entries()].reverse()) {
    publishers[index]?.offer(new Uint8Array(8));
    await wait;
  }
});

test("a process that exits while it waits does not wait for its timeout", async (t) => {
  const directory = makeDirectory(t);
  const worker = startWorker(t, {
    kind: "exit",
    directory,
    settings: {},
    service: "ledger",
    end: "subscriber",
  });
  await worker.gone;
  assert.equal(worker.child.exitCode, 0);
});

test("a producer that takes over wakes who sleeps for what its forebear committed", async (t) => {
  const directory = makeDirectory(t);
  const { publisher, subscriber } = openEnds(directory);
  const file = openFile(directory);
  const [{ words }] = file.lanes;
  const asleep = subscriber.wait(forEverMs, never);
  await until("the consumer sleeps", () => words[sleepWord.consumersAsleep] === 1);
  // As if it had died between its tail and the wake-up.
  words[sleepWord.consumersAsleep] = 0;
  publisher.offer(new Uint8Array(8));
  words[sleepWord.consumersAsleep] = 1;
  publisher.close();
  openAs(directory, "engine").publisher(channelName);
  await asleep;
  file.unmap();
});
