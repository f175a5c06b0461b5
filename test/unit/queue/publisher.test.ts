import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { crc32 } from "node:zlib";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { payloadBytesMaxOf } from "../../../src/queue/layout.ts";
import {
  BACK_PRESSURED,
  openPublisher,
  type Publisher,
  type PublisherOptions,
} from "../../../src/queue/queue.ts";
import {
  makeDirectory,
  makeFastDirectory,
  payloadOf,
  walkQueue,
} from "../../support/queue-records.ts";

const small = { segmentBytes: 4096, preallocate: false } as const satisfies PublisherOptions;
const payloadBytesMax = payloadBytesMaxOf(4096);

function refuses(act: () => unknown, code: ErrorCode, text: RegExp): void {
  assert.throws(act, (error) => {
    assert.ok(isGaplessError(error, code), String(error));
    assert.match(error.message, text);
    return true;
  });
}

function crcOf(content: Buffer): number {
  return crc32(content.subarray(0, 60));
}

/** Appends until a segment has no room for one more of `size` bytes. */
function fillSegment(publisher: Publisher, size: number): number {
  let last = 0;
  for (let left = payloadBytesMax; left >= size; left -= size + 32) {
    last = publisher.append(1, new Uint8Array(size));
  }
  return last;
}

test("records get sequences from 1 on, and their times from the clock or the caller", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, small);
  assert.equal(publisher.lastSequence, 0);
  const beforeNs = BigInt(Date.now() - 20) * 1_000_000n;
  assert.equal(publisher.append(7, payloadOf(1)), 1);
  assert.equal(publisher.append(0xffff_ffff, new Uint8Array(0), 5n), 2);
  assert.equal(publisher.append(0, payloadOf(3), 2n ** 64n - 1n), 3);
  const [first, second, third] = walkQueue(directory);
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  assert.ok(first.timestampNs >= beforeNs);
  assert.ok(first.timestampNs <= BigInt(Date.now() + 20) * 1_000_000n);
  assert.deepEqual(first.payload, payloadOf(1));
  assert.deepEqual([first.type, second.type, third.type], [7, 0xffff_ffff, 0]);
  assert.deepEqual([second.timestampNs, third.timestampNs], [5n, 2n ** 64n - 1n]);
  assert.equal(second.payload.length, 0);
});

test("times of the clock never run backwards, whatever callers give", async (t) => {
  const directory = makeFastDirectory(t);
  const aheadNs = BigInt(Date.now() + 60_000) * 1_000_000n;
  await using publisher = openPublisher(directory, small);
  for (let count = 0; count < 2000; count++) {
    publisher.append(1, new Uint8Array(0));
    if (count === 1000) await publisher.close();
    if (count === 1000) break;
  }
  await using next = openPublisher(directory, small);
  next.append(1, new Uint8Array(0), aheadNs);
  next.append(1, new Uint8Array(0), 1n);
  await next.close();
  await using last = openPublisher(directory, small);
  last.append(1, new Uint8Array(0));
  const times = walkQueue(directory).map(({ timestampNs }) => timestampNs);
  for (let index = 1; index <= 1000; index++) {
    assert.ok((times[index] ?? 0n) >= (times[index - 1] ?? 0n), `at ${index}`);
  }
  assert.ok((times.at(-1) ?? 0n) >= aheadNs, "behind what is there already");
});

test("a claim is written in place, and an aborted one leaves nothing", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, small);
  const first = publisher.claim(1, 100);
  publisher.memory.bytes.fill(0xff, first, first + 100);
  publisher.abort();
  assert.equal(publisher.lastSequence, 0);
  const start = publisher.claim(2, 16, 9n);
  publisher.memory.view.setFloat64(start, 1.5, true);
  publisher.memory.view.setFloat64(start + 8, 2.5, true);
  assert.equal(publisher.commit(), 1);
  assert.equal(publisher.append(3, payloadOf(2)), 2);
  const [record, behind] = walkQueue(directory);
  assert.deepEqual(
    new Float64Array(record?.payload.slice().buffer ?? []),
    new Float64Array([1.5, 2.5]),
  );
  assert.equal(behind?.sequence, 2);
});

test("a claim survives one that is made by mistake while it is open", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, small);
  publisher.append(1, payloadOf(1));
  const start = publisher.claim(1, 100);
  publisher.memory.bytes.fill(7, start, start + 100);
  // There is no room for it in the segment.
  assert.throws(() => publisher.claim(2, payloadBytesMax), { code: "CLAIM_OPEN" });
  assert.equal(publisher.commit(), 2);
  assert.deepEqual(walkQueue(directory)[1]?.payload, new Uint8Array(100).fill(7));
});

test("a payload may be as large as a segment has room for, and no larger", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, small);
  publisher.append(1, payloadOf(1));
  assert.equal(publisher.append(1, payloadOf(2, payloadBytesMax)), 2);
  assert.equal(publisher.append(1, payloadOf(3)), 3);
  for (const length of [payloadBytesMax + 1, 2 ** 31, 2 ** 40]) {
    refuses(() => publisher.claim(1, length), "PAYLOAD_TOO_LARGE", /Raise segmentBytes/);
  }
  for (const length of [-1, 1.5, NaN, Infinity]) {
    refuses(() => publisher.claim(1, length), "INPUT_MALFORMED", /length=/);
  }
  const half = { type: 1, payload: new Uint8Array(payloadBytesMax / 2) };
  refuses(() => publisher.appendMany([half, half, half]), "PAYLOAD_TOO_LARGE", /at most/);
  // Its space, in 32 bits, is less than nothing. Nothing is touched, so it takes no memory.
  const huge = { type: 1, payload: new Uint8Array(2 ** 31) };
  refuses(() => publisher.appendMany([half, huge]), "PAYLOAD_TOO_LARGE", /bytes=2147483648/);
  assert.equal(publisher.append(1, payloadOf(4)), 4);
  assert.deepEqual(
    walkQueue(directory).map(({ payload }) => payload.length),
    [1, payloadBytesMax, 3, 4],
  );
});

test("what is no type or no time is refused, and nothing is written", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, small);
  const payload = payloadOf(1);
  for (const type of [-1, 2 ** 32, 0.5, NaN]) {
    refuses(() => publisher.append(type, payload), "INPUT_MALFORMED", /type=/);
    refuses(() => publisher.appendMany([{ type, payload }]), "INPUT_MALFORMED", /type=/);
  }
  for (const timestampNs of [-1n, 2n ** 64n]) {
    refuses(() => publisher.append(1, payload, timestampNs), "INPUT_MALFORMED", /timestampNs=/);
    const entries = [
      { type: 1, payload },
      { type: 1, payload, timestampNs },
    ];
    refuses(() => publisher.appendMany(entries), "INPUT_MALFORMED", /timestampNs=/);
  }
  const text = "bytes" as unknown as Uint8Array;
  refuses(() => publisher.append(1, text), "INPUT_MALFORMED", /payload, expected a Uint8Array/);
  refuses(
    () => publisher.append(1, payload, 5 as unknown as bigint),
    "INPUT_MALFORMED",
    /a bigint/,
  );
  assert.equal(publisher.appendMany([]), 0);
  assert.equal(publisher.append(1, payload), 1);
  assert.equal(walkQueue(directory).length, 1);
});

test("wrong options are refused with their name and what was expected", (t) => {
  const directory = makeFastDirectory(t);
  const wrong: [options: object, text: RegExp][] = [
    [{ segmentBytes: 4095 }, /segmentBytes=4095.*4096 to 1073741824/],
    [{ segmentBytes: 2 ** 30 + 1 }, /segmentBytes/],
    [{ checksum: "md5" }, /checksum="md5".*none, fast or crc32c/],
    [{ durability: "always" }, /durability="always".*process, sync or/],
    [{ durability: { intervalMs: 0 } }, /durability/],
    [{ maxSegments: 1 }, /maxSegments=1.*from 2/],
    [{ segmentBytes: 4096, maxBytes: 4096 }, /maxBytes=4096.*from 8192/],
    [{ whenFull: "wait" }, /whenFull="wait".*fail or/],
    [{ takeOverAfterMs: 1 }, /takeOverAfterMs=1/],
    [{ whenFull: null as never }, /whenFull=null/],
    [{ durability: null as never }, /durability=null/],
    [{ preallocate: "no" as never }, /preallocate="no"/],
    [{ onCut: 5 as never }, /onCut="5"/],
  ];
  for (const [options, text] of wrong) {
    refuses(() => openPublisher(directory, options), "CONFIG_INVALID", text);
  }
  refuses(() => openPublisher(""), "CONFIG_INVALID", /directory/);
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("the receipt says what a record outlives by now", async (t) => {
  const directory = makeDirectory(t);
  await using publisher = openPublisher(directory, small);
  assert.equal(publisher.level(1), "none");
  const sequence = publisher.append(1, payloadOf(1));
  assert.deepEqual([publisher.level(1), publisher.durableSequence], ["process", 0]);
  assert.deepEqual(await publisher.publish(1, payloadOf(2)), { sequence: 2, level: "process" });
  assert.deepEqual(await publisher.flush(), { sequence: 2, level: "device" });
  assert.equal(publisher.level(sequence), "device");
  // Across a roll, and of what an earlier writer of this boot has left without a sync.
  fillSegment(publisher, 500);
  fillSegment(publisher, 500);
  const { sequence: durable } = await publisher.flush();
  assert.equal(durable, publisher.lastSequence);
  await publisher.close();
  await using synced = openPublisher(directory, { ...small, durability: "sync" });
  assert.equal(synced.durableSequence, durable);
  assert.equal((await synced.publish(1, payloadOf(1))).level, "device");
  const many = await Promise.all(
    Array.from({ length: 100 }, (_, index) => synced.publish(1, payloadOf(index))),
  );
  assert.ok(many.every(({ level }) => level === "device"));
  // Nobody waits: it is made durable all the same.
  const last = synced.append(1, payloadOf(1));
  while (synced.level(last) !== "device") await new Promise((resolve) => setTimeout(resolve, 1));
});

test("closing waits for every flush, also for one that finds nothing to do", async (t) => {
  const publisher = openPublisher(makeDirectory(t), { ...small, checksum: "none" });
  publisher.append(1, payloadOf(1));
  const first = publisher.flush();
  // That one has begun by now, so this one comes behind it.
  for (let turn = 0; turn < 3; turn++) await Promise.resolve();
  const second = publisher.flush();
  await first;
  await publisher.close();
  assert.deepEqual(await second, { sequence: 1, level: "device" });
});

test("what was appended is made durable at the interval that was asked for", async (t) => {
  const directory = makeDirectory(t);
  await using publisher = openPublisher(directory, { ...small, durability: { intervalMs: 5 } });
  const sequence = publisher.append(1, payloadOf(1));
  const deadline = performance.now() + 5000;
  while (publisher.level(sequence) !== "device" && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assert.equal(publisher.level(sequence), "device");
});

test("a limit refuses what needs one segment more, until old ones are gone", async (t) => {
  const directory = makeFastDirectory(t);
  for (const limit of [{ maxSegments: 3 }, { maxBytes: 3 * 4096 }]) {
    const folder = path.join(directory, Object.keys(limit).join());
    await using publisher = openPublisher(folder, { ...small, ...limit });
    for (let segment = 0; segment < 3; segment++) fillSegment(publisher, 900);
    const { lastSequence } = publisher;
    const payload = new Uint8Array(900);
    assert.equal(publisher.append(1, payload), BACK_PRESSURED);
    assert.equal(publisher.claim(1, 900), BACK_PRESSURED);
    assert.equal(publisher.appendMany([{ type: 1, payload }]), BACK_PRESSURED);
    assert.equal(await publisher.waitForRoom(900, 30), false);
    const aborted = AbortSignal.timeout(20);
    assert.equal(await publisher.waitForRoom(900, 10_000, aborted), false);
    const waiting = publisher.waitForRoom(900, 10_000);
    const published = publisher.publish(1, payload);
    fs.rmSync(path.join(folder, "0000000001.segment"));
    assert.equal(await waiting, true);
    assert.equal((await published).sequence, lastSequence + 1);
    // What fits into the segment that is written is not refused.
    assert.equal(publisher.append(1, new Uint8Array(10)), lastSequence + 2);
  }
});

test("an append that is told to blocks until there is room, or its time is up", async (t) => {
  const directory = makeFastDirectory(t);
  const options = { ...small, maxSegments: 2, whenFull: { blockMs: 60 } } as const;
  await using publisher = openPublisher(directory, options);
  fillSegment(publisher, 900);
  fillSegment(publisher, 900);
  const before = performance.now();
  assert.equal(publisher.append(1, new Uint8Array(900)), BACK_PRESSURED);
  assert.ok(performance.now() - before >= 60);
});

test("a closed publisher says so, and closing twice is closing once", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, small);
  publisher.append(1, payloadOf(1));
  publisher.claim(1, 10);
  await Promise.all([publisher.close(), publisher.close()]);
  refuses(() => publisher.append(1, payloadOf(1)), "CLOSED", /closed/);
  refuses(() => publisher.claim(1, 0), "CLOSED", /closed/);
  refuses(() => publisher.appendMany([{ type: 1, payload: payloadOf(1) }]), "CLOSED", /closed/);
  await assert.rejects(publisher.flush(), { code: "CLOSED" });
  assert.equal(walkQueue(directory).length, 1);
});

test("files that are not what they should be are an error with a code, and stay as they are", async (t) => {
  const root = makeFastDirectory(t);
  const make = async (name: string): Promise<string> => {
    const directory = path.join(root, name);
    await using publisher = openPublisher(directory, small);
    for (let segment = 0; segment < 3; segment++) fillSegment(publisher, 900);
    return directory;
  };
  const damage: [name: string, act: (directory: string) => void, text: RegExp][] = [
    ["gone", (folder) => fs.rmSync(path.join(folder, "0000000003.segment")), /3\.segment.*missing/],
    [
      "control",
      (folder) => fs.rmSync(path.join(folder, "queue.control")),
      /queue\.control is missing/,
    ],
    [
      "short",
      (folder) => fs.truncateSync(path.join(folder, "0000000003.segment"), 100),
      /cut off|should have/,
    ],
    [
      "first",
      (folder) => fs.writeFileSync(path.join(folder, `${"1".padStart(20, "0")}.log`), ""),
      /version=1/,
    ],
    [
      "version",
      (folder) => {
        const file = path.join(folder, "queue.control");
        const content = fs.readFileSync(file);
        content.writeUInt32LE(3, 8);
        content.writeUInt32LE(crcOf(content), 60);
        fs.writeFileSync(file, content);
      },
      /version=3, this release reads version=2/,
    ],
  ];
  for (const [name, act, text] of damage) {
    const directory = await make(name);
    act(directory);
    const before = fs.readdirSync(directory);
    refuses(() => openPublisher(directory, small), "STORAGE_CORRUPT", text);
    assert.deepEqual(fs.readdirSync(directory), before);
  }
  const file = path.join(root, "file");
  fs.writeFileSync(file, "");
  refuses(() => openPublisher(path.join(file, "queue")), "CONFIG_INVALID", /expected a directory/);
});

test("a segment that is deleted while it is written is told by the next flush", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, small);
  publisher.append(1, payloadOf(1));
  fs.rmSync(path.join(directory, "0000000001.segment"));
  await assert.rejects(publisher.flush(), { code: "STORAGE_CORRUPT" });
  // What the device has cannot be told any more.
  await assert.rejects(publisher.flush(), { code: "STORAGE_CORRUPT" });
  refuses(() => publisher.append(1, payloadOf(2)), "STORAGE_CORRUPT", /1\.segment/);
  assert.equal(publisher.level(1), "process");
  await assert.rejects(publisher.close(), { code: "STORAGE_CORRUPT" });
});

test("a directory that is deleted between two flushes is told by the second, and by the close", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = openPublisher(directory, small);
  publisher.append(1, payloadOf(1));
  assert.equal((await publisher.flush()).level, "device");
  fs.rmSync(directory, { recursive: true });
  publisher.append(1, payloadOf(2));
  const isTold = { code: "STORAGE_CORRUPT", message: /was removed while it was written/ };
  await assert.rejects(publisher.flush(), isTold);
  assert.equal(publisher.level(2), "process");
  await assert.rejects(publisher.close(), isTold);
  assert.equal(fs.existsSync(directory), false);
});
