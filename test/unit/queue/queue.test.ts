import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import type { Archive } from "../../../src/flow/endpoints.ts";
import type { Message } from "../../../src/message.ts";
import { durableOffset } from "../../../src/queue/layout.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import {
  copyAsKilled,
  makeDirectory,
  makeMessage,
  makeMessages,
  readAll,
  segmentNames,
} from "./scratch.ts";

const withCode =
  (...codes: ErrorCode[]) =>
  (error: unknown) =>
    isGaplessError(error, ...codes);

test("what was appended comes back after closing and opening", async (t) => {
  const directory = path.join(makeDirectory(t), "made", "with", "parents");
  const messages = makeMessages(0n, 100);
  {
    await using queue = await openQueue({ directory });
    assert.equal(queue.lastId, 0n);
    queue.append(messages.slice(0, 30));
    queue.append([]);
    queue.append(messages.slice(30));
    assert.equal(queue.lastId, 100n);
  }
  await using queue = await openQueue({ directory });
  assert.equal(queue.lastId, 100n);
  assert.deepEqual(await readAll(queue), messages);
});

test("a queue is an archive: bounds, trimmed, not yet available", async (t) => {
  const directory = makeDirectory(t);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  const archive: Archive = queue;
  assert.equal(await archive.bounds(), null);
  await assert.rejects(archive.read(0n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
  queue.append([makeMessage(5n, 0n, 10), makeMessage(9n, 5n, 10)]);
  assert.equal(await archive.bounds(), null, "nothing is durable yet");
  await assert.rejects(archive.read(5n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
  await queue.flush();
  assert.deepEqual(await archive.bounds(), { minId: 5n, maxId: 9n });
  assert.deepEqual(
    (await archive.read(0n, 10)).map(({ id }) => id),
    [5n, 9n],
  );
  assert.deepEqual(
    (await archive.read(6n, 10)).map(({ id }) => id),
    [9n],
  );
  await assert.rejects(archive.read(10n, 1), withCode("DATA_NOT_YET_AVAILABLE"));

  queue.append([makeMessage(10n, 9n, 3900)]);
  queue.append([makeMessage(11n, 10n, 3900)]);
  await queue.close();
  fs.rmSync(path.join(directory, "00000000000000000001.log"));
  await using rest = await openQueue({ directory });
  await assert.rejects(rest.read(9n, 1), withCode("DATA_TRIMMED"));
  await assert.rejects(rest.read(0n, 1), withCode("DATA_TRIMMED"));
  assert.equal((await rest.read(10n, 1))[0].id, 10n);
  assert.deepEqual(await rest.bounds(), { minId: 10n, maxId: 11n });
});

test("a batch with one message that does not follow is refused whole", async (t) => {
  await using queue = await openQueue({ directory: makeDirectory(t) });
  queue.append(makeMessages(0n, 3));
  const wrong: Message[][] = [
    [makeMessage(3n, 2n, 1)],
    [makeMessage(6n, 5n, 1)],
    [makeMessage(4n, 2n, 1)],
    [makeMessage(4n, 3n, 1), makeMessage(4n, 3n, 1)],
    [makeMessage(4n, 3n, 1), makeMessage(6n, 5n, 1)],
  ];
  for (const messages of wrong) {
    assert.throws(() => queue.append(messages), withCode("CHAIN_BROKEN"));
  }
  const unencodable = { ...makeMessage(4n, 3n, 1), timestampNs: -1n };
  assert.throws(() => queue.append([unencodable]), withCode("MESSAGE_MALFORMED"));
  const beyond = makeMessage(2n ** 64n, 3n, 1);
  assert.throws(() => queue.append([beyond]), withCode("MESSAGE_MALFORMED"));
  queue.append([makeMessage(2n ** 64n - 1n, 3n, 1)]);
  await queue.flush();
  assert.deepEqual(
    (await readAll(queue)).map(({ id }) => id),
    [1n, 2n, 3n, 2n ** 64n - 1n],
  );
});

test("a message fills a segment to the last byte, and one larger is refused", async (t) => {
  const directory = makeDirectory(t);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  const sizeMax = 4096 - 64 - 8 - 32;
  queue.append([makeMessage(1n, 0n, sizeMax)]);
  const large = makeMessage(2n, 1n, sizeMax + 1);
  assert.throws(() => queue.append([large]), withCode("MESSAGE_TOO_LARGE"));
  queue.append([makeMessage(2n, 1n, sizeMax)]);
  // A batch larger than a segment gets one of its own size: it never lies in two.
  queue.append([makeMessage(3n, 2n, sizeMax), makeMessage(4n, 3n, sizeMax)]);
  queue.append([makeMessage(5n, 4n, 0)]);
  await queue.flush();
  assert.deepEqual(
    (await readAll(queue)).map(({ bytes }) => bytes.length),
    [sizeMax, sizeMax, sizeMax, sizeMax, 0],
  );
  assert.deepEqual(segmentNames(directory), [
    "00000000000000000001.log",
    "00000000000000000002.log",
    "00000000000000000003.log",
  ]);
});

test("an empty segment that is too small makes way for a larger one", async (t) => {
  const directory = makeDirectory(t);
  const copy = makeDirectory(t);
  {
    await using queue = await openQueue({ directory, segmentBytes: 4096 });
    queue.append([makeMessage(1n, 0n, 10)]);
    copyAsKilled(directory, copy);
  }
  // As if the process had been killed between the creation of a segment and its first record.
  const file = path.join(copy, "00000000000000000001.log");
  const bytes = fs.readFileSync(file);
  fs.writeFileSync(file, bytes.fill(0, 64));
  await using queue = await openQueue({ directory: copy, segmentBytes: 16_384 });
  assert.equal(queue.lastId, 0n);
  queue.append([makeMessage(1n, 0n, 10_000)]);
  await queue.flush();
  assert.equal((await readAll(queue))[0]?.bytes.length, 10_000);
});

test("a read goes on through segments, and ends at its limit", async (t) => {
  await using queue = await openQueue({ directory: makeDirectory(t), segmentBytes: 4096 });
  const messages = makeMessages(0n, 1000);
  for (let at = 0; at < 1000; at += 10) queue.append(messages.slice(at, at + 10));
  await queue.flush();
  assert.deepEqual(await queue.read(1n, 5000), messages);
  assert.deepEqual(await queue.read(500n, 300), messages.slice(499, 799));
  for (let id = 1; id <= 1000; id += 7) {
    assert.deepEqual(await queue.read(BigInt(id), 1), [messages[id - 1]]);
  }
});

test("what a reader does with its bytes changes nothing in the log", async (t) => {
  await using queue = await openQueue({ directory: makeDirectory(t) });
  queue.append(makeMessages(0n, 10));
  await queue.flush();
  for (const { bytes } of await queue.read(1n, 10)) bytes.fill(0xff);
  assert.deepEqual(await readAll(queue), makeMessages(0n, 10));
});

test("a read takes no more than 16 MiB at once, but always a message", async (t) => {
  await using queue = await openQueue({ directory: makeDirectory(t) });
  const large = 18 * 1024 * 1024;
  const sizes = [large, large / 3, large / 3, large / 3];
  sizes.forEach((size, index) =>
    queue.append([makeMessage(BigInt(index + 1), BigInt(index), size)]),
  );
  await queue.flush();
  assert.equal((await queue.read(1n, 10)).length, 1);
  assert.equal((await queue.read(2n, 10)).length, 2);
});

test("flushes at the same time share their syncs and cover what came before them", async (t) => {
  await using queue = await openQueue({ directory: makeDirectory(t), segmentBytes: 4096 });
  let lastId = 0n;
  const flushes: Promise<void>[] = [];
  for (let round = 0; round < 50; round += 1) {
    queue.append(makeMessages(lastId, 20));
    lastId += 20n;
    const expected = lastId;
    const flush = queue.flush().then(() => assert.ok(queue.durableId >= expected));
    flushes.push(flush);
    if (round % 10 === 0) await flush;
  }
  await Promise.all(flushes);
  assert.equal(queue.durableId, lastId);
  await queue.flush();
});

test("a flush covers every segment that was written since the last one", async (t) => {
  const directory = makeDirectory(t);
  const messages = makeMessages(0n, 200);
  await using queue = await openQueue({ directory, segmentBytes: 4096 });
  queue.append(messages.slice(0, 10));
  await queue.flush();
  for (let at = 10; at < 200; at += 10) queue.append(messages.slice(at, at + 10));
  await queue.flush();
  const names = segmentNames(directory);
  assert.ok(names.length > 3);
  for (const name of names) {
    const bytes = fs.readFileSync(path.join(directory, name));
    const residue = bytes.subarray(bytes.readUInt32LE(durableOffset));
    assert.ok(
      residue.every((byte) => byte === 0),
      name,
    );
  }
});

test("a closed queue says so, and closing again changes nothing", async (t) => {
  const directory = makeDirectory(t);
  const queue = await openQueue({ directory });
  queue.append(makeMessages(0n, 3));
  const closing = queue.close();
  assert.throws(() => queue.append(makeMessages(3n, 1)), withCode("CLOSED"));
  await closing;
  await queue.close();
  await queue[Symbol.asyncDispose]();
  await assert.rejects(queue.flush(), withCode("CLOSED"));
  await assert.rejects(queue.read(1n, 1), withCode("CLOSED"));
  await assert.rejects(queue.bounds(), withCode("CLOSED"));
  assert.equal(queue.lastId, 3n);
  assert.deepEqual(segmentNames(directory), fs.readdirSync(directory), "the lock is gone");
});

test("options that cannot be are named", async (t) => {
  const directory = makeDirectory(t);
  for (const segmentBytes of [0, 4095, 5000.5, NaN, 2 ** 30 + 1]) {
    await assert.rejects(openQueue({ directory, segmentBytes }), /segmentBytes=/);
  }
  await assert.rejects(openQueue({ directory: "" }), withCode("CONFIG_INVALID"));
  const file = path.join(directory, "file");
  fs.writeFileSync(file, "");
  await assert.rejects(openQueue({ directory: file }), withCode("SYSTEM_CALL_FAILED"));
});
