import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { controlFileName, openControl } from "../../../src/queue/control.ts";
import {
  checksumKinds,
  controlOffset,
  indexStrideBytes,
  recordsStartOf,
  segmentFileName,
  segmentOffset,
  type ChecksumKind,
} from "../../../src/queue/layout.ts";
import {
  durableEnd,
  listSegments,
  openSegment,
  readEnding,
  reserveSegment,
} from "../../../src/queue/segment.ts";
import { verifyQueue } from "../../../src/queue/verify.ts";
import { openPublisher, openSubscriber, type Publisher } from "../../../src/queue/queue.ts";
import { seededRandom, type Random } from "../../../src/random.ts";
import { Recording, type Choose } from "../../support/power-loss.ts";
import {
  copyAsKilled,
  makeFastDirectory,
  payloadOf,
  walkQueue,
  type FoundRecord,
} from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const rounds = Number(process.env["ROUNDS"] ?? 20);
const segmentBytes = 4096;
const statesOfCrash = 12;

const open = (directory: string, checksum: ChecksumKind): Publisher =>
  openPublisher(directory, { segmentBytes, checksum, preallocate: false });

/** Appends, flushes and opens at random behind `history`, and adds to it. */
async function play(
  directory: string,
  checksum: ChecksumKind,
  random: Random,
  history: FoundRecord[],
): Promise<{ publisher: Publisher; syncing: Promise<unknown> }> {
  let publisher = open(directory, checksum);
  assert.equal(publisher.lastSequence, history.length);
  let syncing: Promise<unknown> = Promise.resolve();
  const append = (count: number): void => {
    const records = Array.from({ length: count }, (_, index) => {
      const sequence = history.length + index + 1;
      const size = random.below(random.below(8) === 0 ? 1150 : 120);
      const payload = payloadOf(random.below(1000), size);
      const { epoch } = publisher;
      return { sequence, type: random.below(5), epoch, timestampNs: BigInt(sequence), payload };
    });
    history.push(...records);
    assert.equal(publisher.appendMany(records), history.length);
  };
  for (let step = 1 + random.below(30); step > 0; step--) {
    const die = random.below(10);
    if (die === 0) {
      await publisher.flush();
    } else if (die === 1) {
      syncing = publisher.flush();
    } else if (die === 2) {
      const start = publisher.claim(1, 60);
      publisher.memory.bytes.fill(0x55, start, start + 60);
      publisher.abort();
    } else if (die === 3 && random.below(3) === 0) {
      await publisher.close();
      publisher = open(directory, checksum);
    } else {
      append(1 + random.below(die < 6 ? 3 : 1));
    }
  }
  return { publisher, syncing };
}

/** All of the oldest, all of the newest, and what chance has it. */
function chooser(state: number, random: Random): Choose {
  if (state === 0) return () => 0;
  if (state === 1) return (count) => count - 1;
  // Most of the sectors are of one time, a few of another.
  const rarely = 2 + random.below(6);
  const keeps = random.below(2) === 0;
  return (count) => {
    if (random.below(rarely) === 0) return random.below(count);
    return keeps ? count - 1 : 0;
  };
}

/** The machine starts again: with these files, and another boot. */
function materialize(files: ReadonlyMap<string, Buffer>, directory: string): void {
  fs.mkdirSync(directory);
  for (const [name, content] of files) {
    if (name === controlFileName) content.fill(0xb0, controlOffset.boot, controlOffset.boot + 16);
    // Of another boot: nobody holds it.
    if (!name.startsWith("writer.lock")) fs.writeFileSync(path.join(directory, name), content);
  }
}

test("G4: a power loss takes no record that was flushed, and leaves no other one", async (t) => {
  for (const checksum of checksumKinds) {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const root = makeFastDirectory(t);
    const seen = { lost: 0, kept: 0, twice: 0 };
    let places = 0;
    for (let round = 0; round < rounds; round++) {
      let directories = [path.join(root, String(places++))];
      let histories: FoundRecord[][] = [[]];
      for (let losses = 0; losses < 2; losses++) {
        const left: string[] = [];
        const leftHistories: FoundRecord[][] = [];
        for (const [index, directory] of directories.entries()) {
          fs.mkdirSync(directory, { recursive: true });
          const history = [...(histories[index] ?? [])];
          using recording = await Recording.start(directory);
          recording.settle();
          const { publisher, syncing } = await play(directory, checksum, random, history);
          const { durableSequence } = publisher;
          const states = losses === 0 ? statesOfCrash : 2;
          for (let state = 0; state < states; state++) {
            const after = path.join(root, String(places++));
            materialize(recording.lose(chooser(losses + state, random)), after);
            const recovered = open(after, checksum);
            const { lastSequence } = recovered;
            await recovered.close();
            const where = `SEED=${seed} round=${round} state=${state} losses=${losses}`;
            assert.ok(lastSequence >= durableSequence, `${where}: ${lastSequence}`);
            assert.deepEqual(walkQueue(after), history.slice(0, lastSequence), where);
            seen[lastSequence < history.length ? "lost" : "kept"]++;
            if (losses > 0) seen.twice++;
            left.push(after);
            leftHistories.push(history.slice(0, lastSequence));
          }
          await syncing;
          await publisher.close();
          fs.rmSync(directory, { recursive: true });
        }
        directories = left;
        histories = leftHistories;
      }
      for (const directory of directories) fs.rmSync(directory, { recursive: true });
    }
    assert.ok(seen.lost > 0 && seen.kept > 0 && seen.twice > 0, JSON.stringify(seen));
    t.diagnostic(`${checksum}: ${JSON.stringify(seen)}`);
  }
});

/** The files of a directory as they are now. */
function filesOf(directory: string): Map<string, Buffer> {
  const names = fs.readdirSync(directory).filter((name) => /\.(segment|control)$/.test(name));
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(directory, name))]));
}

test("entries of the index that a power loss left behind the end are taken out, whatever of them is whole", async (t) => {
  const root = makeFastDirectory(t);
  const options = { segmentBytes: 16 * indexStrideBytes, preallocate: false } as const;
  const payload = new Uint8Array(1000).fill(1);
  const publisher = openPublisher(path.join(root, "before"), options);
  publisher.append(1, payload);
  await publisher.flush();
  while (publisher.lastSequence < 1000) publisher.append(1, payload);
  const files = filesOf(publisher.directory);
  await publisher.close();
  const segment = files.get(segmentFileName(1));
  assert.ok(segment !== undefined);
  // The sector with the last entries was not written, nor were most of the records.
  const [sectorBytes, records] = [512, segment.readUInt32LE(segmentOffset.recordsStart)];
  assert.equal(segment.readUInt32LE(segmentOffset.indexed), 15);
  segment.fill(0, sectorBytes, records);
  segment.fill(0, 3 * indexStrideBytes);

  const after = path.join(root, "after");
  materialize(files, after);
  const next = openPublisher(after, options);
  const kept = next.lastSequence;
  assert.ok(kept > 1 && kept < 300);
  while (!fs.existsSync(path.join(after, segmentFileName(2)))) next.append(2, payload);
  const count = next.lastSequence;
  await next.close();
  const types = walkQueue(after).map(({ type }) => type);
  assert.deepEqual(
    types,
    Array.from({ length: count }, (_, index) => (index < kept ? 1 : 2)),
  );
});

test("G4: what was flushed of a segment without sums is there, also where sums are wished by now", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "before");
  fs.mkdirSync(directory);
  using recording = await Recording.start(directory);
  const first = open(directory, "none");
  first.append(1, payloadOf(1));
  await first.close();
  recording.settle();
  // It goes on in the segment that is there, and then in one of its own.
  const second = open(directory, "fast");
  while (!fs.existsSync(path.join(directory, segmentFileName(2)))) second.append(1, payloadOf(2));
  const { sequence } = await second.flush();
  const after = path.join(root, "after");
  materialize(
    recording.lose(() => 0),
    after,
  );
  await second.close();
  const recovered = open(after, "fast");
  assert.equal(recovered.lastSequence, sequence);
  await recovered.close();
});

test("a reader that seeks a time before the writer is back stays within what is going to be kept", async (t) => {
  const root = makeFastDirectory(t);
  for (const checksum of checksumKinds) {
    const publisher = open(path.join(root, checksum), checksum);
    for (let count = 0; count < 5; count++) publisher.append(1, payloadOf(50), 1n);
    await publisher.flush();
    for (let count = 0; count < 5; count++) publisher.append(1, payloadOf(50), 1n);
    const files = filesOf(publisher.directory);
    await publisher.close();
    const segment = files.get(segmentFileName(1));
    assert.ok(segment !== undefined);
    // A sector in the middle of what was not flushed is lost: of the seventh, a byte.
    const recordsStart = segment.readUInt32LE(segmentOffset.recordsStart);
    segment[recordsStart + 6 * 88 + 60] = 0;
    const after = path.join(root, `after-${checksum}`);
    materialize(files, after);
    await using subscriber = openSubscriber(after, "early");
    subscriber.seekTimestamp(2n);
    const kept = checksum === "none" ? 5 : 6;
    assert.equal(subscriber.position, kept + 1, checksum);
    const next = open(after, checksum);
    assert.equal(next.lastSequence, kept);
    next.append(2, payloadOf(50), 3n);
    assert.equal(subscriber.next()?.sequence, kept + 1);
    await next.close();
  }
});

test("an end that one power loss has taken and another brings back is not believed", async (t) => {
  const root = makeFastDirectory(t);
  const first = open(path.join(root, "first"), "fast");
  const fill = (publisher: Publisher, size: number): void => {
    const second = path.join(publisher.directory, segmentFileName(2));
    while (!fs.existsSync(second)) publisher.append(1, payloadOf(1, size));
  };
  fill(first, 50);
  const files = filesOf(first.directory);
  await first.close();
  const before = files.get(segmentFileName(1));
  assert.ok(before !== undefined);
  const line = before.subarray(segmentOffset.lastSequence, segmentOffset.durable);
  // The first power loss takes the third record: it ends before that, and is filled anew.
  before[before.readUInt32LE(segmentOffset.recordsStart) + 2 * 88 + 60] = 0;
  files.delete(segmentFileName(2));
  const directory = path.join(root, "second");
  materialize(files, directory);
  const second = open(directory, "fast");
  fill(second, 200);
  const again = filesOf(directory);
  await second.close();
  again.get(segmentFileName(1))?.set(line, segmentOffset.lastSequence);
  again.delete(segmentFileName(2));
  const after = path.join(root, "third");
  materialize(again, after);
  await open(after, "fast").close();
  assert.deepEqual((await verifyQueue(after)).findings, []);
});

test("G4: what is flushed is there, though somebody else has reserved its segment and not come to sync the name", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "before");
  fs.mkdirSync(directory);
  using recording = await Recording.start(directory);
  const publisher = open(directory, "fast");
  publisher.append(1, payloadOf(1));
  recording.settle();
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  const { fsyncSync } = fs;
  fs.fsyncSync = (fd) => {
    if (fs.fstatSync(fd).isFile()) fsyncSync(fd);
  };
  reserveSegment(directory, 2, { identity, bytes: segmentBytes, checksum: "fast" });
  fs.fsyncSync = fsyncSync;
  for (let number = 2; number <= 70; number++) publisher.append(1, payloadOf(1, 60));
  assert.deepEqual(listSegments(directory), [1, 2]);
  const { sequence } = await publisher.flush();
  const after = path.join(root, "after");
  materialize(
    recording.lose(() => 0),
    after,
  );
  await publisher.close();
  const recovered = open(after, "fast");
  assert.equal(recovered.lastSequence, sequence);
  await recovered.close();
});

/** What is known to be durable of each segment, and how far it goes. */
function marksOf(directory: string): { readonly durable: number; readonly end: number }[] {
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  return listSegments(directory).map((number) => {
    const segment = openSegment(directory, number, identity, "read");
    const mark = { durable: durableEnd(segment), end: readEnding(segment)?.end ?? 0 };
    segment.mapping.unmap();
    return mark;
  });
}

test("segments that end while a flush looks for what an earlier writer has left are marked to their ends", async (t) => {
  const root = makeFastDirectory(t);
  const first = open(path.join(root, "first"), "fast");
  const fill = (publisher: Publisher, through: number): void => {
    while (publisher.lastSequence < through) publisher.append(1, payloadOf(1, 60));
  };
  fill(first, 100);
  const directory = path.join(root, "second");
  copyAsKilled(first.directory, directory);
  await first.close();
  const second = open(directory, "fast");
  fill(second, 101);
  const flushed = second.flush();
  await Promise.resolve().then(() => undefined);
  fill(second, 300);
  await flushed;
  const marks = marksOf(directory).filter(({ durable }) => durable > 0);
  const isBehind = ({ durable, end }: (typeof marks)[number]): boolean =>
    durable > recordsStartOf(segmentBytes) && durable < end;
  assert.deepEqual(marks.filter(isBehind), []);
  await second.close();
});

test("G4: a writer that was fenced while it flushed takes no mark of its successor back", async (t) => {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "before");
  fs.mkdirSync(directory);
  const old = open(directory, "none");
  old.append(1, payloadOf(1));
  await using some = await fs.promises.open(directory);
  const handles = Object.getPrototypeOf(some) as fs.promises.FileHandle;
  // Called with its handle below.
  // eslint-disable-next-line @typescript-eslint/unbound-method
  const { datasync } = handles;
  t.after(() => Object.assign(handles, { datasync }));
  const under = Promise.withResolvers<undefined>();
  const asleep = Promise.withResolvers<undefined>();
  handles.datasync = async function (this: fs.promises.FileHandle): Promise<void> {
    Object.assign(handles, { datasync });
    await datasync.call(this);
    under.resolve(undefined);
    await asleep.promise;
  };
  const flushed = old.flush();
  await under.promise;
  for (let number = 2; number <= 5; number++) old.append(1, payloadOf(number));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1100);
  const next = openPublisher(directory, {
    segmentBytes,
    checksum: "none",
    preallocate: false,
    takeOverAfterMs: 1000,
  });
  const { sequence } = await next.flush();
  assert.equal(sequence, 5);
  asleep.resolve(undefined);
  await flushed;
  const after = path.join(root, "after");
  materialize(filesOf(directory), after);
  const recovered = open(after, "none");
  assert.equal(recovered.lastSequence, 5);
  for (const publisher of [recovered, next, old]) await publisher.close();
});

test("a recovery that is killed, or loses its power, while it removes segments behind the end is done again", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(t);
  const first = open(path.join(root, "first"), "fast");
  while (first.lastSequence < 300) first.append(1, payloadOf(1, 60));
  const files = filesOf(first.directory);
  await first.close();
  // Never flushed: of the third one, the middle is lost.
  assert.ok(files.size > 6);
  files.get(segmentFileName(3))?.fill(0, 2048, 2560);
  const directory = path.join(root, "after");
  materialize(files, directory);
  using recording = await Recording.start(directory);
  recording.settle();
  const left: ReadonlyMap<string, Buffer>[] = [];
  const { rmSync, fsyncSync } = fs;
  const look = (): void => {
    left.push(filesOf(directory));
    for (let state = 0; state < 5; state++)
      left.push(recording.lose((count) => random.below(count)));
  };
  fs.rmSync = (...args) => {
    look();
    rmSync(...args);
  };
  fs.fsyncSync = (fd) => {
    look();
    fsyncSync(fd);
  };
  const second = open(directory, "fast");
  Object.assign(fs, { rmSync, fsyncSync });
  const { lastSequence } = second;
  await second.close();
  for (const [index, found] of left.entries()) {
    const where = `SEED=${seed} index=${index}`;
    const again = path.join(root, `${index}`);
    materialize(new Map([...found].filter(([name]) => /\.(segment|control)$/.test(name))), again);
    const third = open(again, "fast");
    assert.equal(third.lastSequence, lastSequence, where);
    await third.close();
  }
});
