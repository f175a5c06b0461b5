/** What a reader without the lock sees of a journal that is being written. */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { followJournal } from "../../../src/flow/journal-follower.ts";
import { openJournal, type Journal } from "../../../src/flow/journal.ts";
import { messageHeaderBytes, type Message } from "../../../src/message.ts";
import { recordsStartOf, recordHeaderBytes } from "../../../src/queue/layout.ts";
import { segmentNames } from "./journal-scratch.ts";

function makeDirectory(t: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-follower-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, "journal");
}

/** Ids `from` to `to`; each happened at ten times its id. */
function messages(from: number, to: number, bytes = 100): Message[] {
  return Array.from({ length: to - from + 1 }, (_unused, index) => {
    const id = BigInt(from + index);
    const content = new Uint8Array(bytes).fill(from + index);
    return { id, prevId: id - 1n, timestampNs: id * 10n, bytes: content };
  });
}

function idsOf(read: readonly Message[]): number[] {
  return read.map(({ id }) => Number(id));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_unused, index) => from + index);
}

async function write(journal: Journal, from: number, to: number): Promise<void> {
  // One at a time, so that they lie in several segments.
  for (const message of messages(from, to)) journal.append([message]);
  await journal.flush();
}

test("a follower reads what is durable while another writes, across segments", async (t) => {
  const directory = makeDirectory(t);
  using follower = followJournal(directory);
  assert.deepEqual(follower.read(1n, 10), []);
  assert.equal(follower.find(0n), 1n);
  await using journal = await openJournal({ directory, segmentBytes: 4096 });
  assert.deepEqual(follower.read(1n, 10), []);
  journal.append(messages(1, 5));
  assert.deepEqual(follower.read(1n, 10), []);
  await journal.flush();
  assert.deepEqual(idsOf(follower.read(1n, 10)), range(1, 5));
  await write(journal, 6, 200);
  assert.ok(segmentNames(directory).length > 3);
  assert.deepEqual(idsOf(follower.read(1n, 1000)), range(1, 200));
  assert.deepEqual(idsOf(follower.read(150n, 10)), range(150, 159));
  assert.deepEqual(idsOf(follower.read(200n, 10)), [200]);
  assert.deepEqual(follower.read(201n, 10), []);
  assert.deepEqual(follower.read(42n, 1)[0]?.bytes, messages(42, 42)[0]?.bytes);
});

test("a follower finds the first message of a time", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes: 4096 });
  await write(journal, 1, 120);
  using follower = followJournal(directory);
  for (const id of [1, 2, 23, 24, 25, 26, 60, 119, 120, 121]) {
    assert.equal(follower.find(BigInt(id * 10)), BigInt(id));
    assert.equal(follower.find(BigInt(id * 10 - 9)), BigInt(id));
  }
  assert.equal(follower.find(0n), 1n);
  assert.equal(follower.find(10_000n), 121n);
});

test("messages of one time are all found where they lie in several segments", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes: 4096 });
  for (const message of messages(1, 120)) {
    journal.append([{ ...message, timestampNs: message.id < 10n ? 5n : 7n }]);
  }
  await journal.flush();
  using follower = followJournal(directory);
  assert.equal(follower.find(5n), 1n);
  assert.equal(follower.find(6n), 10n);
  assert.equal(follower.find(7n), 10n);
  assert.equal(follower.find(8n), 121n);
});

test("a follower begins with what is kept, and goes on while the rest is deleted", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes: 4096 });
  await write(journal, 1, 200);
  using follower = followJournal(directory);
  assert.deepEqual(idsOf(follower.read(1n, 2)), [1, 2]);
  for (const name of segmentNames(directory).slice(0, 2)) fs.rmSync(path.join(directory, name));
  const rest = idsOf(follower.read(1n, 1000));
  const first = rest[0] ?? 0;
  assert.ok(first > 20);
  assert.deepEqual(rest, range(first, 200));
  assert.equal(follower.find(0n), BigInt(first));
  assert.equal(follower.find(BigInt(first * 10 + 1)), BigInt(first + 1));
  await write(journal, 201, 300);
  assert.deepEqual(idsOf(follower.read(150n, 1000)), range(150, 300));
});

test("damage in what was durable is an error that says where, for a follower too", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes: 4096 });
  await write(journal, 1, 20);
  using follower = followJournal(directory);
  const file = path.join(directory, segmentNames(directory)[0] ?? "");
  const handle = fs.openSync(file, "r+");
  const content = recordsStartOf(4096) + recordHeaderBytes + messageHeaderBytes;
  fs.writeSync(handle, Uint8Array.of(0x55), 0, 1, content + 7);
  fs.closeSync(handle);
  assert.throws(
    () => follower.read(1n, 10),
    (error) => isGaplessError(error, "STORAGE_CORRUPT") && error.message.includes(file),
  );
});
