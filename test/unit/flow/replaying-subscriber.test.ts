/** What a restarted consumer gets: its window, then the rest, without gap and without duplicate. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { recorderService, type Bus, type Loss, type Publisher } from "gapless/bus";
import {
  recordChannel,
  replayingSubscriber,
  type ReplayingSubscriber,
  type ReplayMessage,
  type ReplayOptions,
} from "gapless/flow";
import type { Clock } from "../../../src/clock.ts";
import { isGaplessError } from "../../../src/errors.ts";
import {
  makeBusDirectory,
  numbered,
  numberOf,
  openRecorded,
  type ChannelChanges,
} from "../../support/recorded-channel.ts";

const minuteNs = 60_000_000_000n;

/** A clock that stands still until it is set. */
class SetClock implements Clock {
  ns = 1000n * minuteNs;
  nowNs(): bigint {
    return this.ns;
  }
  monotonicNs(): bigint {
    return this.ns;
  }
}

/** Records until the recorder has nothing more to take. */
async function record(bus: Bus, through: number, clock?: Clock): Promise<void> {
  const over = new AbortController();
  let recorded = 0;
  const end = setTimeout(() => over.abort(), 5000);
  await recordChannel(bus, "orders", {
    signal: over.signal,
    ...(clock === undefined ? {} : { clock }),
    onRecorded: (messages) => {
      recorded += messages;
      if (recorded >= through) over.abort();
    },
  });
  clearTimeout(end);
  assert.equal(recorded, through);
}

function publish(publisher: Publisher, from: number, to: number): void {
  for (let number = from; number <= to; number++) {
    assert.ok(publisher.offer(numbered(number)) > 0);
  }
}

/** Takes and releases everything, as a consumer that has no state to lose. */
function consume(bus: Bus): number {
  using subscriber = bus.subscriber("orders");
  let count = 0;
  while (subscriber.poll(() => count++, 100) > 0) subscriber.release();
  subscriber.release();
  return count;
}

function takeAll(subscriber: ReplayingSubscriber): ReplayMessage[] {
  const messages: ReplayMessage[] = [];
  while (subscriber.poll((message) => messages.push(message), 7) > 0) subscriber.release();
  return messages;
}

function numbersOf(messages: readonly ReplayMessage[]): number[] {
  return messages.map(({ bytes }) => numberOf(bytes));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_unused, index) => from + index);
}

function overwrittenFrom(from: number): Loss {
  return { cause: "overwritten", party: 0, from, to: from, messages: 1 };
}

interface Ends extends Disposable {
  readonly directory: string;
  readonly engine: Bus;
  readonly ledger: Bus;
  readonly recorder: Bus;
  readonly publisher: Publisher;
  replay(options?: ReplayOptions): ReplayingSubscriber;
}

function openEnds(directory: string, changes: ChannelChanges = {}): Ends {
  const engine = openRecorded(directory, "engine", changes);
  const ledger = openRecorded(directory, "ledger", changes);
  const recorder = openRecorded(directory, recorderService, changes);
  return {
    directory,
    engine,
    ledger,
    recorder,
    publisher: engine.publisher("orders"),
    replay: (options) => replayingSubscriber(ledger, "orders", options),
    [Symbol.dispose]() {
      for (const bus of [engine, ledger, recorder]) bus.close();
    },
  };
}

test("a consumer that has lost its state gets its window, then what the ring holds", async (t) => {
  const clock = new SetClock();
  using ends = openEnds(makeBusDirectory(t));
  publish(ends.publisher, 1, 10);
  await record(ends.recorder, 10, clock);
  clock.ns += minuteNs;
  publish(ends.publisher, 11, 20);
  await record(ends.recorder, 10, clock);
  assert.equal(consume(ends.ledger), 20);
  // Recorded as well, and held by the ring.
  publish(ends.publisher, 21, 25);
  await record(ends.recorder, 5, clock);
  // Not recorded.
  publish(ends.publisher, 26, 30);
  using subscriber = ends.replay({ clock, windowMs: 30_000 });
  assert.equal(subscriber.isLive, false);
  const messages = takeAll(subscriber);
  assert.deepEqual(numbersOf(messages), range(11, 30));
  assert.deepEqual(
    messages.map(({ sequence }) => sequence),
    range(11, 30),
  );
  assert.deepEqual(
    messages.map(({ isReplayed }) => isReplayed),
    range(11, 30).map((number) => number <= 20),
  );
  assert.equal(messages[0]?.producer, "engine");
  assert.equal(subscriber.isLive, true);
});

test("each restart replays the window, and a wider one more of it", async (t) => {
  const clock = new SetClock();
  using ends = openEnds(makeBusDirectory(t));
  for (let step = 0; step < 4; step++) {
    publish(ends.publisher, step * 5 + 1, step * 5 + 5);
    await record(ends.recorder, 5, clock);
    clock.ns += minuteNs;
  }
  for (const [windowMs, first] of [
    [60_000, 16],
    [120_000, 11],
    [600_000, 1],
  ] as const) {
    using subscriber = ends.replay({ clock, windowMs });
    // The first time nothing was released, so all of it is held.
    const expected = windowMs === 60_000 ? 1 : first;
    assert.deepEqual(numbersOf(takeAll(subscriber)), range(expected, 20));
  }
  using none = ends.replay({ clock, windowMs: 0 });
  assert.deepEqual(takeAll(none), []);
});

test("what was released and is not recorded yet is waited for", async (t) => {
  using ends = openEnds(makeBusDirectory(t));
  publish(ends.publisher, 1, 10);
  await record(ends.recorder, 10);
  publish(ends.publisher, 11, 20);
  consume(ends.ledger);
  publish(ends.publisher, 21, 22);
  const losses: Loss[] = [];
  using subscriber = ends.replay({ onLoss: (loss) => losses.push(loss) });
  const messages = takeAll(subscriber);
  assert.deepEqual(numbersOf(messages), range(1, 10));
  assert.equal(subscriber.isLive, false);
  await record(ends.recorder, 12);
  messages.push(...takeAll(subscriber));
  assert.deepEqual(numbersOf(messages), range(1, 22));
  assert.deepEqual(losses, []);
});

test("what a recorder that does not come never recorded is told as a loss", async (t) => {
  using ends = openEnds(makeBusDirectory(t));
  publish(ends.publisher, 1, 10);
  await record(ends.recorder, 10);
  publish(ends.publisher, 11, 20);
  consume(ends.ledger);
  publish(ends.publisher, 21, 22);
  const losses: Loss[] = [];
  using subscriber = ends.replay({
    recorderTimeoutMs: 50,
    onLoss: (loss) => losses.push(loss),
  });
  const messages: ReplayMessage[] = [];
  for await (const batch of subscriber.batches(AbortSignal.timeout(300))) messages.push(...batch);
  assert.deepEqual(numbersOf(messages), [...range(1, 10), 21, 22]);
  assert.deepEqual(losses, [{ cause: "overwritten", party: 0, from: 11, to: 20, messages: 10 }]);
});

test("what the ring has lost of a consumer that failed comes from the recording", async (t) => {
  using ends = openEnds(makeBusDirectory(t), { consumer_timeout_ms: 250 });
  const losses: Loss[] = [];
  const subscriber = ends.replay({ onLoss: (loss) => losses.push(loss) });
  publish(ends.publisher, 1, 10);
  const messages = takeAll(subscriber);
  // It does not poll from here on, and what is there keeps it from being idle.
  let number = 10;
  for (let turn = 0; turn < 20; turn++) {
    const first = number + 1;
    for (let count = 0; count < 40;) {
      if (ends.publisher.offer(numbered(number + 1)) > 0) {
        number++;
        count++;
      } else {
        ends.publisher.waitForRoomBlocking(200, 300);
      }
    }
    await record(ends.recorder, number - first + 1 + (turn === 0 ? 10 : 0));
  }
  messages.push(...takeAll(subscriber));
  assert.deepEqual(numbersOf(messages), range(1, number));
  assert.ok(messages.filter(({ isReplayed }) => isReplayed).length > 300);
  assert.deepEqual(losses, []);
  subscriber.close();
});

test("what a recorder missed while producers went on without it is told as a loss", async (t) => {
  using ends = openEnds(makeBusDirectory(t), { consumer_timeout_ms: 250 });
  publish(ends.publisher, 1, 10);
  await record(ends.recorder, 10);
  consume(ends.ledger);
  // The recorder is gone, so it is in the way no longer than its time to come back.
  for (let number = 11; number <= 500; number++) {
    while (ends.publisher.offer(numbered(number)) < 0) {
      consume(ends.ledger);
      ends.publisher.waitForRoomBlocking(200, 200);
    }
  }
  consume(ends.ledger);
  // What the ring still has of them, it records.
  const over = new AbortController();
  const recording = recordChannel(ends.recorder, "orders", { signal: over.signal });
  const losses: Loss[] = [];
  using subscriber = ends.replay({ onLoss: (loss) => losses.push(loss) });
  const messages: ReplayMessage[] = [];
  for await (const batch of subscriber.batches(AbortSignal.timeout(400))) messages.push(...batch);
  over.abort();
  await recording;
  const [loss] = losses;
  assert.ok(loss && losses.length === 1, JSON.stringify(losses));
  assert.deepEqual({ ...loss, to: 0, messages: 0 }, { ...overwrittenFrom(11), to: 0, messages: 0 });
  assert.equal(loss.messages, loss.to - 10);
  assert.deepEqual(numbersOf(messages), [...range(1, 10), ...range(loss.to + 1, 500)]);
});

test("what was overwritten in a channel that drops its oldest comes from the recording", async (t) => {
  using ends = openEnds(makeBusDirectory(t), { backpressure: { mode: "DropOldest" } });
  using subscriber = ends.replay();
  for (let turn = 0; turn < 20; turn++) {
    publish(ends.publisher, turn * 50 + 1, turn * 50 + 50);
    await record(ends.recorder, 50);
  }
  assert.deepEqual(numbersOf(takeAll(subscriber)), range(1, 1000));
});

test("sequences that were never published are told as skipped, from ring and recording", async (t) => {
  using ends = openEnds(makeBusDirectory(t), {
    backpressure: { mode: "DropNewest", high_water: 0.9, low_water: 0.9 },
  });
  let number = 0;
  const fill = (): void => {
    while (ends.publisher.offer(numbered(number + 1)) > 0) number++;
  };
  fill();
  const first = number;
  await record(ends.recorder, number);
  consume(ends.ledger);
  fill();
  await record(ends.recorder, number - first);
  const losses: Loss[] = [];
  const onLoss = (loss: Loss): void => void losses.push(loss);
  for (let life = 0; life < 2; life++) {
    using subscriber = ends.replay({ onLoss });
    assert.deepEqual(numbersOf(takeAll(subscriber)), range(1, number));
  }
  // One sequence was given up where the ring was full the first time.
  const gap = { cause: "skipped", party: 0, from: first + 1, to: first + 1, messages: 1 };
  assert.deepEqual(losses, [gap, gap]);
});

test("what a producer took back is missing to nobody, from ring and recording", async (t) => {
  const producers = ["engine", "router"];
  using ends = openEnds(makeBusDirectory(t), { type: "MPMC", producers });
  const { publisher } = ends;
  const told: string[] = [];
  const options: ReplayOptions = {
    onLoss: ({ cause, from, to }) => told.push(`${cause} ${from}-${to}`),
    onWithdrawn: ({ from, to }) => told.push(`back ${from}-${to}`),
    // Nothing of this is waited for.
    recorderTimeoutMs: 60_000,
  };
  const takeBack = (count: number): void => {
    for (let claim = 0; claim < count; claim++) publisher.claim(8);
    publisher.abort();
  };
  /** A consumer that has lost its state. */
  const live = (last: number): void => {
    using subscriber = ends.replay(options);
    assert.deepEqual(numbersOf(takeAll(subscriber)), range(1, last));
    assert.ok(subscriber.isLive);
  };
  takeBack(1);
  publish(publisher, 1, 3);
  takeBack(2);
  publish(publisher, 4, 5);
  takeBack(1);
  await record(ends.recorder, 5);
  // Messages have the sequences 2 to 4, 7 and 8.
  live(5);
  assert.deepEqual(told.splice(0), ["back 1-1", "back 5-6"]);
  // What was before the first of its window it is not told.
  live(5);
  assert.deepEqual(told.splice(0), ["back 5-6"]);
  takeBack(1);
  publish(publisher, 6, 6);
  live(6);
  assert.deepEqual(told.splice(0), ["back 5-6", "back 9-10"]);
  await record(ends.recorder, 1);
  live(6);
  assert.deepEqual(told.splice(0), ["back 5-6", "back 9-10"]);
});

test("topics are wanted of the recording as of the ring", async (t) => {
  using ends = openEnds(makeBusDirectory(t));
  const { publisher } = ends;
  const topics = ["trade.btc", "quote.btc"].map((name) => publisher.topic(name));
  for (let number = 1; number <= 20; number++) {
    publisher.offer(numbered(number), topics[number % 2]);
  }
  await record(ends.recorder, 20);
  consume(ends.ledger);
  for (let number = 21; number <= 24; number++) {
    publisher.offer(numbered(number), topics[number % 2]);
  }
  using subscriber = ends.replay({ topics: ["trade."] });
  const messages = takeAll(subscriber);
  const even = range(1, 24).filter((number) => number % 2 === 0);
  assert.deepEqual(numbersOf(messages), even);
  assert.ok(messages.every(({ topic }) => topic === "trade.btc"));
});

test("each level of priority is replayed and goes on by itself", async (t) => {
  using ends = openEnds(makeBusDirectory(t), { priorities: 2 });
  const urgent = ends.engine.publisher("orders", { priority: 1 });
  const publishBoth = (from: number, to: number): void => {
    publish(ends.publisher, from, to);
    publish(urgent, 1000 + from, 1000 + to);
  };
  publishBoth(1, 10);
  await record(ends.recorder, 20);
  consume(ends.ledger);
  publishBoth(11, 15);
  using subscriber = ends.replay();
  const messages = takeAll(subscriber);
  const of = (priority: number): number[] =>
    numbersOf(messages.filter((message) => message.priority === priority));
  assert.deepEqual(of(0), range(1, 15));
  assert.deepEqual(of(1), range(1001, 1015));
});

test("a channel that was made anew is replayed from both of its lives", async (t) => {
  const directory = makeBusDirectory(t);
  {
    using ends = openEnds(directory);
    publish(ends.publisher, 1, 10);
    await record(ends.recorder, 10);
  }
  fs.rmSync(path.join(directory, "shm", "orders.ring"));
  using ends = openEnds(directory);
  publish(ends.publisher, 11, 20);
  await record(ends.recorder, 10);
  consume(ends.ledger);
  publish(ends.publisher, 21, 22);
  const losses: Loss[] = [];
  using subscriber = ends.replay({ onLoss: (loss) => losses.push(loss) });
  const messages = takeAll(subscriber);
  assert.deepEqual(numbersOf(messages), range(1, 22));
  assert.deepEqual(
    messages.map(({ sequence }) => sequence),
    [...range(1, 10), ...range(1, 12)],
  );
  assert.deepEqual(losses, []);
});

test("a message that its handler throws on comes again, from the recording and from the ring", async (t) => {
  using ends = openEnds(makeBusDirectory(t));
  publish(ends.publisher, 1, 4);
  await record(ends.recorder, 4);
  consume(ends.ledger);
  publish(ends.publisher, 5, 8);
  using subscriber = ends.replay();
  const seen: number[] = [];
  let tries = 0;
  const handler = ({ bytes }: ReplayMessage): void => {
    if (++tries % 2 === 1) throw new Error("not now");
    seen.push(numberOf(bytes));
  };
  for (let attempt = 0; attempt < 16; attempt++) {
    try {
      subscriber.poll(handler, 1);
    } catch (error) {
      assert.match(String(error), /not now/);
    }
  }
  assert.deepEqual(seen, range(1, 8));
});

test("a channel that keeps nothing has no recorder and no replay", (t) => {
  const directory = makeBusDirectory(t);
  const nothing = { enable_persistence: false, enable_replay: false };
  using ledger = openRecorded(directory, "ledger", {}, nothing);
  assert.deepEqual(ledger.channels.get("orders")?.consumers, ["ledger"]);
  assert.throws(
    () => replayingSubscriber(ledger, "orders"),
    (error) => isGaplessError(error, "CONFIG_INVALID"),
  );
});

test("a consumer of a recorded channel has another name than its recorder", (t) => {
  const directory = makeBusDirectory(t);
  assert.throws(
    () => openRecorded(directory, "ledger", { consumers: ["ledger", recorderService] }),
    /expected other names than recorder/,
  );
});
