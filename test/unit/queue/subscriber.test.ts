import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import { openControl } from "../../../src/queue/control.ts";
import {
  openPublisher,
  openSubscriber,
  type Publisher,
  type QueueMessage,
  type SubscriberOptions,
} from "../../../src/queue/queue.ts";
import { listReaders, lookAtReader } from "../../../src/queue/reader-file.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";
import { moveSequences } from "../../support/queue-sequences.ts";

const segmentBytes = 4096;
const size = 96;
const perSegment = 29;

interface Stage {
  readonly directory: string;
  readonly publisher: Publisher;
  readonly append: (count: number) => void;
}

/** The publisher is closed by the test that wants to see what that does. */
function prepare(t: TestContext, count: number): Stage {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes, preallocate: false });
  const append = (more: number): void => {
    for (let index = 0; index < more; index++) {
      const number = publisher.lastSequence + 1;
      publisher.append(number % 3, payloadOf(number, size), BigInt(number) * 10n);
    }
  };
  append(count);
  return { directory, publisher, append };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

test("poll hands out at most what it is asked for, in order, over the edges of segments", async (t) => {
  const { directory, publisher } = prepare(t, 100);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  const poll = (limit: number): number =>
    reader.poll(({ bytes, view }, offset, length) => {
      const { sequence, type, timestampNs, epoch } = reader.envelope;
      given.push(sequence);
      assert.equal(type, sequence % 3);
      assert.equal(timestampNs, BigInt(sequence) * 10n);
      assert.equal(epoch, 1);
      assert.equal(view.getUint8(offset), (sequence % 255) + 1);
      assert.deepEqual(
        new Uint8Array(bytes.subarray(offset, offset + length)),
        payloadOf(sequence, size),
      );
    }, limit);
  assert.equal(poll(0), 0);
  assert.equal(poll(1), 1);
  assert.equal(poll(perSegment), perSegment);
  assert.equal(poll(1000), 100 - perSegment - 1);
  assert.equal(poll(1000), 0);
  assert.deepEqual(given, range(1, 100));
  assert.equal(reader.position, 101);
});

test("a message that its handler throws on is given again", async (t) => {
  const { directory, publisher } = prepare(t, 40);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  const handle = (): void => {
    given.push(reader.envelope.sequence);
    if (given.length === 35) throw new Error("not this one");
  };
  assert.throws(() => reader.poll(handle, 1000), /not this one/);
  assert.equal(reader.position, 35);
  reader.commit();
  assert.equal(reader.committed, 34);
  assert.equal(reader.poll(handle, 1000), 6);
  assert.deepEqual(given, [...range(1, 35), ...range(35, 40)]);
});

test("a handler may commit, seek, take the next message by itself, and close", async (t) => {
  const { directory, publisher } = prepare(t, 100);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  reader.poll(() => {
    given.push(reader.envelope.sequence);
    reader.commit();
    assert.equal(reader.committed, reader.envelope.sequence - 1);
  }, 3);
  const handlers = [
    () => reader.seekSequence(70),
    () => given.push(reader.next()?.sequence ?? 0),
    () => void reader.close(),
  ];
  for (const handler of handlers) {
    const count = reader.poll(() => {
      given.push(reader.envelope.sequence);
      handler();
    }, 1000);
    assert.equal(count, 1);
  }
  assert.deepEqual(given, [1, 2, 3, 4, 70, 70, 71]);
  const isClosed = (error: unknown): boolean => isGaplessError(error, "CLOSED");
  assert.throws(() => reader.poll(() => undefined, 1), isClosed);
  assert.throws(() => reader.next(), isClosed);
  assert.throws(() => reader.previous(), isClosed);
  assert.throws(() => reader.commit(), isClosed);
  assert.throws(() => reader.seekSequence(1), isClosed);
  assert.throws(() => reader.skipUnreadable(), isClosed);
  assert.throws(() => reader.lag, isClosed);
  assert.throws(() => reader.waitBlocking(1), isClosed);
  await assert.rejects(reader.wait(1), isClosed);
  await assert.rejects(reader.batches().next(), isClosed);
  await reader.close();
});

test("a handler that polls its own reader is refused, and loses nothing by it", async (t) => {
  const { directory, publisher } = prepare(t, 40);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  const isMisuse = (error: unknown): boolean => isGaplessError(error, "INVALID_OPERATION");
  const nested: Promise<unknown>[] = [];
  const handle = (): void => {
    given.push(reader.envelope.sequence);
    assert.throws(() => reader.poll(() => given.push(-1), 1), isMisuse);
    nested.push(assert.rejects(reader.batches().next(), isMisuse));
  };
  while (reader.poll(handle, 3) > 0);
  await Promise.all(nested);
  assert.deepEqual(given, range(1, 40));
  // One that has thrown is over.
  assert.throws(() => reader.poll(() => assert.fail("there is nothing"), Number.NaN), /limit=NaN/);
  assert.equal(
    reader.poll(() => undefined, 1),
    0,
  );
});

test("what a handler peeks at is its own message, and whether it takes that is up to it", async (t) => {
  const { directory, publisher } = prepare(t, 0);
  await using _publisher = publisher;
  // All of different lengths.
  for (let length = 0; length < 60; length++) publisher.append(1, payloadOf(length + 1, length));
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  const poll = (act: () => void): number =>
    reader.poll(() => {
      given.push(reader.envelope.sequence);
      act();
    }, 1000);
  const peek = (): void => {
    assert.ok(reader.peek());
    assert.equal(reader.envelope.sequence, given.at(-1));
    assert.equal(reader.length, reader.envelope.sequence - 1);
  };
  const isMisuse = (error: unknown): boolean => isGaplessError(error, "INVALID_OPERATION");
  // Looks at every other one, and tries to take those that it has not looked at.
  poll(() => {
    if (reader.position % 2 === 0) peek();
    else assert.throws(() => reader.take(), isMisuse);
    if (reader.position === 20) reader.take();
  });
  assert.equal(reader.position, 21);
  assert.equal(reader.next()?.sequence, 21);
  const once = poll(() => given.push(reader.previous()?.sequence ?? 0));
  assert.equal(once, 1);
  assert.deepEqual(given, [...range(1, 20), 22, 21]);
  assert.equal(reader.next()?.sequence, 21);
  assert.equal(poll(peek), 39);
  assert.equal(reader.peek(), false);
  assert.throws(() => reader.take(), isMisuse);
  assert.throws(() => reader.length, isMisuse);
});

test("a view that is kept for too long finds nothing there, and crashes nothing", async (t) => {
  const { directory, publisher } = prepare(t, 100);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  const kept: Uint8Array[] = [];
  reader.poll(
    ({ bytes }, offset, length) => kept.push(bytes.subarray(offset, offset + length)),
    100,
  );
  await reader.close();
  assert.equal(kept.length, 100);
  assert.ok(kept.every((view) => view.every((byte) => byte === 0)));
});

test("batches lie in one segment each, so their views are whole until the next step", async (t) => {
  const { directory, publisher, append } = prepare(t, 100);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  for await (const batch of reader) {
    const last = batch.at(-1)?.sequence ?? 0;
    if (last === 100) append(50);
    for (const { sequence, payload } of batch) {
      assert.deepEqual(new Uint8Array(payload), payloadOf(sequence, size));
      given.push(sequence);
    }
    reader.commit();
    if (last === 150) break;
  }
  assert.deepEqual(given, range(1, 150));
  await reader.close();
  await using again = openSubscriber(directory, "ledger");
  assert.equal(again.position, 151);
});

test("what a batch held is given again where it was not committed", async (t) => {
  const { directory, publisher } = prepare(t, 10);
  await using _publisher = publisher;
  for (let life = 0; life < 2; life++) {
    await using reader = openSubscriber(directory, "ledger");
    const { value } = await reader.batches().next();
    assert.deepEqual(
      (value as QueueMessage[]).map(({ sequence }) => sequence),
      range(1, 10),
    );
  }
});

test("batches end when the signal aborts, also in the middle of a wait", async (t) => {
  const { directory, publisher } = prepare(t, 3);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  const controller = new AbortController();
  let count = 0;
  const startMs = performance.now();
  for await (const batch of reader.batches(controller.signal)) {
    count += batch.length;
    setTimeout(() => controller.abort(), 20);
  }
  assert.equal(count, 3);
  assert.ok(performance.now() - startMs < 10_000);
});

test("peek says the same until take, and what was taken can be committed later", async (t) => {
  const { directory, publisher } = prepare(t, 60);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  for (let sequence = 1; sequence <= 60; sequence++) {
    assert.equal(reader.lag, 61 - sequence);
    for (let call = 0; call < 2; call++) {
      assert.ok(reader.peek());
      assert.equal(reader.prepareToSleep(), false);
      assert.equal(reader.envelope.sequence, sequence);
      const { offset, length, memory } = reader;
      const payload = new Uint8Array(memory.bytes.subarray(offset, offset + length));
      assert.deepEqual(payload, payloadOf(sequence, size));
    }
    reader.take();
    assert.equal(reader.position, sequence + 1);
  }
  assert.equal(reader.peek(), false);
  assert.equal(reader.prepareToSleep(), true);
  assert.equal(Atomics.load(reader.sleep.words, reader.sleep.index), reader.sleep.expected);
  reader.commitThrough(44);
  assert.equal(reader.committed, 44);
  await reader.close();
  await using again = openSubscriber(directory, "ledger");
  assert.equal(again.next()?.sequence, 45);
  assert.ok(again.peek());
  assert.equal(
    again.poll(() => undefined, 1),
    1,
    "what was peeked at is polled",
  );
  assert.equal(again.position, 47);
});

test("a reader of what is durable is given nothing else", async (t) => {
  const { directory, publisher, append } = prepare(t, 40);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger", { through: "durable" });
  const poll = (): number => reader.poll(() => undefined, 1000);
  assert.equal(poll(), 0);
  assert.equal(reader.peek(), false);
  await reader.wait(20);
  await publisher.flush();
  append(30);
  await reader.wait(10_000);
  assert.equal(poll(), 40);
  assert.equal(reader.next(), undefined);
  assert.equal(reader.lag, 30);
  const waiting = reader.wait(60_000);
  await publisher.flush();
  await waiting;
  assert.equal(poll(), 30);
});

for (const wait of ["park", "spin-then-park", "busy-spin"] as const) {
  test(`${wait}: a wait ends with a message, the time, an abort or a close`, async (t) => {
    const { directory, publisher, append } = prepare(t, 0);
    await using _publisher = publisher;
    const options: SubscriberOptions = { wait, spinMicros: 100 };
    const reader = openSubscriber(directory, "ledger", options);
    const timed = async (wait: () => Promise<void>): Promise<number> => {
      const startMs = performance.now();
      await wait();
      return performance.now() - startMs;
    };
    assert.ok((await timed(() => reader.wait(60))) > 50);
    setTimeout(() => append(1), 30);
    assert.ok((await timed(() => reader.wait(60_000))) < 20_000);
    assert.equal(reader.next()?.sequence, 1);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    assert.ok((await timed(() => reader.wait(60_000, controller.signal))) < 20_000);
    const startMs = performance.now();
    reader.waitBlocking(60);
    assert.ok(performance.now() - startMs > 50);
    append(1);
    reader.waitBlocking(60_000);
    assert.ok(performance.now() - startMs < 20_000);
    reader.next();
    setTimeout(() => void reader.close(), 30);
    assert.ok((await timed(() => reader.wait(60_000))) < 20_000);
  });
}

test("the name of a new reader's file lasts, and so does that of its folder", async (t) => {
  const { directory, publisher } = prepare(t, 1);
  await using _publisher = publisher;
  const synced = new Set<string>();
  const { fsyncSync } = fs;
  t.mock.method(fs, "fsyncSync", (fd: number) => {
    synced.add(fs.readlinkSync(`/proc/self/fd/${fd}`));
    fsyncSync(fd);
  });
  await openSubscriber(directory, "ledger").close();
  assert.ok(synced.has(path.join(directory, "readers")));
  assert.ok(synced.has(directory));
});

test("one at a time reads as a name, and another is told who", async (t) => {
  const { directory, publisher } = prepare(t, 1);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  assert.throws(
    () => openSubscriber(directory, "ledger"),
    (error) =>
      isGaplessError(error, "ALREADY_OPEN") && error.message.includes(`pid=${process.pid}`),
  );
  await openSubscriber(directory, "other").close();
  await reader.close();
  await openSubscriber(directory, "ledger").close();
  assert.deepEqual(listReaders(directory), ["ledger", "other"]);
});

test("what cannot be a reader's name, or an option, is refused before anything is made", async (t) => {
  const { directory, publisher } = prepare(t, 1);
  await using _publisher = publisher;
  const isWrong = (error: unknown): boolean => isGaplessError(error, "CONFIG_INVALID");
  for (const name of ["", ".", "..", "a/b", "ä", "a b", "x".repeat(65), "\0"]) {
    assert.throws(() => openSubscriber(directory, name), isWrong, name);
  }
  const wrong: object[] = [
    { start: "newest" },
    { through: "nothing" },
    { verify: "yes" },
    { wait: "sleep" },
    { spinMicros: -1 },
    { onLoss: 1 },
  ];
  for (const options of wrong) {
    assert.throws(() => openSubscriber(directory, "ledger", options), isWrong);
  }
  assert.throws(() => openSubscriber("", "ledger"), isWrong);
  assert.deepEqual(listReaders(directory), []);
  assert.ok(!fs.existsSync(path.join(directory, "readers")));
  for (const name of ["A-z_0.9", "x".repeat(64)]) await openSubscriber(directory, name).close();
});

test("a reader that reads is seen to be alive, whether it commits or not", async (t) => {
  const { directory, publisher } = prepare(t, 100);
  await using _publisher = publisher;
  const control = openControl(directory, "read");
  const look = () => lookAtReader(directory, "ledger", control.identity);
  const reader = openSubscriber(directory, "ledger");
  assert.equal(look().committed?.sequence, 0);
  const seenAtMs = look().seenMs;
  assert.ok(Math.abs(seenAtMs - Date.now()) < 10_000);
  await pause(50);
  reader.poll(() => undefined, 70);
  assert.equal(look().taken, 70);
  assert.equal(look().committed?.sequence, 0);
  assert.ok(look().isAlive);
  // Its loop leaves no timer a turn: polls alone tell.
  const silentUntilMs = performance.now() + 300;
  while (performance.now() < silentUntilMs) reader.poll(() => undefined, 70);
  assert.ok(look().silentMs < 150, `${look().silentMs}`);
  // It deals with what it was given: the timer alone tells.
  await pause(400);
  assert.ok(look().silentMs < 350, `${look().silentMs}`);
  await reader.close();
  const { isAlive, taken, seenMs } = look();
  assert.deepEqual([isAlive, taken], [false, 100]);
  assert.ok(seenMs > seenAtMs);
  control.mapping.unmap();
});

test("a reader of another boot is not alive, and its heartbeat says nothing", async (t) => {
  const { directory, publisher } = prepare(t, 5);
  await using _publisher = publisher;
  const reader = openSubscriber(directory, "ledger");
  reader.next();
  reader.commit({ durable: true });
  const filePath = path.join(directory, "readers", "ledger.reader");
  const content = fs.readFileSync(filePath);
  await reader.close();
  content.fill(0xb0, 208, 224);
  fs.writeFileSync(filePath, content);
  const { identity, mapping } = openControl(directory, "read");
  const { isAlive, silentMs, committed } = lookAtReader(directory, "ledger", identity);
  assert.deepEqual([isAlive, silentMs, committed?.sequence], [false, Infinity, 1]);
  mapping.unmap();
  await using again = openSubscriber(directory, "ledger");
  assert.equal(again.position, 2);
});

test("a reader goes on with the writer that comes after", async (t) => {
  const { directory, publisher, append } = prepare(t, 20);
  await using reader = openSubscriber(directory, "ledger");
  const given: string[] = [];
  const poll = (): number =>
    reader.poll(() => given.push(`${reader.envelope.epoch}:${reader.envelope.sequence}`), 1000);
  poll();
  append(5);
  await publisher.close();
  const next = openPublisher(directory, { segmentBytes, preallocate: false });
  for (let count = 0; count < 30; count++) next.append(1, payloadOf(count, size));
  assert.equal(poll(), 35);
  assert.deepEqual(given, [
    ...range(1, 25).map((sequence) => `1:${sequence}`),
    ...range(26, 55).map((sequence) => `2:${sequence}`),
  ]);
  // The epoch that is committed is that of the record, not of the last one that was taken.
  const control = openControl(directory, "read");
  const epochCommitted = (): number | undefined =>
    lookAtReader(directory, "ledger", control.identity).committed?.epoch;
  reader.commitThrough(25);
  assert.equal(epochCommitted(), 1);
  reader.commitThrough(26);
  assert.equal(epochCommitted(), 2);
  reader.seekSequence(26);
  reader.commit();
  assert.equal(epochCommitted(), 1);
  control.mapping.unmap();
  await next.close();
});

test("the epoch that is committed is right where a writer begins with a segment", async (t) => {
  const { directory, publisher } = prepare(t, perSegment);
  const reader = openSubscriber(directory, "ledger");
  reader.poll(() => undefined, perSegment);
  await publisher.close();
  // No room for one more in the first segment.
  const next = openPublisher(directory, { segmentBytes, preallocate: false });
  next.append(1, payloadOf(1, 1000));
  reader.poll(() => assert.equal(reader.envelope.epoch, 2), 10);
  reader.commit();
  await reader.close();
  const { identity, mapping } = openControl(directory, "read");
  mapping.unmap();
  const { committed } = lookAtReader(directory, "ledger", identity);
  assert.deepEqual([committed?.sequence, committed?.epoch], [perSegment + 1, 2]);
  await openSubscriber(directory, "ledger").close();
  await next.close();
});

test("where segments are deleted under a live reader, it is told, and goes on with skip", async (t) => {
  const { directory, publisher } = prepare(t, 4 * perSegment + 5);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  reader.next();
  for (const number of [1, 2, 3]) {
    fs.rmSync(path.join(directory, `${String(number).padStart(10, "0")}.segment`));
  }
  const poll = (): number => reader.poll(() => undefined, 1000);
  assert.equal(poll(), perSegment - 1, "the segment that it has is kept");
  for (let call = 0; call < 2; call++) {
    assert.throws(poll, (error) => isGaplessError(error, "DATA_TRIMMED"));
  }
  const { cause, from, to } = reader.skipUnreadable();
  assert.deepEqual([cause, from, to], ["deleted", perSegment + 1, 3 * perSegment]);
  assert.equal(poll(), perSegment + 5);
});

test("a sequence counts on beyond 32 bits", async (t) => {
  const { directory, publisher } = prepare(t, 1);
  await publisher.close();
  moveSequences(directory, 2 ** 32 - 20);
  await using next = openPublisher(directory, { segmentBytes, preallocate: false });
  assert.equal(next.lastSequence, 2 ** 32 - 19);
  for (let count = 0; count < 100; count++) next.append(1, payloadOf(count, size));
  await using reader = openSubscriber(directory, "ledger");
  const given: number[] = [];
  reader.poll(() => given.push(reader.envelope.sequence), 1000);
  assert.deepEqual(given, range(2 ** 32 - 19, 2 ** 32 + 81));
  reader.commit();
  reader.seekSequence(2 ** 32);
  assert.equal(reader.next()?.sequence, 2 ** 32);
  assert.equal(reader.committed, 2 ** 32 + 81);
});

test("a time to wait, or to go to, that is none is refused, and the reader stays where it is", async (t) => {
  const { directory, publisher } = prepare(t, 10);
  await using _publisher = publisher;
  await using reader = openSubscriber(directory, "ledger");
  reader.poll(() => undefined, 3);
  const isRefused = (error: unknown): boolean => isGaplessError(error, "CONFIG_INVALID");
  for (const timeoutMs of [NaN, -1, undefined as unknown as number]) {
    await assert.rejects(reader.wait(timeoutMs), isRefused);
    assert.throws(() => reader.waitBlocking(timeoutMs), isRefused);
  }
  for (const timestampNs of [undefined, 5, null, "5"] as unknown as bigint[]) {
    assert.throws(() => reader.seekTimestamp(timestampNs), isRefused);
  }
  assert.equal(reader.next()?.sequence, 4);
});
