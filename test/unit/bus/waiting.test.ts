/** The three ways of a consumer to wait. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Publisher, Subscriber, WaitStrategy } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const strategies: WaitStrategy[] = ["park", "spin-then-park", "busy-spin"];
const shared: Settings = { producers: ["engine", "router"] };
/** Longer than the test may take: a wait that nobody ends is a failure. */
const forEverMs = 300_000;

interface Ends {
  readonly publisher: Publisher;
  readonly subscriber: Subscriber;
}

function open(context: TestContext, wait: WaitStrategy, settings: Settings = {}): Ends {
  const directory = makeDirectory(context);
  const engine = openAs(directory, "engine", settings);
  const ledger = openAs(directory, "ledger", settings);
  context.after(() => {
    engine.close();
    ledger.close();
  });
  const subscriber = ledger.subscriber(channelName, { wait, spinMicros: 20 });
  return { publisher: engine.publisher(channelName), subscriber };
}

for (const wait of strategies) {
  test(`${wait}: the event loop stays free while a consumer waits, and a message ends the wait`, async (t) => {
    for (const settings of [{}, shared]) {
      const { publisher, subscriber } = open(t, wait, settings);
      let isOver = false;
      const waiting = subscriber.wait(forEverMs).then(() => (isOver = true));
      for (let turn = 0; turn < 500; turn++) await nextTurn();
      assert.equal(isOver, false);
      publisher.offer(Uint8Array.of(1));
      await waiting;
      assert.equal(subscriber.lag, 1);
    }
  });

  test(`${wait}: there is no wait where there is a message or the end`, async (t) => {
    const { publisher, subscriber } = open(t, wait);
    publisher.offer(Uint8Array.of(1));
    await subscriber.wait(forEverMs);
    subscriber.waitBlocking(forEverMs);
    subscriber.read();
    publisher.finish();
    await subscriber.wait(forEverMs);
    subscriber.waitBlocking(forEverMs);
    assert.ok(subscriber.ended);
  });

  test(`${wait}: a wait ends with its time, with its signal, and when its end is closed`, async (t) => {
    const { subscriber } = open(t, wait);
    for (const timeoutMs of [0, 10]) {
      const before = performance.now();
      await subscriber.wait(timeoutMs);
      subscriber.waitBlocking(timeoutMs);
      assert.ok(performance.now() - before >= 2 * timeoutMs - 1);
    }
    await subscriber.wait(forEverMs, AbortSignal.abort());
    const abort = new AbortController();
    const aborted = subscriber.wait(forEverMs, abort.signal);
    await nextTurn();
    abort.abort();
    await aborted;
    const left = subscriber.wait(forEverMs);
    await nextTurn();
    subscriber.close();
    await left;
    await assert.rejects(subscriber.wait(1), (error) => isGaplessError(error, "CLOSED"));
    assert.throws(
      () => subscriber.waitBlocking(1),
      (error) => isGaplessError(error, "CLOSED"),
    );
  });

  test(`${wait}: a consumer that waits goes on behind what a dead producer has claimed`, async (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory, shared);
    using engine = openAs(directory, "engine", shared);
    using router = openAs(directory, "router", shared);
    using ledger = openAs(directory, "ledger", shared);
    const subscriber = ledger.subscriber(channelName, { wait });
    engine.publisher(channelName).claim(8);
    router.publisher(channelName).offer(Uint8Array.of(2));
    assert.equal(subscriber.read(), undefined);
    const [lane] = file.lanes;
    declareDead(lane, lane.producer(0));
    if (wait === "busy-spin") while (subscriber.lagBytes === 0) subscriber.poll(() => undefined, 0);
    else await subscriber.wait(forEverMs);
    assert.deepEqual(subscriber.read(), Uint8Array.of(2));
    file.unmap();
  });
}
