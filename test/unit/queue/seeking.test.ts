import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { indexStrideBytes, segmentFileName } from "../../../src/queue/layout.ts";
import { listSegments } from "../../../src/queue/segment.ts";
import {
  openPublisher,
  openSubscriber,
  type QueueMessage,
  type Subscriber,
} from "../../../src/queue/queue.ts";
import { seededRandom, type Random } from "../../../src/random.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

interface Written {
  readonly sequence: number;
  readonly timestampNs: bigint;
}

interface Shape {
  readonly segmentBytes: number;
  readonly count: number;
  readonly sizeMax: number;
  /** Times go backwards by as much as this. */
  readonly jitter: number;
}

const shapes: Record<string, Shape> = {
  "many small segments": { segmentBytes: 4096, count: 1500, sizeMax: 300, jitter: 0 },
  "segments with an index": {
    segmentBytes: 8 * indexStrideBytes,
    count: 6000,
    sizeMax: 600,
    jitter: 0,
  },
  "times that go backwards": { segmentBytes: 4096, count: 1500, sizeMax: 300, jitter: 900 },
  "times that go backwards, with an index": {
    segmentBytes: 4 * indexStrideBytes,
    count: 6000,
    sizeMax: 600,
    jitter: 3000,
  },
  "records larger than the index's stride": {
    segmentBytes: 8 * indexStrideBytes,
    count: 60,
    sizeMax: 3 * indexStrideBytes,
    jitter: 20,
  },
};

/** Written by several writers in turn. */
async function write(directory: string, shape: Shape, random: Random): Promise<Written[]> {
  const { segmentBytes, count, sizeMax, jitter } = shape;
  const written: Written[] = [];
  while (written.length < count) {
    await using publisher = openPublisher(directory, { segmentBytes, preallocate: false });
    for (let left = random.below(count); left >= 0 && written.length < count; left--) {
      const back = jitter === 0 ? 0 : random.below(jitter);
      const timestampNs = BigInt(10_000 + Math.floor(written.length / 3) * 10 - back);
      const sequence = publisher.append(
        written.length % 7,
        payloadOf(written.length + 1, random.below(sizeMax)),
        timestampNs,
      );
      written.push({ sequence, timestampNs });
    }
  }
  return written;
}

function expectNext(reader: Subscriber, expected: Written | undefined, what: string): void {
  const message = reader.next();
  const found = message && { sequence: message.sequence, timestampNs: message.timestampNs };
  assert.deepEqual(found, expected, what);
}

for (const [name, shape] of Object.entries(shapes)) {
  for (const deleted of [0, 2]) {
    test(`seeking finds what a scan finds: ${name}, ${deleted} segments deleted`, async (t) => {
      t.diagnostic(`SEED=${seed}`);
      const random = seededRandom(seed);
      const directory = makeFastDirectory(t);
      const written = await write(directory, shape, random);
      for (const number of listSegments(directory).slice(0, deleted)) {
        fs.rmSync(path.join(directory, segmentFileName(number)));
      }
      await using reader = openSubscriber(directory, "seeker");
      const left = written.slice(reader.position - 1);
      assert.equal(reader.position > 1, deleted > 0);
      assert.ok(left.length > 10);
      for (let round = 0; round < 150; round++) {
        const sequence = random.below(written.length + 2);
        reader.seekSequence(sequence);
        const bySequence = left.find((one) => one.sequence >= sequence);
        expectNext(reader, bySequence, `seed=${seed} sequence=${sequence}`);
        if (bySequence !== undefined) {
          expectNext(reader, written[bySequence.sequence], "the one behind it");
        }

        const latest = Math.floor(written.length / 3) * 10 + 10_020;
        const timestampNs = BigInt(10_000 - shape.jitter + random.below(latest - 9000));
        reader.seekTimestamp(timestampNs);
        const byTime = left.find((one) => one.timestampNs >= timestampNs);
        expectNext(reader, byTime, `seed=${seed} timestampNs=${timestampNs}`);
      }
      reader.seekSequence(written.length + 1);
      assert.equal(reader.next(), undefined);
    });
  }

  test(`backwards come the same messages as forwards: ${name}`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const directory = makeFastDirectory(t);
    const written = await write(directory, shape, random);
    await using reader = openSubscriber(directory, "reader");
    const forwards: QueueMessage[] = [];
    for (let one = reader.next(); one !== undefined; one = reader.next()) forwards.push(one);
    assert.equal(forwards.length, written.length);
    const backwards: QueueMessage[] = [];
    for (let one = reader.previous(); one !== undefined; one = reader.previous()) {
      assert.equal(reader.position, one.sequence);
      backwards.push(one);
    }
    assert.deepEqual(backwards.reverse(), forwards);
    assert.equal(reader.position, 1);

    // To and fro.
    let position = 1;
    for (let step = 0; step < 500; step++) {
      const isForwards = random.below(2) === 0;
      for (let left = random.below(40); left > 0; left--) {
        if (isForwards) {
          const expected = forwards[position - 1];
          assert.deepEqual(reader.next(), expected);
          if (expected !== undefined) position++;
        } else {
          const expected = forwards[position - 2];
          assert.deepEqual(reader.previous(), expected);
          if (expected !== undefined) position--;
        }
        assert.equal(reader.position, position);
      }
    }
  });
}

async function prepare(t: TestContext): Promise<{ directory: string; reader: Subscriber }> {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  for (let number = 1; number <= 200; number++) publisher.append(1, payloadOf(number, 90));
  await publisher.close();
  return { directory, reader: openSubscriber(directory, "reader") };
}

test("what is behind the end of the queue cannot be sought yet", async (t) => {
  await using reader = (await prepare(t)).reader;
  reader.seekSequence(201);
  for (const sequence of [202, Number.MAX_SAFE_INTEGER]) {
    const isTooFar = (error: unknown): boolean => isGaplessError(error, "DATA_NOT_YET_AVAILABLE");
    assert.throws(() => reader.seekSequence(sequence), isTooFar);
  }
  for (const sequence of [NaN, 1.5, Infinity]) {
    const isWrong = (error: unknown): boolean => isGaplessError(error, "CONFIG_INVALID");
    assert.throws(() => reader.seekSequence(sequence), isWrong);
  }
  assert.equal(reader.position, 201);
});

test("backwards ends where segments were deleted", async (t) => {
  const { directory, reader } = await prepare(t);
  fs.rmSync(path.join(directory, segmentFileName(1)));
  reader.seekSequence(201);
  let oldest = 201;
  for (let one = reader.previous(); one !== undefined; one = reader.previous()) {
    assert.equal(one.sequence, oldest - 1);
    oldest = one.sequence;
  }
  assert.ok(oldest > 1 && oldest < 100);
  reader.seekSequence(1);
  assert.equal(reader.position, oldest);
  await reader.close();
});

test("backwards stays behind a damaged record until it is gone around", async (t) => {
  const { directory, reader } = await prepare(t);
  reader.seekSequence(20);
  reader.peek();
  const filePath = path.join(directory, segmentFileName(1));
  const fd = fs.openSync(filePath, "r+");
  fs.writeSync(fd, "?", reader.offset);
  fs.closeSync(fd);
  reader.seekSequence(25);
  for (const sequence of [24, 23, 22, 21]) assert.equal(reader.previous()?.sequence, sequence);
  for (let call = 0; call < 2; call++) {
    assert.throws(
      () => reader.previous(),
      (error) => isGaplessError(error, "STORAGE_CORRUPT"),
    );
    assert.equal(reader.position, 21);
  }
  reader.seekSequence(20);
  assert.equal(reader.previous()?.sequence, 19);
  await reader.close();
});

test("what is committed after a seek is the position sought", async (t) => {
  const { directory, reader } = await prepare(t);
  reader.seekSequence(100);
  reader.commit();
  assert.equal(reader.committed, 99);
  reader.seekSequence(50);
  reader.next();
  reader.commit();
  await reader.close();
  await using again = openSubscriber(directory, "reader");
  assert.equal(again.position, 51);
});

test("seeking walks through 64 KiB at most: what is before that can be gone", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes: 2 ** 20, preallocate: false });
  for (let number = 1; number <= 5000; number++) {
    publisher.append(1, payloadOf(number, 100), BigInt(number) * 10n);
  }
  await publisher.close();
  await using reader = openSubscriber(directory, "reader");
  const fd = fs.openSync(path.join(directory, segmentFileName(1)), "r+");
  const goneBytes = 5 * indexStrideBytes;
  fs.writeSync(fd, Buffer.alloc(goneBytes, 0xff), 0, goneBytes, 4096);
  fs.closeSync(fd);
  for (const sequence of [3500, 4000, 5000]) {
    reader.seekSequence(sequence);
    assert.equal(reader.next()?.sequence, sequence);
    reader.seekTimestamp(BigInt(sequence) * 10n - 5n);
    assert.equal(reader.next()?.sequence, sequence);
    assert.equal(reader.previous()?.sequence, sequence);
    assert.equal(reader.previous()?.sequence, sequence - 1);
  }
  // What is gone is told of.
  reader.seekSequence(1000);
  assert.throws(
    () => reader.next(),
    (error) => isGaplessError(error, "STORAGE_CORRUPT"),
  );
});
