import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openControl, readersBed } from "../../../src/queue/control.ts";
import {
  controlOffset,
  endMark,
  recordsStartOf,
  segmentFileName,
  segmentOffset,
} from "../../../src/queue/layout.ts";
import { openPublisher, openSubscriber } from "../../../src/queue/queue.ts";
import {
  beginSegment,
  listSegments,
  openSegment,
  reserveSegment,
} from "../../../src/queue/segment.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";
import { startReader } from "../../support/queue-reading.ts";

const segmentBytes = 4096;
/** A sleeper looks for itself after 250 ms: who is woken is awake well before. */
const wokenWithinMs = 150;

/** Sizes by how much of a segment they leave free: nothing, too little for a record, a part. */
const sizes = { 0: 912, 8: 1224, 16: 344, 24: 504, 1168: 1272 };
for (const [left, size] of Object.entries(sizes)) {
  const records = segmentBytes - recordsStartOf(segmentBytes);
  const space = Math.ceil((32 + size) / 8) * 8;
  assert.equal(records % space, Number(left), `sizes leave what they say: ${size}`);
}

for (const waiting of ["async", "blocking"] as const) {
  for (const [left, size] of Object.entries(sizes)) {
    test(`${waiting}: a reader asleep at the end of a segment is woken by the first message of the next; ${left} bytes left`, async (t) => {
      const directory = makeFastDirectory(t);
      await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
      const control = openControl(directory, "read");
      const reader = startReader(t, { directory, waiting, size });
      await reader.until(() => reader.told.open === 1);
      const isAsleep = (): boolean => Atomics.load(control.words, readersBed.asleep) === 1;
      const delaysMs: number[] = [];
      while (delaysMs.length < 12) {
        while (!isAsleep()) await pause(1);
        // From the word that it will sleep to the sleep itself.
        await pause(5);
        const segments = listSegments(directory).length;
        const atMs = performance.now();
        const sequence = publisher.append(1, payloadOf(publisher.lastSequence + 1, size));
        const hasRolled = listSegments(directory).length > segments;
        await reader.until(() => reader.told.taken === sequence);
        if (hasRolled && segments > 0) delaysMs.push(reader.toldAtMs.taken - atMs);
      }
      control.mapping.unmap();
      t.diagnostic(delaysMs.map((ms) => ms.toFixed(1)).join(" "));
      const woken = delaysMs.filter((ms) => ms < wokenWithinMs);
      assert.ok(woken.length > delaysMs.length / 2, delaysMs.join(" "));
    });
  }
}

test("readers that come at any message of a segment go on over its edge", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const append = (size: number): number =>
    publisher.append(1, payloadOf(publisher.lastSequence + 1, size));
  const readers = [];
  for (let number = 0; number < 150; number++) {
    // Segments that are full to the last byte, and others.
    append(number < 60 ? 32 : 50);
    const reader = openSubscriber(directory, `at-${number}`, { start: "latest" });
    assert.equal(reader.position, number + 2);
    assert.equal(reader.next(), undefined);
    readers.push(reader);
  }
  for (const reader of readers) {
    const { position } = reader;
    let expected = position;
    reader.poll(() => assert.equal(reader.envelope.sequence, expected++), 1000);
    assert.equal(expected, 151);
    await reader.close();
  }
});

test("a reader at the end of a segment waits where the next one is reserved, and not begun", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let number = 1; number <= 59; number++) publisher.append(1, payloadOf(number, 32));
  await publisher.close();
  await using reader = openSubscriber(directory, "reader");
  assert.equal(
    reader.poll(() => undefined, 1000),
    59,
  );
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  // As another thread reserves it.
  assert.ok(reserveSegment(directory, 2, { identity, bytes: segmentBytes, checksum: "fast" }));
  for (let look = 0; look < 3; look++) {
    assert.equal(
      reader.poll(() => undefined, 1000),
      0,
    );
    assert.equal(reader.prepareToSleep(), true);
  }
  await using again = openPublisher(directory, { segmentBytes, preallocate: false });
  again.append(1, payloadOf(60, 32));
  assert.equal(reader.prepareToSleep(), false);
  assert.equal(reader.next()?.sequence, 60);
});

test("two processes, one writing and one reading: nothing is lost, repeated or out of order", async (t) => {
  const directory = makeFastDirectory(t);
  const through = 30_000;
  await using publisher = openPublisher(directory, { segmentBytes: 16_384, preallocate: false });
  const readers = [
    startReader(t, { directory, name: "a", through, limit: 7, pollsPerCommit: 50 }),
    startReader(t, { directory, name: "b", through, limit: 1000, waiting: "blocking" }),
    startReader(t, {
      directory,
      name: "c",
      through,
      options: { wait: "spin-then-park", verify: false },
      pollsPerCommit: 0,
    }),
  ];
  for (const reader of readers) await reader.until(() => reader.told.open === 1);
  for (let number = 1; number <= through; number++) {
    publisher.append(1, payloadOf(number));
    // Now a burst, now one by one.
    if (number % (number % 3000 < 1500 ? 500 : 29) === 0) await pause(number % 2);
  }
  for (const reader of readers) {
    await reader.ended();
    assert.equal(reader.failed, undefined);
    assert.equal(reader.told.taken, through);
  }
});

test("a reader in a segment that a fenced writer has begun goes on in the one made in its place", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let number = 1; number <= 59; number++) publisher.append(1, payloadOf(number, 32));
  await publisher.close();
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  // The next one was fenced off, then its old writer has begun it, and noted nothing more.
  reserveSegment(directory, 2, { identity, bytes: segmentBytes, checksum: "fast" });
  const fenced = openSegment(directory, 2, identity, "write");
  fenced.words[fenced.recordsStart / 4] = endMark;
  beginSegment(fenced, { firstSequence: 60, latestNs: 0n, epoch: 1 });
  fenced.mapping.unmap();

  await using reader = openSubscriber(directory, "reader");
  const given: number[] = [];
  const poll = (): number => reader.poll(() => given.push(reader.envelope.sequence), 1000);
  assert.equal(poll(), 59);
  // It looks into files before it sleeps, and so comes to stand there.
  assert.equal(reader.prepareToSleep(), false);
  assert.equal(poll(), 0);
  assert.equal(reader.prepareToSleep(), true);
  const { ino } = fs.statSync(path.join(directory, segmentFileName(2)));
  await using next = openPublisher(directory, { segmentBytes, preallocate: false });
  next.append(1, payloadOf(60));
  assert.notEqual(fs.statSync(path.join(directory, segmentFileName(2))).ino, ino);
  for (let number = 61; number <= 200; number++) next.append(1, payloadOf(number));
  while (poll() > 0);
  assert.deepEqual(
    given,
    Array.from({ length: 200 }, (_, index) => index + 1),
  );
});

test("a reader that looks at the next segment as it is begun takes it for what it is", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let number = 1; number <= 59; number++) publisher.append(1, payloadOf(number, 32));
  const { identity, mapping, words } = openControl(directory, "write");
  t.after(() => mapping.unmap());
  reserveSegment(directory, 2, { identity, bytes: segmentBytes, checksum: "fast" });
  await using reader = openSubscriber(directory, "reader");
  assert.equal(
    reader.poll(() => undefined, 59),
    59,
  );
  // The writer is about to note the last of them, with which the segment is full.
  const check = controlOffset.positionCheck / 4;
  const noted = words[check] ?? 0;
  words[check] = ~noted;
  const { load } = Atomics;
  t.after(() => Object.assign(Atomics, { load }));
  Atomics.load = ((array: Int32Array, index: number) => {
    const found = load(array, index);
    if (index === segmentOffset.begun / 4 && found === 0) {
      Object.assign(Atomics, { load });
      words[check] = noted;
      publisher.append(1, payloadOf(60, 32));
    }
    return found;
  }) as typeof load;
  const given: number[] = [];
  while (given.length < 1) reader.poll(() => given.push(reader.envelope.sequence), 10);
  assert.deepEqual(given, [60]);
});
