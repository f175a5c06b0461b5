import assert from "node:assert/strict";
import test from "node:test";
import type { Loss, Subscriber } from "gapless/bus";
import { consumerOffset } from "../../../src/bus/layout.ts";
import { isGaplessError } from "../../../src/errors.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  type Settings,
} from "../../support/bus-channel.ts";

const settings: Settings = { bufferSize: "64KB", consumers: ["ledger", "candles"] };

/** What a subscriber gets: the topic and the first byte of each message. */
function collect(subscriber: ReturnType<ReturnType<typeof openAs>["subscriber"]>): string[] {
  const found: string[] = [];
  subscriber.poll(({ bytes }, offset, length) => {
    found.push(`${subscriber.envelope.topic}=${bytes.subarray(offset, offset + length).join()}`);
  }, 1000);
  subscriber.release();
  return found;
}

for (const timestamps of ["off", "all", "sampled"] as const) {
  test(`a message comes with its topic, or with none: timestamps ${timestamps}`, (t) => {
    const directory = makeDirectory(t);
    const of: Settings = { ...settings, keys: { timestamps } };
    using engine = openAs(directory, "engine", of);
    using ledger = openAs(directory, "ledger", of);
    const publisher = engine.publisher(channelName);
    const subscriber = ledger.subscriber(channelName);
    const names = ["", "a", "12345678", "trades.BTC-USD", "Ωμέγα", "x".repeat(128)];
    for (const [index, name] of names.entries()) {
      const topic = name === "" ? undefined : publisher.topic(name);
      assert.ok(publisher.offer(Uint8Array.of(index, 7), topic) > 0);
    }
    assert.deepEqual(
      collect(subscriber),
      names.map((name, index) => `${name}=${index},7`),
    );
    assert.deepEqual([...(publisher.last() ?? [])], [names.length - 1, 7]);
  });
}

test("a consumer gets the topics that begin as it asked, and no gap where others were", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory, settings);
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  using candles = openAs(directory, "candles", settings);
  const publisher = engine.publisher(channelName);
  const losses: Loss[] = [];
  const some = ledger.subscriber(channelName, {
    topics: ["trades.BTC", "quotes."],
    onLoss: (loss) => losses.push(loss),
  });
  const all = candles.subscriber(channelName);
  const names = [
    "trades.BTC-USD",
    "trades.ETH",
    "quotes.ETH",
    "quotes",
    "trades.BTC",
    "tradesXBTC",
  ];
  for (const [index, name] of names.entries()) {
    publisher.offer(Uint8Array.of(index), publisher.topic(name));
  }
  publisher.offer(Uint8Array.of(9));
  assert.deepEqual(collect(some), ["trades.BTC-USD=0", "quotes.ETH=2", "trades.BTC=4"]);
  assert.equal(collect(all).length, names.length + 1);
  assert.deepEqual(losses, []);
  assert.equal(some.lag, 0);
  const [lane] = file.lanes;
  const counter = (offset: number): number | undefined =>
    lane.doubles[(lane.consumer(0) + offset) / 2];
  assert.equal(counter(consumerOffset.filtered), 4);
  assert.equal(counter(consumerOffset.messages), 3);
  file.unmap();
});

test("messages that nobody wants do not fill the ring", (t) => {
  const directory = makeDirectory(t);
  const small: Settings = { consumers: ["ledger"] };
  using engine = openAs(directory, "engine", small);
  using ledger = openAs(directory, "ledger", small);
  const publisher = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName, { topics: ["wanted"] });
  const other = publisher.topic("other");
  for (let count = 0; count < 100; count++) {
    assert.ok(publisher.offer(new Uint8Array(400), other) > 0, `message ${count}`);
    assert.equal(
      subscriber.poll(() => assert.fail("nobody asked for it"), 10),
      0,
    );
    subscriber.release();
  }
});

test("a consumer that waits for a topic leaves the room of the others to their producer", async (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const publisher = engine.publisher(channelName);
  const other = publisher.topic("other");
  const found: number[] = [];
  const signal = AbortSignal.timeout(20_000);
  const reading = (async () => {
    const wanted = ledger.subscriber(channelName, { topics: ["wanted"] });
    for await (const batch of wanted.batches(signal))
      for (const { sequence } of batch) found.push(sequence);
  })();
  for (let count = 0; count < 100; count++) {
    await publisher.send(new Uint8Array(400), { topic: other, signal });
  }
  await publisher.send(new Uint8Array(8), { topic: publisher.topic("wanted") });
  publisher.finish();
  await reading;
  assert.deepEqual(found, [101]);
});

test("what is passed over is released by itself only while nothing is held", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const publisher = engine.publisher(channelName);
  const [wanted, other] = ["wanted", "other"].map((name) => publisher.topic(name));
  const options = { topics: ["wanted"] };
  const poll = (subscriber: Subscriber): number => subscriber.poll(() => undefined, 10);
  const first = ledger.subscriber(channelName, options);
  publisher.offer(new Uint8Array(8), wanted);
  assert.equal(poll(first), 1);
  publisher.offer(new Uint8Array(8), other);
  assert.equal(poll(first), 0);
  first.close();
  const second = ledger.subscriber(channelName, options);
  assert.equal(poll(second), 1);
  second.release();
  assert.equal(poll(second), 0);
  second.close();
  assert.equal(ledger.subscriber(channelName).lagBytes, 0);
});

test("a topic of a message of the largest size leaves room for all of it", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const publisher = engine.publisher(channelName);
  const subscriber = ledger.subscriber(channelName);
  const topic = publisher.topic("x".repeat(128));
  const body = new Uint8Array(496).fill(5);
  for (let count = 0; count < 50; count++) {
    while (publisher.offer(body, topic) > 0);
    assert.deepEqual(subscriber.read(), body);
  }
});

test("an empty topic, and one above 128 bytes, are refused", (t) => {
  using engine = openAs(makeDirectory(t), "engine");
  const publisher = engine.publisher(channelName);
  for (const name of ["", "x".repeat(129), "Ω".repeat(65)]) {
    assert.throws(
      () => publisher.topic(name),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
});
