import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { GaplessError, isGaplessError } from "../../../src/errors.ts";
import { bootBytes, bootOffset, headerBytes, recordBytes } from "../../../src/queue/layout.ts";
import type { Message } from "../../../src/message.ts";
import { openQueue, type Queue } from "../../../src/queue/queue.ts";
import { judge, type Findings } from "../../../src/queue/recovery.ts";
import { copyAsKilled, makeFastDirectory, makeMessage, readAll, segmentNames } from "./scratch.ts";

const segmentBytes = 4096;
const count = 200;
/** Small, so that every byte of a few records is soon done. */
const makeSmall = (id: number): Message => makeMessage(BigInt(id), BigInt(id - 1), id % 11);
const messages = Array.from({ length: count }, (_, index) => makeSmall(index + 1));
const payloadBytes = (index: number): number => messages[index]?.bytes.length ?? 0;

/** Files of a queue of several segments, flushed halfway: closed, and as a kill leaves them. */
async function makeVictims(context: TestContext): Promise<{ closed: string; killed: string }> {
  const root = makeFastDirectory(context);
  const closed = path.join(root, "closed");
  const killed = path.join(root, "killed");
  await using queue = await openQueue({ directory: closed, segmentBytes });
  for (let at = 0; at < count; at += 5) {
    queue.append(messages.slice(at, at + 5));
    if (at === count / 2) await queue.flush();
  }
  copyAsKilled(closed, killed);
  return { closed, killed };
}

/**
 * What opening and reading a damaged queue ends with: the messages, which are the first so many
 * of the right ones, or a refusal.
 */
async function salvage(directory: string): Promise<number | GaplessError> {
  let queue: Queue | null = null;
  try {
    queue = await openQueue({ directory, segmentBytes });
    const found = await readAll(queue);
    assert.deepEqual(found, messages.slice(0, found.length));
    queue.append([makeSmall(found.length + 1)]);
    return found.length;
  } catch (error) {
    if (isGaplessError(error, "STORAGE_CORRUPT")) return error;
    throw error;
  } finally {
    await queue?.close();
  }
}

interface Outcomes {
  /** Number of messages that came back, with how often. */
  readonly recovered: Map<number, number>;
  refused: number;
}

/** Salvages a copy of `victim` for each damage that `damage` does to the bytes of one file. */
async function damageEach(
  victim: string,
  name: string,
  offsets: Iterable<number>,
  damage: (bytes: Buffer, offset: number) => Buffer,
): Promise<Outcomes> {
  const outcomes: Outcomes = { recovered: new Map(), refused: 0 };
  const copy = `${victim}-copy`;
  const intact = fs.readFileSync(path.join(victim, name));
  for (const offset of offsets) {
    fs.rmSync(copy, { recursive: true, force: true });
    copyAsKilled(victim, copy);
    fs.writeFileSync(path.join(copy, name), damage(Buffer.from(intact), offset));
    const outcome = await salvage(copy);
    if (outcome instanceof GaplessError) outcomes.refused += 1;
    else outcomes.recovered.set(outcome, (outcomes.recovered.get(outcome) ?? 0) + 1);
  }
  return outcomes;
}

function flip(bytes: Buffer, offset: number): Buffer {
  bytes[offset] = (bytes[offset] ?? 0) ^ (1 << (offset % 8));
  return bytes;
}

function* range(start: number, end: number): Generator<number> {
  for (let offset = start; offset < end; offset += 1) yield offset;
}

/** The last segment, where its last three records begin, and where they end. */
function lastRecords(directory: string): { name: string; begin: number; end: number } {
  const name = segmentNames(directory).at(-1) ?? "";
  const bytes = fs.readFileSync(path.join(directory, name));
  let end = bytes.length;
  while (bytes[end - 1] === 0) end -= 1;
  end = Math.ceil(end / 8) * 8;
  const three = [1, 2, 3].map((back) => recordBytes(32 + payloadBytes(count - back)));
  return { name, begin: end - three.reduce((sum, size) => sum + size, 0), end };
}

test("G7: a flipped bit in what was durable is refused, after a reboot as well", async (t) => {
  const { closed } = await makeVictims(t);
  const { name, begin, end } = lastRecords(closed);
  for (const reboot of [false, true]) {
    const outcomes = await damageEach(closed, name, range(begin, end), (bytes, offset) => {
      if (reboot) bytes.fill(0xb0, bootOffset, bootOffset + bootBytes);
      return flip(bytes, offset);
    });
    // Only padding may differ: no reader looks at it.
    assert.deepEqual([...outcomes.recovered.keys()], [count]);
    assert.ok(outcomes.refused > end - begin - 3 * 8, JSON.stringify(outcomes));
  }
});

test("G7: a flipped bit after a kill gives a prefix or a refusal", async (t) => {
  const { killed } = await makeVictims(t);
  const { name, begin, end } = lastRecords(killed);
  const outcomes = await damageEach(killed, name, range(begin, end), flip);
  assert.ok(outcomes.refused > end - begin - 3 * 8, JSON.stringify(outcomes));
});

test("G7: a flipped bit in a header is refused, or was of no consequence", async (t) => {
  const { closed } = await makeVictims(t);
  const name = segmentNames(closed).at(-1) ?? "";
  const outcomes = await damageEach(closed, name, range(0, headerBytes), flip);
  assert.deepEqual([...outcomes.recovered.keys()], [count]);
  assert.ok(outcomes.refused >= 28, JSON.stringify(outcomes));
});

test("G7: the last file cut off anywhere gives a prefix or a refusal", async (t) => {
  const { closed, killed } = await makeVictims(t);
  for (const victim of [closed, killed]) {
    const { name, begin, end } = lastRecords(victim);
    const offsets = [0, 1, 63, 64, 65, ...range(begin, end), end, end + 1, segmentBytes - 1];
    const outcomes = await damageEach(victim, name, offsets, (bytes, at) => bytes.subarray(0, at));
    // The tail holds the message that `salvage` appends only where the cut left room for it.
    assert.ok(outcomes.refused > 0 && outcomes.recovered.has(count), JSON.stringify(outcomes));
  }
});

test("G3: a record cut off by a kill at any byte is cleared, its place used again", async (t) => {
  const { closed, killed } = await makeVictims(t);
  const { name, end } = lastRecords(killed);
  const start = end - recordBytes(32 + payloadBytes(count - 1));
  const whole = fs.readFileSync(path.join(closed, name));
  const outcomes = await damageEach(killed, name, range(start + 4, end), (bytes, at) => {
    bytes.fill(0, start);
    whole.copy(bytes, start + 4, start + 4, at);
    return bytes;
  });
  assert.deepEqual([...outcomes.recovered], [[count - 1, end - start - 4]]);
});

test("damage in an earlier segment is found when it is read, and named", async (t) => {
  const { closed } = await makeVictims(t);
  const [, name = ""] = segmentNames(closed);
  const file = path.join(closed, name);
  fs.writeFileSync(file, flip(fs.readFileSync(file), 200));
  await using queue = await openQueue({ directory: closed, segmentBytes });
  assert.equal(queue.lastId, BigInt(count));
  const before = await queue.read(1n, count);
  assert.deepEqual(before, messages.slice(0, before.length));
  await assert.rejects(queue.read(BigInt(before.length + 1), 1), (error) => {
    assert.ok(isGaplessError(error, "STORAGE_CORRUPT"));
    assert.match(error.message, /\d{20}\.log is damaged: offset=\d+, .*Restore the file/);
    return true;
  });
});

test("a segment that is missing in the middle is found when it is read", async (t) => {
  const { closed } = await makeVictims(t);
  const [, second = "", third = ""] = segmentNames(closed);
  fs.rmSync(path.join(closed, second));
  await using queue = await openQueue({ directory: closed, segmentBytes });
  const missing = BigInt(second.slice(0, 20));
  await assert.rejects(queue.read(missing, 1), (e) => isGaplessError(e, "STORAGE_CORRUPT"));
  const next = BigInt(third.slice(0, 20));
  assert.equal((await queue.read(next, 1))[0].id, next);
});

test("what the operator is told to do after damage works", async (t) => {
  const { closed } = await makeVictims(t);
  const names = segmentNames(closed);
  const last = path.join(closed, names.at(-1) ?? "");
  fs.writeFileSync(last, flip(fs.readFileSync(last), headerBytes));
  const refusal = await salvage(closed);
  assert.ok(refusal instanceof GaplessError);
  const endsWith = BigInt(/ends with id=(\d+)/.exec(refusal.message)?.[1] ?? "0");
  fs.rmSync(last);
  await using queue = await openQueue({ directory: closed, segmentBytes });
  assert.equal(queue.lastId, endsWith);
  assert.deepEqual(await readAll(queue), messages.slice(0, Number(endsWith)));
});

test("a half-made segment and foreign files are no part of the queue", async (t) => {
  const { closed } = await makeVictims(t);
  const halfMade = path.join(closed, "00000000000000000099.log.1.tmp");
  fs.writeFileSync(halfMade, "half");
  fs.writeFileSync(path.join(closed, "notes.log"), "foreign");
  assert.equal(await salvage(closed), count);
  assert.equal(fs.existsSync(halfMade), false);
});

test("a payload that looks like a record is none", async (t) => {
  const root = makeFastDirectory(t);
  const image = path.join(root, "image");
  {
    await using queue = await openQueue({ directory: image, segmentBytes });
    queue.append(messages.slice(0, 20));
  }
  const bytes = fs.readFileSync(path.join(image, segmentNames(image)[0] ?? ""));
  const directory = path.join(root, "queue");
  const killed = path.join(root, "killed");
  await using queue = await openQueue({ directory, segmentBytes: 65_536 });
  queue.append([{ id: 1n, prevId: 0n, timestampNs: 0n, bytes }]);
  await queue.flush();
  queue.append([{ id: 2n, prevId: 1n, timestampNs: 0n, bytes }]);
  copyAsKilled(directory, killed);
  // The second record as a kill leaves it: all but its size.
  const file = path.join(killed, "00000000000000000001.log");
  const torn = fs.readFileSync(file);
  torn.writeUInt32LE(0, headerBytes + recordBytes(32 + bytes.length));
  fs.writeFileSync(file, torn);
  await using recovered = await openQueue({ directory: killed });
  assert.equal(recovered.lastId, 1n);
});

test("recovery clears what a crash can leave, and nothing else", () => {
  const clean: Findings = {
    end: 1000,
    lastId: 9n,
    instead: "nothing",
    residueEnd: 1000,
    recordBehind: false,
    durable: 1000,
    sameBoot: true,
    nextPrevId: null,
  };
  const otherBoot = { ...clean, sameBoot: false };
  const verdicts: [string, Findings, ReturnType<typeof judge>["kind"]][] = [
    ["closed", clean, "whole"],
    ["killed between appends", { ...clean, durable: 64 }, "whole"],
    ["killed in an append", { ...clean, residueEnd: 2000 }, "torn"],
    ["lost power", { ...otherBoot, instead: "damage", residueEnd: 2000 }, "torn"],
    ["lost pages in between", { ...otherBoot, recordBehind: true, residueEnd: 2000 }, "torn"],
    ["lost pages before the next segment", { ...otherBoot, nextPrevId: 12n }, "torn"],
    ["full", { ...clean, nextPrevId: 9n, residueEnd: 2000, instead: "damage" }, "whole"],
    ["shorter than it was durable", { ...otherBoot, durable: 1008 }, "corrupt"],
    ["damaged", { ...clean, instead: "damage", residueEnd: 2000 }, "corrupt"],
    ["with a hole", { ...clean, recordBehind: true, residueEnd: 2000 }, "corrupt"],
    ["not followed by its successor", { ...clean, nextPrevId: 12n }, "corrupt"],
    ["longer than its successor says", { ...otherBoot, nextPrevId: 8n }, "corrupt"],
  ];
  for (const [name, findings, kind] of verdicts) assert.equal(judge(findings).kind, kind, name);
});
