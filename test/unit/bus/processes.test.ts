/** Two and more processes at the ends of a channel. */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import { producerOffset, sleepWord } from "../../../src/bus/layout.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  readNumbered,
  sizeOf,
  until,
  writeNumbered,
  type Settings,
} from "../../support/bus-channel.ts";
import { startWorker } from "../../support/bus-processes.ts";
import type { ConsumeTask } from "../../support/bus-worker.ts";

const sizeMax = 496;
const settings: Settings = { messageSizeMax: sizeMax };
const never = new AbortController().signal;

function consumeTask(directory: string, changes: Partial<ConsumeTask> = {}): ConsumeTask {
  return {
    kind: "consume",
    directory,
    settings,
    service: "ledger",
    waiting: "async",
    limit: 1000,
    pauseMs: 0,
    releaseThrough: Number.MAX_SAFE_INTEGER,
    ...changes,
  };
}

function countUp(last: number): number[] {
  return Array.from({ length: last }, (_unused, index) => index + 1);
}

for (const waiting of ["async", "blocking"] as const) {
  test(`every message arrives once, in order and whole: the producer waits ${waiting}`, async (t) => {
    const directory = makeDirectory(t);
    const last = 20_000;
    startWorker(t, { kind: "produce", directory, settings, last, batch: 3, waiting, finish: true });
    using bus = openAs(directory, "ledger", settings);
    const subscriber = bus.subscriber(channelName);
    let count = 0;
    while (!subscriber.ended) {
      const taken = subscriber.poll((memory, offset, length) => {
        assert.equal(readNumbered(memory, offset, length, sizeMax), ++count);
      }, 1000);
      subscriber.release();
      if (taken === 0) await subscriber.wait(1000, never);
    }
    assert.equal(count, last);
  });

  test(`a producer that sleeps ${waiting} on a full ring goes on when there is room`, async (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory, settings);
    const [{ words }] = file.lanes;
    const finished = file.lanes[0].producer(0) + producerOffset.finished;
    const last = 400;
    startWorker(t, { kind: "produce", directory, settings, last, batch: 1, waiting, finish: true });
    using bus = openAs(directory, "ledger", settings);
    const subscriber = bus.subscriber(channelName);
    let count = 0;
    let naps = 0;
    while (!subscriber.ended) {
      await until("the producer sleeps or is done", () =>
        [sleepWord.producersAsleep, finished].some((it) => words[it] === 1),
      );
      naps += words[sleepWord.producersAsleep] ?? 0;
      const taken = subscriber.poll((memory, offset, length) => {
        assert.equal(readNumbered(memory, offset, length, sizeMax), ++count);
      }, 7);
      subscriber.release();
      if (taken === 0) await subscriber.wait(1000, never);
    }
    assert.equal(count, last);
    assert.ok(naps > 5, `it slept ${naps} times`);
    file.unmap();
  });

  test(`a consumer that sleeps ${waiting} is woken by each message, and by the end`, async (t) => {
    const directory = makeDirectory(t);
    const file = openFile(directory, settings);
    const [{ words }] = file.lanes;
    const worker = startWorker(t, consumeTask(directory, { waiting }));
    using bus = openAs(directory, "engine", settings);
    const publisher = bus.publisher(channelName);
    const isAsleep = (): boolean => words[sleepWord.consumersAsleep] === 1;
    for (let number = 1; number <= 10; number++) {
      await until("the consumer sleeps", isAsleep);
      const length = sizeOf(number, sizeMax);
      writeNumbered(publisher.memory, publisher.claim(length), length, number);
      publisher.commit();
      await until("it is told of the message", () => worker.numbers.length === number);
    }
    await until("the consumer sleeps", isAsleep);
    publisher.finish();
    assert.equal((await worker.told("ended")).count, 10);
    assert.deepEqual(worker.numbers, countUp(10));
    file.unmap();
  });
}

test("two consumers, a slow one and a quick one, both get every message", async (t) => {
  const directory = makeDirectory(t);
  const both: Settings = { ...settings, consumers: ["ledger", "candles"] };
  const quick = startWorker(t, consumeTask(directory, { settings: both, service: "candles" }));
  const slow = startWorker(t, consumeTask(directory, { settings: both, limit: 3, pauseMs: 1 }));
  const last = 300;
  startWorker(t, {
    kind: "produce",
    directory,
    settings: both,
    last,
    batch: 2,
    waiting: "async",
    finish: true,
  });
  await Promise.all([quick.told("ended"), slow.told("ended")]);
  assert.deepEqual(quick.numbers, countUp(last));
  assert.deepEqual(slow.numbers, countUp(last));
});

test("a consumer that sleeps costs less than a hundredth of a core", async (t) => {
  const directory = makeDirectory(t);
  const worker = startWorker(t, {
    kind: "idle",
    directory,
    settings,
    service: "ledger",
    end: "subscriber",
  });
  const { micros, overMs } = await worker.told("cpu");
  assert.ok(micros / 1000 < overMs / 100, `${micros} µs of processor time in ${overMs} ms`);
});

test("of many processes that make a channel at once, one does, and all of them use it", async (t) => {
  const root = makeDirectory(t);
  const consumers = ["first", "second", "third"];
  const shared: Settings = { ...settings, consumers };
  const directories = Array.from({ length: 40 }, (_unused, index) => `${root}/${index}`);
  const startMs = Date.now() + 700;
  const workers = consumers.map((service) =>
    startWorker(t, {
      kind: "race",
      directory: root,
      settings: shared,
      service,
      directories,
      startMs,
      intervalMs: 3,
    }),
  );
  for (const worker of workers) {
    assert.equal((await worker.told("ended")).count, directories.length);
  }
  for (const directory of directories) {
    assert.deepEqual(fs.readdirSync(directory), [`${channelName}.ring`]);
    using bus = openAs(directory, "engine", shared);
    const publisher = bus.publisher(channelName);
    // All three hold what they were to read, if it is one file that they have open.
    while (publisher.offer(new Uint8Array(496)) > 0);
    assert.equal(publisher.sequence, 8);
  }
});
