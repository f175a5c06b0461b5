import assert from "node:assert/strict";
import test from "node:test";
import { Worker } from "node:worker_threads";
import { openColdStore } from "../../../src/buffer/cold-store.ts";
import { packChunks } from "../../../src/buffer/chunk.ts";
import {
  coldIn,
  hasCode,
  makeMessages,
  nextLine,
  openIn,
  runProgram,
  temporaryDirectory,
} from "./fixture.ts";

test("closing waits for the appends under way, and refuses later calls", async (context) => {
  const directory = temporaryDirectory(context);
  const buffer = await openIn(directory);
  const appends = [0n, 10n, 20n].map((lastId) => buffer.append(makeMessages(lastId, 10)));
  const closings = [buffer.close(), buffer.close(), buffer[Symbol.asyncDispose]()];
  await assert.rejects(buffer.append(makeMessages(30n, 1)), hasCode("CLOSED"));
  await Promise.all([...appends, ...closings]);
  await buffer.close();
  await assert.rejects(buffer.archive.read(1n, 1), hasCode("CLOSED"));
  await assert.rejects(buffer.archive.bounds(), hasCode("CLOSED"));
  await assert.rejects(buffer.trim(2n), hasCode("CLOSED"));
  await assert.rejects(buffer.contains(99n), hasCode("CLOSED"));
  await using reopened = await openIn(directory);
  assert.equal(reopened.lastId, 30n);
});

test("a read under way when the buffer closes still gets its messages", async (context) => {
  const directory = temporaryDirectory(context);
  const buffer = await openIn(directory, { capacity: 0 });
  await buffer.append(makeMessages(0n, 10));
  const read = buffer.archive.read(1n, 10);
  await buffer.close();
  assert.equal((await read).length, 10);
});

test("closing is the end for who reads or follows, also where a trim overtook them", async (context) => {
  const buffer = await openIn(temporaryDirectory(context), { capacity: 0 });
  await buffer.append(makeMessages(0n, 5000));
  const following = buffer.follow(1n);
  const reader = buffer.reader(1025n);
  await following.next();
  const trimmed = buffer.trim(4000n);
  const ends = [following.next(), reader.next()];
  await trimmed;
  await buffer.close();
  assert.deepEqual(await Promise.all(ends), [{ done: true, value: undefined }, "end"]);
});

test("a process that leaves its buffer open ends when nothing is to do", async (context) => {
  const directory = temporaryDirectory(context);
  const program = runProgram(context, "idler.ts", directory);
  assert.deepEqual(await program.exited, { code: 0, signal: null });
  await using buffer = await openIn(directory);
  assert.equal(buffer.lastId, 10n);
});

test("a process that cannot open a buffer learns why before it ends", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  await buffer.append(makeMessages(0n, 1));
  const program = runProgram(context, "idler.ts", directory);
  assert.equal(await nextLine(program), "ALREADY_OPEN");
  assert.deepEqual(await program.exited, { code: 0, signal: null });
});

test("a worker that dies rejects the calls under way and those to come with CLOSED", async () => {
  const deaths = ["process.exit(3)", "throw new Error('out of luck')"];
  for (const death of deaths) {
    const program = `
      const { parentPort } = require("node:worker_threads");
      parentPort.postMessage({ kind: "opened", lastId: 7n });
      parentPort.once("message", () => { ${death} });
    `;
    const store = await openColdStore(
      coldIn("/nowhere"),
      () => new Worker(program, { eval: true }),
    );
    assert.equal(store.opened.lastId, 7n);
    const calls = [
      store.commit(packChunks(makeMessages(7n, 1))),
      store.read(1n, 1),
      store.trim(2n),
    ];
    for (const call of calls) await assert.rejects(call, hasCode("CLOSED"));
    await assert.rejects(store.read(1n, 1), hasCode("CLOSED"));
    await store.close();
  }
});

test("a worker that dies before it has opened rejects the opening", async () => {
  const program = "process.exit(1)";
  const opening = openColdStore(coldIn("/nowhere"), () => new Worker(program, { eval: true }));
  await assert.rejects(opening, hasCode("CLOSED"));
});
