import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { openControl } from "../../../src/queue/control.ts";
import { segmentFileName } from "../../../src/queue/layout.ts";
import {
  openPublisher,
  openSubscriber,
  readLosses,
  type Publisher,
  type QueueLoss,
  type StartMode,
} from "../../../src/queue/queue.ts";
import { reserveSegment } from "../../../src/queue/segment.ts";
import { decideStart, type Arrival } from "../../../src/queue/start.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const segmentBytes = 4096;
/** So that the records of a segment are the same in each. */
const size = 96;
const perSegment = 29;

function append(publisher: Publisher, count: number): void {
  for (let index = 0; index < count; index++) {
    publisher.append(1, payloadOf(publisher.lastSequence + 1, size));
  }
}

/** A queue of five segments, the last of them not full, and a reader that has committed. */
async function prepare(t: TestContext, committed: number | undefined): Promise<string> {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  append(publisher, 4 * perSegment + 10);
  assert.ok(fs.existsSync(path.join(directory, segmentFileName(5))));
  if (committed !== undefined) {
    await using reader = openSubscriber(directory, "ledger", { start: "earliest" });
    while (reader.position <= committed) reader.next();
    reader.commit();
  }
  return directory;
}

function remove(directory: string, segments: number): void {
  for (let number = 1; number <= segments; number++) {
    fs.rmSync(path.join(directory, segmentFileName(number)));
  }
}

const newest = 4 * perSegment + 10;
const oldestLeft = 2 * perSegment + 1;

interface Case {
  readonly mode: StartMode;
  /** undefined: a new reader. */
  readonly committed: number | undefined;
  /** Segments that are deleted before it comes. */
  readonly deleted: number;
  readonly begins: number | "DATA_TRIMMED";
  readonly lost?: readonly string[];
}

const cases: Case[] = [
  ...(["resume-strict", "resume-snapshot", "earliest"] as const).flatMap((mode) => [
    { mode, committed: undefined, deleted: 0, begins: 1 },
    { mode, committed: undefined, deleted: 2, begins: oldestLeft },
  ]),
  ...(["resume-latest", "latest"] as const).flatMap((mode) => [
    { mode, committed: undefined, deleted: 0, begins: newest + 1 },
    { mode, committed: undefined, deleted: 2, begins: newest + 1 },
  ]),
  ...(["resume-strict", "resume-snapshot", "resume-latest"] as const).flatMap((mode) => [
    { mode, committed: 7, deleted: 0, begins: 8 },
    { mode, committed: newest, deleted: 2, begins: newest + 1 },
    // What was deleted was committed, all of it.
    { mode, committed: oldestLeft - 1, deleted: 2, begins: oldestLeft },
    { mode, committed: oldestLeft + 3, deleted: 2, begins: oldestLeft + 4 },
  ]),
  { mode: "resume-strict", committed: 7, deleted: 2, begins: "DATA_TRIMMED" },
  { mode: "resume-strict", committed: oldestLeft - 2, deleted: 2, begins: "DATA_TRIMMED" },
  {
    mode: "resume-snapshot",
    committed: 7,
    deleted: 2,
    begins: oldestLeft,
    lost: [`deleted 8-${oldestLeft - 1}`],
  },
  {
    mode: "resume-snapshot",
    committed: oldestLeft - 2,
    deleted: 2,
    begins: oldestLeft,
    lost: [`deleted ${oldestLeft - 1}-${oldestLeft - 1}`],
  },
  {
    mode: "resume-latest",
    committed: 7,
    deleted: 2,
    begins: newest + 1,
    lost: [`deleted 8-${oldestLeft - 1}`, `passed-over ${oldestLeft}-${newest}`],
  },
  { mode: "latest", committed: newest, deleted: 0, begins: newest + 1 },
  {
    mode: "latest",
    committed: 7,
    deleted: 0,
    begins: newest + 1,
    lost: [`passed-over 8-${newest}`],
  },
  {
    mode: "latest",
    committed: 7,
    deleted: 2,
    begins: newest + 1,
    lost: [`deleted 8-${oldestLeft - 1}`, `passed-over ${oldestLeft}-${newest}`],
  },
  { mode: "earliest", committed: 50, deleted: 0, begins: 1 },
  { mode: "earliest", committed: 7, deleted: 2, begins: oldestLeft },
];

const describe = ({ cause, from, to }: Pick<QueueLoss, "cause" | "from" | "to">): string =>
  `${cause} ${from}-${to}`;

for (const { mode, committed, deleted, begins, lost = [] } of cases) {
  const who = committed === undefined ? "a new reader" : `one that has committed ${committed}`;
  test(`${mode}: ${who}, ${deleted} segments deleted, begins at ${begins}`, async (t) => {
    const directory = await prepare(t, committed);
    remove(directory, deleted);
    const told: QueueLoss[] = [];
    const open = () =>
      openSubscriber(directory, "ledger", { start: mode, onLoss: (loss) => told.push(loss) });
    if (typeof begins === "string") {
      for (let time = 0; time < 2; time++) {
        assert.throws(open, (error) => isGaplessError(error, begins));
      }
      assert.deepEqual(readLosses(directory).losses, []);
      return;
    }
    await using reader = open();
    assert.equal(reader.position, begins);
    assert.equal(reader.lag, newest + 1 - begins);
    assert.deepEqual(told.map(describe), lost);
    assert.deepEqual(readLosses(directory), { losses: told, unreadable: 0 });
    const first = reader.next();
    assert.equal(first?.sequence, begins > newest ? undefined : begins);
    if (first !== undefined) assert.deepEqual(first.payload, payloadOf(begins, size));
  });
}

test("a segment that was made ahead of time, and too late, is none", async (t) => {
  const directory = await prepare(t, 7);
  remove(directory, 2);
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  for (const number of [1, 2]) {
    reserveSegment(directory, number, { identity, bytes: segmentBytes, checksum: "fast" });
  }
  await using fresh = openSubscriber(directory, "fresh");
  assert.equal(fresh.next()?.sequence, oldestLeft);
  const isTrimmed = (error: unknown): boolean => isGaplessError(error, "DATA_TRIMMED");
  assert.throws(() => openSubscriber(directory, "ledger"), isTrimmed);
  await using reader = openSubscriber(directory, "ledger", { start: "resume-snapshot" });
  assert.equal(reader.next()?.sequence, oldestLeft);
});

test("a reader that began at the end goes on there, though it has never committed", async (t) => {
  const directory = await prepare(t, undefined);
  await openSubscriber(directory, "ledger", { start: "latest" }).close();
  await using publisherElse = openSubscriber(directory, "other");
  assert.equal(publisherElse.position, 1);
  await using reader = openSubscriber(directory, "ledger", { start: "resume-strict" });
  assert.equal(reader.position, newest + 1);
});

test("losses at the start are recorded once, and committed", async (t) => {
  const directory = await prepare(t, 7);
  remove(directory, 2);
  for (let life = 0; life < 2; life++) {
    await using reader = openSubscriber(directory, "ledger", { start: "resume-snapshot" });
    assert.equal(reader.position, oldestLeft);
    assert.equal(reader.committed, oldestLeft - 1);
  }
  assert.equal(readLosses(directory).losses.length, 1);
});

test("where a listener throws at the start, nobody has the reader open", async (t) => {
  const directory = await prepare(t, 7);
  remove(directory, 2);
  const onLoss = (): void => {
    throw new Error("no loss is wanted");
  };
  const start = "resume-snapshot";
  assert.throws(() => openSubscriber(directory, "ledger", { start, onLoss }), /no loss is wanted/);
  await openSubscriber(directory, "ledger", { start }).close();
});

test("a reader of a queue that is still empty begins with its first message, in every mode", async (t) => {
  const modes = [
    "resume-strict",
    "resume-snapshot",
    "resume-latest",
    "latest",
    "earliest",
  ] as const satisfies StartMode[];
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const readers = modes.map((start) => openSubscriber(directory, start, { start }));
  for (const reader of readers) {
    assert.equal(reader.position, 1);
    assert.equal(reader.lag, 0);
    assert.equal(reader.next(), undefined);
    assert.equal(reader.previous(), undefined);
  }
  publisher.append(3, payloadOf(1, 5));
  for (const reader of readers) {
    assert.equal(reader.next()?.sequence, 1);
    await reader.close();
  }
});

test("where there is no queue yet, a reader is told to come again", (t) => {
  const directory = makeFastDirectory(t);
  for (const place of [directory, path.join(directory, "nowhere")]) {
    assert.throws(
      () => openSubscriber(place, "ledger"),
      (error) => isGaplessError(error, "DATA_NOT_YET_AVAILABLE") && error.advice === "retry",
    );
  }
  assert.deepEqual(fs.readdirSync(directory), []);
});

const arrival: Arrival = {
  reader: "ledger",
  mode: "resume-snapshot",
  committed: 10,
  oldest: 1,
  next: 31,
  passedOver: 0,
  rewoundTo: undefined,
};

test("what retention has passed a reader over is told from what was deleted else", () => {
  const start = decideStart({ ...arrival, oldest: 21, passedOver: 15 });
  assert.equal(start.sequence, 21);
  assert.deepEqual(start.losses.map(describe), ["passed-over 11-15", "deleted 16-20"]);
  const all = decideStart({ ...arrival, oldest: 21, passedOver: 20 });
  assert.deepEqual(all.losses.map(describe), ["passed-over 11-20"]);
  const before = decideStart({ ...arrival, oldest: 21, passedOver: 5 });
  assert.deepEqual(before.losses.map(describe), ["deleted 11-20"]);
});

test("what a power loss has taken back is given as it is now, and is in the ledger", () => {
  const start = decideStart({ ...arrival, rewoundTo: 6 });
  assert.equal(start.sequence, 6);
  assert.deepEqual(start.losses.map(describe), ["rewound 6-10"]);
  const latest = decideStart({ ...arrival, mode: "resume-latest", rewoundTo: 6 });
  assert.equal(latest.sequence, 31);
  assert.deepEqual(latest.losses.map(describe), ["rewound 6-10", "passed-over 6-30"]);
  assert.throws(
    () => decideStart({ ...arrival, mode: "resume-strict", rewoundTo: 6 }),
    (error) => isGaplessError(error, "CHAIN_BROKEN") && error.message.includes("ledger"),
  );
});
