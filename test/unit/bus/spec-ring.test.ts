/** Holds spec/ring.md to the code: its tables, its example, and a peer in C written from it. */
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import zlib from "node:zlib";
import {
  openBus,
  parseChannels,
  type Bus,
  type ChannelTable,
  type Publisher,
  type RingMemory,
  type Subscriber,
} from "gapless/bus";
import { channelPath, openChannelFile, type ChannelFile } from "../../../src/bus/channel-file.ts";
import {
  claimWord,
  consumerOffset,
  consumersMax,
  controlBytesOf,
  descriptionWord,
  extension,
  failed,
  floorWord,
  headerWord,
  joining,
  layoutVersion,
  lossCountWord,
  lossesKept,
  lossOffset,
  lossWord,
  partyOffset,
  prioritiesMax,
  producerOffset,
  producersMax,
  producerWord,
  record,
  recordHeaderBytes,
  ringBytesMax,
  ringBytesMin,
  sleepWord,
  stateStep,
  tailWord,
  topicBytesMax,
} from "../../../src/bus/layout.ts";
import { readLosses } from "../../../src/bus/losses.ts";

const spec = fs.readFileSync(path.join(import.meta.dirname, "../../../spec/ring.md"), "utf8");
const sizeMax = 496;
const channelName = "trades";
const never = new AbortController().signal;

type Settings = Partial<ChannelTable[string]>;

const solo: Settings = { type: "SPMC", producers: ["engine"], consumers: ["ledger", "candles"] };
const shared: Settings = {
  type: "MPMC",
  producers: ["engine", "auction"],
  consumers: ["ledger", "candles"],
};

function tableOf(settings: Settings): ChannelTable {
  const sizes = { buffer_size: "4KB", message_size_max: sizeMax } as const;
  return { [channelName]: { type: "SPSC", ...sizes, ...settings } };
}

function makeDirectory(t: TestContext): string {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function openAs(directory: string, service: string, settings: Settings): Bus {
  return openBus({ directory, channels: tableOf(settings) }, { service });
}

/** The memory of the channel without an end of it: to look at, and to spoil. */
function openFile(directory: string, settings: Settings): ChannelFile {
  const channel = parseChannels(tableOf(settings), "test").get(channelName);
  assert.ok(channel);
  return openChannelFile(directory, channel);
}

/** Above the highest process id that Linux gives: nobody's. */
const deadPid = 0x7fff_ffff;

/** Makes whoever owns a producing end dead, as a SIGKILL would. */
function declareProducerDead({ lanes: [{ words }] }: ChannelFile, producer: number): void {
  Atomics.store(words, producerWord(producer) + partyOffset.owner, deadPid);
}

function sizeOf(number: number): number {
  const mixed = Math.imul(number, 0x9e3779b1) >>> 0;
  const range = mixed % 7 === 0 ? sizeMax - 8 : 56;
  return 8 + ((mixed >>> 8) % (range + 1));
}

/** Its number. Fails on a message that is torn, cut or of another size than it should be. */
function readNumbered({ bytes, doubles }: RingMemory, offset: number, length: number): number {
  const number = doubles[offset / 8] ?? NaN;
  assert.equal(length, sizeOf(number), `size of message ${number}`);
  for (let index = 8; index < length; index++) {
    const isRight = bytes[offset + index] === ((number + index * 7) & 0xff);
    if (!isRight) assert.fail(`message ${number} is torn at byte ${index}`);
  }
  return number;
}

/** Writes the message as soon as there is room. */
async function writeNumbered(publisher: Publisher, number: number): Promise<void> {
  const length = sizeOf(number);
  const topic = number % 3 === 0 ? publisher.topic("eu.spot") : undefined;
  let offset = publisher.claim(length, topic);
  while (offset < 0) {
    await publisher.waitForRoom(length, never);
    offset = publisher.claim(length, topic);
  }
  const { bytes, doubles } = publisher.memory;
  doubles[offset / 8] = number;
  for (let index = 8; index < length; index++) bytes[offset + index] = (number + index * 7) & 0xff;
  publisher.commit();
}

/** Takes what there is, and returns the numbers of each producer's messages. */
function takeAll(subscriber: Subscriber, numbers: Record<string, number[]>): void {
  subscriber.poll((memory, offset, length) => {
    const { producer } = subscriber.envelope;
    (numbers[producer] ??= []).push(readNumbered(memory, offset, length));
  }, 1000);
  subscriber.release();
}

/** The same until the stream ends. */
async function takeToTheEnd(subscriber: Subscriber): Promise<Record<string, number[]>> {
  const numbers: Record<string, number[]> = {};
  while (!subscriber.ended) {
    takeAll(subscriber, numbers);
    await subscriber.wait(100, never);
  }
  return numbers;
}

function oneTo(last: number): number[] {
  return Array.from({ length: last }, (_number, index) => index + 1);
}

/** Offset in bytes of each name in the tables of the section that begins with `heading`. */
function offsetsIn(heading: string): Map<string, number> {
  const [, section = ""] = spec.split(`\n${heading}\n`);
  const [text = ""] = section.split(/^##/m);
  const offsets = new Map<string, number>();
  for (const [, offset, name = ""] of text.matchAll(/^\| (\d+) \| \d+ \| `(\w+)` \|/gm)) {
    assert.ok(!offsets.has(name), name);
    offsets.set(name, Number(offset));
  }
  return offsets;
}

test("the offsets of the specification are those of the code", () => {
  const { magicLow, end, magicHigh: _, ...header } = headerWord;
  const control = { ...tailWord, ...claimWord, ...sleepWord, ...descriptionWord };
  const all = { ...control, floor: floorWord, losses: lossCountWord };
  for (const [heading, words] of [
    ["## Header: line 0", { magic: magicLow, ...header }],
    ["## Control words", all],
    ["### Producer", producerOffset],
    ["### Consumer", consumerOffset],
    ["## Losses", lossOffset],
  ] as const) {
    const expected = Object.entries(words).map(([name, word]) => [name, word * 4] as const);
    assert.deepEqual([...offsetsIn(heading)].sort(), expected.sort(), heading);
  }
  assert.equal(end * 4, 128);
  const [first, second] = [producerWord(0) * 4, producerWord(1) * 4];
  for (const said of [
    `from up to ${producersMax} producers to up to ${consumersMax} consumers`,
    `| \`version\` | ${layoutVersion} |`,
    `| \`lanes\` | 1 to ${prioritiesMax} |`,
    `${Math.log2(ringBytesMin)} to ${Math.log2(ringBytesMax)}: the ring`,
    `has ${second - first} bytes at ${first} + ${second - first}·*k*`,
    `*C* = ${first} + ${second - first}·(producers + consumers) bytes, rounded up to 4096`,
    `bit ${Math.log2(failed)} *failed*, bit ${Math.log2(joining)} *joining*`,
    `s + ${stateStep})`,
    `| ${recordHeaderBytes} | | body`,
    `65 + number of the consumer`,
    `bits ${Math.log2(record.withdrawn) - 1} to 0: units of the whole record`,
    `at most ${topicBytesMax}, and bit ${Math.log2(extension.stamped)} says *stamped*`,
    `newest ${lossesKept} losses`,
    `${lossWord(2) * 4 - lossWord(1) * 4} bytes at ${lossWord(1) * 4} + 64·`,
  ]) {
    assert.ok(spec.includes(said), said);
  }
});

test("the example and the fingerprint of the specification are what the code makes", (t) => {
  const directory = makeDirectory(t);
  const settings = { producer: "engine", consumer: "ledger", timestamps: "off" } as const;
  using bus = openAs(directory, "engine", settings);
  const publisher = bus.publisher(channelName);
  publisher.offer(Buffer.from("hello"));
  publisher.offer(Buffer.from("!"), publisher.topic("eu"));
  const bytes = fs.readFileSync(channelPath(directory, channelName));
  const [, hex = ""] = /```\n([0-9a-f \n]+)```/.exec(spec) ?? [];
  const example = Buffer.from(hex.replaceAll(/\s/g, ""), "hex");
  assert.equal(example.length, 56);
  const start = controlBytesOf(1, 1);
  assert.deepEqual(bytes.subarray(start, start + example.length), example);
  const said = [tailWord.tail, tailWord.anchor].map((word) => bytes.readInt32LE(word * 4));
  const sequence = bytes.readDoubleLE(claimWord.sequence * 4);
  assert.match(
    spec,
    new RegExp(`\`tail\` is ${said[0]}, \`anchor\` ${said[1]}, \`sequence\` ${sequence}\\.`),
  );

  const json = /^`(\{"name":.*\})`$/m.exec(spec)?.[1] ?? "";
  const other = makeDirectory(t);
  const file = openFile(other, {
    type: "MPSC",
    producers: ["engine", "auction"],
    consumers: ["ledger"],
  });
  const [{ words }] = file.lanes;
  assert.equal(words[headerWord.fingerprint], zlib.crc32(json) | 0);
  file.unmap();
});

const compiler = spawnSync("cc", ["--version"]).status === 0;
const skip = compiler ? false : "no C compiler (cc)";
const run = promisify(execFile);

interface Peer {
  readonly command: readonly [string, (...words: (string | number)[]) => string[]];
  /** Runs it to its end; gives the count that it prints, and its newest sequence. */
  run(...words: (string | number)[]): Promise<number[]>;
}

/** Builds the peer for the channel in the directory. */
function buildPeer(directory: string): Peer {
  const binary = path.join(directory, "peer");
  const source = path.join(import.meta.dirname, "peer.c");
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary];
  const { status, stderr } = spawnSync("cc", [...flags, source], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const wordsOf = (...[role = "", ...rest]: (string | number)[]): string[] =>
    [role, channelPath(directory, channelName), ...rest, sizeMax].map(String);
  return {
    command: [binary, wordsOf],
    async run(...words) {
      const { stdout } = await run(binary, wordsOf(...words), { timeout: 60_000 });
      return stdout.trim().split(" ").map(Number);
    },
  };
}

test("a consumer in C, written from the specification, gets every message", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { ...solo, timestamps: "all" };
  const peer = buildPeer(directory);
  using engine = openAs(directory, "engine", settings);
  using candles = openAs(directory, "candles", settings);
  const publisher = engine.publisher(channelName);
  const read = takeToTheEnd(candles.subscriber(channelName));
  const consumed = peer.run("consume", 0);
  const last = 20_000;
  for (let number = 1; number <= last; number++) {
    await writeNumbered(publisher, number);
  }
  publisher.finish();
  assert.deepEqual(await read, { engine: oneTo(last) });
  assert.deepEqual(await consumed, [last, last, 0]);
});

test("a producer in C is understood by each consumer", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  using ledger = openAs(directory, "ledger", solo);
  using candles = openAs(directory, "candles", solo);
  const subscribers = [ledger, candles].map((bus) => bus.subscriber(channelName));
  const last = 5000;
  const produced = peer.run("produce", 0, last);
  for (const numbers of await Promise.all(subscribers.map(takeToTheEnd))) {
    assert.deepEqual(numbers, { engine: oneTo(last) });
  }
  assert.deepEqual(await produced, [last, last]);
});

test("ends pass from one language to the other, and back", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  const file = openFile(directory, solo);
  t.after(() => file.unmap());
  using ledger = openAs(directory, "ledger", solo);
  using candles = openAs(directory, "candles", solo);
  const numbers: Record<string, number[]> = {};
  const held = ledger.subscriber(channelName);
  await assert.rejects(peer.run("consume", 0), /peer: already open/);
  held.close();

  let last = 0;
  for (let round = 0; round < 20; round++) {
    // One that was killed is taken over by the other language as one that has left.
    if (round % 2 === 0) {
      using engine = openAs(directory, "engine", solo);
      const publisher = engine.publisher(channelName);
      assert.equal(publisher.sequence, last);
      await writeNumbered(publisher, ++last);
      publisher.finish();
      if (round % 4 === 0) declareProducerDead(file, 0);
    } else {
      assert.deepEqual(await peer.run("produce", 0, (last += 3)), [last, last]);
    }
    using subscriber = candles.subscriber(channelName);
    takeAll(subscriber, numbers);
    // It begins at 1 and checks each number: only the first round has that for it.
    if (round === 0) assert.deepEqual(await peer.run("consume", 0), [1, 1, 0]);
    else {
      using other = ledger.subscriber(channelName, {
        onLoss: () => assert.fail("the peer did not say how far it had come"),
      });
      takeAll(other, {});
    }
  }
  assert.deepEqual(numbers, { engine: oneTo(last) });
});

test(
  "producers of both languages write one channel, and consumers of both read it",
  { skip },
  async (t) => {
    const directory = makeDirectory(t);
    const peer = buildPeer(directory);
    using engine = openAs(directory, "engine", shared);
    using candles = openAs(directory, "candles", shared);
    const publisher = engine.publisher(channelName);
    const read = takeToTheEnd(candles.subscriber(channelName));
    const last = 5000;
    const produced = peer.run("produce", 1, last);
    const consumed = peer.run("consume", 0);
    for (let number = 1; number <= last; number++) await writeNumbered(publisher, number);
    publisher.finish();
    assert.deepEqual(await read, { engine: oneTo(last), auction: oneTo(last) });
    assert.equal((await produced)[0], last);
    assert.deepEqual(await consumed, [2 * last, 2 * last, 0]);
  },
);

test("what either language takes back is no loss to the other", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  using engine = openAs(directory, "engine", shared);
  using candles = openAs(directory, "candles", shared);
  const publisher = engine.publisher(channelName);
  let withdrawn = 0;
  const subscriber = candles.subscriber(channelName, {
    onLoss: ({ from, to }) => assert.fail(`${from} to ${to} are lost`),
    onWithdrawn: ({ from, to }) => (withdrawn += to - from + 1),
  });
  const read = takeToTheEnd(subscriber);
  const last = 2000;
  const produced = peer.run("waver", 1, last);
  const consumed = peer.run("consume", 0);
  for (let number = 1; number <= last; number++) {
    if (publisher.claim(8) >= 0) publisher.abort();
    await writeNumbered(publisher, number);
  }
  publisher.finish();
  assert.deepEqual(await read, { engine: oneTo(last), auction: oneTo(last) });
  assert.equal((await produced)[0], last);
  const [count, sequence = 0, missing] = await consumed;
  assert.deepEqual([count, missing], [2 * last, 0]);
  assert.ok(withdrawn > last && withdrawn === sequence - 2 * last, `${withdrawn} of ${sequence}`);
});

test("a claim of the dead is settled by the other language", { skip }, async (t) => {
  const directory = makeDirectory(t);
  const peer = buildPeer(directory);
  const file = openFile(directory, shared);
  t.after(() => file.unmap());
  const [lane] = file.lanes;
  using engine = openAs(directory, "engine", shared);
  using candles = openAs(directory, "candles", shared);
  const publisher = engine.publisher(channelName);
  const subscriber = candles.subscriber(channelName);

  const [binary, wordsOf] = peer.command;
  const doomed = spawn(binary, wordsOf("abandon", 1), { stdio: "ignore" });
  t.after(() => doomed.kill("SIGKILL"));
  while (Atomics.load(lane.words, claimWord.claimed) === 0) await pause(1);
  const numbers: Record<string, number[]> = {};
  await writeNumbered(publisher, 1);
  takeAll(subscriber, numbers);
  assert.deepEqual(numbers, {});
  doomed.kill("SIGKILL");
  await once(doomed, "exit");
  while (numbers["engine"] === undefined) {
    await subscriber.wait(100, never);
    takeAll(subscriber, numbers);
  }
  assert.deepEqual(numbers, { engine: [1] });

  // And the other way round: ours is open, and what the peer writes behind it waits for that.
  assert.ok(publisher.claim(8) >= 0);
  Atomics.store(lane.words, producerWord(0) + producerOffset.finished, 1);
  declareProducerDead(file, 0);
  assert.deepEqual(await peer.run("produce", 1, 2), [2, 5]);
  assert.deepEqual(await peer.run("consume", 0), [3, 5, 2]);
  const abandoned = readLosses(lane).filter(({ cause }) => cause === "abandoned");
  assert.deepEqual(
    abandoned.map(({ party, from, to }) => [party, from, to]),
    [
      [1, 1, 1],
      [0, 3, 3],
    ],
  );
});
