/** Files of channels that are made at once by many, cut off, spoilt, or of somebody else. */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import fc from "fast-check";
import zlib from "node:zlib";
import { BACK_PRESSURED } from "gapless/bus";
import { GaplessError, isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import {
  claimWord,
  consumerOffset,
  consumerWord,
  controlBytesOf,
  floorWord,
  headerWord,
  layoutVersion,
  lineBytes,
  lossCountWord,
  partyOffset,
  producerOffset,
  producerWord,
  sleepWord,
  tailWord,
} from "../../../src/bus/layout.ts";
import {
  ageChannel,
  channelName,
  makeDirectory,
  openAs,
  openFile,
  ringPath,
  type Settings,
} from "../../support/bus-channel.ts";

const controlBytes = controlBytesOf(1, 1);
const fileBytes = controlBytes + 4096;

/** A channel with a message in it, and the bytes of its file. */
function makeChannel(directory: string, settings: Settings = {}): Buffer {
  using bus = openAs(directory, "engine", settings);
  bus.publisher(channelName).offer(new Uint8Array(20).fill(7));
  return fs.readFileSync(ringPath(directory));
}

/** The error that opening gives, at either end; both have to give the same. */
function refusal(directory: string, settings: Settings = {}): GaplessError {
  const [left, right] = (["engine", "ledger"] as const).map((service) => {
    using bus = openAs(directory, service, settings);
    try {
      if (service === "engine") bus.publisher(channelName);
      else bus.subscriber(channelName);
    } catch (error) {
      return error;
    }
    return undefined;
  });
  assert.ok(isGaplessError(left), String(left));
  assert.ok(isGaplessError(right), String(right));
  assert.equal(left.message, right.message);
  return left;
}

function assertRefused(directory: string, what: string, code: ErrorCode = "STORAGE_CORRUPT"): void {
  const error = refusal(directory);
  assert.equal(error.code, code, what);
  assert.ok(error.message.includes(ringPath(directory)), error.message);
  assert.match(error.message, /[Rr]emove it/, what);
}

test("a header in which any one byte is another one is refused, and says what to do", (t) => {
  const directory = makeDirectory(t);
  const whole = makeChannel(directory);
  for (let index = 0; index < lineBytes; index++) {
    for (const flip of [0xff, 1 << (index & 7)]) {
      const spoilt = Buffer.from(whole);
      spoilt[index] = (spoilt[index] ?? 0) ^ flip;
      fs.writeFileSync(ringPath(directory), spoilt);
      assertRefused(directory, `byte ${index} flipped by ${flip}`);
    }
  }
  fs.writeFileSync(ringPath(directory), whole);
  const isMapped = (): boolean => fs.readFileSync("/proc/self/maps", "utf8").includes(directory);
  assert.equal(isMapped(), false, "what was refused is still mapped");
  using bus = openAs(directory, "ledger");
  assert.equal(
    bus.subscriber(channelName).poll(() => undefined, 10),
    1,
  );
});

test("a header that is written in part is refused", (t) => {
  const directory = makeDirectory(t);
  const whole = makeChannel(directory);
  const headerBytes = 64;
  for (let length = 0; length < headerBytes; length++) {
    const spoilt = Buffer.from(whole).fill(0, length, lineBytes);
    if (spoilt.equals(whole)) continue;
    fs.writeFileSync(ringPath(directory), spoilt);
    assertRefused(directory, `${length} bytes of the header`);
  }
});

test("a file that is cut off, or longer than its header says, is refused", (t) => {
  const directory = makeDirectory(t);
  const whole = makeChannel(directory);
  const lengths = [0, 1, 4, 127, 128, controlBytes - 1, controlBytes, controlBytes + 1];
  for (const length of [
    ...lengths,
    fileBytes - 4096,
    fileBytes - 1,
    fileBytes + 1,
    3 * fileBytes,
  ]) {
    fs.writeFileSync(ringPath(directory), Buffer.concat([whole, whole, whole]).subarray(0, length));
    assertRefused(directory, `${length} bytes`);
  }
});

test("a header that lies, and has the right checksum, is refused", (t) => {
  const directory = makeDirectory(t);
  const whole = makeChannel(directory);
  const lies: [word: number, value: number][] = [
    [headerWord.version, layoutVersion + 1],
    [headerWord.version, layoutVersion - 1],
    ...[-1, 0, 11, 13, 31, 34, 200, 0x7fff_ffff].map((it): [number, number] => [
      headerWord.ringBytesLog2,
      it,
    ]),
    [headerWord.messageBytesMax, 0x7fff_ffff],
    [headerWord.messageBytesMax, -1],
    [headerWord.consumers, 0],
    [headerWord.consumers, 65],
    [headerWord.producers, 0],
    [headerWord.producers, 65],
    [headerWord.lanes, 0],
    [headerWord.lanes, 2],
    [headerWord.lane, 1],
    [headerWord.bootId, 5],
  ];
  for (const [word, value] of lies) {
    const spoilt = Buffer.from(whole);
    spoilt.writeInt32LE(value, word * 4);
    const checked = spoilt.subarray((headerWord.checksum + 1) * 4, lineBytes);
    spoilt.writeUInt32LE(zlib.crc32(checked), headerWord.checksum * 4);
    fs.writeFileSync(ringPath(directory), spoilt);
    assertRefused(directory, `word ${word} is ${value}`);
  }
});

test("an end that cannot be opened is nobody's: it can be opened once the file is mended", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory);
  const [lane] = file.lanes;
  ageChannel(lane, 1000, 5);
  const { words } = lane;
  using engine = openAs(directory, "engine");
  using ledger = openAs(directory, "ledger");
  const position = lane.consumer(0) + consumerOffset.position;
  for (const [word, value] of [
    [tailWord.tail, 5000],
    [tailWord.anchor, 1000],
    [tailWord.anchor, 1002],
    [position, 1002],
    [position, 2 ** 31 - 1],
  ] as const) {
    const before = words[word] ?? 0;
    words[word] = value;
    assert.throws(
      () => engine.publisher(channelName),
      (error) => isGaplessError(error, "STORAGE_CORRUPT"),
      `word ${word} is ${value}`,
    );
    if (word !== tailWord.anchor) {
      assert.throws(
        () => ledger.subscriber(channelName),
        (error) => isGaplessError(error, "STORAGE_CORRUPT"),
      );
    }
    words[word] = before;
    engine.publisher(channelName).close();
    ledger.subscriber(channelName).close();
  }
  file.unmap();
});

test("a newest record that leads out of the ring is refused", (t) => {
  const directory = makeDirectory(t);
  const file = openFile(directory);
  const capacity = 512;
  // Begins two units before the end of the ring, and would end two units behind its beginning.
  const [lane] = file.lanes;
  ageChannel(lane, capacity, 5);
  lane.words[lane.wordOf(capacity - 2)] = 16;
  lane.words[tailWord.tail] = capacity + 2;
  using engine = openAs(directory, "engine");
  assert.throws(
    () => engine.publisher(channelName),
    (error) => isGaplessError(error, "STORAGE_CORRUPT"),
  );
  file.unmap();
});

const evil = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, -1, -2, 511, 512, 513, 2 ** 31 - 1, -(2 ** 31)),
  fc.integer({ min: -1100, max: 1100 }),
  fc.integer(),
);
/** Every word of the control block of a channel with one producer and one consumer. */
const producer = producerWord(0);
const consumer = consumerWord(1, 0);
const controlWords = [
  ...Object.values(tailWord),
  ...Object.values(claimWord),
  floorWord,
  ...Object.values(sleepWord),
  lossCountWord,
  ...[0, 1, 2].map((offset) => producer + partyOffset.owner + offset),
  ...Object.values(producerOffset).map((offset) => producer + offset),
  ...[0, 1, 2].map((offset) => consumer + partyOffset.owner + offset),
  ...Object.values(consumerOffset).map((offset) => consumer + offset),
];
/** Garbage by the index of its word, in the control block and in the ring. */
interface Damage {
  readonly control: [word: number, value: number][];
  readonly ring: [word: number, value: number][];
}
const damage: fc.Arbitrary<Damage> = fc.record({
  control: fc.array(fc.tuple(fc.constantFrom(...controlWords), evil), { maxLength: 4 }),
  ring: fc.array(fc.tuple(fc.nat(1023), evil), { maxLength: 40 }),
});

/** Does it, and lets pass what a damaged channel may say. */
function tolerate(use: () => void): void {
  try {
    use();
  } catch (error) {
    assert.ok(isGaplessError(error, "STORAGE_CORRUPT", "ALREADY_OPEN"), String(error));
  }
}

function spoil(words: Int32Array, { control, ring }: Damage): void {
  for (const [word, value] of control) words[word] = value;
  for (const [word, value] of ring) words[controlBytes / 4 + word] = value;
}

test("garbage in control words and ring is an error or does no harm, at either end, at any time", (t) => {
  const directory = makeDirectory(t);
  const settings: Settings = { failedConsumer: "evict" };
  const pristine = openFile(directory, settings).lanes[0].bytes.slice();
  const position = fc.constantFrom(0, 1000, 2 ** 31 - 6, 2 ** 32 - 6);

  fc.assert(
    fc.property(position, damage, damage, fc.nat(200), (from, before, after, size) => {
      const file = openFile(directory, settings);
      const [lane] = file.lanes;
      lane.bytes.set(pristine);
      if (from > 0) ageChannel(lane, from, 5);
      spoil(lane.words, before);
      using engine = openAs(directory, "engine", settings);
      using ledger = openAs(directory, "ledger", settings);

      const publish = (): void => {
        using publisher = engine.publisher(channelName);
        for (let count = 0; count < 40; count++) {
          const offset = publisher.claim(size);
          if (offset === BACK_PRESSURED) break;
          assert.ok(offset >= controlBytes && offset + size <= fileBytes);
          if (count % 3 === 0) publisher.commit();
          if (count === 10) spoil(lane.words, after);
        }
        publisher.commit();
        publisher.waitForRoomBlocking(496, 0);
        assert.ok((publisher.last()?.length ?? 0) <= 496);
      };
      const take = (): void => {
        using subscriber = ledger.subscriber(channelName);
        for (let round = 0; round < 10; round++) {
          const limit = round * 100;
          const taken = subscriber.poll((_memory, offset, length) => {
            assert.ok(offset >= controlBytes && offset + length <= fileBytes);
            assert.ok(length >= 0 && length <= 496);
          }, limit);
          assert.ok(taken <= limit);
          subscriber.release();
          subscriber.waitBlocking(0);
          if (round === 5) spoil(lane.words, after);
        }
        // Endless, where a record could lead past the tail.
        subscriber.poll(() => undefined, Infinity);
      };
      tolerate(publish);
      tolerate(take);
      tolerate(publish);
      file.unmap();
    }),
    { numRuns: 1500 },
  );
});
