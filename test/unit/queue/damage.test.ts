import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import { controlOffset, recordHeaderBytes, segmentFileName } from "../../../src/queue/layout.ts";
import { openSubscriber, readLosses } from "../../../src/queue/queue.ts";
import {
  checkOutcome,
  flipEachBit,
  lastRecordOf,
  openFiles,
  readAll,
  writeSmallQueue,
} from "../../support/queue-damage.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const segments = [1, 2, 3];

test("each bit of three segments, flipped: every message is given once, or is in a loss", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const files = openFiles(directory);
  checkOutcome(readAll(files, true), count, "unharmed");
  const seen = { harmless: 0, reported: 0, lost: 0 };
  for (const number of segments) {
    const filePath = path.join(directory, segmentFileName(number));
    flipEachBit(
      filePath,
      () => true,
      (bit) => {
        const what = `segment ${number}, byte ${bit >>> 3}, bit ${bit & 7}`;
        const outcome = readAll(files, true);
        checkOutcome(outcome, count, what);
        assert.deepEqual(outcome.wrong, [], what);
        const lost = outcome.losses.reduce((sum, { from, to }) => sum + to - from + 1, 0);
        assert.ok(lost <= 1, `${what}: ${lost} lost`);
        for (const code of outcome.codes) assert.equal(code, "STORAGE_CORRUPT", what);
        seen[outcome.codes.length === 0 ? "harmless" : "reported"]++;
        seen.lost += lost;
      },
    );
  }
  files.control.mapping.unmap();
  t.diagnostic(JSON.stringify(seen));
  assert.ok(seen.harmless > 0 && seen.reported > 0 && seen.lost > 0);
});

for (const [checksum, verify] of [
  ["crc32c", true],
  ["fast", false],
  ["none", true],
] as const) {
  test(`bits flipped, sums ${checksum}, verify=${verify}: every message is given once, or is in a loss`, async (t) => {
    const directory = makeFastDirectory(t);
    const count = await writeSmallQueue(directory, checksum);
    const files = openFiles(directory);
    for (const number of segments) {
      const filePath = path.join(directory, segmentFileName(number));
      const last = lastRecordOf(files, number);
      flipEachBit(
        filePath,
        // In step with nothing in the format; and all of what is hardest to see.
        (bit) => bit % 13 === number || (bit >>> 3 >= last && bit >>> 3 < last + recordHeaderBytes),
        (bit) => {
          const what = `segment ${number}, byte ${bit >>> 3}, bit ${bit & 7}`;
          const outcome = readAll(files, verify);
          checkOutcome(outcome, count, what);
          const lost = outcome.losses.reduce((sum, { from, to }) => sum + to - from + 1, 0);
          assert.ok(lost <= 1, `${what}: ${lost} lost`);
          if (checksum === "crc32c") assert.deepEqual(outcome.wrong, [], what);
        },
      );
    }
    files.control.mapping.unmap();
  });
}

/** Reads all, or says which error it is opened with. */
function outcomeOfOpening(directory: string, name: string): number[] | string {
  const given: number[] = [];
  try {
    const late = openSubscriber(directory, name, { start: "latest" });
    const end = late.position;
    void late.close();
    const subscriber = openSubscriber(directory, name, { start: "earliest" });
    try {
      let message = subscriber.next();
      for (; message !== undefined; message = subscriber.next()) given.push(message.sequence);
      assert.equal(end, subscriber.position);
    } finally {
      void subscriber.close();
    }
  } catch (error) {
    assert.ok(isGaplessError(error), String(error));
    return error.code;
  }
  return given;
}

test("each bit of the control file, flipped, is refused or does no harm", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const all = Array.from({ length: count }, (_, index) => index + 1);
  const seen = { refused: 0, harmless: 0 };
  flipEachBit(
    path.join(directory, controlFileName),
    // Behind what is in use, a few.
    (bit) => bit < (controlOffset.durable + 64) * 8 || bit % 509 === 0,
    (bit) => {
      const what = `byte ${bit >>> 3}, bit ${bit & 7}`;
      const outcome = outcomeOfOpening(directory, "reader");
      if (typeof outcome === "string") assert.equal(outcome, "STORAGE_CORRUPT", what);
      else assert.deepEqual(outcome, all, what);
      seen[typeof outcome === "string" ? "refused" : "harmless"]++;
    },
  );
  assert.ok(seen.refused > 0 && seen.harmless > 0, JSON.stringify(seen));
});

test("a flipped bit in a reader's file takes it back by a commit at most", async (t) => {
  const directory = makeFastDirectory(t);
  await writeSmallQueue(directory, "fast");
  const reader = openSubscriber(directory, "ledger");
  for (let count = 0; count < 10; count++) reader.next();
  reader.commit();
  for (let count = 0; count < 10; count++) reader.next();
  reader.commit();
  await reader.close();
  const filePath = path.join(directory, "readers", "ledger.reader");
  const seen = new Map<number | string, number>();
  flipEachBit(
    filePath,
    (bit) => bit < 2048 || bit % 509 === 0,
    (bit) => {
      let outcome: number | string;
      try {
        const again = openSubscriber(directory, "ledger", { start: "resume-strict" });
        outcome = again.position;
        void again.close();
      } catch (error) {
        assert.ok(isGaplessError(error), String(error));
        outcome = error.code;
      }
      seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      const what = `byte ${bit >>> 3}, bit ${bit & 7}: ${outcome}`;
      assert.ok([11, 21, "STORAGE_CORRUPT"].includes(outcome), what);
    },
  );
  assert.equal(seen.size, 3);
});

test("damage is told by every call until skip, which records exactly what is lost", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const told: unknown[] = [];
  await using reader = openSubscriber(directory, "ledger", { onLoss: (loss) => told.push(loss) });
  for (let number = 1; number < 4; number++) assert.equal(reader.next()?.sequence, number);
  reader.peek();
  const filePath = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(filePath);
  content[reader.offset + 3] = (content[reader.offset + 3] ?? 0) ^ 0x10;
  await reader.close();
  fs.writeFileSync(filePath, content);

  await using again = openSubscriber(directory, "ledger", { onLoss: (loss) => told.push(loss) });
  const where = new RegExp(`${filePath}.*offset=\\d+`);
  const isDamage = (error: unknown): boolean =>
    isGaplessError(error, "STORAGE_CORRUPT") && where.test(error.message);
  const sequences: number[] = [];
  const poll = (): number => again.poll(() => sequences.push(again.envelope.sequence), 1000);
  assert.equal(poll(), 3, "what comes before the damage is given");
  for (let call = 0; call < 3; call++) {
    assert.throws(poll, isDamage);
    assert.throws(() => again.next(), isDamage);
    assert.throws(() => again.peek(), isDamage);
    await again.wait(10_000);
  }
  await assert.rejects(again.batches().next(), isDamage);
  const loss = again.skipUnreadable();
  assert.equal(poll(), count - 4);
  assert.deepEqual([loss.cause, loss.reader, loss.from, loss.to], ["damaged", "ledger", 4, 4]);
  assert.deepEqual(
    sequences,
    [...sequences.keys()].map((index) => index + (index < 3 ? 1 : 2)),
  );
  assert.deepEqual(readLosses(directory), { losses: [loss], unreadable: 0 });
  assert.deepEqual(told, [loss]);
  // Nothing is wrong any more.
  const { from, to } = again.skipUnreadable();
  assert.equal(to, from - 1);
  assert.equal(readLosses(directory).losses.length, 1);
});

test("a loss that is found out again after a crash is recorded once", async (t) => {
  const directory = makeFastDirectory(t);
  await writeSmallQueue(directory, "fast");
  const filePath = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(filePath);
  const payload = Buffer.from(payloadOf(4, 200));
  const at = content.indexOf(payload);
  assert.ok(at > 0);
  content[at] = 0;
  fs.writeFileSync(filePath, content);
  for (let life = 0; life < 3; life++) {
    await using reader = openSubscriber(directory, "ledger");
    reader.poll(() => undefined, 1000);
    assert.equal(reader.skipUnreadable().from, 4);
    // Dies without a commit.
  }
  assert.equal(readLosses(directory).losses.length, 1);
});

test("a message in a segment whose header is damaged can be sought, told of and read", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const reader = openSubscriber(directory, "ledger");
  while (reader.next() !== undefined);
  const edges = [1, 2, 3].map((number) => path.join(directory, segmentFileName(number)));
  const isDamage = (error: unknown): boolean => isGaplessError(error, "STORAGE_CORRUPT");
  // The first one is damaged, then the first one that is left, then one behind another.
  for (const [damaged, deleted] of [[1], [2, 1], [3, undefined]] as const) {
    if (deleted !== undefined) fs.rmSync(edges[deleted - 1] ?? "");
    const filePath = edges[damaged - 1] ?? "";
    const content = fs.readFileSync(filePath);
    const flipped = Buffer.from(content);
    flipped.writeUInt8(content.readUInt8(40) ^ 4, 40);
    reader.seekSequence(count);
    fs.writeFileSync(filePath, flipped);
    const target = damaged === 3 ? count : 30 * damaged;
    for (const sequence of [target, target - 3]) {
      reader.seekSequence(sequence);
      assert.equal(reader.position, sequence);
      assert.throws(() => reader.next(), isDamage);
      const { from, to } = reader.skipUnreadable();
      assert.deepEqual([from, to], [sequence, sequence - 1], `${damaged}`);
      assert.equal(reader.next()?.sequence, sequence);
    }
    reader.seekSequence(target);
    fs.writeFileSync(filePath, content);
    assert.equal(reader.next()?.sequence, target, "where it was mended, it is read");
  }
  await reader.close();
});

test("an end mark that is damaged is none to whom the next segment goes on with what was to come", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const filePath = path.join(directory, segmentFileName(1));
  const content = fs.readFileSync(filePath);
  const at = content.lastIndexOf(Buffer.from([0xff, 0xff, 0xff, 0xff]));
  content.writeUInt8(0xfe, at);
  fs.writeFileSync(filePath, content);
  await using reader = openSubscriber(directory, "ledger");
  assert.equal(
    reader.poll(() => undefined, 1000),
    count,
  );
});

test("a segment of another queue is no part of this one, whatever it holds", async (t) => {
  const directory = makeFastDirectory(t);
  const other = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  await writeSmallQueue(other, "fast");
  const name = segmentFileName(2);
  fs.cpSync(path.join(other, name), path.join(directory, name));
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  const poll = (): number => reader.poll(() => given.push(reader.envelope.sequence), 1000);
  const before = poll();
  for (let call = 0; call < 2; call++) {
    assert.throws(poll, (error) => isGaplessError(error, "STORAGE_CORRUPT"));
  }
  const { from, to } = reader.skipUnreadable();
  assert.equal(from, before + 1);
  assert.ok(to > from);
  assert.equal(poll(), count - to);
});

test("a reader at the end is not disturbed by a damaged header of the last segment", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  const reader = openSubscriber(directory, "ledger");
  while (reader.next() !== undefined);
  reader.commit();
  await reader.close();
  const filePath = path.join(directory, segmentFileName(3));
  const content = fs.readFileSync(filePath);
  content.writeUInt8(content.readUInt8(70) ^ 4, 70);
  fs.writeFileSync(filePath, content);
  for (const start of ["resume-strict", "latest"] as const) {
    await using again = openSubscriber(directory, "ledger", { start });
    assert.equal(again.position, count + 1);
    assert.equal(again.lag, 0);
    assert.equal(again.next(), undefined);
    assert.equal(again.prepareToSleep(), true);
    const { from, to } = again.skipUnreadable();
    assert.deepEqual([from, to], [count + 1, count]);
  }
});

test("a segment that is gone from the middle is a loss of exactly its records", async (t) => {
  const directory = makeFastDirectory(t);
  const count = await writeSmallQueue(directory, "fast");
  await using reader = openSubscriber(directory, "ledger");
  fs.rmSync(path.join(directory, segmentFileName(2)));
  let given = 0;
  const poll = (): number => reader.poll(() => given++, 1000);
  poll();
  for (let call = 0; call < 2; call++) {
    assert.throws(poll, (error) => isGaplessError(error, "DATA_TRIMMED"));
  }
  const loss = reader.skipUnreadable();
  assert.deepEqual([loss.cause, loss.from], ["deleted", given + 1]);
  poll();
  assert.equal(given + (loss.to - loss.from + 1), count);
});
