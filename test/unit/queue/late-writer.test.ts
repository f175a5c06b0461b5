/** A writer that wakes up after it was replaced, when its successor is segments ahead. */
import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openPublisher, openSubscriber, type Publisher } from "gapless/queue";
import { isGaplessError } from "../../../src/errors.ts";
import { openControl, readPosition } from "../../../src/queue/control.ts";
import {
  beginSegment,
  openSegment,
  readBeginning,
  reserveSegment,
} from "../../../src/queue/segment.ts";
import { until } from "../../support/queue-children.ts";
import { startAppender } from "../../support/queue-processes.ts";
import { makeDirectory, payloadOf } from "../../support/queue-records.ts";

for (const step of ["queue.appended 200", "queue.ended 3", "queue.begun 3", "queue.rolled 3"]) {
  test(`a writer that wakes up at ${step} holds up no reader of its successor`, async (t) => {
    const directory = makeDirectory(t);
    const appender = startAppender(t, directory, `SIGSTOP ${step}`);
    await appender.until(() => appender.told.appended > 100);
    await pause(1300);
    await using publisher = openPublisher(directory, {
      takeOverAfterMs: 1000,
      segmentBytes: 4096,
      preallocate: false,
    });
    for (let count = 0; count < 500; count++) {
      publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
    }
    appender.child.kill("SIGCONT");
    await appender.ended();
    assert.equal(appender.failed, "FENCED");
    await using subscriber = openSubscriber(directory, "reader");
    const deadline = performance.now() + 3000;
    while (subscriber.position <= publisher.lastSequence) {
      assert.ok(performance.now() < deadline, `it stays at ${subscriber.position}`);
      if (subscriber.poll(() => undefined, 256) === 0) await subscriber.wait(50);
    }
    publisher.append(publisher.epoch, payloadOf(1));
    const control = openControl(directory, "read");
    t.after(() => control.mapping.unmap());
    assert.equal(readPosition(control)?.sequence, publisher.lastSequence);
  });
}

test("a writer that was replaced while it makes a segment anew puts its successor's back", async (t) => {
  const directory = makeDirectory(t);
  const plan = { segmentBytes: 4096, preallocate: false };
  const old = openPublisher(directory, plan);
  const control = openControl(directory, "write");
  t.after(() => control.mapping.unmap());
  const { identity } = control;
  const payload = payloadOf(1, 3700);
  old.append(1, payload);
  // Reserved with another size, so it has to be another file.
  assert.ok(reserveSegment(directory, 2, { identity, bytes: 8192, checksum: "fast" }));
  const { renameSync } = fs;
  t.after(() => (fs.renameSync = renameSync));
  fs.renameSync = (from, to) => {
    fs.renameSync = renameSync;
    const live = openSegment(directory, 2, identity, "write");
    beginSegment(live, { firstSequence: 2, latestNs: 1n, epoch: 2 });
    live.mapping.unmap();
    renameSync(from, to);
  };
  assert.throws(
    () => old.append(1, payload),
    (error) => isGaplessError(error, "FENCED"),
  );
  const live = openSegment(directory, 2, identity, "read");
  assert.equal(readBeginning(live)?.epoch, 2);
  live.mapping.unmap();
  assert.deepEqual(
    fs.readdirSync(directory).filter((name) => name.includes(".tmp")),
    [],
  );
  await old.close();
});

test("a writer that wakes up before it notes where it is holds up nobody, though its successor has nothing to write", async (t) => {
  const directory = makeDirectory(t);
  const plan = { segmentBytes: 4096, preallocate: false };
  const old = openPublisher(directory, plan);
  const append = (publisher: Publisher, through: number): void => {
    while (publisher.lastSequence < through) {
      publisher.append(publisher.epoch, payloadOf(publisher.lastSequence + 1));
    }
  };
  append(old, 10);
  const { compareExchange } = Atomics;
  t.after(() => Object.assign(Atomics, { compareExchange }));
  const successors: Publisher[] = [];
  // Its record is complete, and it sleeps.
  Atomics.compareExchange = ((...args: Parameters<typeof compareExchange>) => {
    Object.assign(Atomics, { compareExchange });
    const before = compareExchange(...args);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1100);
    const next = openPublisher(directory, { ...plan, takeOverAfterMs: 1000 });
    append(next, 200);
    successors.push(next);
    return before;
  }) as typeof compareExchange;
  append(old, 11);
  assert.equal(successors[0]?.lastSequence, 200);
  await using subscriber = openSubscriber(directory, "reader");
  await until("all of it is there for who only polls", () => {
    subscriber.poll(() => undefined, 256);
    return subscriber.position === 201;
  });
  for (const publisher of [old, ...successors]) await publisher.close();
});
