import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import { acquireLock } from "../../../src/memory/lock-file.ts";
import { openControl, readPosition, writerLockName } from "../../../src/queue/control.ts";
import { BACK_PRESSURED, openPublisher } from "../../../src/queue/queue.ts";
import { seededRandom } from "../../../src/random.ts";
import { stepChannelName } from "../../../src/steps.ts";
import { until } from "../../support/queue-children.ts";
import { startAppender } from "../../support/queue-processes.ts";
import {
  copyAsKilled,
  makeDirectory,
  makeFastDirectory,
  payloadOf,
  walkQueue,
} from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

/** Every record is there once, in order, and is what its writer has written. */
function checkRecords(directory: string, acknowledged: number): number {
  const records = walkQueue(directory);
  for (const [index, { sequence, payload }] of records.entries()) {
    assert.equal(sequence, index + 1);
    assert.deepEqual(payload, payloadOf(sequence));
  }
  assert.ok(records.length >= acknowledged, `${records.length} of ${acknowledged}`);
  return records.length;
}

test("G3: a process killed at any moment loses no record that was appended", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = makeDirectory(t);
  let epoch = 0;
  for (let life = 0; life < 4; life++) {
    const appender = startAppender(t, directory);
    await appender.until(() => appender.told.appended > 0);
    assert.ok(appender.told.open > epoch, "an epoch for each writer");
    epoch = appender.told.open;
    await pause(random.below(120));
    appender.child.kill("SIGKILL");
    await appender.ended();
    checkRecords(directory, appender.told.appended);
  }
  await using publisher = openPublisher(directory);
  assert.equal(publisher.lastSequence, checkRecords(directory, 0));
});

const steps = [
  "queue.entered 1",
  "queue.appended 1",
  "queue.appended 37",
  "queue.obtained 3",
  "queue.ended 2",
  "queue.begun 1",
  "queue.begun 3",
  "queue.rolled 2",
  "queue.synced 2",
  "queue.durable 2",
];
for (const step of steps) {
  test(`G3: a process killed at ${step} loses no record that was appended`, async (t) => {
    const directory = makeDirectory(t);
    const appender = startAppender(t, directory, `SIGKILL ${step}`);
    await appender.ended();
    const { appended, durable } = appender.told;
    const count = checkRecords(directory, appended);
    const next = openPublisher(directory);
    assert.equal(next.lastSequence, count);
    assert.ok(next.durableSequence >= durable);
    next.append(1, payloadOf(count + 1));
    await next.close();
    checkRecords(directory, count + 1);
  });
}

/** Calls `look` before and after everything by which others see what a writer does. */
function watchWriter(look: () => void): () => void {
  subscribe(stepChannelName, look);
  const { compareExchange, store } = Atomics;
  Atomics.compareExchange = ((...args: Parameters<typeof compareExchange>) => {
    look();
    const before = compareExchange(...args);
    look();
    return before;
  }) as typeof compareExchange;
  Atomics.store = ((...args: Parameters<typeof store>) => {
    look();
    return store(...args);
  }) as typeof store;
  return () => {
    unsubscribe(stepChannelName, look);
    Object.assign(Atomics, { compareExchange, store });
  };
}

test("G3: whatever a writer was at when it was killed, the next one goes on behind it", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "queue");
  let copies = 0;
  let acknowledged = 0;
  let isLooking = false;
  const closing: Promise<void>[] = [];
  const batches = new Map<number, number>();
  const look = (): void => {
    if (isLooking || !fs.existsSync(directory)) return;
    isLooking = true;
    const copy = path.join(root, String(copies++));
    copyAsKilled(directory, copy);
    const publisher = openPublisher(copy, { segmentBytes: 4096, preallocate: false });
    const { lastSequence } = publisher;
    publisher.append(1, payloadOf(lastSequence + 1));
    const count = checkRecords(copy, acknowledged + 1);
    assert.equal(count, lastSequence + 1);
    for (const [first, last] of batches) {
      assert.ok(lastSequence < first || lastSequence >= last, `a part of a batch: ${lastSequence}`);
    }
    closing.push(publisher.close());
    isLooking = false;
  };
  const unwatch = watchWriter(look);
  const publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  for (let round = 0; round < 60; round++) {
    const sequence = publisher.lastSequence + 1;
    if (round % 7 === 3) {
      const start = publisher.claim(1, 50);
      publisher.memory.bytes.fill(0xff, start, start + 50);
      publisher.abort();
    }
    if (round % 4 === 1) {
      batches.set(sequence, sequence + 2);
      const batch = [0, 1, 2].map((index) => ({ type: 1, payload: payloadOf(sequence + index) }));
      acknowledged = publisher.appendMany(batch);
    } else {
      acknowledged = publisher.append(1, payloadOf(sequence));
    }
  }
  unwatch();
  await publisher.close();
  await Promise.all(closing);
  assert.ok(copies > 150, `${copies} moments`);
  assert.equal(checkRecords(directory, acknowledged), acknowledged);
});

test("a record that was not completed is cut off, whatever of it was written", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "queue");
  const publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  for (let sequence = 1; sequence <= 3; sequence++) publisher.append(1, payloadOf(sequence, 40));
  const start = publisher.claim(7, 40);
  publisher.memory.bytes.fill(0xee, start, start + 40);
  for (let bytes = 0; bytes <= 68; bytes += 4) {
    const copy = path.join(root, String(bytes));
    copyAsKilled(directory, copy);
    const file = path.join(copy, "0000000001.segment");
    const content = fs.readFileSync(file);
    // All of its header but the length, then the payload: as far as it came.
    content.fill(0xee, start - 28, start - 28 + bytes);
    content.fill(0, start - 28 + bytes, start + 40);
    fs.writeFileSync(file, content);
    const cuts: string[] = [];
    const next = openPublisher(copy, { preallocate: false, onCut: (what) => cuts.push(what) });
    assert.equal(next.lastSequence, 3);
    assert.equal(cuts.length, bytes > 0 ? 1 : 0, `${bytes} ${cuts.join()}`);
    next.append(1, payloadOf(4, 40));
    await next.close();
    assert.deepEqual(
      walkQueue(copy).map(({ payload }) => payload),
      [1, 2, 3, 4].map((sequence) => payloadOf(sequence, 40)),
    );
  }
  publisher.abort();
  await publisher.close();
});

test("a live process keeps its queue, a dead one is taken over from", async (t) => {
  const directory = makeDirectory(t);
  const appender = startAppender(t, directory);
  await appender.until(() => appender.told.appended > 0);
  assert.throws(
    () => openPublisher(directory),
    (error) => {
      assert.ok(isGaplessError(error, "WRITER_ALREADY_ACTIVE"));
      assert.match(error.message, new RegExp(`pid=${appender.child.pid}\\b`));
      return true;
    },
  );
  appender.child.kill("SIGKILL");
  await appender.ended();
  const publisher = openPublisher(directory);
  assert.throws(
    () => openPublisher(directory),
    (error) => isGaplessError(error, "WRITER_ALREADY_ACTIVE"),
  );
  await publisher.close();
  await openPublisher(directory).close();
});

const pauses = ["", "queue.appended 200", "queue.obtained 3", "queue.ended 3", "queue.begun 3"];
for (const step of pauses) {
  const where = step === "" ? "anywhere" : `at ${step}`;
  test(`a writer that is paused ${where} and comes back after another took over is fenced`, async (t) => {
    const directory = makeDirectory(t);
    const appender = startAppender(t, directory, step === "" ? "" : `SIGSTOP ${step}`);
    const { told, child } = appender;
    await appender.until(() => told.appended > 100);
    if (step === "") child.kill("SIGSTOP");
    await pause(1300);
    const before = told.appended;
    assert.throws(() => openPublisher(directory, { takeOverAfterMs: 60_000 }), {
      code: "WRITER_ALREADY_ACTIVE",
    });
    const publisher = openPublisher(directory, { takeOverAfterMs: 1000, preallocate: false });
    const begun = publisher.lastSequence + 1;
    assert.ok(begun > before);
    for (let count = 0; count < 50; count++) {
      publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
    }
    child.kill("SIGCONT");
    await appender.ended();
    assert.equal(appender.failed, "FENCED");
    publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
    const control = openControl(directory, "read");
    assert.equal(readPosition(control)?.sequence, publisher.lastSequence);
    control.mapping.unmap();
    await publisher.close();
    const records = walkQueue(directory);
    checkRecords(directory, Math.max(told.appended, publisher.lastSequence));
    assert.ok(told.appended < begun, "what the old one appended, it was told of");
    for (const { sequence, type } of records) {
      assert.equal(type, sequence < begun ? told.open : publisher.epoch);
    }
    // The lock is the new one's to give back, and was.
    await openPublisher(directory).close();
  });
}

test("a writer that is killed as it takes over leaves the one before it fenced all the same", async (t) => {
  const directory = makeDirectory(t);
  const first = startAppender(t, directory);
  await first.until(() => first.told.appended > 100);
  first.child.kill("SIGSTOP");
  await pause(1300);
  await startAppender(t, directory, "SIGKILL queue.entered 1", 1000).ended();
  const publisher = openPublisher(directory, { preallocate: false });
  const begun = publisher.lastSequence + 1;
  for (let count = 0; count < 50; count++) {
    publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
  }
  first.child.kill("SIGCONT");
  await first.ended();
  assert.equal(first.failed, "FENCED");
  await publisher.close();
  assert.equal(checkRecords(directory, begun + 49), begun + 49);
});

test("a writer that a limit refuses is told when another has taken over", async (t) => {
  const directory = makeDirectory(t);
  const options = { segmentBytes: 4096, preallocate: false } as const;
  const first = openPublisher(directory, { ...options, maxSegments: 2 });
  while (first.append(1, payloadOf(80)) !== BACK_PRESSURED);
  // Nothing of this process turns, so its heart does not beat.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1100);
  const second = openPublisher(directory, { ...options, takeOverAfterMs: 1000 });
  assert.throws(() => first.append(1, payloadOf(80)), { code: "FENCED" });
  await first.close();
  await second.close();
});

test("a writer that is still opening the queue is not taken for one that has been silent", async (t) => {
  const directory = makeDirectory(t);
  const first = startAppender(t, directory);
  await first.until(() => first.told.appended > 0);
  first.child.kill("SIGKILL");
  await first.ended();
  await pause(1300);
  const options = { takeOverAfterMs: 1000, preallocate: false };
  // It has the lock, and has not written anything of itself yet.
  const release = acquireLock(path.join(directory, writerLockName));
  assert.throws(() => openPublisher(directory, options), { code: "WRITER_ALREADY_ACTIVE" });
  release();
  // It has entered this moment.
  const second = startAppender(t, directory, "SIGSTOP queue.entered 1");
  await until("it stops", () => stateOf(second.child.pid) === "T");
  assert.throws(() => openPublisher(directory, options), { code: "WRITER_ALREADY_ACTIVE" });
});

/** The state of a process, by /proc: T is stopped. */
function stateOf(pid = 0): string | undefined {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2)[0];
}
