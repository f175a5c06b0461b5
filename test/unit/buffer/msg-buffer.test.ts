/** What an application sees of its buffer: events, readers, followers, limits. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import {
  BufferFull,
  bytesCodec,
  DataCorrupted,
  DataTrimmed,
  InvalidOperation,
  jsonCodec,
  openMsgBuffer,
  protobufCodec,
  StorageError,
} from "../../../src/buffer/buffer.ts";
import { decodeMark, encodeMark, markFile } from "../../../src/buffer/cold-layout.ts";
import type { Message } from "../../../src/message.ts";
import { hasCode, makeMessage, makeMessages, openIn, temporaryDirectory } from "./fixture.ts";

interface Fill {
  readonly id: bigint;
  readonly prevId: bigint;
  readonly price: number;
  readonly account: bigint;
  readonly note?: string;
}

const fill = (id: bigint): Fill => ({ id, prevId: id - 1n, price: Number(id) / 4, account: 7n });

test("events come back as they went in, whichever tier answers, after a restart too", async (t) => {
  const directory = temporaryDirectory(t);
  const open = () =>
    openMsgBuffer<Fill>({
      component: "oms",
      ringBuffer: { capacity: 5 },
      storage: { dbPath: directory, cfName: "fills" },
      codec: jsonCodec((key, value) => (key === "account" ? BigInt(value as string) : value)),
    });
  const events = Array.from({ length: 20 }, (_, index) => fill(BigInt(index + 1)));
  {
    await using buffer = await open();
    assert.deepEqual(await buffer.append(events), { appended: 20, duplicates: 0 });
    assert.deepEqual(await buffer.sync(1n, 100), events);
    assert.deepEqual(await buffer.sync(18n, 2), events.slice(17, 19));
  }
  await using buffer = await open();
  assert.deepEqual(await buffer.sync(1n, 100), events);
  assert.deepEqual(await buffer.append(events.slice(10)), { appended: 0, duplicates: 10 });
  const other = { ...fill(20n), price: 1 };
  await assert.rejects(buffer.append([other]), DataCorrupted);
});

test("bytes that the codec cannot read are named, and stay as they are", async (t) => {
  const storage = { dbPath: temporaryDirectory(t) };
  {
    await using buffer = await openMsgBuffer({ component: "me", storage });
    await buffer.append(makeMessages(0n, 3));
  }
  await using buffer = await openMsgBuffer<Fill>({ component: "me", storage, codec: jsonCodec() });
  await assert.rejects(buffer.sync(2n, 1), (error) => {
    assert.ok(error instanceof StorageError && error.isCorruption);
    return /id=2 /.test(error.message);
  });
  assert.equal((await buffer.archive.read(1n, 10)).length, 3);
});

test("a Protobuf codec takes messages of its schema, and holds them against their id", () => {
  // Any schema will do to see that its bytes are used; this one has no ids of its own.
  const codec = protobufCodec(TimestampSchema);
  const event = Object.assign(create(TimestampSchema, { seconds: 5n }), { id: 1n, prevId: 0n });
  const bytes = codec.encode(event);
  assert.throws(
    () => codec.decode({ id: 1n, prevId: 0n, timestampNs: 0n, bytes }),
    /its bytes say/,
  );
});

test("a reader tells a lag from the end, and can be sent back and forth", async (t) => {
  const buffer = await openIn(temporaryDirectory(t), { capacity: 10 });
  const reader = buffer.reader(1n);
  assert.equal(await reader.next(), "not-yet");
  await buffer.append(makeMessages(0n, 600, 10, 2n));
  for (let id = 2n; id <= 1200n; id += 2n) {
    const next = await reader.next();
    assert.ok(typeof next === "object" && next.id === id);
  }
  assert.equal(reader.position, 1201n);
  assert.equal(await reader.next(), "not-yet");
  reader.seek(599n);
  const again = await reader.next();
  assert.ok(typeof again === "object" && again.id === 600n);
  assert.equal(reader.position, 602n);
  await buffer.trim(700n);
  reader.seek(650n);
  await assert.rejects(reader.next(), DataTrimmed);
  await assert.rejects(reader.next(), DataTrimmed);
  reader.seek(701n);
  const behind = await reader.next();
  assert.ok(typeof behind === "object" && behind.id === 702n);
  reader.seek(1201n);
  await buffer.close();
  assert.equal(await reader.next(), "end");
});

test("calls of a reader that overlap each get another event, and a seek is never undone", async (t) => {
  const buffer = await openIn(temporaryDirectory(t), { capacity: 0 });
  await buffer.append(makeMessages(0n, 600));
  const reader = buffer.reader(1n);
  const taken = await Promise.all(Array.from({ length: 600 }, () => reader.next()));
  const ids = taken.map((next) => (typeof next === "object" ? next.id : next));
  assert.deepEqual(
    ids,
    makeMessages(0n, 600).map(({ id }) => id),
  );
  assert.equal(await reader.next(), "not-yet");
  reader.seek(1n);
  const next = reader.next();
  reader.seek(400n);
  assert.deepEqual([await next, await reader.next()], makeMessages(399n, 2));
  await buffer.close();
});

test("a reader gives what is before an event that cannot be decoded, and what is behind it", async (t) => {
  const decode = (message: Message): Message => {
    if (message.id === 3n) throw new Error("of another version");
    return message;
  };
  const codec = { ...bytesCodec, decode };
  const storage = { dbPath: temporaryDirectory(t) };
  await using buffer = await openMsgBuffer({ component: "me", storage, codec });
  await buffer.append(makeMessages(0n, 5));
  const reader = buffer.reader(1n);
  assert.deepEqual([await reader.next(), await reader.next()], makeMessages(0n, 2));
  await assert.rejects(reader.next(), hasCode("STORAGE_CORRUPT"));
  await assert.rejects(reader.next(), hasCode("STORAGE_CORRUPT"));
  assert.equal(reader.position, 3n);
  reader.seek(4n);
  assert.deepEqual(await reader.next(), makeMessage(4n, 3n));
});

test("who follows gets everything once, from the disk, from memory and live", async (t) => {
  await using buffer = await openIn(temporaryDirectory(t), { capacity: 50 });
  await buffer.append(makeMessages(0n, 2000));
  const stop = new AbortController();
  const followers = [1n, 900n, 1999n, 2500n].map(async (fromId) => {
    const ids: bigint[] = [];
    for await (const batch of buffer.follow(fromId, { signal: stop.signal })) {
      ids.push(...batch.map(({ id }) => id));
      if (ids.at(-1) === 5000n) break;
    }
    assert.deepEqual(
      ids,
      Array.from({ length: 5001 - Number(fromId) }, (_, index) => fromId + BigInt(index)),
    );
  });
  for (let last = 2000n; last < 5000n; last += 30n) await buffer.append(makeMessages(last, 30));
  await Promise.all(followers);
  // One that waits ends with its signal, and another with the buffer.
  const wait = async (signal?: AbortSignal): Promise<number> => {
    let batches = 0;
    const options = signal === undefined ? {} : { signal };
    for await (const _batch of buffer.follow(5001n, options)) batches++;
    return batches;
  };
  const waiting = [wait(stop.signal), wait()];
  stop.abort();
  assert.equal(await waiting[0], 0);
  await buffer.close();
  assert.equal(await waiting[1], 0);
});

test("a trim that overtakes a follower is told, not skipped over", async (t) => {
  await using buffer = await openIn(temporaryDirectory(t), { capacity: 0 });
  await buffer.append(makeMessages(0n, 5000));
  const follower = buffer.follow(1n);
  await follower.next();
  await buffer.trim(4900n);
  await assert.rejects(follower.next(), (error) => {
    assert.ok(error instanceof DataTrimmed);
    assert.equal(error.minAvailableId, 4900n);
    return true;
  });
});

test("a full ring that may not overwrite refuses, whole batches, until it is trimmed", async (t) => {
  const directory = temporaryDirectory(t);
  const limits = { capacity: 100, overwriteOnFull: false };
  {
    await using buffer = await openIn(directory, limits);
    await buffer.append(makeMessages(0n, 90));
    const full = (error: unknown): boolean => error instanceof BufferFull && error.isTemporary;
    await assert.rejects(buffer.append(makeMessages(90n, 11)), full);
    assert.equal(buffer.lastId, 90n);
    const together = [makeMessages(90n, 8), makeMessages(98n, 8)].map((one) => buffer.append(one));
    const [first, second] = await Promise.allSettled(together);
    assert.deepEqual([first?.status, second?.status], ["fulfilled", "rejected"]);
    // What comes again needs no room.
    assert.equal((await buffer.append(makeMessages(40n, 58))).duplicates, 58);
    await assert.rejects(buffer.append(makeMessages(40n, 61)), BufferFull);
    assert.equal((await buffer.stats()).duplicates, 58);
  }
  {
    // Nor is there where the buffer has become smaller than what it holds.
    await using smaller = await openIn(directory, { ...limits, capacity: 50 });
    assert.equal((await smaller.append(makeMessages(40n, 58))).duplicates, 58);
    await smaller.append([], { logPosition: 1n });
    await assert.rejects(smaller.append(makeMessages(98n, 1)), BufferFull);
  }
  await using buffer = await openIn(directory, limits);
  await assert.rejects(buffer.append(makeMessages(98n, 3)), BufferFull);
  assert.equal(await buffer.trim(51n), 50);
  await buffer.append(makeMessages(98n, 52));
  assert.equal((await buffer.stats()).total, 100);
  // What no trim makes room for is not to be tried again.
  await assert.rejects(buffer.append(makeMessages(150n, 101)), InvalidOperation);
});

test("a buffer that keeps nothing can start further on, and then says what it never had", async (t) => {
  const directory = temporaryDirectory(t);
  {
    await using buffer = await openIn(directory);
    await assert.rejects(buffer.append(makeMessages(500n, 3)), DataCorrupted);
    // Nothing could follow, and there is no id for what a reader would be told is next.
    await assert.rejects(buffer.startAfter(2n ** 64n - 1n), InvalidOperation);
    await buffer.startAfter(500n);
    await assert.rejects(buffer.startAfter(400n), InvalidOperation);
    await assert.rejects(buffer.sync(500n, 1), DataTrimmed);
    await assert.rejects(buffer.sync(501n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));
  }
  await using buffer = await openIn(directory);
  assert.equal(buffer.lastId, 500n);
  await buffer.append(makeMessages(500n, 3));
  assert.deepEqual(await buffer.sync(501n, 9), makeMessages(500n, 3));
  assert.equal((await buffer.stats()).total, 3);
  assert.equal(await buffer.trim(503n), 2);
});

test("a buffer goes on behind what is lost for good, once it was trimmed to its end", async (t) => {
  const directory = temporaryDirectory(t);
  {
    await using buffer = await openIn(directory);
    await buffer.append(makeMessages(0n, 10));
    await assert.rejects(buffer.append(makeMessages(20n, 5)), {
      code: "CHAIN_BROKEN",
      message:
        /hole before it \(it follows on id=20; what lies between comes first\): expected id=10/,
    });
    await assert.rejects(buffer.startAfter(20n), {
      code: "INVALID_OPERATION",
      message: /has come to id=10, and keeps some of it.* trim it to its end first/,
    });
    assert.equal(await buffer.trim(11n), 10);
    await buffer.startAfter(20n);
    await buffer.append(makeMessages(20n, 5));
  }
  await using buffer = await openIn(directory);
  assert.deepEqual(await buffer.sync(21n, 9), makeMessages(20n, 5));
  await assert.rejects(buffer.sync(11n, 1), DataTrimmed);
  const { total, minId, maxId } = await buffer.stats();
  assert.deepEqual({ total, minId, maxId }, { total: 5, minId: 21n, maxId: 25n });
  assert.equal(await buffer.excess({ count: 1 }), undefined);
  assert.equal(await buffer.trim(23n), 2);
});

test("an append never overlaps with where the buffer starts, nor do two starts", async (t) => {
  const directory = temporaryDirectory(t);
  {
    await using buffer = await openIn(directory);
    const [start, second, refused] = await Promise.allSettled([
      buffer.startAfter(500n),
      buffer.startAfter(400n),
      buffer.append([makeMessage(501n, 0n)]),
    ]);
    assert.equal(start.status, "fulfilled");
    assert.ok(second.status === "rejected" && second.reason instanceof InvalidOperation);
    assert.ok(refused.status === "rejected" && refused.reason instanceof DataCorrupted);
    assert.equal((await buffer.append(makeMessages(500n, 2))).appended, 2);
  }
  {
    await using buffer = await openIn(directory);
    assert.deepEqual(await buffer.sync(501n, 9), makeMessages(500n, 2));
  }
  const other = temporaryDirectory(t);
  {
    await using buffer = await openIn(other);
    const appended = buffer.append(makeMessages(0n, 3));
    await assert.rejects(buffer.startAfter(500n), InvalidOperation);
    assert.equal((await appended).appended, 3);
  }
  await using buffer = await openIn(other);
  assert.deepEqual(await buffer.sync(1n, 9), makeMessages(0n, 3));
});

test("what a buffer holds is counted, and what came of its reads", async (t) => {
  await using buffer = await openIn(temporaryDirectory(t), { capacity: 100 });
  const seen: string[] = [];
  using _watching = buffer.observe({
    appended: (_ms, error) => seen.push(error === undefined ? "append" : "append failed"),
    queried: (_ms, tier, error) => seen.push(tier ?? (error as Error).name),
    trimmed: (_ms, deleted) => seen.push(`trim ${deleted}`),
  });
  await buffer.append(makeMessages(0n, 1000));
  await buffer.sync(950n, 10);
  await buffer.sync(1n, 10);
  await assert.rejects(buffer.append([makeMessage(5000n, 4000n)]));
  const before = Date.now();
  assert.equal(await buffer.trim(101n), 100);
  assert.equal(await buffer.trim(50n), 0);
  assert.equal(await buffer.trim(121n), 20);
  const { total, hot, cold, hitRate, bytes, hotBytes, lastTrim, ...rest } = await buffer.stats();
  assert.deepEqual([total, hot, cold, hitRate, bytes], [880, 100, 780, 0.5, 880 * 132]);
  assert.ok(hotBytes > 100 * 132 && hotBytes < 3 * 65_536);
  assert.deepEqual([rest.trimmed, lastTrim?.beforeId, lastTrim?.deleted], [120, 121n, 20]);
  assert.ok((lastTrim?.atMs ?? 0) >= before);
  assert.deepEqual([rest.minId, rest.maxId, rest.duplicates], [121n, 1000n, 0]);
  const trims = ["trim 100", "trim 0", "trim 20"];
  assert.deepEqual(seen, ["append", "hot", "cold", "append failed", ...trims]);
});

test("what was not synced may be gone after a power loss, and only then", async (t) => {
  const directory = temporaryDirectory(t);
  {
    await using buffer = await openIn(directory, {}, { sync: false });
    await buffer.append(makeMessages(0n, 10));
  }
  const markPath = path.join(directory, markFile);
  const mark = decodeMark(fs.readFileSync(markPath));
  assert.ok(mark !== undefined && !mark.isSynced && mark.lastId === 10n);
  // The mark is of this boot, so what it speaks of was there.
  fs.writeFileSync(markPath, encodeMark({ ...mark, lastId: 15n }));
  await assert.rejects(openIn(directory, {}, { sync: false }), hasCode("STORAGE_CORRUPT"));
  fs.writeFileSync(markPath, encodeMark({ ...mark, lastId: 15n, bootId: "ab".repeat(16) }));
  await using buffer = await openIn(directory, {}, { sync: false });
  assert.equal(buffer.lastId, 10n);
});

test("options that make no buffer are refused by name, and nothing is made", async (t) => {
  const dbPath = path.join(temporaryDirectory(t), "never");
  const wrong: [string, object][] = [
    ["component", { component: "" }],
    ["component", { component: "a/b" }],
    ["storage.dbPath", { storage: { dbPath: "" } }],
    ["storage.cfName", { storage: { dbPath, cfName: "../x" } }],
    ["storage.writeBufferSize", { storage: { dbPath, writeBufferSize: 5 } }],
    ["storage.sync", { storage: { dbPath, sync: "yes" } }],
    ["ringBuffer.capacity", { ringBuffer: { capacity: 1.5 } }],
    ["ringBuffer.capacity", { ringBuffer: { capacity: 0, overwriteOnFull: false } }],
    ["ringBuffer.overwriteOnFull", { ringBuffer: { overwriteOnFull: 1 } }],
    ["codec.encode", { codec: "json" }],
    ["codec.decode", { codec: { encode: () => new Uint8Array(1) } }],
  ];
  for (const [name, part] of wrong) {
    const options = { component: "test", storage: { dbPath }, ...part };
    await assert.rejects(openMsgBuffer(options), (error) => {
      assert.ok(hasCode("CONFIG_INVALID")(error));
      return (error as Error).message.includes(`${name}=`);
    });
  }
  const unknown = { component: "test", storage: { dbPath, cfname: "b" } };
  await assert.rejects(openMsgBuffer(unknown), {
    code: "CONFIG_INVALID",
    message: /^storage has no option cfname: there are dbPath, cfName, /,
  });
  assert.equal(fs.existsSync(dbPath), false);
});

test("families of one path are buffers of their own", async (t) => {
  const dbPath = temporaryDirectory(t);
  const open = (cfName: string, writeBufferSize: number) =>
    openMsgBuffer({ component: cfName, storage: { dbPath, cfName, writeBufferSize } });
  await using requests = await open("requests", 2 ** 20);
  await using results = await open("results", 2 ** 22);
  await requests.append(makeMessages(0n, 5));
  await results.append(makeMessages(0n, 9));
  await assert.rejects(open("requests", 2 ** 20), hasCode("ALREADY_OPEN"));
  assert.deepEqual([requests.lastId, results.lastId], [5n, 9n]);
});
