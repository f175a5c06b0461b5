/** What a journal takes, keeps and gives back. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { openPublisher } from "gapless/queue";
import type { Archive } from "../../../src/flow/endpoints.ts";
import { openJournal } from "../../../src/flow/journal.ts";
import type { Message } from "../../../src/message.ts";
import { payloadBytesMaxOf } from "../../../src/queue/layout.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";
import { makeDirectory, makeFastDirectory } from "../../support/queue-records.ts";
import {
  idsOf,
  makeMessage,
  makeMessages,
  readAll,
  segmentNames,
  withCode,
} from "./journal-scratch.ts";

const segmentBytes = 4096;
const messageHeaderBytes = 32;
const sizeMax = payloadBytesMaxOf(segmentBytes) - messageHeaderBytes;

test("what was appended to a journal comes back after closing and opening", async (t) => {
  const directory = path.join(makeDirectory(t), "made", "with", "parents");
  const messages = makeMessages(0n, 100);
  {
    await using journal = await openJournal({ directory });
    assert.equal(journal.lastId, 0n);
    journal.append(messages.slice(0, 30));
    journal.append([]);
    journal.append(messages.slice(30, 31));
    journal.append(messages.slice(31));
    assert.equal(journal.lastId, 100n);
  }
  await using journal = await openJournal({ directory });
  assert.equal(journal.lastId, 100n);
  assert.equal(journal.durableId, 100n);
  assert.deepEqual(await readAll(journal), messages);
});

test("a journal is an archive: bounds, and what is not durable yet is not there", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes });
  const archive: Archive = journal;
  assert.equal(await archive.bounds(), null);
  await assert.rejects(archive.read(0n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
  journal.append([makeMessage(5n, 0n, 10), makeMessage(9n, 5n, 10)]);
  assert.equal(await archive.bounds(), null, "nothing is durable yet");
  await assert.rejects(archive.read(5n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
  await journal.flush();
  assert.deepEqual(await archive.bounds(), { minId: 5n, maxId: 9n });
  assert.deepEqual(idsOf(await archive.read(0n, 10)), [5n, 9n]);
  assert.deepEqual(idsOf(await archive.read(6n, 10)), [9n]);
  await assert.rejects(archive.read(10n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
  journal.append([makeMessage(12n, 9n, 10)]);
  assert.deepEqual(idsOf(await archive.read(0n, 10)), [5n, 9n]);
  await assert.rejects(archive.read(10n, 1), withCode("DATA_NOT_YET_AVAILABLE"));
});

test("what was deleted of a journal is DATA_TRIMMED, never a later beginning", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes });
  const messages = makeMessages(0n, 300);
  for (const message of messages) journal.append([message]);
  await journal.flush();
  assert.deepEqual(idsOf(await journal.read(1n, 3)), [1n, 2n, 3n]);
  const [first = "", second = ""] = segmentNames(directory);
  for (const name of [first, second]) fs.rmSync(path.join(directory, name));
  const { minId = 0n, maxId } = (await journal.bounds()) ?? {};
  assert.ok(minId > 20n && maxId === 300n, `minId=${minId}`);
  for (const fromId of [0n, 1n, 2n, minId - 1n]) {
    await assert.rejects(journal.read(fromId, 1), withCode("DATA_TRIMMED"), `fromId=${fromId}`);
  }
  assert.deepEqual(await readAll(journal), messages.slice(Number(minId) - 1));
  await journal.close();

  await using rest = await openJournal({ directory, segmentBytes });
  assert.equal(rest.lastId, 300n);
  await assert.rejects(rest.read(minId - 1n, 1), withCode("DATA_TRIMMED"));
  rest.append([makeMessage(301n, 300n, 1)]);
});

test("a batch with one message that does not follow is refused whole", async (t) => {
  await using journal = await openJournal({ directory: makeDirectory(t) });
  journal.append(makeMessages(0n, 3));
  const wrong: Message[][] = [
    [makeMessage(3n, 2n, 1)],
    [makeMessage(6n, 5n, 1)],
    [makeMessage(4n, 2n, 1)],
    [makeMessage(4n, 3n, 1), makeMessage(4n, 3n, 1)],
    [makeMessage(4n, 3n, 1), makeMessage(6n, 5n, 1)],
  ];
  for (const messages of wrong) {
    assert.throws(() => journal.append(messages), withCode("CHAIN_BROKEN"));
  }
  const unencodable = { ...makeMessage(4n, 3n, 1), timestampNs: -1n };
  assert.throws(() => journal.append([unencodable]), withCode("MESSAGE_MALFORMED"));
  const beyond = makeMessage(2n ** 64n, 3n, 1);
  assert.throws(() => journal.append([beyond]), withCode("MESSAGE_MALFORMED"));
  journal.append([makeMessage(2n ** 64n - 1n, 3n, 1)]);
  await journal.flush();
  assert.deepEqual(idsOf(await readAll(journal)), [1n, 2n, 3n, 2n ** 64n - 1n]);
});

test("a message fills a segment to the last byte, and one larger is refused", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes, preallocate: false });
  journal.append([makeMessage(1n, 0n, sizeMax)]);
  const large = makeMessage(2n, 1n, sizeMax + 1);
  assert.throws(() => journal.append([large]), withCode("MESSAGE_TOO_LARGE"));
  assert.throws(
    () => journal.append([makeMessage(2n, 1n, 1), makeMessage(3n, 2n, sizeMax + 1)]),
    withCode("MESSAGE_TOO_LARGE"),
  );
  assert.equal(journal.lastId, 1n);
  journal.append([makeMessage(2n, 1n, sizeMax)]);
  journal.append([makeMessage(3n, 2n, 0)]);
  await journal.flush();
  assert.deepEqual(
    (await readAll(journal)).map(({ bytes }) => bytes.length),
    [sizeMax, sizeMax, 0],
  );
  assert.equal(segmentNames(directory).length, 3);
});

test("a batch that has room in a segment lies in one, and a larger one is divided", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory, segmentBytes, preallocate: false });
  journal.append([makeMessage(1n, 0n, sizeMax - 100)]);
  // What is left there has room for one of them.
  journal.append([makeMessage(2n, 1n, 10), makeMessage(3n, 2n, 10)]);
  assert.equal(segmentNames(directory).length, 2);
  const messages = makeMessages(3n, 500);
  journal.append(messages);
  assert.equal(journal.lastId, 503n);
  await journal.flush();
  assert.deepEqual(await journal.read(4n, 1000), messages);
  assert.ok(segmentNames(directory).length > 10);
});

test("a read of a journal goes on through segments, and ends at its limit", async (t) => {
  await using journal = await openJournal({ directory: makeDirectory(t), segmentBytes });
  const messages = makeMessages(0n, 1000);
  for (let at = 0; at < 1000; at += 10) journal.append(messages.slice(at, at + 10));
  await journal.flush();
  assert.deepEqual(await journal.read(1n, 5000), messages);
  assert.deepEqual(await journal.read(500n, 300), messages.slice(499, 799));
  for (let id = 1; id <= 1000; id += 7) {
    assert.deepEqual(await journal.read(BigInt(id), 1), [messages[id - 1]]);
  }
});

test("what a reader does with its bytes changes nothing in the journal", async (t) => {
  await using journal = await openJournal({ directory: makeDirectory(t) });
  journal.append(makeMessages(0n, 10));
  await journal.flush();
  for (const { bytes } of await journal.read(1n, 10)) bytes.fill(0xff);
  assert.deepEqual(await readAll(journal), makeMessages(0n, 10));
});

test("a read takes no more than 16 MiB at once, but always a message", async (t) => {
  await using journal = await openJournal({ directory: makeFastDirectory(t) });
  const large = 18 * 1024 * 1024;
  const sizes = [large, large / 3, large / 3, large / 3];
  sizes.forEach((size, index) =>
    journal.append([makeMessage(BigInt(index + 1), BigInt(index), size)]),
  );
  await journal.flush();
  assert.deepEqual(idsOf(await journal.read(1n, 10)), [1n]);
  assert.deepEqual(idsOf(await journal.read(2n, 10)), [2n, 3n]);
});

test("flushes at the same time cover what came before them, and nothing behind", async (t) => {
  await using journal = await openJournal({ directory: makeDirectory(t), segmentBytes });
  let lastId = 0n;
  const flushes: Promise<void>[] = [];
  for (let round = 0; round < 50; round += 1) {
    journal.append(makeMessages(lastId, 20));
    lastId += 20n;
    const expected = lastId;
    const flush = journal.flush().then(() => assert.ok(journal.durableId >= expected));
    flushes.push(flush);
    if (round % 10 === 0) await flush;
  }
  await Promise.all(flushes);
  assert.equal(journal.durableId, lastId);
  await journal.flush();
});

test("damage in a journal is an error that says where, behind all that is whole", async (t) => {
  const directory = makeDirectory(t);
  const messages = makeMessages(0n, 40);
  {
    await using journal = await openJournal({ directory, segmentBytes });
    journal.append(messages.slice(0, 20));
    journal.append(messages.slice(20));
  }
  const [name = ""] = segmentNames(directory);
  const file = path.join(directory, name);
  const bytes = fs.readFileSync(file);
  const content = Buffer.alloc(15, 16);
  const at = bytes.indexOf(content);
  assert.ok(at > 0);
  bytes[at + 3] = 1;
  fs.writeFileSync(file, bytes);

  await using journal = await openJournal({ directory, segmentBytes });
  assert.deepEqual(await journal.read(1n, 100), messages.slice(0, 14));
  await assert.rejects(journal.read(15n, 100), (error) => {
    assert.ok(withCode("STORAGE_CORRUPT")(error) && error instanceof Error);
    return error.message.includes(file) && error.message.includes("sequence=15");
  });
  assert.deepEqual(await journal.read(16n, 100), messages.slice(15));
});

test("a queue that holds anything but chained messages is no journal", async (t) => {
  const directory = makeDirectory(t);
  {
    await using publisher = openPublisher(directory, { segmentBytes });
    publisher.append(7, Uint8Array.of(1, 2, 3));
  }
  await assert.rejects(openJournal({ directory, segmentBytes }), withCode("MESSAGE_MALFORMED"));
  // And it was left alone, and is free.
  await using publisher = openPublisher(directory, { segmentBytes });
  assert.equal(publisher.lastSequence, 1);
});

test("a journal has one writer at a time", async (t) => {
  const directory = makeDirectory(t);
  await using journal = await openJournal({ directory });
  await assert.rejects(openJournal({ directory }), (error) => {
    assert.ok(withCode("WRITER_ALREADY_ACTIVE")(error) && error instanceof Error);
    return error.message.includes(`pid=${process.pid}`);
  });
  journal.append(makeMessages(0n, 1));
  await journal.close();
  await using next = await openJournal({ directory });
  assert.equal(next.lastId, 1n);
});

test("a closed journal says so, and closing again changes nothing", async (t) => {
  const journal = await openJournal({ directory: makeDirectory(t) });
  journal.append(makeMessages(0n, 3));
  const closing = journal.close();
  assert.throws(() => journal.append(makeMessages(3n, 1)), withCode("CLOSED"));
  await closing;
  await journal.close();
  await assert.rejects(journal.flush(), withCode("CLOSED"));
  await assert.rejects(journal.read(1n, 1), withCode("CLOSED"));
  await assert.rejects(journal.bounds(), withCode("CLOSED"));
});

test("options of a journal that cannot be are named", async (t) => {
  const directory = makeDirectory(t);
  for (const bytes of [0, 4095, 5000.5, NaN, 2 ** 30 + 1]) {
    await assert.rejects(openJournal({ directory, segmentBytes: bytes }), /segmentBytes=/);
  }
  await assert.rejects(openJournal({ directory: "" }), withCode("CONFIG_INVALID"));
  const file = path.join(directory, "file");
  fs.writeFileSync(file, "");
  await assert.rejects(openJournal({ directory: file }), withCode("CONFIG_INVALID"));
});

test(
  "on a full disk a batch is appended whole or not at all, and again with room",
  { skip: tinyDiskRefused },
  async (t) => {
    const disk = mountTinyDisk(t, 256 * 1024);
    const ballast = path.join(disk, "ballast");
    fs.writeFileSync(ballast, Buffer.alloc(64 * 1024));
    const directory = path.join(disk, "journal");
    await using journal = await openJournal({ directory, segmentBytes: 16_384 });
    let lastId = 0n;
    const append = (): void => {
      for (; lastId < 100_000n; lastId += 100n) journal.append(makeMessages(lastId, 100));
    };
    assert.throws(append, withCode("STORAGE_FULL"));
    assert.ok(lastId > 100n);
    assert.equal(journal.lastId, lastId);
    fs.rmSync(ballast);
    journal.append(makeMessages(lastId, 100));
    await journal.flush();
    assert.deepEqual(await readAll(journal), makeMessages(0n, Number(lastId) + 100));
  },
);
