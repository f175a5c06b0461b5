/** What is seen of a queue from outside: live, copied, and damaged. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import { controlOffset, segmentFileName, segmentOffset } from "../../../src/queue/layout.ts";
import { inspectQueue, openPublisher, openSubscriber } from "../../../src/queue/queue.ts";
import { readerFileOf } from "../../../src/queue/reader-file.ts";
import { startChild } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const segmentBytes = 16 * 1024;

/** Overwrites a byte of a file. */
function damage(filePath: string, offset: number): void {
  const fd = fs.openSync(filePath, "r+");
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, offset);
  fs.writeSync(fd, Buffer.of((byte[0] ?? 0) ^ 0x10), 0, 1, offset);
  fs.closeSync(fd);
}

test("a queue that is written and read tells who does, and how far they are", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const task = { directory, options: { segmentBytes }, reader: "ledger" };
  const child = startChild(t, "live", task);
  await child.next();
  let takenBefore = 0;
  for (let look = 0; look < 20; look++) {
    const { writer, readers, segments, unreadable, ...rest } = inspectQueue(directory);
    assert.deepEqual(unreadable, []);
    assert.deepEqual([writer?.state, writer?.pid, writer?.epoch], ["open", child.pid, 1]);
    assert.ok((writer?.silentMs ?? Infinity) < 5000);
    assert.ok(rest.lastSequence >= 1000 && rest.firstSequence === 1);
    assert.ok(rest.durableSequence > 0 && rest.durableSequence <= rest.lastSequence);
    const [reader] = readers;
    assert.ok(reader?.isAlive === true && reader.pid === child.pid && reader.name === "ledger");
    const { committed = 0, taken, lag } = reader;
    // What it had taken at the last look it has committed by now, but for a batch.
    assert.ok(committed >= takenBefore - 15 && committed < taken, `${committed} of ${taken}`);
    takenBefore = taken;
    assert.equal(lag, rest.lastSequence - committed);
    const begun = segments.filter(({ state }) => state !== "reserved");
    assert.ok(begun.length > 2);
    for (const [index, segment] of begun.entries()) {
      const next = begun[index + 1];
      if (next === undefined) break;
      assert.equal(segment.state, "ended");
      assert.equal(segment.lastSequence + 1, next.firstSequence);
      assert.ok(segment.firstNs !== undefined && segment.firstNs <= segment.latestNs);
      assert.ok(segment.end <= segment.bytes && segment.durableEnd <= segment.end);
    }
  }
  await child.kill();
  const after = inspectQueue(directory);
  assert.deepEqual([after.writer?.state, after.readers[0]?.isAlive], ["gone", false]);
  await openPublisher(directory, { segmentBytes }).close();
  assert.equal(inspectQueue(directory).writer?.state, "closed");
});

test("a copy is nobody's, though its writer and reader live", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "trades");
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  await using subscriber = openSubscriber(directory, "ledger");
  for (let sequence = 1; sequence <= 300; sequence++) publisher.append(1, payloadOf(sequence));
  subscriber.poll(() => undefined, 100);
  subscriber.commit();
  const copy = path.join(root, "copy");
  fs.cpSync(directory, copy, { recursive: true });
  const [original, seen] = [directory, copy].map(inspectQueue);
  assert.ok(original !== undefined && seen !== undefined);
  assert.deepEqual([original.writer?.state, original.readers[0]?.isAlive], ["open", true]);
  assert.deepEqual([seen.writer?.state, seen.readers[0]?.isAlive], ["gone", false]);
  assert.deepEqual([seen.lastSequence, seen.readers[0]?.committed], [300, 100]);
  assert.deepEqual(seen.segments, original.segments);

  // On another machine, or after a boot, nothing that the control file says of now counts.
  const filePath = path.join(copy, controlFileName);
  const content = fs.readFileSync(filePath).fill(0xb0, controlOffset.boot, controlOffset.boot + 16);
  fs.writeFileSync(filePath, content);
  const moved = inspectQueue(copy);
  assert.deepEqual([moved.writer?.silentMs, moved.position], [undefined, undefined]);
  assert.deepEqual([moved.lastSequence, moved.durableSequence], [300, 300]);
});

test("what is damaged is named by its file, and the rest is told", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let sequence = 1; sequence <= 600; sequence++) publisher.append(1, payloadOf(sequence));
  const subscriber = openSubscriber(directory, "ledger");
  subscriber.commit();
  await subscriber.close();
  await openSubscriber(directory, "risk").close();
  await publisher.close();
  const before = inspectQueue(directory);
  assert.ok(before.segments.length >= 3);
  damage(path.join(directory, segmentFileName(1)), segmentOffset.number);
  damage(path.join(directory, segmentFileName(2)), segmentOffset.lastSequence);
  damage(path.join(directory, controlFileName), 3);
  damage(readerFileOf(directory, "ledger"), 16);
  const { unreadable, segments, readers, identity, writer, lastSequence } = inspectQueue(directory);
  assert.deepEqual(unreadable, [
    { file: controlFileName, reason: "it does not begin with GAPLESSC", isDamaged: true },
    { file: segmentFileName(1), reason: "the CRC of the header is wrong", isDamaged: true },
    { file: segmentFileName(2), reason: "the line of its end", isDamaged: true },
    { file: "readers/ledger.reader", reason: "the CRC of the header is wrong", isDamaged: true },
  ]);
  assert.deepEqual([identity, writer, lastSequence], [before.identity, undefined, 600]);
  assert.deepEqual(
    segments.map(({ number, lastSequence: last }) => [number, last]),
    before.segments.slice(1).map(({ number, lastSequence: last }) => [number, last]),
  );
  assert.deepEqual(
    readers.map(({ name }) => name),
    ["risk"],
  );
});

test("where there is nothing of a queue, that is an error", (t) => {
  const directory = makeFastDirectory(t);
  for (const place of [directory, path.join(directory, "none")]) {
    assert.throws(
      () => inspectQueue(place),
      (error) => isGaplessError(error, "DATA_NOT_YET_AVAILABLE"),
    );
  }
});

test("a segment that is missing between others is named, and one that was deleted before them is not", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let sequence = 1; sequence <= 1500; sequence++) publisher.append(1, payloadOf(sequence));
  await publisher.close();
  assert.ok(inspectQueue(directory).segments.length >= 4);
  fs.rmSync(path.join(directory, segmentFileName(1)));
  assert.deepEqual(inspectQueue(directory).unreadable, []);
  fs.rmSync(path.join(directory, segmentFileName(3)));
  assert.deepEqual(inspectQueue(directory).unreadable, [
    {
      file: segmentFileName(3),
      reason: "missing, and one behind it is there",
      isDamaged: true,
    },
  ]);
});
