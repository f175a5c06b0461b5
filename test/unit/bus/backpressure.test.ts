/** What a producer is told, and what becomes of messages, once its consumers are behind. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import {
  BACK_PRESSURED,
  CIRCUIT_OPEN,
  DROPPED,
  type Publisher,
  type Subscriber,
} from "gapless/bus";
import { CircuitBreaker, throttleDelayUs } from "../../../src/bus/backpressure.ts";
import type { Lane } from "../../../src/bus/lane.ts";
import { producerOffset, producerWord } from "../../../src/bus/layout.ts";
import { readLosses, type Loss } from "../../../src/bus/losses.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

/** Eight records to the ring, six below the high-water mark, four below the low one. */
const body = new Uint8Array(496);
const marks = { high_water: 0.75, low_water: 0.5 };

interface Ends {
  readonly publisher: Publisher;
  readonly subscriber: Subscriber;
  readonly lane: Lane;
  /** What the consumer was told. */
  readonly told: Loss[];
}

function open(
  context: TestContext,
  backpressure: NonNullable<NonNullable<Settings["keys"]>["backpressure"]>,
): Ends {
  const directory = makeDirectory(context);
  const settings: Settings = { keys: { backpressure } };
  const file = openFile(directory, settings);
  const engine = openAs(directory, "engine", settings);
  const ledger = openAs(directory, "ledger", settings);
  const told: Loss[] = [];
  context.after(() => {
    engine.close();
    ledger.close();
    file.unmap();
  });
  return {
    publisher: engine.publisher(channelName),
    subscriber: ledger.subscriber(channelName, { onLoss: (loss) => told.push(loss) }),
    lane: file.lanes[0],
    told,
  };
}

/** Takes up to `limit` messages, and returns their sequences. */
function take(subscriber: Subscriber, limit = 1000): number[] {
  const sequences: number[] = [];
  subscriber.poll(() => sequences.push(subscriber.envelope.sequence), limit);
  subscriber.release();
  return sequences;
}

function counter({ doubles }: Lane, offset: number): number {
  return doubles[(producerWord(0) + offset) / 2] ?? NaN;
}

function ranges(lane: Lane): (string | number)[][] {
  return readLosses(lane).map(({ cause, from, to, messages }) => [cause, from, to, messages]);
}

test("Reject uses the whole ring, and records what it refuses", (t) => {
  const { publisher, subscriber, lane } = open(t, { mode: "Reject" });
  for (let number = 1; number <= 8; number++) assert.equal(publisher.offer(body), number);
  for (let count = 0; count < 3; count++) assert.equal(publisher.offer(body), BACK_PRESSURED);
  assert.deepEqual(ranges(lane), [["rejected", 9, 9, 3]]);
  assert.deepEqual(take(subscriber, 2), [1, 2]);
  assert.equal(publisher.offer(body), 9);
  assert.equal(counter(lane, producerOffset.rejected), 3);
});

test("DropNewest drops from the high-water mark on until the low one, and consumers see the gap", (t) => {
  const { publisher, subscriber, lane, told } = open(t, { mode: "DropNewest", ...marks });
  for (let number = 1; number <= 6; number++) assert.equal(publisher.offer(body), number);
  for (let count = 0; count < 3; count++) assert.equal(publisher.offer(body), DROPPED);
  assert.deepEqual(take(subscriber, 1), [1]);
  // Below the high mark, not yet at the low one.
  assert.equal(publisher.offer(body), DROPPED);
  assert.deepEqual(ranges(lane), [["dropped", 7, 10, 4]]);
  assert.deepEqual(take(subscriber, 1), [2]);
  assert.equal(publisher.offer(body), 11);
  assert.deepEqual(take(subscriber), [3, 4, 5, 6, 11]);
  assert.deepEqual(told, [{ cause: "skipped", party: 0, from: 7, to: 10, messages: 4 }]);
  assert.deepEqual(ranges(lane).at(-1), ["skipped", 7, 10, 4]);
  assert.equal(counter(lane, producerOffset.dropped), 4);
  assert.equal(counter(lane, producerOffset.pressured), 1);
});

test("what DropNewest dropped before a restart stays counted", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { keys: { backpressure: { mode: "DropNewest", ...marks } } };
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const first = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName);
  while (first.offer(body) > 0);
  first.close();
  take(subscriber);
  const second = engine.publisher(channelName);
  assert.equal(second.sequence, 7);
  assert.equal(second.offer(body), 8);
  assert.deepEqual(take(subscriber), [8]);
});

test("DropOldest overwrites, and a consumer that was lapped knows exactly what it lost", (t) => {
  const { publisher, subscriber, lane, told } = open(t, { mode: "DropOldest", ...marks });
  const all: number[] = [];
  for (let number = 1; number <= 50; number++) {
    assert.equal(publisher.offer(body), number);
    if (number % 17 === 0) all.push(...take(subscriber, 2));
  }
  all.push(...take(subscriber));
  for (const { from, to, messages, cause } of told) {
    assert.equal(cause, "overwritten");
    assert.equal(messages, to - from + 1);
    for (let sequence = from; sequence <= to; sequence++) all.push(sequence);
  }
  assert.ok(told.length > 1);
  assert.deepEqual(
    all.sort((left, right) => left - right),
    Array.from({ length: 50 }, (_unused, index) => index + 1),
  );
  assert.deepEqual(
    ranges(lane),
    told.map(({ from, to, messages }) => ["overwritten", from, to, messages]),
  );
});

test("BlockProducer blocks for its timeout, and goes on at the low-water mark", (t) => {
  const { publisher, subscriber } = open(t, { mode: "BlockProducer", timeout_ms: 20, ...marks });
  for (let number = 1; number <= 6; number++) assert.equal(publisher.offer(body), number);
  const before = performance.now();
  assert.equal(publisher.offer(body), BACK_PRESSURED);
  assert.ok(performance.now() - before >= 19);
  take(subscriber, 2);
  assert.equal(publisher.offer(body), 7);
});

test("a BlockProducer with a claim open does not wait for itself", (t) => {
  const { publisher, subscriber } = open(t, {
    mode: "BlockProducer",
    timeout_ms: 60_000,
    ...marks,
  });
  for (let count = 0; count < 6; count++) assert.ok(publisher.claim(496) > 0);
  assert.equal(publisher.claim(496), BACK_PRESSURED);
  publisher.commit();
  assert.deepEqual(take(subscriber), [1, 2, 3, 4, 5, 6]);
});

test("AdaptiveThrottle takes longer the fuller the ring is, and uses all of it", (t) => {
  const delays = { min_delay_us: 3000, max_delay_us: 20_000 };
  const { publisher, subscriber } = open(t, { mode: "AdaptiveThrottle", ...delays, ...marks });
  for (let number = 1; number <= 6; number++) assert.equal(publisher.offer(body), number);
  for (const [number, leastMs] of [
    [7, 3],
    [8, 11],
    [BACK_PRESSURED, 20],
  ] as const) {
    const before = performance.now();
    assert.equal(publisher.offer(body), number);
    assert.ok(performance.now() - before >= leastMs - 1, `${number}`);
  }
  assert.equal(publisher.utilisation, 1);
  assert.equal(take(subscriber).length, 8);
  assert.equal(publisher.utilisation, 0);
});

test("the delay grows from the least at the high-water mark to the most in a full ring", () => {
  const settings = {
    mode: "AdaptiveThrottle",
    highWater: 0.8,
    lowWater: 0.6,
    minDelayUs: 10,
    maxDelayUs: 1000,
  } as const;
  const delays = [0, 0.8, 0.9, 1, 1.1].map((it) => throttleDelayUs(settings, it));
  assert.deepEqual(delays.map(Math.round), [10, 10, 505, 1000, 1000]);
  assert.equal(throttleDelayUs({ ...settings, highWater: 1 }, 1), 10);
});

const breakerSettings = {
  mode: "CircuitBreaker",
  highWater: 0.75,
  lowWater: 0.5,
  failureThreshold: 3,
  failureWindowMs: 100,
  recoveryTimeoutMs: 50,
} as const;

test("a circuit opens after enough failures within its window, and one trial decides", () => {
  const breaker = new CircuitBreaker(breakerSettings);
  for (const atMs of [0, 60, 120, 180]) breaker.failed(atMs);
  assert.equal(breaker.state(180), "closed", "never three within 100 ms");
  breaker.failed(200);
  assert.equal(breaker.state(200), "open");
  assert.equal(breaker.state(249), "open");
  assert.equal(breaker.state(250), "half-open");
  breaker.failed(260);
  assert.equal(breaker.state(309), "open", "it rests anew after a trial that failed");
  assert.equal(breaker.state(310), "half-open");
  breaker.succeeded();
  assert.equal(breaker.state(310), "closed");
  for (const atMs of [311, 312]) breaker.failed(atMs);
  assert.equal(breaker.state(312), "closed", "failures from before it closed do not count");
});

test("a channel whose circuit is open tries nothing, then lets one message through", async (t) => {
  const { publisher, subscriber, lane } = open(t, {
    mode: "CircuitBreaker",
    failure_threshold: 3,
    recovery_timeout_ms: 30,
    failure_window_ms: 60_000,
    ...marks,
  });
  for (let number = 1; number <= 6; number++) assert.equal(publisher.offer(body), number);
  for (let count = 0; count < 3; count++) assert.equal(publisher.offer(body), BACK_PRESSURED);
  assert.equal(publisher.circuit, "open");
  take(subscriber);
  assert.equal(publisher.offer(body), CIRCUIT_OPEN, "there is room, and nobody looks");
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(publisher.circuit, "half-open");
  assert.equal(publisher.offer(body), 7);
  assert.equal(publisher.circuit, "closed");
  assert.deepEqual(ranges(lane), [["rejected", 7, 7, 4]]);
});

test("a trial that finds no room opens the circuit again", async (t) => {
  const { publisher, subscriber } = open(t, {
    mode: "CircuitBreaker",
    failure_threshold: 1,
    recovery_timeout_ms: 30,
    ...marks,
  });
  while (publisher.offer(body) > 0);
  await new Promise((resolve) => setTimeout(resolve, 40));
  assert.equal(publisher.offer(body), BACK_PRESSURED);
  assert.equal(publisher.circuit, "open");
  assert.equal(publisher.offer(body), CIRCUIT_OPEN);
  assert.equal(take(subscriber).length, 6);
});
