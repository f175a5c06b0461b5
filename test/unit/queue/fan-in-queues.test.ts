import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import {
  openFanIn,
  openPublisher,
  isGaplessError,
  openSubscriber,
  type ErrorCode,
  type Subscriber,
} from "../../../src/queue/queue.ts";
import { seededRandom } from "../../../src/random.ts";
import { startAppender } from "../../support/queue-processes.ts";
import { makeDirectory, makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const small = { segmentBytes: 4096, preallocate: false } as const;

test("queues are merged by time across their segments, and a new reader goes on behind the commit", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(t);
  const names = ["binance", "kraken", "coinbase"];
  const expected: { at: bigint; rank: number; sequence: number }[] = [];
  for (const [rank, name] of names.entries()) {
    await using publisher = openPublisher(path.join(root, name), small);
    let at = 0n;
    for (let count = 0; count < 300; count++) {
      at += BigInt(random.below(3));
      const sequence = publisher.append(rank, payloadOf(count), at);
      expected.push({ at, rank, sequence });
    }
  }
  // Stable: each queue's own order is kept.
  expected.sort((left, right) => Number(left.at - right.at) || left.rank - right.rank);

  const seen: { rank: number; sequence: number }[] = [];
  while (seen.length < expected.length) {
    // A life: reads on, commits some of it, and is gone.
    const subscribers: Subscriber[] = [];
    using fanIn = openFanIn();
    for (const name of names) {
      const subscriber = openSubscriber(path.join(root, name), "strategy", { start: "earliest" });
      subscriber.seekSequence(subscriber.committed + 1);
      subscribers.push(subscriber);
      fanIn.add(subscriber, name);
    }
    const committed = 1 + random.below(200);
    let count = 0;
    fanIn.poll((_source, memory, offset, length) => {
      const { type, sequence } = fanIn.envelope;
      const payload = memory.bytes.slice(offset, offset + length);
      assert.deepEqual(payload, payloadOf((sequence - 1) % 300));
      if (count++ < committed) seen.push({ rank: type, sequence });
    }, committed);
    fanIn.commit();
    // Delivered, and not committed: it comes again.
    fanIn.poll(() => undefined, random.below(50));
    for (const subscriber of subscribers) await subscriber.close();
  }
  assert.deepEqual(
    seen,
    expected.map(({ rank, sequence }) => ({ rank, sequence })),
  );
});

test("a source that is read or closed beside the fan-in is told of, and nothing wrong is given", async (t) => {
  const root = makeFastDirectory(t);
  const names = ["one", "two"];
  for (const [rank, name] of names.entries()) {
    await using publisher = openPublisher(path.join(root, name), small);
    // In turn; the lengths tell one message of a queue from another.
    for (let at = 0; at < 20; at++) {
      publisher.append(rank, payloadOf(at, at), BigInt(2 * at + rank));
    }
  }
  const is = (code: ErrorCode) => (error: unknown) => isGaplessError(error, code);
  const [one, two] = names.map((name) => openSubscriber(path.join(root, name), "strategy"));
  assert.ok(one !== undefined && two !== undefined);
  await using _two = two;
  using fanIn = openFanIn();
  fanIn.add(one, "one");
  fanIn.add(two, "two");
  const given: string[] = [];
  const poll = (act: (source: string) => void): number =>
    fanIn.poll((source, _memory, _offset, length) => {
      given.push(`${source} ${length}`);
      act(source);
    }, 3);
  assert.throws(() => poll(() => fanIn.poll(() => undefined, 1)), is("INVALID_OPERATION"));
  assert.throws(() => fanIn.poll(() => undefined, Number.NaN), is("CONFIG_INVALID"));
  // Its next message is known already, and taken by somebody else.
  assert.throws(() => poll(() => two.poll(() => undefined, 5)), is("INVALID_OPERATION"));
  assert.throws(() => poll(() => undefined), is("INVALID_OPERATION"));
  assert.deepEqual(given, ["one 0", "one 0"]);
  fanIn.remove("two");
  fanIn.add(two, "two");
  assert.equal(
    poll(() => undefined),
    3,
  );
  assert.deepEqual(given.splice(0), ["one 0", "one 0", "one 1", "one 2", "one 3"]);
  assert.throws(() => poll((source) => void (source === "one" && one.close())), is("CLOSED"));
  assert.throws(() => poll(() => undefined), is("CLOSED"));
  fanIn.remove("one");
  poll(() => undefined);
  assert.deepEqual(given, ["one 4", "two 5", "two 6", "two 7"]);
});

test("a fan-in that sleeps is woken by whichever process appends", async (t) => {
  const root = makeDirectory(t);
  const names = ["one", "two"];
  for (const name of names) await openPublisher(path.join(root, name), small).close();
  using fanIn = openFanIn();
  const next = new Map<string, number>();
  await using subscribers = new AsyncDisposableStack();
  for (const name of names) {
    fanIn.add(subscribers.use(openSubscriber(path.join(root, name), "strategy")), name);
    next.set(name, 1);
  }
  const before = performance.now();
  await fanIn.wait(50);
  assert.ok(performance.now() - before >= 45, "nothing to wake for");
  const appenders = names.map((name) => startAppender(t, path.join(root, name)));
  while ([...next.values()].some((sequence) => sequence < 2000)) {
    const taken = fanIn.poll((source, memory, offset, length) => {
      const { sequence } = fanIn.envelope;
      const name = typeof source === "number" ? names[source] : source;
      assert.ok(name !== undefined);
      assert.equal(sequence, next.get(name));
      assert.deepEqual(memory.bytes.slice(offset, offset + length), payloadOf(sequence));
      next.set(name, sequence + 1);
    }, 256);
    if (taken === 0) await fanIn.wait(1000);
  }
  for (const { child } of appenders) child.kill("SIGKILL");
  for (const appender of appenders) await appender.ended();
});
