import assert from "node:assert/strict";
import test from "node:test";
import type { Message } from "../../../src/message.ts";
import {
  hasCode,
  makeMessage,
  makeMessages,
  nextLine,
  openIn,
  readAll,
  runProgram,
  temporaryDirectory,
} from "./fixture.ts";

test("what was appended and trimmed is the same after a restart", async (context) => {
  const directory = temporaryDirectory(context);
  const messages = makeMessages(0n, 3000, 100, 3n);
  {
    await using buffer = await openIn(directory);
    assert.equal(await buffer.archive.bounds(), null);
    await buffer.append(messages);
    await buffer.trim(1001n);
  }
  await using buffer = await openIn(directory);
  assert.equal(buffer.lastId, 9000n);
  assert.deepEqual(await buffer.archive.bounds(), { minId: 1002n, maxId: 9000n });
  await assert.rejects(buffer.archive.read(1000n, 1), hasCode("DATA_TRIMMED"));
  assert.deepEqual(await readAll(buffer.archive, 1001n), messages.slice(333));
  await buffer.append(makeMessages(9000n, 1));
});

test("a buffer trimmed to its end goes on where it was, restarted too", async (context) => {
  const directory = temporaryDirectory(context);
  {
    await using buffer = await openIn(directory);
    await buffer.append(makeMessages(0n, 10));
    await buffer.trim(11n);
    await buffer.trim(4n);
    assert.deepEqual(await buffer.archive.bounds(), { minId: 11n, maxId: 10n });
  }
  await using buffer = await openIn(directory);
  assert.deepEqual(await buffer.archive.bounds(), { minId: 11n, maxId: 10n });
  await assert.rejects(buffer.archive.read(10n, 1), hasCode("DATA_TRIMMED"));
  await assert.rejects(buffer.archive.read(11n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));
  assert.equal((await buffer.append([makeMessage(1n, 0n)])).duplicates, 1);
  await assert.rejects(buffer.append([makeMessage(11n, 9n)]), hasCode("CHAIN_BROKEN"));
  await buffer.append(makeMessages(10n, 5));
  assert.deepEqual(await readAll(buffer.archive, 11n), makeMessages(10n, 5));
});

test("appends that overlap become durable in their order, and share commits", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  const settled: number[] = [];
  const appends = Array.from({ length: 200 }, async (_, index) => {
    await buffer.append([makeMessage(BigInt(index + 1), BigInt(index))]);
    assert.ok(buffer.lastId >= BigInt(index + 1));
    settled.push(index);
  });
  await Promise.all(appends);
  assert.deepEqual(settled, [...settled.keys()]);
  assert.equal(buffer.lastId, 200n);
});

test("bytes may be reused as soon as append has been called", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  const message = makeMessage(1n, 0n);
  const appended = buffer.append([message]);
  message.bytes.fill(0);
  await appended;
  assert.deepEqual((await buffer.archive.read(1n, 1))[0], makeMessage(1n, 0n));
});

test("a trim that overtakes what is appended again leaves the append as it is", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  await buffer.append(makeMessages(0n, 5000));
  const again = buffer.append(makeMessages(500n, 4600));
  const trimmed = buffer.trim(4000n);
  assert.deepEqual(await again, { appended: 100, duplicates: 4500 });
  assert.equal(await trimmed, 3999);
  assert.deepEqual(await buffer.sync(5000n, 200), makeMessages(4999n, 101));
});

test("G7: an append that is refused leaves nothing behind", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  await buffer.append(makeMessages(0n, 2));
  const good = makeMessage(3n, 2n);
  const tooLarge = makeMessage(4n, 3n, 16 * 1024 * 1024);
  const tooLate = { ...makeMessage(4n, 3n), timestampNs: 2n ** 64n };
  const tooFar = makeMessage(2n ** 64n, 3n);
  await assert.rejects(buffer.append([good, makeMessage(5n, 4n)]), hasCode("CHAIN_BROKEN"));
  await assert.rejects(buffer.append([good, makeMessage(3n, 3n)]), hasCode("CHAIN_BROKEN"));
  await assert.rejects(buffer.append([good, tooLarge]), hasCode("MESSAGE_TOO_LARGE"));
  await assert.rejects(buffer.append([good, tooLate]), hasCode("MESSAGE_MALFORMED"));
  await assert.rejects(buffer.append([good, tooFar]), hasCode("MESSAGE_MALFORMED"));
  for (const wrong of [{ id: 3 }, { prevId: undefined }, { bytes: "abc" }, { bytes: [1, 2] }]) {
    const message = { ...good, ...wrong } as unknown as Message;
    await assert.rejects(buffer.append([message]), hasCode("MESSAGE_MALFORMED"));
  }
  for (const logPosition of [-1n, 2n ** 64n, 5 as unknown as bigint]) {
    await assert.rejects(buffer.append([good], { logPosition }), hasCode("INVALID_OPERATION"));
    await assert.rejects(buffer.trim(1n, { logPosition }), hasCode("INVALID_OPERATION"));
  }
  await buffer.append([]);
  assert.equal(buffer.lastId, 2n);
  const last = { ...makeMessage(2n ** 64n - 1n, 3n, 200_000), timestampNs: 2n ** 64n - 1n };
  await buffer.append([good, last]);
  assert.equal((await readAll(buffer.archive)).length, 4);
});

test("G3: a buffer killed between durable and acknowledged keeps the commit", async (context) => {
  const directory = temporaryDirectory(context);
  let expectedId = 0n;
  for (const commits of [1, 2]) {
    const program = runProgram(context, "appender.ts", directory, String(commits));
    assert.equal((await program.exited).signal, "SIGKILL");
    await using buffer = await openIn(directory);
    // The first append is a commit of its own, the one that waits meanwhile is the next.
    expectedId += 10n * BigInt(commits);
    assert.equal(buffer.lastId, expectedId);
    assert.deepEqual(await readAll(buffer.archive), makeMessages(0n, Number(expectedId), 400));
  }
});

test("G3: a buffer killed at any moment has all that it acknowledged", async (context) => {
  const directory = temporaryDirectory(context);
  let acknowledgedId = 0n;
  for (const lines of [1, 40]) {
    const program = runProgram(context, "appender.ts", directory);
    for (let line = 0; line < lines; line++) acknowledgedId = BigInt(await nextLine(program));
    program.child.kill("SIGKILL");
    // What it had printed by then was acknowledged as well.
    for await (const line of { [Symbol.asyncIterator]: () => program.lines }) {
      acknowledgedId = BigInt(line);
    }
    assert.equal((await program.exited).signal, "SIGKILL");
    await using buffer = await openIn(directory);
    assert.ok(buffer.lastId >= acknowledgedId, `lastId=${buffer.lastId}`);
    assert.deepEqual(await readAll(buffer.archive), makeMessages(0n, Number(buffer.lastId), 400));
  }
});
