import assert from "node:assert/strict";
import test from "node:test";
import {
  hasCode,
  makeMessage,
  makeMessages,
  openIn,
  readAll,
  temporaryDirectory,
} from "./fixture.ts";

test("a read that begins cold goes right on across what is hot", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory, { capacity: 700 });
  const messages = makeMessages(0n, 5000, 100, 2n);
  for (let at = 0; at < messages.length; at += 250) {
    await buffer.append(messages.slice(at, at + 250));
  }
  for (const limit of [1, 7, 600, 5000]) {
    for (const fromId of [1n, 2n, 8000n, 8501n, 9001n, 9999n, 10_000n]) {
      const found = await buffer.archive.read(fromId, limit);
      const begin = Number((fromId + 1n) / 2n) - 1;
      assert.deepEqual(found, messages.slice(begin, begin + found.length));
    }
  }
  assert.deepEqual(await readAll(buffer.archive), messages);
});

test("a cold read stops at its bytes, and never before the first message", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory, { capacity: 0 });
  const messages = makeMessages(0n, 8, 900_000);
  for (const message of messages) await buffer.append([message]);
  const found = await buffer.archive.read(1n, 100);
  assert.ok(found.length < 8);
  assert.deepEqual(found, messages.slice(0, found.length));
  assert.deepEqual(await readAll(buffer.archive, 3n), messages.slice(2));
});

test("only durable messages are visible", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  const appended = buffer.append(makeMessages(0n, 10));
  assert.equal(buffer.lastId, 0n);
  assert.equal(await buffer.archive.bounds(), null);
  await assert.rejects(buffer.archive.read(1n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));
  await appended;
  assert.equal((await buffer.archive.read(1n, 100)).length, 10);
});

test("a trim that overtakes a read makes it fail, not begin later", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory, { capacity: 0 });
  await buffer.append(makeMessages(0n, 5000));
  const trimmed = buffer.trim(4001n);
  await assert.rejects(buffer.archive.read(1n, 10), hasCode("DATA_TRIMMED"));
  await trimmed;
  assert.equal((await buffer.archive.read(4001n, 10))[0].id, 4001n);
});

test("G7: what cannot be asked for is an error", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  await buffer.append([makeMessage(5n, 0n)]);
  for (const limit of [0, -1, 1.5, NaN]) {
    await assert.rejects(buffer.archive.read(1n, limit), hasCode("INVALID_OPERATION"));
  }
  await assert.rejects(buffer.archive.read(-1n, 1), hasCode("INVALID_OPERATION"));
  await assert.rejects(buffer.archive.read(2n ** 64n, 1), hasCode("INVALID_OPERATION"));
  await assert.rejects(buffer.trim(7n), hasCode("INVALID_OPERATION"));
  assert.equal((await buffer.archive.read(0n, 10))[0].id, 5n);
  await assert.rejects(openIn(""), hasCode("CONFIG_INVALID"));
  await assert.rejects(openIn(directory, { capacity: -1 }), hasCode("CONFIG_INVALID"));
});
