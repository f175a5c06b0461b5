/** Holds spec/ring.md to the code: its tables, its example, and a peer in C written from it. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import {
  consumerOffset,
  consumerWord,
  consumersMax,
  controlBytes,
  evicted,
  headerWord,
  joining,
  layoutVersion,
  lineBytes,
  ownershipWord,
  producerWord,
  recordHeaderBytes,
  ringBytesMax,
  ringBytesMin,
  sleepWord,
  stateStep,
} from "../../../src/bus/layout.ts";
import {
  channelName,
  declareDead,
  makeDirectory,
  openAs,
  openFile,
  readNumbered,
  ringPath,
  sizeOf,
  writeNumbered,
  type Settings,
} from "../../support/bus-channel.ts";
import { startWorker } from "../../support/bus-processes.ts";

const spec = fs.readFileSync(path.join(import.meta.dirname, "../../../spec/ring.md"), "utf8");
const sizeMax = 496;
const settings: Settings = { messageSizeMax: sizeMax, consumers: ["ledger", "candles"] };
const never = new AbortController().signal;

function bytesOf(words: Readonly<Record<string, number>>, names: readonly string[]): unknown[] {
  return names.map((name) => [name, (words[name] ?? NaN) * 4]);
}

test("the offsets of the specification are those of the code", () => {
  const offsets = new Map<string, number>();
  for (const [, offset, name = ""] of spec.matchAll(/^\| (\d+) \| \d+ \| `(\w+)` \|/gm)) {
    assert.ok(!offsets.has(name), name);
    offsets.set(name, Number(offset));
  }
  const { magicLow, end, magicHigh: _, ...header } = headerWord;
  const { producer, finished } = ownershipWord;
  const words = { magic: magicLow, ...header, ...producerWord, ...sleepWord, finished };
  const all = { ...words, producerOwner: producer, ...consumerOffset };
  assert.deepEqual([...offsets].sort(), bytesOf(all, Object.keys(all)).sort());
  assert.equal(end * 4, lineBytes);
  for (const said of [
    `control block of ${controlBytes} bytes`,
    `up to ${consumersMax} consumers`,
    `| \`version\` | ${layoutVersion} |`,
    `${Math.log2(ringBytesMin)} to ${Math.log2(ringBytesMax)}: the ring`,
    `has ${lineBytes} bytes at ${consumerWord(0) * 4} + ${lineBytes}·*k*`,
    `bit ${Math.log2(evicted)} *evicted*, bit ${Math.log2(joining)} *joining*`,
    `s + ${stateStep})`,
    `| ${recordHeaderBytes} | \`length\` | message`,
  ]) {
    assert.ok(spec.includes(said), said);
  }
});

test("the example and the fingerprint of the specification are what the code makes", (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "engine");
  bus.publisher(channelName).offer(Buffer.from("hello"));
  const bytes = fs.readFileSync(ringPath(directory));
  const [, hex = ""] = /```\n([0-9a-f \n]+)```/.exec(spec) ?? [];
  const example = Buffer.from(hex.replaceAll(/\s/g, ""), "hex");
  assert.equal(example.length, 24);
  assert.deepEqual(bytes.subarray(controlBytes, controlBytes + example.length), example);
  assert.equal(bytes.readInt32LE(producerWord.tail * 4), 3);
  assert.equal(bytes.readInt32LE(producerWord.anchor * 4), 0);
  assert.match(spec, /`tail` is 3 and `anchor` 0/);

  const json = /^`(\{"name":.*\})`$/m.exec(spec)?.[1] ?? "";
  const channel = openFile(directory);
  assert.deepEqual(JSON.parse(json), channel.channel);
  assert.equal(json, JSON.stringify(channel.channel));
  channel.unmap();
});

const compiler = spawnSync("cc", ["--version"]).status === 0;
const skip = compiler ? false : "no C compiler (cc)";
const run = promisify(execFile);

/** Builds the peer, and gives what runs it on the channel in the directory. */
function buildPeer(directory: string): (...words: (string | number)[]) => Promise<number> {
  const binary = path.join(directory, "peer");
  const source = path.join(import.meta.dirname, "peer.c");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary];
  const { status, stderr } = spawnSync("cc", [...flags, source], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return async (role, what) => {
    const words = [role, ringPath(directory), what, sizeMax].map(String);
    return Number((await run(binary, words)).stdout);
  };
}

test("a consumer in C, written from the specification, gets every message", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  using engine = openAs(directory, "engine", settings);
  using candles = openAs(directory, "candles", settings);
  const publisher = engine.publisher(channelName);
  const subscriber = candles.subscriber(channelName);
  const consumed = peer("consume", 0);
  const last = 30_000;
  for (let number = 1; number <= last; number++) {
    const length = sizeOf(number, sizeMax);
    let offset = publisher.claim(length);
    while (offset < 0) {
      subscriber.poll(() => undefined, 1000);
      subscriber.release();
      await publisher.waitForRoom(length, never);
      offset = publisher.claim(length);
    }
    writeNumbered(publisher.memory, offset, length, number);
    publisher.commit();
  }
  publisher.finish();
  assert.equal(await consumed, last);
});

test(
  "a producer in C, written from the specification, is understood by each consumer",
  { skip },
  async (t) => {
    const directory = makeDirectory(t);
    const peer = buildPeer(directory);
    const worker = startWorker(t, {
      kind: "consume",
      directory,
      settings,
      service: "candles",
      waiting: "async",
      limit: 100,
      pauseMs: 0,
      releaseThrough: Number.MAX_SAFE_INTEGER,
    });
    await worker.told("open");
    using ledger = openAs(directory, "ledger", settings);
    const subscriber = ledger.subscriber(channelName);
    const last = 5000;
    const produced = peer("produce", last);
    let count = 0;
    while (!subscriber.ended) {
      subscriber.poll((memory, offset, length) => {
        assert.equal(readNumbered(memory, offset, length, sizeMax), ++count);
      }, 64);
      subscriber.release();
      await subscriber.wait(1000, never);
    }
    assert.equal(count, last);
    assert.equal(await produced, last);
    assert.equal((await worker.told("ended")).count, last);
  },
);

test("ends pass from one language to the other, and back", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  const file = openFile(directory, settings);
  using ledger = openAs(directory, "ledger", settings);
  using candles = openAs(directory, "candles", settings);
  const numbers: number[] = [];
  const takeAll = (): void => {
    using subscriber = candles.subscriber(channelName);
    subscriber.poll((memory, offset, length) => {
      numbers.push(readNumbered(memory, offset, length, sizeMax));
    }, 1000);
    subscriber.release();
  };
  const held = ledger.subscriber(channelName);
  await assert.rejects(peer("consume", 0), /peer: already open/);
  held.close();

  let last = 0;
  for (let round = 0; round < 20; round++) {
    // One that was killed is taken over by the other language as one that has left.
    if (round % 2 === 0) {
      using engine = openAs(directory, "engine", settings);
      const publisher = engine.publisher(channelName);
      assert.equal(publisher.sequence, last);
      const length = sizeOf(++last, sizeMax);
      writeNumbered(publisher.memory, publisher.claim(length), length, last);
      publisher.commit();
      publisher.finish();
      if (round % 4 === 0) declareDead(file, ownershipWord.producer);
    } else {
      assert.equal(await peer("produce", (last += 3)), last);
    }
    takeAll();
    // It begins at 1 and checks each number: only the first round has that for it.
    if (round === 0) assert.equal(await peer("consume", 0), 1);
    else {
      using subscriber = ledger.subscriber(channelName);
      subscriber.poll(() => undefined, 1000);
      subscriber.release();
    }
  }
  assert.deepEqual(
    numbers,
    numbers.map((_number, index) => index + 1),
  );
  assert.equal(numbers.length, last);
  file.unmap();
});
