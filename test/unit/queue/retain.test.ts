import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError, type GaplessError } from "../../../src/errors.ts";
import { openPublisher } from "../../../src/queue/queue.ts";
import { startRetention, type Removed, type RetentionOptions } from "../../../src/queue/retain.ts";
import type { PassedOver } from "../../../src/queue/retention.ts";
import { listSegments } from "../../../src/queue/segment.ts";
import { openSubscriber } from "../../../src/queue/subscriber.ts";
import { startChild, until } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const segmentBytes = 4096;

interface Told {
  readonly removed: Removed[];
  readonly passedOver: PassedOver[];
  readonly failures: GaplessError[];
  readonly close: () => Promise<void>;
  readonly nudge: () => void;
}

function retain(context: TestContext, directory: string, options: RetentionOptions): Told {
  const removed: Removed[] = [];
  const passedOver: PassedOver[] = [];
  const failures: GaplessError[] = [];
  const retention = startRetention(directory, {
    intervalMs: 5,
    onRemoved: (one) => removed.push(one),
    onPassedOver: (one) => passedOver.push(one),
    onFailure: (error) => failures.push(error),
    ...options,
  });
  context.after(() => retention.close());
  const close = (): Promise<void> => retention.close();
  return { removed, passedOver, failures, close, nudge: () => retention.nudge() };
}

test("a queue that is written and read stays as large as its retention lets it be", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  // It waits for the queue to be made.
  const told = retain(t, directory, { segments: 4 });
  const publisher = openPublisher(directory, { segmentBytes, maxSegments: 12 });
  const subscriber = openSubscriber(directory, "ledger");
  let last = 0;
  for (let round = 0; round < 3000; round++) {
    const sequence = publisher.append(1, payloadOf(round, 100));
    // Full: retention comes on as the reader does.
    if (sequence < 0) await publisher.waitForRoom(100, 5000);
    else assert.equal(sequence, ++last);
    for (let taken = 0; taken < 2; taken++) subscriber.next();
    if (round % 50 === 0) subscriber.commit();
  }
  assert.ok(last > 2000);
  while (subscriber.next() !== undefined) subscriber.commit();
  // Four, and as many that are reserved ahead of time.
  await until("no more are left", () => listSegments(directory).length <= 8);
  await told.close();
  await subscriber.close();
  await publisher.close();
  assert.deepEqual(told.failures, []);
  assert.deepEqual(told.passedOver, []);
  const segments = told.removed.reduce((sum, one) => sum + one.segments, 0);
  assert.ok(segments > 50);
});

test("a reader that is passed over is told of, once", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const subscriber = openSubscriber(directory, "gone");
  for (let number = 0; number < 1000; number++) publisher.append(1, payloadOf(number, 100));
  await subscriber.close();
  await publisher.close();
  await pause(20);
  const told = retain(t, directory, { segments: 0, readerTtlMs: 10 });
  await until("all but two segments are deleted", () => listSegments(directory).length === 2);
  await until("that is told", () => told.removed.length > 0);
  const throughSequence = told.removed.at(-1)?.throughSequence;
  assert.deepEqual(
    told.passedOver.map(({ reader, reason }) => ({ reader, reason })),
    told.passedOver.map(() => ({ reader: "gone", reason: "ttl" })),
  );
  assert.equal(told.passedOver[0]?.from, 1);
  assert.equal(told.passedOver.at(-1)?.to, throughSequence);
});

test("a cleanup that fails is told once, and goes on once it can", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (const name of ["ledger", "odd"]) {
    const subscriber = openSubscriber(directory, name, { start: "latest" });
    await subscriber.close();
  }
  for (let number = 0; number < 500; number++) publisher.append(1, payloadOf(number, 100));
  const reader = openSubscriber(directory, "ledger");
  while (reader.next() !== undefined) reader.commit();
  const file = path.join(directory, "readers", "odd.reader");
  fs.writeFileSync(file, fs.readFileSync(file).fill(7, 64, 192));

  const told = retain(t, directory, { segments: 0 });
  await until("it is told", () => told.failures.length > 0);
  await pause(100);
  assert.equal(told.failures.length, 1);
  assert.ok(isGaplessError(told.failures[0], "STORAGE_CORRUPT"));
  assert.equal(told.removed.length, 0);
  fs.rmSync(file);
  await until("it goes on", () => told.removed.length > 0);
  await reader.close();
  await publisher.close();
});

test("a hot thread that never turns its event loop has its queue cleaned up too", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const told = retain(t, directory, { segments: 2 });
  // The thread has to be there: to start one takes a turn.
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const subscriber = openSubscriber(directory, "ledger");
  const fill = (): void => {
    for (let number = 0; number < 300; number++) publisher.append(1, payloadOf(number, 100));
    while (subscriber.next() !== undefined) subscriber.commit();
  };
  fill();
  await until("the thread is there", () => told.removed.length > 0);
  const heard = told.removed.length;
  for (let round = 0; round < 3; round++) {
    fill();
    const deadlineMs = performance.now() + 30_000;
    while (listSegments(directory).length > 2) assert.ok(performance.now() < deadlineMs);
  }
  assert.equal(told.removed.length, heard, "an event has come");
  // What was not heard for so long is told at once.
  const wasTold = (): number => told.removed.reduce((sum, one) => sum + one.segments, 0);
  const numbers = listSegments(directory);
  await until("all is told", () => wasTold() === (numbers[0] ?? 0) - 1);
  await subscriber.close();
  await publisher.close();
});

test("between cleanups an interval passes, but for one that is asked for", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const subscriber = openSubscriber(directory, "ledger");
  const told = retain(t, directory, { segments: 2, intervalMs: 3_600_000 });
  await pause(200);
  for (let number = 0; number < 300; number++) publisher.append(1, payloadOf(number, 100));
  while (subscriber.next() !== undefined) subscriber.commit();
  await pause(50);
  assert.ok(listSegments(directory).length > 2);
  told.nudge();
  await until("it is cleaned up", () => listSegments(directory).length === 2);
  await subscriber.close();
  await publisher.close();
});

test("a retention keeps no process from ending", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const child = startChild(t, "retain", { directory, policy: { segments: 1 } });
  assert.equal(await child.ended, 0);
});

test("nonsense is refused before a thread is started", () => {
  for (const options of [{}, { segments: -1 }, { segments: 1, intervalMs: 0 }]) {
    assert.throws(
      () => startRetention("/nowhere", options),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
});
