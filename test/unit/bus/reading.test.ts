/** The convenient ways in and out of a channel. */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import type { Loss, Publisher, Subscriber } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { channelName, makeDirectory, openAs, type Settings } from "../../support/bus-channel.ts";

interface Ends {
  readonly publisher: Publisher;
  readonly subscriber: Subscriber;
  readonly losses: Loss[];
}

function open(context: TestContext, settings: Settings = {}): Ends {
  const directory = makeDirectory(context);
  const engine = openAs(directory, "engine", settings);
  const ledger = openAs(directory, "ledger", settings);
  context.after(() => {
    engine.close();
    ledger.close();
  });
  const losses: Loss[] = [];
  const subscriber = ledger.subscriber(channelName, { onLoss: (loss) => losses.push(loss) });
  return { publisher: engine.publisher(channelName), subscriber, losses };
}

function numbered(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_unused, index) => Uint8Array.of(index + 1));
}

test("for await gives every message in batches, and ends with the stream", async (t) => {
  const { publisher, subscriber } = open(t);
  const publishing = (async () => {
    for (const bytes of numbered(250)) await publisher.send(bytes);
    publisher.finish();
  })();
  const sequences: number[] = [];
  for await (const batch of subscriber) {
    for (const { bytes, sequence, producer, topic } of batch) {
      assert.deepEqual([bytes[0], producer, topic], [sequence, "engine", ""]);
      sequences.push(sequence);
    }
  }
  await publishing;
  assert.equal(sequences.length, 250);
  assert.ok(sequences.every((sequence, index) => sequence === index + 1));
});

test("a batch is released by the next step: a loop that is left, or throws, gets it again", async (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const publisher = engine.publisher(channelName);
  const first = ledger.subscriber(channelName);
  publisher.offerMany(numbered(3));
  for await (const batch of first) {
    assert.equal(batch.length, 3);
    break;
  }
  first.close();
  const second = ledger.subscriber(channelName);
  await assert.rejects(async () => {
    for await (const batch of second) throw new Error(`${batch.length} again`);
  }, /3 again/);
  second.close();
  const third = ledger.subscriber(channelName);
  publisher.finish();
  let seen = 0;
  for await (const batch of third) seen += batch.length;
  third.close();
  assert.equal(seen, 3);
  assert.equal(ledger.subscriber(channelName).lag, 0);
});

test("an abort ends a loop that waits", async (t) => {
  const { publisher, subscriber } = open(t);
  publisher.offer(Uint8Array.of(1));
  const abort = new AbortController();
  let batches = 0;
  for await (const batch of subscriber.batches(abort.signal)) {
    batches += batch.length;
    setTimeout(() => abort.abort(), 5);
  }
  assert.equal(batches, 1);
});

test("read takes one message after another, and releases the one before", (t) => {
  const { publisher, subscriber } = open(t);
  assert.equal(subscriber.read(), undefined);
  let newest = 0;
  for (let round = 0; round < 30; round++) {
    while (publisher.offer(new Uint8Array(400).fill(newest + 1)) > 0) newest++;
    for (let count = 0; count < 3; count++) assert.equal(subscriber.read()?.length, 400);
  }
});

test("lag counts messages, lagBytes what they take in the ring", (t) => {
  const { publisher, subscriber } = open(t);
  publisher.offerMany(numbered(5));
  assert.equal(subscriber.lag, 5);
  assert.equal(subscriber.lagBytes, 5 * 24);
  subscriber.poll(() => undefined, 2);
  assert.equal(subscriber.lag, 3);
  assert.equal(subscriber.lagBytes, 3 * 24);
  subscriber.poll(() => undefined, 9);
  assert.equal(subscriber.lag, 0);
});

test("offerMany publishes as many as fit, and says how many", (t) => {
  const { publisher, subscriber } = open(t);
  const messages = Array.from({ length: 20 }, () => new Uint8Array(496));
  assert.equal(publisher.offerMany(messages), 8);
  assert.equal(publisher.sequence, 8);
  assert.equal(
    subscriber.poll(() => undefined, 100),
    8,
  );
  subscriber.release();
  assert.equal(publisher.offerMany([]), 0);
  const tooLarge = [new Uint8Array(8), new Uint8Array(497)];
  assert.throws(
    () => publisher.offerMany(tooLarge),
    (error) => isGaplessError(error, "MESSAGE_TOO_LARGE"),
  );
  assert.equal(publisher.offerMany(messages, publisher.topic("a")), 6);
  assert.equal(subscriber.lag, 6, "none of those that came with one too large");
});

test("send waits for room, and an abort leaves nothing published", async (t) => {
  const { publisher, subscriber } = open(t);
  while (publisher.offer(new Uint8Array(496)) > 0);
  const abort = new AbortController();
  const reason = new Error("enough");
  const aborted = publisher.send(new Uint8Array(496), { signal: abort.signal });
  setTimeout(() => abort.abort(reason), 5);
  await assert.rejects(aborted, reason);
  await assert.rejects(publisher.send(new Uint8Array(1), { signal: abort.signal }), reason);
  await assert.rejects(publisher.send(new Uint8Array(497)), (error) =>
    isGaplessError(error, "MESSAGE_TOO_LARGE"),
  );
  const topic = publisher.topic("late");
  const sent = publisher.send(Uint8Array.of(7), { topic });
  assert.equal(
    subscriber.poll(() => undefined, 100),
    8,
  );
  subscriber.release();
  assert.equal(await sent, 9);
  subscriber.poll(() => assert.equal(subscriber.envelope.topic, "late"), 10);
});

test("await using closes either end and the bus", async (t) => {
  const directory = makeDirectory(t);
  {
    await using engine = openAs(directory, "engine");
    await using publisher = engine.publisher(channelName);
    await using ledger = openAs(directory, "ledger");
    await using subscriber = ledger.subscriber(channelName);
    publisher.offer(Uint8Array.of(1));
    publisher.claim(8);
    assert.equal(subscriber.lag, 1);
  }
  using engine = openAs(directory, "engine");
  assert.equal(engine.publisher(channelName).sequence, 1);
});

test("what a single producer takes back was never there", (t) => {
  const { publisher, subscriber, losses } = open(t);
  publisher.claim(8);
  publisher.abort();
  assert.equal(publisher.offer(Uint8Array.of(3)), 1);
  assert.deepEqual(subscriber.read(), Uint8Array.of(3));
  assert.deepEqual(losses, []);
});
