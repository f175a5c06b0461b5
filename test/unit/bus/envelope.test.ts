import assert from "node:assert/strict";
import test from "node:test";
import type { Envelope } from "gapless/bus";
import { bootNs } from "../../../src/clock.ts";
import { readLatency } from "../../../src/bus/latency.ts";
import { consumerOffset, producerOffset } from "../../../src/bus/layout.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

type Timestamps = "all" | "sampled" | "off";

/** Sends so many messages in batches of ten, and looks at the envelope of each. */
function send(
  context: Parameters<typeof makeDirectory>[0],
  timestamps: Timestamps,
  count: number,
  look: (envelope: Envelope, number: number) => void,
): { written: number; handled: number } {
  const directory = makeDirectory(context);
  const settings: Settings = { bufferSize: "64KB", keys: { timestamps } };
  const file = openFile(directory, settings);
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const publisher = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName);
  let number = 0;
  while (publisher.sequence < count) {
    for (let batch = 0; batch < 10; batch++) publisher.claim(8);
    publisher.commit();
    subscriber.poll(() => look(subscriber.envelope, ++number), 1000);
    subscriber.release();
  }
  const [lane] = file.lanes;
  const histogram = (base: number): number => readLatency(lane.words, base).count;
  const result = {
    written: histogram(lane.producer(0) + producerOffset.writeLatency),
    handled: histogram(lane.consumer(0) + consumerOffset.endToEndLatency),
  };
  file.unmap();
  return result;
}

test("all: every message has its times, and its latencies add up", (t) => {
  const before = bootNs();
  let last = before;
  const { written, handled } = send(t, "all", 200, (envelope) => {
    const { sentNs, receivedNs, dequeuedNs } = envelope;
    assert.ok(envelope.isStamped);
    assert.ok(sentNs >= last, "in the order of the claims");
    last = sentNs;
    assert.ok(sentNs <= receivedNs && receivedNs <= dequeuedNs && dequeuedNs <= bootNs());
    assert.equal(envelope.totalLatencyNs, dequeuedNs - sentNs);
    assert.equal(envelope.busLatencyNs + envelope.queueLatencyNs, envelope.totalLatencyNs);
    assert.ok(envelope.busLatencyNs >= 0 && envelope.queueLatencyNs >= 0);
  });
  assert.equal(handled, 200);
  assert.ok(written >= 2);
});

test("sampled: one message in 64 has its times, by no rule that topics could follow too", (t) => {
  const stamped: number[] = [];
  const { written, handled } = send(t, "sampled", 6400, (envelope, number) => {
    if (envelope.isStamped) stamped.push(number);
    else assert.deepEqual([envelope.sentNs, envelope.receivedNs, envelope.dequeuedNs], [0, 0, 0]);
  });
  assert.ok(stamped.length > 70 && stamped.length < 130, `${stamped.length} of 6400`);
  assert.ok(
    stamped.some((number) => number % 2 === 0) && stamped.some((number) => number % 2 === 1),
  );
  assert.equal(handled, stamped.length);
  // Of two in one batch one is timed to its commit.
  assert.ok(written > 0.8 * handled && written <= handled);
});

test("off: no message has its times", (t) => {
  const { written, handled } = send(t, "off", 200, (envelope) => {
    assert.equal(envelope.isStamped, false);
    assert.equal(envelope.totalLatencyNs, 0);
  });
  assert.deepEqual({ written, handled }, { written: 0, handled: 0 });
});

test("an envelope has sequence, producer and topic of its own message", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { producers: ["engine", "router"], keys: { timestamps: "all" } };
  using engine = openAs(directory, "engine", settings);
  using router = openAs(directory, "router", settings);
  using ledger = openAs(directory, "ledger", settings);
  const left = engine.publisher(channelName);
  const right = router.publisher(channelName);
  left.offer(new Uint8Array(3), left.topic("orders"));
  right.offer(new Uint8Array(3));
  left.offer(new Uint8Array(3), left.topic("trades"));
  const subscriber = ledger.subscriber(channelName);
  const found: [number, string, string][] = [];
  subscriber.poll(() => {
    const { sequence, producer, topic } = subscriber.envelope;
    found.push([sequence, producer, topic]);
  }, 10);
  assert.deepEqual(found, [
    [1, "engine", "orders"],
    [2, "router", ""],
    [3, "engine", "trades"],
  ]);
});

test("messages that were aborted leave no time behind", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { keys: { timestamps: "all" } };
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const publisher = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName);
  publisher.claim(400);
  publisher.abort();
  publisher.offer(new Uint8Array(8));
  let seen = 0;
  subscriber.poll((_memory, _offset, length) => {
    assert.equal(length, 8);
    assert.equal(subscriber.envelope.sequence, 1);
    assert.ok(subscriber.envelope.totalLatencyNs < 60e9);
    seen++;
  }, 10);
  assert.equal(seen, 1);
});
