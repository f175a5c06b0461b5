import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import { openControl } from "../../../src/queue/control.ts";
import { openPublisher } from "../../../src/queue/queue.ts";
import { lookAtReader, type ReaderPresence } from "../../../src/queue/reader-file.ts";
import { seededRandom } from "../../../src/random.ts";
import { startAppender } from "../../support/queue-processes.ts";
import { startReader } from "../../support/queue-reading.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

test("G3: a reader killed at any moment goes on behind what it has committed", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes: 16_384, preallocate: false });
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  const look = (): ReaderPresence => lookAtReader(directory, "reader", identity);
  let committed = 0;
  for (let life = 0; life < 8; life++) {
    const reader = startReader(t, { directory, limit: 1 + random.below(4) });
    await reader.until(() => reader.told.open > 0);
    assert.equal(reader.told.open, committed + 1, `seed=${seed}`);
    const killAtMs = performance.now() + random.below(80);
    while (performance.now() < killAtMs) {
      for (let left = random.below(200); left > 0; left--) {
        publisher.append(1, payloadOf(publisher.lastSequence + 1));
      }
      await pause(random.below(3));
    }
    reader.child.kill("SIGKILL");
    await reader.ended();
    assert.equal(reader.failed, undefined);
    const { taken, isAlive, committed: found } = look();
    assert.equal(isAlive, false);
    assert.ok(found !== undefined);
    // What it told is there; what it was about to tell may be.
    assert.ok(found.sequence >= Math.max(committed, reader.told.committed), `seed=${seed}`);
    assert.ok(found.sequence <= taken && taken <= publisher.lastSequence, `seed=${seed}`);
    committed = found.sequence;
  }
  assert.ok(committed > 0);
});

test("G3: readers go on through the deaths of writers, and are given each message once", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = makeFastDirectory(t);
  await openPublisher(directory).close();
  const asleep = startReader(t, { directory, name: "asleep", limit: 1000, pollsPerCommit: 100 });
  const spinning = startReader(t, {
    directory,
    name: "spinning",
    options: { wait: "spin-then-park" },
    waiting: "blocking",
    limit: 3,
    pollsPerCommit: 0,
  });
  const readers = [asleep, spinning];
  for (const reader of readers) await reader.until(() => reader.told.open === 1);
  let appended = 0;
  for (let life = 0; life < 4; life++) {
    const appender = startAppender(t, directory);
    await appender.until(() => appender.told.appended > 0);
    await pause(random.below(100));
    appender.child.kill("SIGKILL");
    await appender.ended();
    ({ appended } = appender.told);
    for (const reader of readers) await reader.until(() => reader.told.taken >= appended);
  }
  await using last = openPublisher(directory);
  for (const reader of readers) {
    await reader.until(() => reader.told.taken === last.lastSequence);
    assert.equal(reader.failed, undefined);
  }
});

for (const step of ["queue.appended 40", "queue.ended 2", "queue.begun 2", "queue.rolled 2"]) {
  test(`G3: a reader is given each message once where a writer stopped at ${step} is replaced, and wakes`, async (t) => {
    const directory = makeFastDirectory(t);
    await openPublisher(directory, { segmentBytes: 16_384, preallocate: false }).close();
    const reader = startReader(t, { directory, limit: 5 });
    await reader.until(() => reader.told.open === 1);
    const stopped = startAppender(t, directory, `SIGSTOP ${step}`);
    await stopped.until(() => stopped.told.appended > 0);
    const options = { segmentBytes: 16_384, preallocate: false, takeOverAfterMs: 1000 };
    await using heir = await untilOpen(() => openPublisher(directory, options));
    const append = (): void => {
      for (let left = 300; left > 0; left--) {
        heir.append(heir.epoch, payloadOf(heir.lastSequence + 1));
      }
    };
    append();
    stopped.child.kill("SIGCONT");
    await stopped.ended();
    assert.equal(stopped.failed, "FENCED");
    append();
    await reader.until(() => reader.told.taken === heir.lastSequence);
    assert.equal(reader.failed, undefined);
  });
}

/** Tries until the writer before has been silent for long enough. */
async function untilOpen<Opened>(open: () => Opened): Promise<Opened> {
  const deadlineMs = performance.now() + 30_000;
  while (true) {
    try {
      return open();
    } catch (error) {
      const isWaiting = isGaplessError(error, "WRITER_ALREADY_ACTIVE");
      if (!isWaiting || performance.now() > deadlineMs) throw error;
      await pause(50);
    }
  }
}
