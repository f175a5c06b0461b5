/** What a look at every byte of a queue finds, and what it does not. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import { cleanupSegments } from "../../../src/queue/cleanup.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import {
  controlOffset,
  readerOffset,
  recordOffset,
  segmentFileName,
  segmentHeaderBytes,
  segmentOffset,
} from "../../../src/queue/layout.ts";
import {
  inspectQueue,
  openPublisher,
  openSubscriber,
  repairQueue,
  verifyQueue,
  type Publisher,
  type QueueFinding,
} from "../../../src/queue/queue.ts";
import { seededRandom } from "../../../src/random.ts";
import { startChild } from "../../support/queue-children.ts";
import { writeSmallQueue } from "../../support/queue-damage.ts";
import { startAppender } from "../../support/queue-processes.ts";
import { change, offsetOf, startAgain, writeThreeSegments } from "../../support/queue-files.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

/** What was found, in the words by which a program decides. */
function gist(findings: readonly QueueFinding[]): string[] {
  return findings.map(({ severity, file, lost, repair = "-" }) => {
    const range = lost === undefined ? "" : ` ${lost.from}-${lost.to}`;
    return `${severity} ${file.replace(/^0*(\d+)\.segment$/, "$1")}${range} ${repair}`;
  });
}

/** Takes over as soon as the writer has been silent for long enough. */
async function openSoon(directory: string): Promise<Publisher> {
  for (;;) {
    try {
      return openPublisher(directory, { preallocate: false, takeOverAfterMs: 1000 });
    } catch (error) {
      if (!isGaplessError(error, "WRITER_ALREADY_ACTIVE")) throw error;
      await pause(50);
    }
  }
}

test("a queue at work is whole, as far as it has come, whenever it is looked at", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const options = { segmentBytes: 64 * 1024 };
  const child = startChild(t, "live", { directory, options, reader: "ledger" });
  await child.next();
  let records = 0;
  for (let look = 0; look < 12; look++) {
    const report = await verifyQueue(directory);
    assert.deepEqual(report.findings, []);
    assert.ok(report.isLive && report.records >= records);
    assert.equal(report.records, report.lastSequence);
    records = report.records;
  }
  await child.kill();
  const report = await verifyQueue(directory);
  assert.deepEqual([report.isLive, report.isDamaged, report.findings], [false, false, []]);
});

test("segments that retention deletes meanwhile are no finding", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const appender = startAppender(t, directory);
  await appender.until(() => appender.told.appended > 2000);
  await openSubscriber(directory, "gone").close();
  let deleted = 0;
  for (let look = 0; look < 30; look++) {
    const cleaning = setImmediate(() => {
      deleted += cleanupSegments(directory, { segments: 4, readerTtlMs: 0 }).segments.length;
    });
    const report = await verifyQueue(directory);
    clearImmediate(cleaning);
    assert.deepEqual(report.findings, []);
  }
  assert.ok(deleted > 0);
  appender.child.kill("SIGKILL");
});

for (const step of ["queue.ended 2", "queue.begun 2"]) {
  test(`a writer that was stopped at ${step} and replaced leaves no damage`, async (t) => {
    const directory = path.join(makeFastDirectory(t), "trades");
    const appender = startAppender(t, directory, `SIGSTOP ${step}`);
    await appender.until(() => appender.told.appended > 0);
    const publisher = await openSoon(directory);
    publisher.append(1, payloadOf(publisher.lastSequence + 1));
    appender.child.kill("SIGCONT");
    await appender.ended();
    assert.equal(appender.failed, "FENCED");
    await publisher.close();
    const report = await verifyQueue(directory);
    assert.deepEqual(report.findings, []);
    assert.equal(report.records, publisher.lastSequence);
  });
}

for (const step of ["queue.appended 37", "queue.ended 2", "queue.begun 3", "queue.synced 2"]) {
  test(`a writer killed at ${step} leaves no damage`, async (t) => {
    const directory = path.join(makeFastDirectory(t), "trades");
    const appender = startAppender(t, directory, `SIGKILL ${step}`);
    await appender.ended();
    const report = await verifyQueue(directory);
    assert.deepEqual([report.isDamaged, report.findings], [false, []]);
    assert.ok(report.records >= appender.told.appended);
  });
}

for (const checksum of ["fast", "crc32c"] as const) {
  test(`every record with a changed bit is found, and is all that is lost: ${checksum}`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const directory = makeFastDirectory(t);
    const count = await writeSmallQueue(directory, checksum);
    for (let round = 0; round < 200; round++) {
      const filePath = path.join(directory, segmentFileName(1 + random.below(3)));
      const content = fs.readFileSync(filePath);
      const start = content.readUInt32LE(segmentOffset.recordsStart);
      const end = start + random.below(content.length - start);
      // The record that the byte is in, if it is in one, or in what fills it up to 8 bytes.
      let offset = start;
      let next = start;
      while (next <= end && content.readInt32LE(next) > 0) {
        offset = next;
        next += (content.readInt32LE(offset) + 7) & -8;
      }
      if (end >= offset + content.readInt32LE(offset)) continue;
      const sequence = Number(content.readBigUInt64LE(offset + recordOffset.sequence));
      const bit = random.below(8);
      change(filePath, (bytes) => (bytes[end] = (bytes[end] ?? 0) ^ (1 << bit)));
      const report = await verifyQueue(directory);
      fs.writeFileSync(filePath, content);
      const where = `SEED=${seed} round=${round} ${filePath} at ${end}, bit ${bit}`;
      const lost = report.findings.map(({ lost: range }) => range).filter((range) => range);
      assert.deepEqual(lost, [{ from: sequence, to: sequence }], where);
      assert.equal(report.records, count - 1, where);
      assert.ok(report.isDamaged, where);
    }
    assert.deepEqual((await verifyQueue(directory)).findings, []);
  });
}

test("what the header and the index say of the records has to be so", async (t) => {
  const directory = makeFastDirectory(t);
  await writeThreeSegments(directory);
  const whole = await verifyQueue(directory);
  assert.deepEqual(whole.findings, []);
  assert.deepEqual([whole.segments, whole.records], [3, 800]);
  const file = (number: number): string => path.join(directory, segmentFileName(number));
  const cases: readonly [string, number, (bytes: Buffer) => void, readonly string[]][] = [
    ["an entry", 1, (bytes) => (bytes[segmentHeaderBytes + 4] = 0xee), ["flaw 1 index"]],
    ["how many entries", 1, (bytes) => (bytes[segmentOffset.indexed] = 0xee), ["flaw 1 index"]],
    ["its end", 1, (bytes) => (bytes[segmentOffset.end] = 0xee), ["flaw 1 header"]],
    ["its beginning", 2, (bytes) => (bytes[segmentOffset.latestNs] = 0xee), ["damage 2 header"]],
    ["what it is", 2, (bytes) => (bytes[segmentOffset.number] = 0xee), ["damage 2 header"]],
    [
      "that it has begun",
      2,
      (bytes) => bytes.fill(0, segmentOffset.firstSequence, segmentOffset.lastSequence),
      ["damage 2 header"],
    ],
    [
      "what is durable",
      3,
      (bytes) => bytes.writeUInt32LE(bytes.readUInt32LE(segmentOffset.durable) - 8, 192),
      ["damage 3 header"],
    ],
  ];
  for (const [what, number, how, expected] of cases) {
    const content = fs.readFileSync(file(number));
    change(file(number), how);
    const report = await verifyQueue(directory);
    fs.writeFileSync(file(number), content);
    assert.deepEqual(gist(report.findings), expected, what);
    assert.equal(report.records, 800, what);
  }
});

test("what is missing between, or at the end, is found by what comes before and behind", async (t) => {
  const directory = makeFastDirectory(t);
  await writeThreeSegments(directory);
  const places = [2, 3].map((number) => path.join(directory, segmentFileName(number)));
  const [second = "", third = ""] = places;
  const firstOf = (filePath: string): number =>
    Number(fs.readFileSync(filePath).readBigUInt64LE(segmentOffset.firstSequence));
  const [from, to] = [firstOf(second), firstOf(third) - 1];
  const [heldSecond, heldThird] = places.map((place) => fs.readFileSync(place));
  assert.ok(heldSecond !== undefined && heldThird !== undefined);
  fs.rmSync(second);
  const between = await verifyQueue(directory);
  assert.deepEqual(gist(between.findings), [`damage 2 ${from}-${to} -`]);
  assert.equal(between.records, 800 - (to - from + 1));
  fs.writeFileSync(second, heldSecond);
  fs.rmSync(third);
  const last = await verifyQueue(directory);
  assert.deepEqual(gist(last.findings), [`damage 3 ${to + 1}-800 control`]);
  fs.writeFileSync(third, heldThird);
  // The oldest ones are deleted one day: nothing is wrong about that.
  fs.rmSync(path.join(directory, segmentFileName(1)));
  const trimmed = await verifyQueue(directory);
  assert.deepEqual([trimmed.findings, trimmed.firstSequence], [[], from]);
});

test("damage in the way of a writer is told from damage that only readers meet", async (t) => {
  const directory = makeFastDirectory(t);
  await writeThreeSegments(directory);
  const filePath = path.join(directory, segmentFileName(3));
  const content = fs.readFileSync(filePath);
  const first = Number(content.readBigUInt64LE(segmentOffset.firstSequence));
  const lengthAt = (sequence: number): number => offsetOf(filePath, sequence);
  const early = lengthAt(first + 2);
  const late = lengthAt(799);
  change(filePath, (bytes) => bytes.writeInt32LE(7, early));
  const earlier = await verifyQueue(directory);
  assert.deepEqual(gist(earlier.findings), [`damage 3 ${first + 2}-${first + 2} -`]);
  await openPublisher(directory).close();
  fs.writeFileSync(filePath, content);
  change(filePath, (bytes) => bytes.writeInt32LE(7, late));
  const later = await verifyQueue(directory);
  assert.deepEqual(gist(later.findings), ["damage 3 799-799 truncate"]);
  assert.throws(() => openPublisher(directory), /STORAGE_CORRUPT|is damaged/);
});

test("what a power loss takes that was never durable is no damage", async (t) => {
  const directory = makeFastDirectory(t);
  const options = { segmentBytes: 64 * 1024, preallocate: false };
  const root = path.join(directory, "trades");
  const publisher = openPublisher(root, options);
  for (let sequence = 1; sequence <= 50; sequence++) publisher.append(1, payloadOf(sequence));
  await publisher.flush();
  for (let sequence = 51; sequence <= 100; sequence++) publisher.append(1, payloadOf(sequence));
  const copy = path.join(directory, "copy");
  fs.cpSync(root, copy, { recursive: true });
  await publisher.close();
  const filePath = path.join(copy, segmentFileName(1));
  change(filePath, (bytes) => bytes.fill(0, offsetOf(filePath, 70), offsetOf(filePath, 80)));
  const torn = await verifyQueue(copy);
  assert.deepEqual(gist(torn.findings), ["damage 1 70-79 truncate"]);
  startAgain(copy);
  const report = await verifyQueue(copy);
  assert.deepEqual(gist(report.findings), ["note 1 -"]);
  assert.match(report.findings[0]?.what ?? "", /before sequence=70: .* through sequence=100,/);
  assert.deepEqual([report.isDamaged, report.lastSequence], [false, 69]);
});

test("a copy of a queue that was written meanwhile ends before it says: that is told", async (t) => {
  const directory = makeFastDirectory(t);
  const root = path.join(directory, "trades");
  const copy = path.join(directory, "copy");
  await using publisher = openPublisher(root, { segmentBytes: 64 * 1024, preallocate: false });
  for (let sequence = 1; sequence <= 50; sequence++) publisher.append(1, payloadOf(sequence));
  fs.cpSync(root, copy, { recursive: true });
  for (let sequence = 51; sequence <= 60; sequence++) publisher.append(1, payloadOf(sequence));
  fs.copyFileSync(path.join(root, controlFileName), path.join(copy, controlFileName));
  const report = await verifyQueue(copy);
  assert.deepEqual(gist(report.findings), ["damage 1 51-60 truncate"]);
  // The other way round: the control file first.
  fs.cpSync(root, path.join(directory, "late"), { recursive: true });
  for (let sequence = 61; sequence <= 70; sequence++) publisher.append(1, payloadOf(sequence));
  const segment = segmentFileName(1);
  fs.copyFileSync(path.join(root, segment), path.join(directory, "late", segment));
  const late = await verifyQueue(path.join(directory, "late"));
  assert.deepEqual([late.findings, late.records], [[], 70]);
});

test("a reader that has committed what is not there is found, and one that is damaged", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  const publisher = openPublisher(directory, { segmentBytes: 64 * 1024, preallocate: false });
  for (let sequence = 1; sequence <= 50; sequence++) publisher.append(1, payloadOf(sequence));
  const subscriber = openSubscriber(directory, "ledger");
  subscriber.poll(() => undefined, 50);
  subscriber.commit();
  await subscriber.close();
  await publisher.close();
  const reader = path.join(directory, "readers/ledger.reader");
  assert.deepEqual((await verifyQueue(directory)).findings, []);
  const segment = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(segment);
  change(segment, (bytes) => bytes.fill(0, offsetOf(segment, 41)));
  const short = await verifyQueue(directory);
  assert.deepEqual(gist(short.findings), ["damage 1 41-50 truncate"]);
  fs.writeFileSync(segment, content);
  change(reader, (bytes) => bytes.fill(0xee, 64, 192));
  const damaged = await verifyQueue(directory);
  assert.deepEqual(gist(damaged.findings), ["damage readers/ledger.reader -"]);
});

test("each bit of the epoch is missed where it is flipped, and nobody writes before it is mended", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const file = path.join(directory, controlFileName);
  const before = fs.readFileSync(file);
  for (const at of [controlOffset.epoch, controlOffset.epochCheck]) {
    for (let bit = 0; bit < 32; bit++) {
      change(file, (content) => {
        const byte = at + (bit >>> 3);
        content.writeUInt8(content.readUInt8(byte) ^ (1 << (bit & 7)), byte);
      });
      const { findings } = await verifyQueue(directory);
      assert.deepEqual(gist(findings), ["damage queue.control control"], `${at} ${bit}`);
      const isTold = {
        code: "STORAGE_CORRUPT",
        message: /epoch=\d+ is not what.*repair --control/,
      };
      assert.throws(() => openPublisher(directory, { preallocate: false }), isTold);
      assert.match(inspectQueue(directory).unreadable[0]?.reason ?? "", /epoch=\d+ is not/);
      // Whoever reads is not concerned.
      const reader = openSubscriber(directory, "ledger", { start: "earliest" });
      assert.equal(
        reader.poll(() => undefined, 1000),
        count,
      );
      await reader.close();
      if (bit % 16 === 0) {
        repairQueue(directory, { repairs: ["control"], write: true });
        const publisher = openPublisher(directory, { preallocate: false });
        assert.equal(publisher.epoch, 3);
        await publisher.close();
      }
      fs.writeFileSync(file, before);
    }
  }
});

test("an epoch is told without a sign, and a writer that is killed as it stores one leaves none", async (t) => {
  const directory = makeFastDirectory(t);
  await writeSmallQueue(directory, "fast");
  change(path.join(directory, controlFileName), (content) => {
    content.writeUInt32LE(0xffff_fff0, controlOffset.epoch);
    content.writeInt32LE(0, controlOffset.epochCheck);
  });
  assert.deepEqual((await verifyQueue(directory)).findings, []);
  const publisher = openPublisher(directory, { preallocate: false });
  const sequence = publisher.append(1, payloadOf(1));
  assert.equal(publisher.epoch, 0xffff_fff1);
  assert.equal(inspectQueue(directory).writer?.epoch, 0xffff_fff1);
  await using reader = openSubscriber(directory, "ledger");
  reader.seekSequence(sequence);
  assert.equal(reader.writerStatus(1000).epoch, 0xffff_fff1);
  assert.equal(reader.next()?.epoch, 0xffff_fff1);
  await publisher.close();
});

test("a slot of a reader's file that does not hold is noted", async (t) => {
  const directory = makeFastDirectory(t);
  await writeSmallQueue(directory, "fast");
  const reader = openSubscriber(directory, "ledger");
  for (let count = 0; count < 4; count++) {
    assert.ok(reader.next());
    reader.commit();
  }
  await reader.close();
  const file = path.join("readers", "ledger.reader");
  for (const slot of [0, 1]) {
    const filePath = path.join(directory, file);
    const before = fs.readFileSync(filePath);
    change(filePath, (content) => {
      const at = readerOffset.slots + slot * readerOffset.slotBytes + 1;
      content.writeUInt8(content.readUInt8(at) ^ 4, at);
    });
    assert.deepEqual(gist((await verifyQueue(directory)).findings), [`note ${file} -`]);
    fs.writeFileSync(filePath, before);
  }
});
