import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError, type GaplessError } from "../../../src/errors.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import {
  watchQueues,
  type FoundQueue,
  type QueueWatch,
  type WatchOptions,
} from "../../../src/queue/discovery.ts";
import { adoptSubscriber } from "../../../src/queue/hand-over.ts";
import { readLosses, type QueueLoss } from "../../../src/queue/loss-ledger.ts";
import { openPublisher, type Publisher } from "../../../src/queue/queue.ts";
import { lookAtReader } from "../../../src/queue/reader-file.ts";
import { openSubscriber, type Subscriber } from "../../../src/queue/subscriber.ts";
import { startChild, until } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const publisherOptions = { segmentBytes: 4096, preallocate: false };

interface Heard {
  readonly watch: QueueWatch;
  readonly queues: FoundQueue[];
  readonly subscribers: Subscriber[];
  readonly losses: QueueLoss[];
  readonly failures: GaplessError[];
  /** All of it in order, by directories below the root. */
  readonly told: string[];
}

function watch(context: TestContext, root: string, options: WatchOptions = {}): Heard {
  const below = (directory: string): string => path.relative(root, directory);
  const heard: Omit<Heard, "watch"> = {
    queues: [],
    subscribers: [],
    losses: [],
    failures: [],
    told: [],
  };
  const { told } = heard;
  const running = watchQueues(root, {
    pollIntervalMs: 10,
    onQueue: (queue) => {
      heard.queues.push(queue);
      told.push(`queue ${below(queue.directory)}`);
    },
    onReader: ({ directory, name }) => told.push(`reader ${below(directory)} ${name}`),
    onGone: (directory) => told.push(`gone ${below(directory)}`),
    onReaderGone: ({ directory, name }) => told.push(`reader gone ${below(directory)} ${name}`),
    ...(options.subscribeAs !== undefined && {
      onSubscriber: (subscriber: Subscriber) => {
        heard.subscribers.push(subscriber);
        told.push(`subscriber ${below(subscriber.directory)}`);
      },
    }),
    onFailure: (error) => {
      heard.failures.push(error);
      told.push(`failure ${error.code}`);
    },
    subscriber: { onLoss: (loss) => heard.losses.push(loss) },
    ...options,
  });
  context.after(async () => {
    await running.close();
    for (const subscriber of heard.subscribers) await subscriber.close();
  });
  return { watch: running, ...heard };
}

async function makeQueue(directory: string, count = 0): Promise<void> {
  const publisher = openPublisher(directory, publisherOptions);
  append(publisher, count);
  await publisher.close();
}

function append(publisher: Publisher, count: number): void {
  for (let appended = 0; appended < count; appended++) {
    publisher.append(1, payloadOf(publisher.lastSequence + 1, 100));
  }
}

function readAll(subscriber: Subscriber | undefined): number[] {
  const sequences: number[] = [];
  for (let message = subscriber?.next(); message !== undefined; message = subscriber?.next()) {
    assert.deepEqual(message.payload, payloadOf(message.sequence, 100));
    sequences.push(message.sequence);
  }
  return sequences;
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

for (const [name, inotify, pollIntervalMs] of [
  ["the system's word", true, 3_600_000],
  ["looking again", false, 10],
] as const) {
  test(`queues and readers that come and go are noticed by ${name}`, async (t) => {
    const root = path.join(makeFastDirectory(t), "root");
    await makeQueue(path.join(root, "orders"), 100);
    const { told, queues } = watch(t, root, { inotify, pollIntervalMs });
    await until("the first is told", () => told.length === 1);
    assert.deepEqual(told.splice(0), ["queue orders"]);
    assert.partialDeepStrictEqual(queues[0], {
      directory: path.join(root, "orders"),
      segments: 4,
      lastSequence: 100,
      isWritten: false,
    } satisfies Partial<FoundQueue>);

    const trades = path.join(root, "eu", "spot", "trades");
    await using publisher = openPublisher(trades, publisherOptions);
    await until("another is told", () => told.length === 1);
    assert.deepEqual(told.splice(0), ["queue eu/spot/trades"]);
    assert.equal(queues[1]?.isWritten, true);
    append(publisher, 1);

    const subscriber = openSubscriber(trades, "ledger");
    await until("its reader is told", () => told.length === 1);
    assert.deepEqual(told.splice(0), ["reader eu/spot/trades ledger"]);
    await subscriber.close();
    fs.rmSync(path.join(trades, "readers", "ledger.reader"));
    await until("that it is gone is told", () => told.length === 1);
    assert.deepEqual(told.splice(0), ["reader gone eu/spot/trades ledger"]);

    fs.renameSync(path.join(root, "orders"), path.join(root, "eu", "orders"));
    await until("the move is told", () => told.length === 2);
    assert.deepEqual(told.splice(0).sort(), ["gone orders", "queue eu/orders"]);
    fs.rmSync(path.join(root, "eu", "orders"), { recursive: true });
    await until("the end is told", () => told.length === 1);
    assert.deepEqual(told.splice(0), ["gone eu/orders"]);
    assert.deepEqual(told, []);
  });
}

test("a root that comes later is waited for", async (t) => {
  const root = path.join(makeFastDirectory(t), "not", "yet");
  const { told } = watch(t, root);
  await pause(50);
  await makeQueue(path.join(root, "orders"));
  await until("it is told", () => told.length === 1);
  assert.deepEqual(told, ["queue orders"]);
});

test("a queue that is made anew in the same place is another one", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "orders");
  await makeQueue(directory);
  const { told, queues } = watch(t, root);
  await until("it is told", () => told.length === 1);
  fs.rmSync(directory, { recursive: true });
  await makeQueue(directory);
  await until("the other one is told", () => told.length === 3);
  assert.deepEqual(told, ["queue orders", "gone orders", "queue orders"]);
  assert.notEqual(queues[0]?.identity, queues[1]?.identity);
});

test("a queue that is looked for too deep down, or behind a link, is not found", async (t) => {
  const root = makeFastDirectory(t);
  await makeQueue(path.join(root, "a", "b", "orders"));
  await makeQueue(path.join(root, "trades"));
  fs.symlinkSync(path.join(root, "trades"), path.join(root, "link"));
  const { told } = watch(t, root, { depth: 2 });
  await until("one is told", () => told.length > 0);
  await pause(50);
  assert.deepEqual(told, ["queue trades"]);
  const other = watch(t, root, { depth: 3 });
  await until("both are told", () => other.told.length === 2);
});

test("each queue that comes is handed over as a reader that is where it begins", async (t) => {
  const root = makeFastDirectory(t);
  const orders = path.join(root, "orders");
  await makeQueue(orders, 100);
  const before = openSubscriber(orders, "risk");
  for (let taken = 0; taken < 40; taken++) before.next();
  before.commit();
  await before.close();
  const { subscribers, told } = watch(t, root, { subscribeAs: "risk" });
  await until("it is handed over", () => subscribers.length === 1);
  assert.deepEqual(readAll(subscribers[0]), range(41, 100));

  await using publisher = openPublisher(path.join(root, "trades"), publisherOptions);
  await until("the other one is handed over", () => subscribers.length === 2);
  assert.deepEqual(readAll(subscribers[1]), []);
  append(publisher, 100);
  assert.deepEqual(readAll(subscribers[1]), range(1, 100));
  subscribers[1]?.commit();

  // It has the place of the reader, as if it had been opened here.
  assert.throws(
    () => openSubscriber(path.join(root, "trades"), "risk"),
    (error) => isGaplessError(error, "ALREADY_OPEN"),
  );
  await subscribers[1]?.close();
  await using again = openSubscriber(path.join(root, "trades"), "risk");
  assert.equal(again.position, 101);
  assert.deepEqual(
    told.filter((one) => one.startsWith("failure")),
    [],
  );
});

test("a reader that is handed over wakes, beats and holds its segments like any other", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "orders");
  await using publisher = openPublisher(directory, publisherOptions);
  const { subscribers, queues } = watch(t, root, { subscribeAs: "risk" });
  await until("it is handed over", () => subscribers.length === 1);
  const [subscriber] = subscribers;
  assert.ok(subscriber !== undefined);
  setTimeout(() => append(publisher, 1), 20);
  await subscriber.wait(10_000);
  assert.deepEqual(readAll(subscriber), [1]);
  await pause(300);
  const { isAlive, silentMs } = lookAtReader(directory, "risk", queues[0]?.identity ?? 0n);
  assert.equal(isAlive, true);
  assert.ok(silentMs < 250, `silentMs=${silentMs}`);
});

test("what a reader has lost by where it begins is told where it is handed over", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "orders");
  await makeQueue(directory, 100);
  await openSubscriber(directory, "risk").close();
  const options: WatchOptions = { subscribeAs: "risk" };
  const losses: QueueLoss[] = [];
  const subscriber = { start: "latest", onLoss: (loss: QueueLoss) => losses.push(loss) } as const;
  const { subscribers } = watch(t, root, { ...options, subscriber });
  await until("it is handed over", () => subscribers.length === 1);
  assert.equal(subscribers[0]?.position, 101);
  assert.deepEqual(
    losses.map(({ cause, from, to }) => ({ cause, from, to })),
    [{ cause: "passed-over", from: 1, to: 100 }],
  );
  assert.deepEqual(readLosses(directory).losses, losses);
});

test("a reader that another process has is told of once, and handed over once it is free", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "orders");
  await makeQueue(directory, 10);
  const other = openSubscriber(directory, "risk");
  const { subscribers, failures } = watch(t, root, { subscribeAs: "risk" });
  await until("it is told", () => failures.length > 0);
  await pause(100);
  assert.deepEqual(
    failures.map(({ code }) => code),
    ["ALREADY_OPEN"],
  );
  await other.close();
  await until("it is handed over", () => subscribers.length === 1);
});

test("what nobody takes any more is closed: another one can read as its name", async (t) => {
  const root = makeFastDirectory(t);
  for (let round = 0; round < 10; round++) {
    const directory = path.join(root, `orders-${round}`);
    await makeQueue(directory, 10);
    const { watch: running, subscribers } = watch(t, root, { subscribeAs: "risk" });
    // By turns before the thread is there, while it hands over, and behind it.
    const deadlineMs = performance.now() + round * 10;
    while (performance.now() < deadlineMs);
    await running.close();
    const count = subscribers.length;
    await pause(20);
    assert.equal(subscribers.length, count);
    for (const subscriber of subscribers) await subscriber.close();
    await openSubscriber(directory, "risk").close();
  }
});

test("what is no whole queue is told of once, and does not keep others from being found", async (t) => {
  const root = makeFastDirectory(t);
  await makeQueue(path.join(root, "damaged"), 100);
  fs.truncateSync(path.join(root, "damaged", controlFileName), 100);
  await makeQueue(path.join(root, "headless"), 100);
  fs.truncateSync(path.join(root, "headless", "0000000004.segment"), 10);
  await makeQueue(path.join(root, "whole"), 100);
  const { told, failures } = watch(t, root);
  await until("all is told", () => told.length >= 3);
  await pause(100);
  assert.deepEqual(told.toSorted(), [
    "failure STORAGE_CORRUPT",
    "failure STORAGE_CORRUPT",
    "queue whole",
  ]);
  assert.match(failures.map(({ message }) => message).join(), /damaged.*headless/s);
});

test("more than can be told at once comes one after the other, and nothing is missed", async (t) => {
  const root = makeFastDirectory(t);
  const count = 600;
  await makeQueue(path.join(root, "first"));
  for (let number = 0; number < count; number++) {
    fs.cpSync(path.join(root, "first"), path.join(root, `copy-${number}`), { recursive: true });
  }
  const { told } = watch(t, root);
  // Nobody hears for a while.
  const deadlineMs = performance.now() + 500;
  while (performance.now() < deadlineMs);
  await until("all are told", () => told.length === count + 1);
  assert.equal(new Set(told).size, count + 1);
  fs.rmSync(path.join(root, "copy-77"), { recursive: true });
  await until("the end of one is told", () => told.length === count + 2);
  assert.equal(told.at(-1), "gone copy-77");
});

test("to take a reader over is no system call", async (t) => {
  const directory = path.join(makeFastDirectory(t), "orders");
  await makeQueue(directory, 100);
  const opened = openSubscriber(directory, "risk");
  opened.next();
  const handed = opened.handOver();
  assert.equal(opened.isClosed, true);
  const names = [
    "openSync",
    "statSync",
    "readFileSync",
    "mkdirSync",
    "linkSync",
    "fstatSync",
  ] as const;
  const calls = names.map((name) => t.mock.method(fs, name).mock);
  const subscriber = adoptSubscriber(handed);
  for (const mock of calls) assert.equal(mock.callCount(), 0);
  assert.deepEqual(readAll(subscriber), range(2, 100));
  await subscriber.close();
  await openSubscriber(directory, "risk").close();
});

test("a watch keeps no process from ending, and refuses nonsense", async (t) => {
  const child = startChild(t, "watch", { root: makeFastDirectory(t) });
  assert.equal(await child.ended, 0);
  for (const wrong of [{ pollIntervalMs: 0 }, { depth: -1 }, { subscribeAs: "a/b" }]) {
    assert.throws(
      () => watchQueues("/nowhere", wrong),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
});
