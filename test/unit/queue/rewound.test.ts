import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { controlFileName, openControl } from "../../../src/queue/control.ts";
import { oldestSpot } from "../../../src/queue/finding.ts";
import { checksumKinds, controlOffset } from "../../../src/queue/layout.ts";
import {
  openPublisher,
  openSubscriber,
  readLosses,
  type Publisher,
  type QueueLoss,
} from "../../../src/queue/queue.ts";
import { Reading } from "../../../src/queue/reading.ts";
import { seededRandom } from "../../../src/random.ts";
import { Recording } from "../../support/power-loss.ts";
import { makeFastDirectory, payloadOf, walkQueue } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const segmentBytes = 4096;
const bootBytes = 16;

const open = (directory: string): Publisher =>
  openPublisher(directory, { segmentBytes, preallocate: false });

/** A queue of 51 messages, in whose files of another boot there are only 30. */
async function loseTail(t: TestContext): Promise<string> {
  const root = makeFastDirectory(t);
  const directory = path.join(root, "queue");
  const publisher = open(directory);
  for (let number = 1; number <= 30; number++) publisher.append(1, payloadOf(number));
  await publisher.flush();
  const kept = path.join(root, "kept");
  fs.cpSync(directory, kept, { recursive: true });
  for (let number = 31; number <= 51; number++) publisher.append(1, payloadOf(number));
  await publisher.close();
  const reader = openSubscriber(directory, "ledger");
  while (reader.next() !== undefined);
  reader.commitThrough(50);
  await reader.close();

  fs.cpSync(path.join(directory, "readers"), path.join(kept, "readers"), { recursive: true });
  fs.rmSync(path.join(kept, "writer.lock"));
  const control = fs.readFileSync(path.join(kept, controlFileName));
  control.fill(0xb0, controlOffset.boot, controlOffset.boot + bootBytes);
  fs.writeFileSync(path.join(kept, controlFileName), control);
  return kept;
}

const isBroken = (error: unknown): boolean => isGaplessError(error, "CHAIN_BROKEN");
const describe = ({ cause, from, to }: QueueLoss): string => `${cause} ${from}-${to}`;

for (const [when, messages] of [
  ["before the next writer comes", undefined],
  ["before the next writer has written", 0],
  ["when others have a part of its sequences", 15],
  ["when others have all of its sequences", 60],
] as const) {
  test(`a reader whose committed messages a power loss has taken is told, ${when}`, async (t) => {
    const directory = await loseTail(t);
    await using _publisher = messages === undefined ? undefined : open(directory);
    for (let count = 0; count < (messages ?? 0); count++) {
      _publisher?.append(2, payloadOf(1000 + count));
    }
    for (let time = 0; time < 2; time++) {
      assert.throws(() => openSubscriber(directory, "ledger"), isBroken);
    }
    const losses: QueueLoss[] = [];
    const onLoss = (loss: QueueLoss): void => void losses.push(loss);
    const start = "resume-snapshot";
    const reader = openSubscriber(directory, "ledger", { start, onLoss });
    assert.equal(reader.position, 31);
    assert.deepEqual(losses.map(describe), ["rewound 31-50"]);
    assert.deepEqual(readLosses(directory).losses, losses);
    let given = 0;
    for (let one = reader.next(); one !== undefined; one = reader.next()) {
      given++;
      assert.deepEqual([one.sequence, one.type], [30 + given, 2]);
    }
    assert.equal(given, messages ?? 0);
    reader.commit();
    await reader.close();
    // From now on all is well.
    await openSubscriber(directory, "ledger").close();
    assert.equal(readLosses(directory).losses.length, 1);
  });
}

test("resume-latest goes to the end where a power loss has taken what was committed", async (t) => {
  const directory = await loseTail(t);
  await using publisher = open(directory);
  for (let count = 0; count < 5; count++) publisher.append(2, payloadOf(count));
  await using reader = openSubscriber(directory, "ledger", { start: "resume-latest" });
  assert.equal(reader.position, 36);
  const losses = readLosses(directory).losses.map(describe);
  assert.deepEqual(losses, ["rewound 31-50", "passed-over 31-35"]);
});

test("a reader that had committed no more than what is left goes on", async (t) => {
  const directory = await loseTail(t);
  const reader = openSubscriber(directory, "other");
  while (reader.position < 31) reader.next();
  reader.commit();
  await reader.close();
  await using publisher = open(directory);
  publisher.append(2, payloadOf(31));
  await using again = openSubscriber(directory, "other");
  assert.equal(again.next()?.sequence, 31);
  assert.deepEqual(readLosses(directory).losses, []);
});

for (const checksum of checksumKinds) {
  test(`G4: after a power loss a reader is given what the next writer keeps, before it comes and after: ${checksum}`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const root = makeFastDirectory(t);
    let cuts = 0;
    for (let round = 0; round < 12; round++) {
      const directory = path.join(root, `${round}`);
      fs.mkdirSync(directory);
      using recording = await Recording.start(directory);
      recording.settle();
      const publisher = openPublisher(directory, { segmentBytes, checksum, preallocate: false });
      for (let step = 5 + random.below(60); step > 0; step--) {
        if (random.below(12) === 0) await publisher.flush();
        else publisher.append(1, payloadOf(publisher.lastSequence + 1, random.below(200)));
      }
      for (let state = 0; state < 8; state++) {
        const where = `SEED=${seed} round=${round} state=${state}`;
        const after = path.join(root, `${round}-${state}`);
        const keeps = state % 2 === 0;
        const files = recording.lose((count) => {
          if (random.below(2 + state) === 0) return random.below(count);
          return keeps ? count - 1 : 0;
        });
        fs.mkdirSync(after);
        for (const [name, content] of files) {
          if (name === controlFileName) content.fill(0xb0, controlOffset.boot, 104);
          if (!name.startsWith("writer.lock")) fs.writeFileSync(path.join(after, name), content);
        }
        if (!files.has(controlFileName)) continue;
        const control = openControl(after, "write");
        const queue = { directory: after, control };
        const early = new Reading(queue, oldestSpot(queue), {
          verify: state < 4,
          through: "written",
        });
        const given: number[] = [];
        const poll = (): number => early.poll(() => given.push(early.envelope.sequence), 1000);
        poll();
        const before = given.length;
        assert.equal(poll(), 0, where);
        const recovered = openPublisher(after, { segmentBytes, checksum, preallocate: false });
        const { lastSequence } = recovered;
        if (lastSequence < publisher.lastSequence) cuts++;
        assert.equal(before, lastSequence, where);
        for (let count = 0; count < 20; count++) recovered.append(2, payloadOf(count));
        for (let count = poll(); count > 0; count = poll());
        const expected = walkQueue(after).map(({ sequence }) => sequence);
        assert.deepEqual(given, expected, where);
        early.close();
        control.mapping.unmap();
        await recovered.close();
        fs.rmSync(after, { recursive: true });
      }
      await publisher.close();
      fs.rmSync(directory, { recursive: true });
    }
    assert.ok(cuts > 0);
  });
}

for (const checksum of checksumKinds) {
  for (const wait of ["park", "spin-then-park", "busy-spin"] as const) {
    test(`a reader that waits before the next writer comes is awake once that appends: ${checksum}, ${wait}`, async (t) => {
      const directory = path.join(makeFastDirectory(t), "queue");
      const options = { segmentBytes, checksum, preallocate: false };
      const first = openPublisher(directory, options);
      for (let number = 1; number <= 5; number++) first.append(1, payloadOf(number));
      await first.close();
      const filePath = path.join(directory, controlFileName);
      const control = fs.readFileSync(filePath);
      control.fill(0xb0, controlOffset.boot, controlOffset.boot + bootBytes);
      fs.writeFileSync(filePath, control);
      await using reader = openSubscriber(directory, "early", { wait });
      assert.equal(
        reader.poll(() => undefined, 100),
        5,
      );
      const startMs = performance.now();
      const waiting = reader.wait(10_000);
      await using next = openPublisher(directory, options);
      next.append(1, payloadOf(6));
      await waiting;
      assert.ok(performance.now() - startMs < 5000);
      assert.equal(reader.next()?.sequence, 6);
    });
  }
}
