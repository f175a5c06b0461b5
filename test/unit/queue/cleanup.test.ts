import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { acquireLock } from "../../../src/memory/lock-file.ts";
import { cleanupSegments, type Cleanup } from "../../../src/queue/cleanup.ts";
import { controlFileName, openControl } from "../../../src/queue/control.ts";
import { controlOffset, segmentFileName } from "../../../src/queue/layout.ts";
import { readLosses, type QueueLoss } from "../../../src/queue/loss-ledger.ts";
import { openPublisher, type Publisher } from "../../../src/queue/queue.ts";
import type { RetentionPolicy } from "../../../src/queue/retention.ts";
import {
  listSegments,
  openSegment,
  reserveSegment,
  unsealSegment,
} from "../../../src/queue/segment.ts";
import {
  openSubscriber,
  type QueueMessage,
  type Subscriber,
} from "../../../src/queue/subscriber.ts";
import type { SubscriberOptions } from "../../../src/queue/subscriber-options.ts";
import { seededRandom } from "../../../src/random.ts";
import { stepChannelName, type Step } from "../../../src/steps.ts";
import { Recording } from "../../support/power-loss.ts";
import { startChild } from "../../support/queue-children.ts";
import { makeFastDirectory, payloadOf, walkQueue } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const segmentBytes = 4096;
const payloadBytes = 100;
/** Of a segment that is full. */
const perSegment = 27;

async function makeQueue(context: TestContext, segments: number): Promise<string> {
  const directory = path.join(makeFastDirectory(context), "queue");
  const publisher = open(directory);
  append(publisher, segments * perSegment);
  await publisher.close();
  assert.equal(listSegments(directory).length, segments);
  return directory;
}

function open(directory: string): Publisher {
  return openPublisher(directory, { segmentBytes, preallocate: false });
}

function append(publisher: Publisher, count: number): void {
  for (let appended = 0; appended < count; appended++) {
    publisher.append(1, payloadOf(publisher.lastSequence + 1, payloadBytes));
  }
}

/** Takes `count` messages, looks at them, and commits them. */
function read(subscriber: Subscriber, count: number): void {
  for (let taken = 0; taken < count; taken++) {
    const { position } = subscriber;
    const message = subscriber.next();
    assert.equal(message?.sequence, position);
    assert.deepEqual(message.payload, payloadOf(position, payloadBytes));
  }
  subscriber.commit();
}

async function readAs(directory: string, name: string, count: number): Promise<void> {
  const subscriber = openSubscriber(directory, name);
  read(subscriber, count);
  await subscriber.close();
}

/** Calls `act` the first time that the step is reached, until the test is over. */
function atStep(context: TestContext, step: Step, act: () => void): void {
  let isOver = false;
  const listen = (reached: unknown): void => {
    if (reached !== step || isOver) return;
    isOver = true;
    act();
  };
  subscribe(stepChannelName, listen);
  context.after(() => unsubscribe(stepChannelName, listen));
}

const removedIn = (directory: string): string[] => {
  const folder = path.join(directory, "removed");
  return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
};

const withCode =
  (code: ErrorCode) =>
  (error: unknown): boolean =>
    isGaplessError(error, code);

test("segments that nobody needs are deleted, and the queue goes on behind them", async (t) => {
  const directory = await makeQueue(t, 10);
  await readAs(directory, "ledger", 10 * perSegment);
  const cleanup = cleanupSegments(directory, { segments: 4 });
  assert.deepEqual(cleanup, {
    segments: [1, 2, 3, 4, 5, 6],
    bytes: 6 * segmentBytes,
    throughSequence: 6 * perSegment,
    passedOver: [],
    isLeftToAnother: false,
  } satisfies Cleanup);
  assert.deepEqual(listSegments(directory), [7, 8, 9, 10]);
  assert.deepEqual(removedIn(directory), []);
  assert.deepEqual(cleanupSegments(directory, { segments: 4 }).segments, []);

  const publisher = open(directory);
  assert.equal(publisher.lastSequence, 10 * perSegment);
  append(publisher, 3 * perSegment);
  await publisher.close();
  const records = walkQueue(directory);
  assert.equal(records[0]?.sequence, 6 * perSegment + 1);
  assert.equal(records.length, 7 * perSegment);
});

test("more than a few segments go in one cleanup, but for the two newest", async (t) => {
  const directory = await makeQueue(t, 30);
  await readAs(directory, "ledger", 30 * perSegment);
  assert.equal(cleanupSegments(directory, { bytes: 0 }).segments.length, 28);
  assert.deepEqual(listSegments(directory), [29, 30]);
});

test("a queue that nobody is known to read stays whole, and one without a file is none", async (t) => {
  const directory = await makeQueue(t, 5);
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, []);
  assert.equal(listSegments(directory).length, 5);
  const nowhere = path.join(directory, "nowhere");
  assert.throws(
    () => cleanupSegments(nowhere, { segments: 0 }),
    withCode("DATA_NOT_YET_AVAILABLE"),
  );
  assert.throws(() => cleanupSegments(directory, {}), withCode("CONFIG_INVALID"));
});

test("what is too old goes by the times of its records, not of its files", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = open(directory);
  const hourAgoNs = BigInt(Date.now() - 3_600_000) * 1_000_000n;
  for (let count = 0; count < 3 * perSegment; count++) {
    publisher.append(1, payloadOf(publisher.lastSequence + 1, payloadBytes), hourAgoNs);
  }
  append(publisher, 3 * perSegment);
  await publisher.close();
  await readAs(directory, "ledger", 6 * perSegment);
  assert.deepEqual(cleanupSegments(directory, { ageMs: 7_200_000 }).segments, []);
  assert.deepEqual(cleanupSegments(directory, { ageMs: 1_800_000 }).segments, [1, 2, 3]);
});

test("what a reader has taken and not committed stays", async (t) => {
  const directory = await makeQueue(t, 6);
  const subscriber = openSubscriber(directory, "ledger");
  read(subscriber, 2 * perSegment);
  for (let taken = 0; taken < 2 * perSegment; taken++) subscriber.next();
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [1, 2]);
  await subscriber.close();
  await readAs(directory, "ledger", 4 * perSegment);
});

test("a reader that goes back keeps what it goes back to", async (t) => {
  const directory = await makeQueue(t, 6);
  const subscriber = openSubscriber(directory, "ledger");
  read(subscriber, 6 * perSegment);
  subscriber.seekSequence(perSegment + 3);
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [1]);
  for (let taken = 0; taken < 2 * perSegment; taken++) {
    assert.equal(subscriber.next()?.sequence, perSegment + 3 + taken);
  }
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [2, 3]);
  await subscriber.close();
  // What it went back to is not what it goes on with.
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [4]);
});

test("a reader that goes back step by step keeps what it comes to", async (t) => {
  const directory = await makeQueue(t, 8);
  await using subscriber = openSubscriber(directory, "ledger");
  read(subscriber, 8 * perSegment);
  for (let count = 0; count < 5 * perSegment; count++) subscriber.previous();
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [1, 2, 3]);
  read(subscriber, 5 * perSegment);
});

test("a reader that begins at the oldest message again keeps it, whatever it has committed", async (t) => {
  const directory = await makeQueue(t, 6);
  await readAs(directory, "ledger", 6 * perSegment);
  const subscriber = openSubscriber(directory, "ledger", { start: "earliest" });
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, []);
  for (let taken = 0; taken < 6 * perSegment; taken++) {
    assert.equal(subscriber.next()?.sequence, taken + 1);
  }
  await subscriber.close();
});

test("a reader that waits at the end holds nothing", async (t) => {
  const directory = await makeQueue(t, 6);
  const subscriber = openSubscriber(directory, "ledger", { start: "latest" });
  assert.equal(subscriber.next(), undefined);
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [1, 2, 3, 4]);
  await subscriber.close();
});

/** A reader that has read one segment and is gone for long enough, and the cleanup after it. */
async function passOver(t: TestContext): Promise<{ directory: string; cleanup: Cleanup }> {
  const directory = await makeQueue(t, 6);
  await readAs(directory, "gone", perSegment);
  await readAs(directory, "here", 6 * perSegment);
  await pause(20);
  const here = openSubscriber(directory, "here");
  const cleanup = cleanupSegments(directory, { segments: 0, readerTtlMs: 10 });
  await here.close();
  return { directory, cleanup };
}

const passed = { reader: "gone", from: perSegment + 1, to: 4 * perSegment };

test("a reader that was passed over is told what it has lost, once", async (t) => {
  const { directory, cleanup } = await passOver(t);
  assert.deepEqual(cleanup.segments, [1, 2, 3, 4]);
  assert.deepEqual(cleanup.passedOver, [{ ...passed, reason: "ttl" }]);
  const recorded = (): unknown[] =>
    readLosses(directory).losses.map(({ cause, reader, from, to }) => ({
      cause,
      reader,
      from,
      to,
    }));
  assert.deepEqual(recorded(), [{ cause: "passed-over", ...passed }]);

  assert.throws(() => openSubscriber(directory, "gone"), withCode("DATA_TRIMMED"));
  const losses: QueueLoss[] = [];
  const options: SubscriberOptions = {
    start: "resume-snapshot",
    onLoss: (loss) => losses.push(loss),
  };
  const subscriber = openSubscriber(directory, "gone", options);
  assert.deepEqual(
    losses.map(({ cause, reader, from, to }) => ({ cause, reader, from, to })),
    [{ cause: "passed-over", ...passed }],
  );
  read(subscriber, 2 * perSegment);
  await subscriber.close();
  assert.deepEqual(recorded(), [{ cause: "passed-over", ...passed }]);
});

test("a live reader that is too far behind is told at its next message", async (t) => {
  const directory = await makeQueue(t, 6);
  const slow = openSubscriber(directory, "slow");
  read(slow, 3);
  const policy = { segments: 0, readerLagMax: 100 };
  const { segments, passedOver } = cleanupSegments(directory, policy);
  assert.deepEqual(segments, [1, 2, 3, 4]);
  assert.deepEqual(passedOver, [{ reader: "slow", reason: "lag", from: 4, to: 4 * perSegment }]);
  // The segment that it reads stays in its memory.
  read(slow, perSegment - 3);
  assert.throws(() => slow.next(), withCode("DATA_TRIMMED"));
  assert.throws(() => slow.next(), withCode("DATA_TRIMMED"));
  const { cause, from, to } = slow.skipUnreadable();
  assert.deepEqual(
    { cause, from, to },
    { cause: "deleted", from: perSegment + 1, to: 4 * perSegment },
  );
  read(slow, 2 * perSegment);
  await slow.close();
  // Retention has accounted for all of it before.
  assert.deepEqual(
    readLosses(directory).losses.map((loss) => loss.cause),
    ["passed-over"],
  );
});

test("a reader that comes back while it is passed over gets back what it needs", async (t) => {
  const directory = await makeQueue(t, 6);
  await readAs(directory, "gone", perSegment + 5);
  await pause(20);
  atStep(t, "queue.moved-aside", () => {
    assert.throws(() => openSubscriber(directory, "gone"), withCode("DATA_TRIMMED"));
  });
  // It was seen just now, and so is waited for again.
  const { segments } = cleanupSegments(directory, { segments: 0, readerTtlMs: 10 });
  assert.deepEqual(segments, [1]);
  assert.deepEqual(listSegments(directory), [2, 3, 4, 5, 6]);
  await readAs(directory, "gone", 5 * perSegment - 5);
});

test("a reader that goes back while segments are moved aside finds the rest of them", async (t) => {
  const directory = await makeQueue(t, 8);
  const subscriber = openSubscriber(directory, "ledger");
  read(subscriber, 8 * perSegment);
  atStep(t, "queue.passed-over", () => assert.fail("nobody is passed over"));
  // It has looked where the third one is, and says so, as these are chosen.
  const { renameSync } = fs;
  t.mock.method(fs, "renameSync", (from: string, to: string) => {
    if (from.endsWith(segmentFileName(1))) subscriber.seekSequence(2 * perSegment + 1);
    renameSync(from, to);
  });
  const { segments } = cleanupSegments(directory, { segments: 2 });
  assert.deepEqual(segments, [1, 2]);
  assert.deepEqual(listSegments(directory), [3, 4, 5, 6, 7, 8]);
  read(subscriber, 6 * perSegment);
  await subscriber.close();
});

test("one cleanup at a time: the other one is left to it", async (t) => {
  const directory = await makeQueue(t, 5);
  await readAs(directory, "ledger", 5 * perSegment);
  const release = acquireLock(path.join(directory, "cleanup.lock"));
  const { isLeftToAnother, segments } = cleanupSegments(directory, { segments: 0 });
  assert.equal(isLeftToAnother, true);
  assert.deepEqual(segments, []);
  release();
  assert.equal(cleanupSegments(directory, { segments: 0 }).segments.length, 3);
});

test("where it is not known what a reader needs, nothing is deleted", async (t) => {
  const directory = await makeQueue(t, 5);
  await readAs(directory, "ledger", 5 * perSegment);
  await readAs(directory, "odd", 5 * perSegment);
  const file = path.join(directory, "readers", "odd.reader");
  fs.writeFileSync(file, fs.readFileSync(file).fill(7, 64, 192));
  assert.throws(() => cleanupSegments(directory, { segments: 0 }), withCode("STORAGE_CORRUPT"));
  assert.equal(listSegments(directory).length, 5);
});

test("a segment made ahead of time, and too late, is cleared away", async (t) => {
  const directory = await makeQueue(t, 6);
  await readAs(directory, "ledger", 6 * perSegment);
  assert.deepEqual(cleanupSegments(directory, { segments: 2 }).segments, [1, 2, 3, 4]);
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  reserveSegment(directory, 2, { identity, bytes: segmentBytes, checksum: "fast" });
  reserveSegment(directory, 7, { identity, bytes: segmentBytes, checksum: "fast" });
  assert.deepEqual(cleanupSegments(directory, { segments: 2 }).segments, []);
  assert.deepEqual(listSegments(directory), [5, 6, 7]);
});

test("a segment whose header is damaged goes when its turn comes, and is not taken for an empty one", async (t) => {
  const directory = await makeQueue(t, 6);
  const first = path.join(directory, segmentFileName(1));
  fs.writeFileSync(first, fs.readFileSync(first).fill(0, 64, 128));
  await readAs(directory, "ledger", 0);
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, []);
  assert.equal(listSegments(directory).length, 6);
  const subscriber = openSubscriber(directory, "ledger", { start: "latest" });
  await subscriber.close();
  assert.deepEqual(cleanupSegments(directory, { segments: 0 }).segments, [1, 2, 3, 4]);
});

test("a publisher makes durable what is left, where segments went before it could", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = open(directory);
  const subscriber = openSubscriber(directory, "ledger");
  append(publisher, 6 * perSegment);
  read(subscriber, 6 * perSegment);
  assert.equal(cleanupSegments(directory, { segments: 0 }).segments.length, 4);
  append(publisher, 1);
  const receipt = await publisher.flush();
  assert.equal(receipt.sequence, 6 * perSegment + 1);
  await subscriber.close();
  await publisher.close();
});

test("a cleanup killed at any step loses nothing, and the next one finishes it", async (t) => {
  const steps: [Step, number][] = [
    ["queue.passed-over", 1],
    ["queue.moved-aside", 1],
    ["queue.removed", 2],
    ["queue.moved-aside", 2],
    ["queue.removed", 3],
  ];
  const policy: RetentionPolicy = { segments: 0, readerTtlMs: 10 };
  for (const [step, nth] of steps) {
    const where = `step=${step} nth=${nth}`;
    const directory = await makeQueue(t, 20);
    await readAs(directory, "gone", perSegment);
    await pause(20);
    const here = openSubscriber(directory, "here");
    read(here, 14 * perSegment);
    const child = startChild(t, "clean", { directory, policy }, { step, nth });
    assert.equal(await child.ended, "SIGKILL", where);

    const left = listSegments(directory);
    assert.deepEqual(
      left,
      left.map((_, index) => (left[0] ?? 0) + index),
      where,
    );
    const records = walkQueue(directory);
    assert.equal(records.at(-1)?.sequence, 20 * perSegment, where);
    cleanupSegments(directory, policy);
    assert.deepEqual(listSegments(directory), [15, 16, 17, 18, 19, 20], where);
    assert.deepEqual(removedIn(directory), [], where);
    // Everything that is gone is accounted for, once.
    const losses = readLosses(directory).losses.map(({ from, to }) => [from, to]);
    const expected = [perSegment + 1, 8 * perSegment, 8 * perSegment + 1, 14 * perSegment];
    assert.deepEqual(losses.flat(), expected, where);
    read(here, 6 * perSegment);
    await here.close();
  }
});

interface Played {
  subscriber: Subscriber | undefined;
  /** The next message that it is to get. */
  next: number;
  closedMs: number;
}

test("G8: readers that come, go, and go back get all that they are waited for", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  let deleted = 0;
  for (let round = 0; round < 15; round++) {
    const directory = path.join(makeFastDirectory(t), "queue");
    let publisher = open(directory);
    const readers = new Map<string, Played>();
    for (let step = 0; step < 120; step++) {
      const where = `seed=${seed} round=${round} step=${step}`;
      const name = `reader-${random.below(3)}`;
      const one = readers.get(name);
      const die = random.below(12);
      if (die < 4) {
        append(publisher, random.below(2 * perSegment));
      } else if (die < 8 && one?.subscriber !== undefined) {
        for (let count = random.below(150); count > 0; count--) {
          const message: QueueMessage | undefined = one.subscriber.next();
          if (message === undefined) break;
          assert.equal(message.sequence, one.next, where);
          assert.deepEqual(message.payload, payloadOf(one.next, payloadBytes), where);
          one.next++;
        }
        if (random.below(2) === 0) one.subscriber.commit();
      } else if (die === 8 && one?.subscriber !== undefined) {
        const oldest = walkQueue(directory)[0]?.sequence ?? publisher.lastSequence + 1;
        const target = oldest + random.below(publisher.lastSequence + 2 - oldest);
        one.subscriber.seekSequence(target);
        one.next = target;
      } else if (die === 9) {
        if (one?.subscriber === undefined) {
          const subscriber = openSubscriber(directory, name);
          // Nobody is passed over here: it goes on behind what it has committed.
          assert.equal(subscriber.position, Math.max(subscriber.committed + 1, 1), where);
          readers.set(name, { subscriber, next: subscriber.position, closedMs: 0 });
        } else {
          await one.subscriber.close();
          readers.set(name, { subscriber: undefined, next: 0, closedMs: Date.now() });
        }
      } else if (die === 10) {
        deleted += cleanupSegments(directory, { segments: random.below(4) }).segments.length;
      } else if (random.below(4) === 0) {
        await publisher.close();
        publisher = open(directory);
      }
    }
    assert.deepEqual(readLosses(directory), { losses: [], unreadable: 0 });
    for (const { subscriber } of readers.values()) await subscriber?.close();
    await publisher.close();
  }
  assert.ok(deleted > 15, `deleted=${deleted} seed=${seed}`);
});

/** Makes a directory of what a power loss has left, as the next boot finds it. */
function bootWith(files: ReadonlyMap<string, Buffer> | undefined, directory: string): void {
  assert.ok(files !== undefined);
  fs.mkdirSync(directory);
  for (const [name, content] of files) {
    if (name === controlFileName) content.fill(0xb0, controlOffset.boot, 104);
    if (!name.startsWith("writer.lock")) fs.writeFileSync(path.join(directory, name), content);
  }
}

test("after a power loss, sequences go on behind what was deleted before it", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(t);
  for (let round = 0; round < 6; round++) {
    const directory = path.join(root, `${round}`);
    fs.mkdirSync(directory);
    using recording = await Recording.start(directory);
    recording.settle();
    const publisher = open(directory);
    await using subscriber = openSubscriber(directory, "ledger");
    append(publisher, (4 + random.below(4)) * perSegment);
    read(subscriber, publisher.lastSequence);
    const { throughSequence } = cleanupSegments(directory, { segments: 2 });
    assert.ok(throughSequence >= 2 * perSegment);
    append(publisher, random.below(2 * perSegment));
    for (let state = 0; state < 20; state++) {
      const where = `SEED=${seed} round=${round} state=${state}`;
      const after = path.join(root, `${round}-${state}`);
      bootWith(
        recording.lose((count) => random.below(count)),
        after,
      );
      const recovered = open(after);
      assert.ok(recovered.lastSequence > throughSequence, `${where}: ${recovered.lastSequence}`);
      await recovered.close();
      fs.rmSync(after, { recursive: true });
    }
    await publisher.close();
  }
});

for (const isSealed of [true, false]) {
  const which = isSealed ? "" : ", where the one behind them was never sealed";
  test(`a power loss while segments are moved aside leaves the sequence that comes next${which}`, async (t) => {
    const root = makeFastDirectory(t);
    const directory = path.join(root, "queue");
    fs.mkdirSync(directory);
    using recording = await Recording.start(directory);
    recording.settle();
    const publisher = open(directory);
    await using subscriber = openSubscriber(directory, "ledger");
    append(publisher, 8 * perSegment);
    read(subscriber, publisher.lastSequence);
    const control = openControl(directory, "read");
    t.after(() => control.mapping.unmap());
    const behind = openSegment(directory, 7, control.identity, "write");
    if (!isSealed) unsealSegment(behind);
    behind.mapping.unmap();
    const left = new Map<Step, ReadonlyMap<string, Buffer>>();
    const look = (step: unknown): void => {
      left.set(
        step as Step,
        recording.lose(() => 0),
      );
    };
    subscribe(stepChannelName, look);
    const { throughSequence } = cleanupSegments(directory, { segments: 2 });
    unsubscribe(stepChannelName, look);
    assert.equal(throughSequence, 6 * perSegment);
    for (const step of ["queue.moved-aside", "queue.removed"] as const) {
      const after = path.join(root, step);
      bootWith(left.get(step), after);
      const recovered = open(after);
      assert.ok(recovered.lastSequence >= throughSequence, `${step}: ${recovered.lastSequence}`);
      await recovered.close();
    }
    await publisher.close();
  });
}

test("a power loss while segments are moved aside leaves no hole between those that are left", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(t);
  const directory = path.join(root, "queue");
  fs.mkdirSync(directory);
  using recording = await Recording.start(directory);
  recording.settle();
  const publisher = open(directory);
  await using subscriber = openSubscriber(directory, "ledger");
  append(publisher, 9 * perSegment);
  read(subscriber, publisher.lastSequence);
  recording.look();
  const left: ReadonlyMap<string, Buffer>[] = [];
  const { fsyncSync } = fs;
  fs.fsyncSync = (fd) => {
    for (let state = 0; state < 5; state++)
      left.push(recording.lose((count) => random.below(count)));
    fsyncSync(fd);
  };
  cleanupSegments(directory, { segments: 2 });
  fs.fsyncSync = fsyncSync;
  await publisher.close();
  for (const [index, files] of left.entries()) {
    const after = path.join(root, `${index}`);
    bootWith(files, after);
    await open(after).close();
    const numbers = listSegments(after);
    const [oldest = 0] = numbers;
    const where = `SEED=${seed} index=${index}`;
    assert.deepEqual(
      numbers,
      numbers.map((_, at) => oldest + at),
      where,
    );
  }
});
