import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import { BACK_PRESSURED, type Loss } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  ringPath,
  type Settings,
} from "../../support/bus-channel.ts";

const settings: Settings = { keys: { priorities: 3 } };
const shared: Settings = { ...settings, producers: ["engine", "router"] };

test("a higher priority is read first, and each by itself in order", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const [low, middle, high] = [0, 1, 2].map((priority) =>
    engine.publisher(channelName, { priority }),
  );
  const losses: Loss[] = [];
  const subscriber = ledger.subscriber(channelName, { onLoss: (loss) => losses.push(loss) });
  for (const number of [1, 2]) {
    low?.offer(Uint8Array.of(number));
    high?.offer(Uint8Array.of(20 + number));
    middle?.offer(Uint8Array.of(10 + number));
  }
  const order: number[] = [];
  const take = (limit: number): number =>
    subscriber.poll(({ bytes }, offset) => {
      order.push(bytes[offset] ?? 0);
      assert.equal(subscriber.envelope.sequence, (bytes[offset] ?? 0) % 10);
    }, limit);
  assert.equal(subscriber.lag, 6);
  assert.equal(take(3), 3);
  // What comes now overtakes what is there already.
  high?.offer(Uint8Array.of(23));
  assert.equal(take(10), 4);
  assert.deepEqual(order, [21, 22, 11, 23, 12, 1, 2]);
  assert.equal(subscriber.lagBytes, 0);
  assert.deepEqual(losses, []);
});

test("a full level holds up nobody at another one", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const low = engine.publisher(channelName);
  const high = engine.publisher(channelName, { priority: 2 });
  const subscriber = ledger.subscriber(channelName);
  while (low.offer(new Uint8Array(496)) > 0);
  assert.equal(high.offer(Uint8Array.of(7)), 1);
  assert.deepEqual(subscriber.read(), Uint8Array.of(7));
  assert.equal(low.offer(new Uint8Array(496)), BACK_PRESSURED);
  subscriber.poll(() => undefined, 1);
  subscriber.release();
  assert.ok(low.offer(new Uint8Array(496)) > 0);
});

test("a consumer that sleeps is woken by any level, and sees the end of all", async (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", settings);
  using ledger = openAs(directory, "ledger", settings);
  const subscriber = ledger.subscriber(channelName);
  for (const priority of [2, 0, 1]) {
    const publisher = engine.publisher(channelName, { priority });
    const asleep = subscriber.wait(60_000);
    publisher.offer(Uint8Array.of(priority));
    await asleep;
    assert.deepEqual(subscriber.read(), Uint8Array.of(priority));
    assert.equal(subscriber.ended, false);
    publisher.finish();
  }
  assert.ok(subscriber.ended);
});

test("several producers use the same levels", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", shared);
  using router = openAs(directory, "router", shared);
  using ledger = openAs(directory, "ledger", shared);
  const subscriber = ledger.subscriber(channelName);
  const slow = engine.publisher(channelName, { priority: 1 });
  assert.ok(slow.claim(8) > 0);
  const quick = router.publisher(channelName, { priority: 2 });
  assert.equal(quick.offer(Uint8Array.of(2)), 1);
  const found: string[] = [];
  const take = (): number => subscriber.poll(() => found.push(subscriber.envelope.producer), 10);
  assert.equal(take(), 1);
  slow.commit();
  assert.equal(take(), 1);
  assert.deepEqual(found, ["router", "engine"]);
});

test("a level that there is not is refused, and each level has one producer of a name", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", settings);
  for (const priority of [-1, 3, 0.5, NaN]) {
    assert.throws(
      () => engine.publisher(channelName, { priority }),
      (error) => isGaplessError(error, "CONFIG_INVALID") && /from 0 to 2/.test(error.message),
    );
  }
  engine.publisher(channelName, { priority: 1 });
  assert.throws(
    () => engine.publisher(channelName, { priority: 1 }),
    (error) => isGaplessError(error, "ALREADY_OPEN"),
  );
});

test("a file with other levels is refused, and so is one with a spoilt header of any level", (t) => {
  const directory = makeDirectory(t);
  {
    using engine = openAs(directory, "engine", settings);
    engine.publisher(channelName, { priority: 2 }).offer(Uint8Array.of(1));
  }
  using other = openAs(directory, "engine", { keys: { priorities: 2 } });
  assert.throws(
    () => other.publisher(channelName),
    (error) => isGaplessError(error, "CONFIG_INVALID"),
  );
  const whole = fs.readFileSync(ringPath(directory));
  const laneBytes = whole.length / 3;
  for (const lane of [0, 1, 2]) {
    const spoilt = Buffer.from(whole);
    spoilt[lane * laneBytes + 20] = (spoilt[lane * laneBytes + 20] ?? 0) ^ 1;
    fs.writeFileSync(ringPath(directory), spoilt);
    using engine = openAs(directory, "engine", settings);
    assert.throws(
      () => engine.publisher(channelName),
      (error) => isGaplessError(error, "STORAGE_CORRUPT"),
    );
  }
});

test("the stream ends once a producer has finished in one lane and has no other one open", (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", shared);
  using router = openAs(directory, "router", shared);
  using ledger = openAs(directory, "ledger", shared);
  const subscriber = ledger.subscriber(channelName);
  const [low, high] = [0, 2].map((priority) => engine.publisher(channelName, { priority }));
  low?.finish();
  assert.equal(subscriber.ended, false);
  high?.offer(Uint8Array.of(1));
  high?.close();
  assert.equal(subscriber.ended, false);
  router.publisher(channelName, { priority: 1 }).finish();
  assert.equal(subscriber.ended, false);
  assert.equal(
    subscriber.poll(() => undefined, 10),
    1,
  );
  assert.equal(subscriber.ended, true);
});
