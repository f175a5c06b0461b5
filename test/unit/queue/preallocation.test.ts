import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { segmentFileName, segmentOffset, type ChecksumKind } from "../../../src/queue/layout.ts";
import {
  preallocate,
  type Preallocation,
  type PreallocationOptions,
} from "../../../src/queue/preallocation.ts";
import { openPublisher } from "../../../src/queue/queue.ts";
import {
  beginSegment,
  listSegments,
  openSegment,
  readBeginning,
  reserveSegment,
  type Segment,
  type SegmentPlan,
} from "../../../src/queue/segment.ts";
import type { Step } from "../../../src/steps.ts";
import { startChild, until } from "../../support/queue-children.ts";
import { makeDirectory, payloadOf, walkQueue } from "../../support/queue-records.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";

const plan: SegmentPlan = { identity: 4711n, bytes: 65_536, checksum: "fast" };

/** Supplies of the test that runs. */
const supplies: Preallocation[] = [];

/** A directory that goes with the test, once nothing is made in it any more. */
function makePlace(context: TestContext): string {
  context.after(async () => {
    for (const supply of supplies.splice(0)) await supply.close();
  });
  return makeDirectory(context);
}

function supplyFor(directory: string, options: PreallocationOptions = { ahead: 1 }): Preallocation {
  const supply = preallocate(directory, plan, options);
  supplies.push(supply);
  return supply;
}

/** Wishes for the segment, and takes it once it has been made. */
async function obtain(supply: Preallocation, number: number): Promise<Segment> {
  supply.wish(number);
  await until(`segment ${number} is made`, () => supply.has(number));
  const segment = supply.take(number);
  assert.ok(segment !== undefined);
  return segment;
}

const fileOf = (directory: string, number: number): string =>
  path.join(directory, segmentFileName(number));

/** How many mappings of the file this process has. */
function mappingsOf(filePath: string): number {
  const maps = fs.readFileSync("/proc/self/maps", "latin1").split("\n");
  return maps.filter((line) => line.endsWith(` ${filePath}`)).length;
}

/** How many bytes of the file this process has pages of, ready to be used. */
function readyBytesOf(filePath: string): number {
  const [, text = ""] = fs.readFileSync("/proc/self/smaps", "latin1").split(` ${filePath}\n`);
  return Number(/^Rss: +(\d+) kB$/m.exec(text)?.[1]) * 1024;
}

test("a segment that was wished for is reserved, mapped, and its own file", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  const segment = await obtain(supply, 3);
  assert.equal(segment.number, 3);
  assert.equal(segment.capacity, plan.bytes);
  assert.equal(readBeginning(segment), undefined);
  const { blocks, size } = fs.statSync(fileOf(directory, 3));
  assert.equal(size, plan.bytes);
  assert.ok(blocks * 512 >= plan.bytes, "the file has holes");

  segment.bytes.fill(0x5a, segment.recordsStart);
  beginSegment(segment, { firstSequence: 12, latestNs: 5n, epoch: 1 });
  const read = openSegment(directory, 3, plan.identity, "read");
  assert.equal(readBeginning(read)?.firstSequence, 12);
  assert.equal(read.bytes[plan.bytes - 1], 0x5a);
  read.mapping.unmap();
  supply.giveBack(segment);
  assert.equal(segment.mapping.isMapped, false);
  await until("the memory is given back", () => mappingsOf(fileOf(directory, 3)) === 0);
});

test("nothing waits for a segment: what is not made yet is not there", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  assert.equal(supply.take(1), undefined);
  supply.wish(1);
  assert.equal(supply.take(1), undefined);
  supply.giveBack(await obtain(supply, 2));
});

test("memory goes back with the next wish where the event loop never turns", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  supply.giveBack(await obtain(supply, 1));
  assert.equal(mappingsOf(fileOf(directory, 1)), 1);
  supply.wish(2);
  const deadlineMs = performance.now() + 10_000;
  while (mappingsOf(fileOf(directory, 1)) > 0) assert.ok(performance.now() < deadlineMs);
  while (!fs.existsSync(fileOf(directory, 2))) assert.ok(performance.now() < deadlineMs);
  supply.look();
  supply.giveBack(await obtain(supply, 2));
});

test("pages of a segment that it has not made are made ready from where it goes on", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  const large = { ...plan, bytes: 16 * 1024 * 1024 };
  reserveSegment(directory, 1, large);
  const segment = openSegment(directory, 1, plan.identity, "write");
  const restBytes = large.bytes / 4;
  const isReady = (): boolean => readyBytesOf(fileOf(directory, 1)) >= restBytes;
  assert.ok(!isReady());
  supply.makeReady(segment, large.bytes - restBytes);
  await until("the rest is ready", isReady);
  supply.giveBack(segment);
});

test("small segments are made several ahead, and each of them once", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory, {});
  for (let wishes = 0; wishes < 10; wishes++) supply.wish(1);
  await until("four are made", () => listSegments(directory).length === 4);
  const inodes = [1, 2, 3, 4].map((number) => fs.statSync(fileOf(directory, number)).ino);
  for (const number of [1, 2, 3, 4]) {
    const segment = await obtain(supply, number);
    assert.equal(segment.number, number);
    supply.giveBack(segment);
  }
  const found = [1, 2, 3, 4].map((number) => fs.statSync(fileOf(directory, number)).ino);
  assert.deepEqual(found, inodes);
});

test("a thread that never lets an event come gets what was made", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  // Once the thread is there it takes no event of this one to make another.
  supply.giveBack(await obtain(supply, 1));
  supply.wish(2);
  const deadlineMs = performance.now() + 30_000;
  while (!supply.has(2)) assert.ok(performance.now() < deadlineMs);
  assert.equal(supply.take(2)?.number, 2);
});

test("segments that were passed are dropped, and their memory is given back", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory, { ahead: 3 });
  supply.wish(1);
  await until("all are made", () => [1, 2, 3].every((number) => supply.has(number)));
  assert.equal(supply.take(3)?.number, 3);
  assert.equal(supply.take(2), undefined);
  await until("the others are unmapped", () =>
    [1, 2].every((number) => mappingsOf(fileOf(directory, number)) === 0),
  );
  await supply.close();
  assert.equal(mappingsOf(fileOf(directory, 3)), 1, "it was taken, and is not the supply's");
});

test("once a supply is closed, nothing more appears in its directory", async (t) => {
  const directory = makePlace(t);
  for (let round = 0; round < 20; round++) {
    const supply = supplyFor(directory, { ahead: 4 });
    supply.wish(1 + round * 4);
    if (round % 2 === 0) await pause(round / 5);
    await supply.close();
    const names = fs.readdirSync(directory);
    assert.deepEqual(
      names.filter((name) => name.endsWith(".tmp")),
      [],
    );
    await pause(5);
    assert.deepEqual(fs.readdirSync(directory), names, `round=${round}`);
    await until("all is unmapped", () =>
      names.every((name) => mappingsOf(path.join(directory, name)) === 0),
    );
  }
});

test("a segment that is there is adopted, not made anew", async (t) => {
  const directory = makePlace(t);
  reserveSegment(directory, 1, plan);
  const { ino } = fs.statSync(fileOf(directory, 1));
  const segment = await obtain(supplyFor(directory), 1);
  assert.equal(segment.number, 1);
  assert.equal(fs.statSync(fileOf(directory, 1)).ino, ino);
});

test("what was begun, damaged or planned otherwise is left to the publisher", async (t) => {
  const directory = makePlace(t);
  const others: [number, SegmentPlan][] = [
    [1, { ...plan, bytes: 4096 }],
    [2, { ...plan, checksum: "crc32c" satisfies ChecksumKind }],
    [3, { ...plan, identity: 4712n }],
    [4, plan],
    [5, plan],
  ];
  for (const [number, other] of others) reserveSegment(directory, number, other);
  const begun = openSegment(directory, 4, plan.identity, "write");
  beginSegment(begun, { firstSequence: 1, latestNs: 0n, epoch: 1 });
  begun.mapping.unmap();
  fs.truncateSync(fileOf(directory, 5), 1000);
  const files = others.map(([number]) => fs.readFileSync(fileOf(directory, number)));

  const supply = supplyFor(directory, { ahead: 6 });
  supply.wish(1);
  await until("the one behind them is made", () => supply.has(6));
  for (const [index, [number]] of others.entries()) {
    assert.equal(supply.take(number), undefined, `number=${number}`);
    assert.deepEqual(fs.readFileSync(fileOf(directory, number)), files[index]);
  }
});

test("a segment whose header is not of the one wished for any more is dropped", async (t) => {
  const directory = makePlace(t);
  const supply = supplyFor(directory);
  supply.wish(1);
  await until("it is made", () => supply.has(1));
  const fd = fs.openSync(fileOf(directory, 1), "r+");
  fs.writeSync(fd, Uint8Array.of(9), 0, 1, segmentOffset.number);
  fs.closeSync(fd);
  assert.equal(supply.take(1), undefined);
  await until("it is unmapped", () => mappingsOf(fileOf(directory, 1)) === 0);
});

test(
  "a full disk is left to the publisher to report, and the next wish tries again",
  { skip: tinyDiskRefused },
  async (t) => {
    const directory = mountTinyDisk(t, 4 * plan.bytes);
    const ballast = path.join(directory, "ballast");
    fs.writeFileSync(ballast, new Uint8Array(4 * plan.bytes - 16_384));
    const supply = supplyFor(directory);
    for (let tries = 0; tries < 20; tries++) {
      supply.wish(1);
      await pause(20);
      assert.equal(supply.has(1), false);
    }
    assert.deepEqual(fs.readdirSync(directory), ["ballast"]);
    fs.rmSync(ballast);
    const segment = await obtain(supply, 1);
    assert.equal(segment.capacity, plan.bytes);
    supply.giveBack(segment);
  },
);

test("a publisher and the thread that make the same segments leave no hole", async (t) => {
  const directory = makePlace(t);
  const publisher = openPublisher(directory, { segmentBytes: 4096 });
  const count = 3000;
  for (let number = 1; number <= count; number++) {
    publisher.append(1, payloadOf(number, 100));
    // So that by turns the one and the other is first.
    if (number % 400 > 200) await new Promise((resolve) => setImmediate(resolve));
  }
  await publisher.close();
  const records = walkQueue(directory);
  assert.equal(records.length, count);
  for (const [index, { sequence, payload }] of records.entries()) {
    assert.equal(sequence, index + 1);
    assert.deepEqual(payload, payloadOf(sequence, 100));
  }
});

test("a process killed while its thread makes a segment leaves a queue that goes on", async (t) => {
  const steps: Step[] = ["queue.reserved", "queue.published"];
  for (const step of steps) {
    for (const nth of [1, 3, 6]) {
      const where = `step=${step} nth=${nth}`;
      const directory = makePlace(t);
      const options = { segmentBytes: 4096 };
      const task = { directory, options, count: 1_000_000, size: 100 };
      const child = startChild(t, "publish", task, { step, nth });
      let last = 0;
      for (let line = await child.next(); line !== undefined; line = await child.next()) {
        last = Number(line);
      }
      assert.equal(await child.ended, "SIGKILL", where);

      const publisher = openPublisher(directory, options);
      assert.ok(publisher.lastSequence >= last, where);
      const left = fs.readdirSync(directory).filter((name) => name.endsWith(".tmp"));
      assert.deepEqual(left, [], where);
      const next = publisher.lastSequence + 1;
      for (let number = next; number < next + 100; number++) {
        publisher.append(1, payloadOf(number, 100));
      }
      await publisher.close();
      const records = walkQueue(directory);
      assert.equal(records.at(-1)?.sequence, next + 99, where);
      assert.ok(
        records.every(({ sequence }, index) => sequence === index + 1),
        where,
      );
    }
  }
});
