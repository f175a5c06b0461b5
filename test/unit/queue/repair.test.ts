/** What mending a queue takes, what it keeps, and what it tells. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { crc32 } from "node:zlib";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import {
  checksumKinds,
  controlOffset,
  headerOffset,
  segmentFileName,
  segmentHeaderBytes,
  segmentOffset,
} from "../../../src/queue/layout.ts";
import {
  cleanupSegments,
  inspectQueue,
  openPublisher,
  openSubscriber,
  readLosses,
  repairQueue,
  verifyQueue,
  type RepairName,
  type RepairReport,
} from "../../../src/queue/queue.ts";
import { repairNames } from "../../../src/queue/repair.ts";
import { seededRandom } from "../../../src/random.ts";
import { writeSmallQueue } from "../../support/queue-damage.ts";
import {
  change,
  offsetOf,
  startAgain,
  threeSegments,
  writeThreeSegments,
} from "../../support/queue-files.ts";
import { makeFastDirectory, payloadOf, walkQueue } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const rounds = Number(process.env["ROUNDS"] ?? 150);
const { options, count, sizeOf } = threeSegments;

/** Three segments with indexes, closed. */
async function writeQueue(context: TestContext): Promise<string> {
  const directory = path.join(makeFastDirectory(context), "trades");
  await writeThreeSegments(directory);
  return directory;
}

function fileOf(directory: string, number: number): string {
  return path.join(directory, segmentFileName(number));
}

function firstOf(directory: string, number: number): number {
  const content = fs.readFileSync(fileOf(directory, number));
  return Number(content.readBigUInt64LE(segmentOffset.firstSequence));
}

/** Every file of a directory but locks, by its name. */
function contentsOf(directory: string): Map<string, Buffer> {
  const names = fs.readdirSync(directory, { recursive: true, encoding: "utf8" });
  const files = names.filter((name) => fs.statSync(path.join(directory, name)).isFile());
  return new Map(files.map((name) => [name, fs.readFileSync(path.join(directory, name))]));
}

/** Says what it would do, which changes nothing, and then does just that. */
function mend(directory: string, ...repairs: RepairName[]): RepairReport {
  const before = contentsOf(directory);
  const said = repairQueue(directory, { repairs });
  assert.deepEqual(contentsOf(directory), before);
  const done = repairQueue(directory, { repairs, write: true });
  assert.deepEqual(done.steps, said.steps);
  assert.deepEqual([said.isWritten, done.isWritten], [false, true]);
  for (const { file, kept } of done.steps) {
    if (kept !== undefined) {
      assert.deepEqual(fs.readFileSync(path.join(directory, kept)), before.get(file));
    }
  }
  assert.deepEqual(repairQueue(directory, { repairs }).steps, [], "nothing is left to do");
  return done;
}

/** A writer goes on behind `last`, and all that is left is what was written. */
async function goOn(directory: string, last: number): Promise<void> {
  const publisher = openPublisher(directory, options);
  assert.equal(publisher.lastSequence, last);
  assert.equal(publisher.append(1, payloadOf(last + 1, sizeOf(last + 1))), last + 1);
  await publisher.close();
  for (const { sequence, payload } of walkQueue(directory)) {
    assert.deepEqual(payload, payloadOf(sequence, sizeOf(sequence)));
  }
  const { findings } = await verifyQueue(directory);
  assert.deepEqual(
    findings.filter(({ severity }) => severity !== "note"),
    [],
  );
}

function refuses(code: ErrorCode, repair: () => void): void {
  assert.throws(repair, (error) => isGaplessError(error, code));
}

test("lines of a header are made anew from the records, and nothing is lost", async (t) => {
  const directory = await writeQueue(t);
  const pristine = contentsOf(directory);
  const cases: readonly [number, (bytes: Buffer) => void][] = [
    [1, (bytes) => bytes.fill(0xee, 0, 64)],
    [2, (bytes) => bytes.fill(0, 0, segmentHeaderBytes)],
    [2, (bytes) => bytes.fill(0, segmentOffset.firstSequence, segmentOffset.lastSequence)],
    [2, (bytes) => bytes.fill(0xee, segmentOffset.lastSequence, segmentOffset.durable)],
    [3, (bytes) => bytes.fill(0xee, segmentOffset.firstSequence, segmentOffset.lastSequence)],
    [3, (bytes) => bytes.writeUInt32LE(77, segmentOffset.durable)],
    [3, (bytes) => bytes.fill(0, 0, 64)],
  ];
  for (const [number, how] of cases) {
    for (const [name, content] of pristine) fs.writeFileSync(path.join(directory, name), content);
    change(fileOf(directory, number), how);
    const { steps } = mend(directory, "header");
    assert.deepEqual(
      steps.map(({ file, lost }) => [file, lost]),
      [[segmentFileName(number), undefined]],
    );
    const content = fs.readFileSync(fileOf(directory, number));
    const original = pristine.get(segmentFileName(number));
    assert.deepEqual(content.subarray(0, 196), original?.subarray(0, 196));
    assert.deepEqual((await verifyQueue(directory)).findings, []);
  }
  await goOn(directory, count);
});

test("the log ends at the first damage of the last segment, and all are told", async (t) => {
  const directory = await writeQueue(t);
  for (const name of ["ledger", "risk"]) {
    const subscriber = openSubscriber(directory, name);
    subscriber.poll(() => undefined, 100);
    if (name === "ledger") subscriber.poll(() => undefined, count);
    subscriber.commit();
    await subscriber.close();
  }
  const filePath = fileOf(directory, 3);
  change(filePath, (bytes) => bytes.writeInt32LE(7, offsetOf(filePath, 798)));
  assert.throws(() => openPublisher(directory, options), /is damaged/);
  const [step, ...rest] = mend(directory, "truncate").steps;
  assert.deepEqual(rest, []);
  assert.deepEqual([step?.lost, step?.wholeLost], [{ from: 798, to: count }, 2]);
  assert.deepEqual(
    readLosses(directory).losses.map(({ cause, reader, from, to }) => [cause, reader, from, to]),
    [["damaged", "*", 798, count]],
  );
  await goOn(directory, 797);
  // Who had read them is told that others have their numbers now.
  refuses("CHAIN_BROKEN", () => openSubscriber(directory, "ledger"));
  await using risk = openSubscriber(directory, "risk");
  const given: number[] = [];
  risk.poll(() => given.push(risk.envelope.sequence), 2 * count);
  assert.deepEqual([given[0], given.at(-1), given.length], [101, 798, 698]);
});

test("a last segment that nothing is known of is taken away, and kept", async (t) => {
  const directory = await writeQueue(t);
  const first = firstOf(directory, 3);
  change(fileOf(directory, 3), (bytes) => bytes.fill(0xee));
  assert.throws(() => openPublisher(directory, options), /is damaged/);
  assert.deepEqual(mend(directory, "header").steps, []);
  const [step] = mend(directory, "truncate").steps;
  assert.deepEqual([step?.lost, step?.wholeLost], [{ from: first, to: count }, 0]);
  assert.ok(!fs.existsSync(fileOf(directory, 3)));
  await goOn(directory, first - 1);
});

test("the only segment is not taken away: sequences would begin again", async (t) => {
  const directory = path.join(makeFastDirectory(t), "trades");
  await using publisher = openPublisher(directory, options);
  publisher.append(1, payloadOf(1));
  await publisher.close();
  change(fileOf(directory, 1), (bytes) => bytes.fill(0xee));
  refuses("STORAGE_CORRUPT", () => repairQueue(directory, { repairs: ["truncate"] }));
});

test("an index is made anew as the writer had made it", async (t) => {
  const directory = await writeQueue(t);
  const pristine = fs.readFileSync(fileOf(directory, 1));
  const flaws: readonly ((bytes: Buffer) => void)[] = [
    (bytes) => bytes.fill(0xee, segmentHeaderBytes + 3, segmentHeaderBytes + 5),
    (bytes) => bytes.writeUInt32LE(1_000_000, segmentOffset.indexed),
    (bytes) => bytes.fill(0, segmentHeaderBytes, segmentHeaderBytes + 48),
  ];
  for (const flaw of flaws) {
    fs.writeFileSync(fileOf(directory, 1), pristine);
    change(fileOf(directory, 1), flaw);
    mend(directory, "index");
    assert.deepEqual(fs.readFileSync(fileOf(directory, 1)), pristine);
  }
  await using subscriber = openSubscriber(directory, "ledger");
  subscriber.seekTimestamp(250n);
  assert.equal(subscriber.next()?.sequence, 250);
  await goOn(directory, count);
});

test("the control file is made anew from the segments, with an epoch above all", async (t) => {
  const directory = await writeQueue(t);
  const { identity } = inspectQueue(directory);
  const filePath = path.join(directory, controlFileName);
  const how: readonly (() => void)[] = [
    () => fs.rmSync(filePath),
    () => change(filePath, (bytes) => bytes.fill(0xee, 0, 64)),
    () => fs.truncateSync(filePath, 100),
    () => change(filePath, (bytes) => bytes.writeUInt32LE(0, controlOffset.epoch)),
    () => change(filePath, (bytes) => bytes.writeDoubleLE(1e6, controlOffset.durable)),
  ];
  let last = count;
  for (const destroy of how) {
    const { epoch } = walkQueue(directory).at(-1) ?? { epoch: 0 };
    destroy();
    assert.equal(mend(directory, "control").steps.length, 1);
    const snapshot = inspectQueue(directory);
    assert.deepEqual([snapshot.identity, snapshot.lastSequence], [identity, last]);
    assert.deepEqual(snapshot.unreadable, []);
    await goOn(directory, last++);
    assert.ok((walkQueue(directory).at(-1)?.epoch ?? 0) > epoch);
  }
});

test("without its control file a queue is damaged, and not one that is yet to come", async (t) => {
  const directory = await writeQueue(t);
  await openSubscriber(directory, "ledger").close();
  fs.rmSync(path.join(directory, controlFileName));
  const isTold = {
    code: "STORAGE_CORRUPT",
    message: /queue\.control is missing.*repair --control/,
  };
  for (const open of [
    () => openPublisher(directory, options),
    () => openSubscriber(directory, "ledger"),
    () => cleanupSegments(directory, { segments: 2 }),
  ]) {
    assert.throws(open, isTold);
  }
  assert.equal(inspectQueue(directory).lastSequence, count);
  mend(directory, "control");
  await goOn(directory, count);
});

test("a control file of another queue is what is wrong, and not all the segments", async (t) => {
  const directory = await writeQueue(t);
  const other = await writeQueue(t);
  const { identity } = inspectQueue(directory);
  fs.copyFileSync(path.join(other, controlFileName), path.join(directory, controlFileName));
  const { findings } = await verifyQueue(directory);
  assert.deepEqual(
    findings.map(({ severity, file, repair }) => [severity, file, repair]),
    [["damage", controlFileName, "control"]],
  );
  assert.match(findings[0]?.what ?? "", /of another queue than the segments/);
  assert.match(mend(directory, "control").steps[0]?.what ?? "", /another queue than the segments/);
  assert.deepEqual([inspectQueue(directory).identity, count], [identity, count]);
  await goOn(directory, count);
});

test("what is wrong with a file says what helps with that file", async (t) => {
  const directory = await writeQueue(t);
  await openSubscriber(directory, "ledger").close();
  const openReader = (): unknown => openSubscriber(directory, "ledger");
  const openWriter = (): unknown => openPublisher(directory, options);
  const reader = path.join("readers", "ledger.reader");
  const last = segmentFileName(3);
  const durable = segmentOffset.durable;
  const cases: [string, (content: Buffer) => Buffer, () => unknown, RegExp][] = [
    [controlFileName, (content) => content.fill(0, 0, 8), openReader, /repair --control/],
    [controlFileName, () => Buffer.from("another thing"), openReader, /cut off.*repair --control/],
    [reader, (content) => content.fill(0, 0, 8), openReader, /readers --remove/],
    [reader, () => Buffer.from("another thing"), openReader, /cut off.*readers --remove/],
    [last, (content) => content.fill(0, 0, 8), openWriter, /repair --header/],
    [
      last,
      (content) => content.fill(1, durable, durable + 1),
      openWriter,
      /lets a publisher go on/,
    ],
  ];
  for (const [file, how, open, text] of cases) {
    const filePath = path.join(directory, file);
    const before = fs.readFileSync(filePath);
    fs.writeFileSync(filePath, how(Buffer.from(before)));
    assert.throws(open, (error) => {
      assert.ok(isGaplessError(error, "STORAGE_CORRUPT"), String(error));
      assert.match(error.message, text);
      assert.match(error.message, /^\S+ is (damaged|cut off): /);
      const others = ["--control", "--header", "--remove", "stage"].filter(
        (one) => !text.source.includes(one),
      );
      for (const other of others) assert.ok(!error.message.includes(other), error.message);
      return true;
    });
    fs.writeFileSync(filePath, before);
  }
  await goOn(directory, count);
});

test("a control file that knows of more than there is says so before it is made anew", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "trades");
  const copy = path.join(root, "copy");
  await using publisher = openPublisher(directory, options);
  for (let sequence = 1; sequence <= 50; sequence++) publisher.append(1, payloadOf(sequence));
  fs.cpSync(directory, copy, { recursive: true });
  for (let sequence = 51; sequence <= 60; sequence++) publisher.append(1, payloadOf(sequence));
  fs.copyFileSync(path.join(directory, controlFileName), path.join(copy, controlFileName));
  // Its writer lives, elsewhere.
  refuses("WRITER_ALREADY_ACTIVE", () => repairQueue(copy, { repairs: ["control"] }));
  fs.rmSync(path.join(copy, "writer.lock"));
  const [step] = mend(copy, "control").steps;
  assert.deepEqual(step?.lost, { from: 51, to: 60 });
  assert.equal(readLosses(copy).losses.length, 1);
  await using next = openPublisher(copy, options);
  assert.equal(next.lastSequence, 50);
});

test("a queue goes on without a segment that is missing, and readers are told", async (t) => {
  const directory = await writeQueue(t);
  const [from, to] = [firstOf(directory, 2), firstOf(directory, 3) - 1];
  // Nothing of the last one was ever known to be durable.
  change(fileOf(directory, 3), (bytes) => bytes.writeUInt32LE(0, segmentOffset.durable));
  fs.rmSync(fileOf(directory, 2));
  startAgain(directory);
  assert.throws(() => openPublisher(directory, options), /is missing/);
  const [step, ...rest] = mend(directory, "control").steps;
  assert.deepEqual([step?.lost, rest], [undefined, []]);
  await openPublisher(directory, options).close();
  await using subscriber = openSubscriber(directory, "ledger");
  assert.equal(
    subscriber.poll(() => undefined, 2 * count),
    from - 1,
  );
  refuses("DATA_TRIMMED", () => subscriber.poll(() => undefined, count));
  assert.deepEqual([subscriber.skipUnreadable().from, subscriber.position], [from, to + 1]);
});

test("what another release has written is no damage: it is told, and left as it is", async (t) => {
  const directory = await writeQueue(t);
  await openSubscriber(directory, "ledger").close();
  const files = [controlFileName, segmentFileName(2), path.join("readers", "ledger.reader")];
  for (const file of files) {
    const filePath = path.join(directory, file);
    const before = fs.readFileSync(filePath);
    change(filePath, (content) => {
      content.writeUInt32LE(99, headerOffset.version);
      content.writeUInt32LE(crc32(content.subarray(0, headerOffset.crc)), headerOffset.crc);
    });
    const contents = contentsOf(directory);
    const isTold = {
      code: "STORAGE_CORRUPT",
      message: new RegExp(`${file} has another format: version=99.*release that wrote it`),
    };
    await assert.rejects(verifyQueue(directory), isTold);
    for (const write of [false, true]) {
      for (const name of repairNames) {
        assert.throws(() => repairQueue(directory, { repairs: [name], write }), isTold);
      }
    }
    assert.deepEqual(contentsOf(directory), contents);
    fs.writeFileSync(filePath, before);
  }
  await goOn(directory, count);
});

test("nothing is mended that somebody has open, and nothing unless it is asked for", async (t) => {
  const directory = await writeQueue(t);
  const filePath = fileOf(directory, 3);
  change(filePath, (bytes) => bytes.writeInt32LE(7, offsetOf(filePath, 780)));
  assert.deepEqual(repairQueue(directory, { repairs: [], write: true }).steps, []);
  fs.rmSync(path.join(directory, controlFileName));
  refuses("STORAGE_CORRUPT", () => repairQueue(directory, { repairs: ["control"], write: true }));
  const { steps } = repairQueue(directory, { repairs: ["control", "truncate"], write: true });
  assert.deepEqual(
    steps.map(({ repair }) => repair),
    ["truncate", "control"],
  );
  const wrong = ["everything"] as unknown as RepairName[];
  refuses("CONFIG_INVALID", () => repairQueue(directory, { repairs: wrong }));
  const none = path.join(directory, "none");
  refuses("DATA_NOT_YET_AVAILABLE", () => repairQueue(none, { repairs: ["control"] }));
  const subscriber = openSubscriber(directory, "ledger");
  for (const write of [false, true]) {
    refuses("ALREADY_OPEN", () => repairQueue(directory, { repairs: ["control"], write }));
  }
  await subscriber.close();
  await using _publisher = openPublisher(directory, options);
  for (const write of [false, true]) {
    refuses("WRITER_ALREADY_ACTIVE", () => repairQueue(directory, { repairs: ["control"], write }));
  }
});

/** Looks at the directory before each call by which a repair changes a file or a name. */
function watchChanges(look: () => void): () => void {
  const names = ["copyFileSync", "fsyncSync", "linkSync", "mkdirSync", "renameSync"] as const;
  const undo = names.map((name) => {
    const original = fs[name] as (...parameters: unknown[]) => unknown;
    const replace = (value: unknown): void => void Object.assign(fs, { [name]: value });
    replace((...parameters: unknown[]) => {
      look();
      return original(...parameters);
    });
    return () => replace(original);
  });
  return () => undo.forEach((restore) => restore());
}

test("a repair that is killed anywhere is done by the next one", async (t) => {
  const source = await writeQueue(t);
  const first = firstOf(source, 3);
  const damages: readonly [(directory: string) => void, number][] = [
    [(directory) => change(fileOf(directory, 2), (bytes) => bytes.fill(0, 0, 256)), count],
    [(directory) => change(fileOf(directory, 3), (bytes) => bytes.fill(0xee)), first - 1],
    [
      (directory) => {
        const filePath = fileOf(directory, 3);
        change(filePath, (bytes) => bytes.fill(0, offsetOf(filePath, 780)));
      },
      779,
    ],
    [
      (directory) => {
        change(fileOf(directory, 1), (bytes) => bytes.fill(0xee, 256, 300));
        change(path.join(directory, controlFileName), (bytes) => bytes.fill(0, 0, 64));
      },
      count,
    ],
  ];
  for (const [damage, last] of damages) {
    const root = makeFastDirectory(t);
    const directory = path.join(root, "trades");
    fs.cpSync(source, directory, { recursive: true });
    damage(directory);
    const left: string[] = [];
    const restore = watchChanges(() => {
      const copy = path.join(root, `left-${left.length}`);
      left.push(copy);
      fs.cpSync(directory, copy, { recursive: true });
    });
    repairQueue(directory, { repairs: repairNames, write: true });
    restore();
    assert.ok(left.length > 5);
    for (const copy of left) {
      for (const name of fs.readdirSync(copy)) {
        if (name.startsWith("writer.lock")) fs.rmSync(path.join(copy, name));
      }
      repairQueue(copy, { repairs: repairNames, write: true });
      await goOn(copy, last);
      const { losses } = readLosses(copy);
      assert.equal(losses.length, last === count ? 0 : 1, copy);
    }
  }
});

for (const checksum of checksumKinds) {
  test(`whatever byte is damaged, all repairs together let a writer go on: ${checksum}`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const root = makeFastDirectory(t);
    const source = path.join(root, "source");
    fs.mkdirSync(source);
    const written = await writeSmallQueue(source, checksum);
    const names = fs.readdirSync(source).filter((name) => /\.(segment|control)$/.test(name));
    let refused = 0;
    for (let round = 0; round < rounds; round++) {
      const directory = path.join(root, String(round));
      fs.cpSync(source, directory, { recursive: true });
      const name = names[random.below(names.length)] ?? "";
      // Most of what can go wrong is in the first bytes.
      const place = random.below(random.below(2) === 0 ? 400 : 4096);
      const width = random.below(4) === 0 ? 64 : 1;
      change(path.join(directory, name), (bytes) => {
        const end = Math.min(bytes.length, place + width);
        if (width === 1) bytes[place] = (bytes[place] ?? 0) ^ (1 << random.below(8));
        else bytes.fill(0, place, end);
      });
      if (random.below(2) === 0) startAgain(directory);
      const where = `SEED=${seed} round=${round} ${name} at ${place}, ${width} bytes`;
      const found = await verifyQueue(directory);
      const lostOf = (ranges: readonly { lost?: { from: number; to: number } }[]): number =>
        ranges.reduce((sum, { lost }) => sum + (lost ? lost.to - lost.from + 1 : 0), 0);
      const before = repairQueue(directory, { repairs: repairNames });
      const done = repairQueue(directory, { repairs: repairNames, write: true });
      assert.deepEqual(done.steps, before.steps, where);
      assert.deepEqual(repairQueue(directory, { repairs: repairNames }).steps, [], where);
      const publisher = openPublisher(directory, { segmentBytes: 4096, checksum });
      publisher.append(1, payloadOf(1), 0n);
      await publisher.close();
      const after = await verifyQueue(directory);
      const whole = done.steps.reduce((sum, { wholeLost = 0 }) => sum + wholeLost, 0);
      assert.ok(after.records >= written + 1 - lostOf(found.findings) - whole, where);
      // What was not to be read is mended, or recorded, or still found.
      const mended = after.records - 1 - found.records;
      const accounted = mended + lostOf(done.steps) + lostOf(after.findings);
      assert.ok(accounted >= lostOf(found.findings), where);
      if (done.steps.length > 0) refused++;
      fs.rmSync(directory, { recursive: true });
    }
    assert.ok(refused > 0);
  });
}
