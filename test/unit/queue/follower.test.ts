/** What a reader without the lock sees of a queue that is being written. */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { openQueue, type Queue } from "gapless/queue";
import { isGaplessError } from "../../../src/errors.ts";
import type { Message } from "../../../src/message.ts";
import { followQueue } from "../../../src/queue/follower.ts";

function makeDirectory(t: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-follower-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, "queue");
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

async function write(queue: Queue, from: number, to: number): Promise<void> {
  // One at a time, so that they lie in several segments.
  for (const message of messages(from, to)) queue.append([message]);
  await queue.flush();
}

test("a follower reads what is durable while another writes, across segments", async (t) => {
  const directory = makeDirectory(t);
  using follower = followQueue(directory);
  assert.deepEqual(follower.read(1n, 10), []);
  assert.equal(follower.find(0n), 1n);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  assert.deepEqual(follower.read(1n, 10), []);
  queue.append(messages(1, 5));
  assert.deepEqual(follower.read(1n, 10), []);
  await queue.flush();
  assert.deepEqual(idsOf(follower.read(1n, 10)), range(1, 5));
  await write(queue, 6, 200);
  assert.ok(fs.readdirSync(directory).filter((name) => name.endsWith(".log")).length > 3);
  assert.deepEqual(idsOf(follower.read(1n, 1000)), range(1, 200));
  assert.deepEqual(idsOf(follower.read(150n, 10)), range(150, 159));
  assert.deepEqual(idsOf(follower.read(200n, 10)), [200]);
  assert.deepEqual(follower.read(201n, 10), []);
  assert.deepEqual(follower.read(42n, 1)[0]?.bytes, messages(42, 42)[0]?.bytes);
});

test("a follower finds the first message of a time", async (t) => {
  const directory = makeDirectory(t);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  await write(queue, 1, 120);
  using follower = followQueue(directory);
  for (const id of [1, 2, 23, 24, 25, 26, 60, 119, 120, 121]) {
    assert.equal(follower.find(BigInt(id * 10)), BigInt(id));
    assert.equal(follower.find(BigInt(id * 10 - 9)), BigInt(id));
  }
  assert.equal(follower.find(0n), 1n);
  assert.equal(follower.find(10_000n), 121n);
});

test("messages of one time are all found where they lie in several segments", async (t) => {
  const directory = makeDirectory(t);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  for (const message of messages(1, 120)) {
    queue.append([{ ...message, timestampNs: message.id < 10n ? 5n : 7n }]);
  }
  await queue.flush();
  using follower = followQueue(directory);
  assert.equal(follower.find(5n), 1n);
  assert.equal(follower.find(6n), 10n);
  assert.equal(follower.find(7n), 10n);
  assert.equal(follower.find(8n), 121n);
});

test("a first segment that was too small and is made anew is read all the same", async (t) => {
  const directory = makeDirectory(t);
  {
    await using queue = await openQueue({ directory, segmentBytes: 4096 });
    await write(queue, 1, 1);
  }
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  using follower = followQueue(directory);
  // Two in one append do not fit what is left, nor an empty segment.
  for (let id = 2; id <= 10; id += 2) {
    queue.append(messages(id, id + 1, 1900));
    await queue.flush();
    assert.deepEqual(idsOf(follower.read(1n, 100)), range(1, id + 1));
  }
});

test("damage in what was durable is an error that says where, for a follower too", async (t) => {
  const directory = makeDirectory(t);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  await write(queue, 1, 20);
  using follower = followQueue(directory);
  const file = path.join(directory, fs.readdirSync(directory).sort()[0] ?? "");
  const handle = fs.openSync(file, "r+");
  fs.writeSync(handle, Uint8Array.of(0x55), 0, 1, 64 + 60);
  fs.closeSync(handle);
  assert.throws(
    () => follower.read(1n, 10),
    (error) => isGaplessError(error, "STORAGE_CORRUPT"),
  );
});
