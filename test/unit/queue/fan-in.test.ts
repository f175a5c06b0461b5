import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import type { Clock } from "../../../src/clock.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { openFanIn, type FanInReader } from "../../../src/queue/fan-in.ts";
import { MemorySource, SteppedClock } from "./memory-source.ts";

/** Longer than the test may take: a wait that nobody ends is a failure. */
const foreverMs = 300_000;

interface Opened {
  readonly fanIn: FanInReader;
  readonly sources: MemorySource[];
}

/** A fan-in of sources named a, b, c and so on. */
function openWith(count: number, options: Parameters<typeof openFanIn>[0] = {}): Opened {
  const fanIn = openFanIn(options);
  const sources = Array.from({ length: count }, () => new MemorySource());
  for (const [index, source] of sources.entries()) fanIn.add(source, nameOf(index));
  return { fanIn, sources };
}

function nameOf(index: number): string {
  return String.fromCharCode(97 + index);
}

/**
 * Who sleeps looks every 250 ms: whether a wake-up comes is seen by how long the shortest of some
 * waits takes.
 */
async function expectSoon(wait: (time: number) => Promise<void>): Promise<void> {
  const tookMs: number[] = [];
  for (let time = 0; time < 5; time++) {
    const before = performance.now();
    await wait(time);
    tookMs.push(performance.now() - before);
  }
  assert.ok(Math.min(...tookMs) < 150, `${tookMs.join()} ms`);
}

/** What a poll delivers: the source and the sequence of each message, as "a1". */
function pollAll(fanIn: FanInReader, limit = 1000): string[] {
  const delivered: string[] = [];
  const count = fanIn.poll((source, { view }, offset, length) => {
    assert.equal(length, 4);
    const sequence = view.getUint32(offset, true);
    assert.equal(fanIn.envelope.sequence, sequence);
    delivered.push(`${source}${sequence}`);
  }, limit);
  assert.equal(count, delivered.length);
  return delivered;
}

test("messages of many sources come by time, of equal time by the order of the sources", () => {
  const { fanIn, sources } = openWith(3);
  const [a, b, c] = sources;
  a?.append(10n, 40n, 40n);
  b?.append(20n, 40n, 2n ** 64n - 1n);
  c?.append(1n, 40n, 41n);
  assert.equal(fanIn.lag, 9);
  assert.deepEqual(pollAll(fanIn, 4), ["c1", "a1", "b1", "a2"]);
  assert.equal(fanIn.lag, 5);
  assert.deepEqual(pollAll(fanIn), ["a3", "b2", "c2", "c3", "b3"]);
  assert.deepEqual(pollAll(fanIn), []);
  assert.equal(fanIn.late, 0);
});

test("a handler finds beside each message what goes with it", () => {
  const { fanIn, sources } = openWith(2);
  sources[1]?.append(2n ** 40n + 3n);
  fanIn.poll((source) => {
    assert.equal(source, "b");
    const { sequence, type, epoch, timestampNs, timestampHigh, timestampLow } = fanIn.envelope;
    assert.deepEqual([sequence, type, epoch, timestampNs], [1, 1, 3, 2n ** 40n + 3n]);
    assert.deepEqual([timestampHigh, timestampLow], [256, 3]);
  }, 1);
  assert.equal(fanIn.lag, 0);
});

test("however much one source has, a poll sees what came to another meanwhile", () => {
  const { fanIn, sources } = openWith(2);
  const [busy, quiet] = sources;
  busy?.append(...Array.from({ length: 2000 }, (_, index) => BigInt(index + 10)));
  let count = 0;
  let seenAt = 0;
  fanIn.poll((source) => {
    if (++count === 100) quiet?.append(5n);
    if (source === "b") seenAt = count;
  }, Infinity);
  assert.equal(count, 2001);
  assert.ok(seenAt > 100 && seenAt < 1000, `seen after ${seenAt} messages`);
  assert.equal(fanIn.late, 1);
});

test("a source whose times run backwards keeps its order, and counts as late", () => {
  const { fanIn, sources } = openWith(2);
  sources[0]?.append(100n, 50n, 60n, 200n);
  sources[1]?.append(150n);
  assert.deepEqual(pollAll(fanIn), ["a1", "a2", "a3", "b1", "a4"]);
  assert.equal(fanIn.late, 2);
});

test("with a watermark a message waits until all others have one, or until it is old enough", () => {
  const clock = new SteppedClock();
  const { fanIn, sources } = openWith(2, { watermarkMs: 0.001, clock });
  const [a, b] = sources;
  // Younger than the clock has come: nothing is below zero.
  a?.append(0n);
  assert.deepEqual(pollAll(fanIn), []);
  clock.ns = 1000n;
  assert.deepEqual(pollAll(fanIn), []);
  clock.ns = 1001n;
  assert.deepEqual(pollAll(fanIn), ["a1"]);

  a?.append(5000n, 9000n);
  assert.deepEqual(pollAll(fanIn), []);
  b?.append(6000n, 7000n);
  // The last of b: then it is empty again, and has its chance.
  assert.deepEqual(pollAll(fanIn), ["a2", "b1", "b2"]);
  clock.ns = 10_000n;
  assert.deepEqual(pollAll(fanIn), []);
  // Older than what was delivered: to hold it back would put nothing right.
  b?.append(1n);
  assert.deepEqual(pollAll(fanIn), ["b3"]);
  assert.equal(fanIn.late, 1);
  // Not late, and not held back either, since all have one.
  b?.append(8000n);
  assert.deepEqual(pollAll(fanIn), ["b4"]);
  clock.ns = 10_001n;
  assert.deepEqual(pollAll(fanIn), ["a3"]);
  assert.equal(fanIn.late, 1);
});

test("the clock is read before the sources are looked at: what was appended in time is seen", () => {
  const a = new MemorySource();
  const b = new MemorySource();
  const clock: Clock = {
    // When the clock says that b has had its chance, b has only just used it.
    nowNs: () => {
      b.append(100n);
      return 1_000_201n;
    },
    monotonicNs: () => 0n,
  };
  const fanIn = openFanIn({ watermarkMs: 1, clock });
  fanIn.add(a, "a");
  fanIn.add(b, "b");
  a.append(200n);
  assert.deepEqual(pollAll(fanIn), ["b1", "a1"]);
  assert.equal(fanIn.late, 0);
});

test("what was held for a source goes when that is removed", async () => {
  const { fanIn, sources } = openWith(1, { watermarkMs: 1000, clock: new SteppedClock() });
  await expectSoon(async (time) => {
    fanIn.add(new MemorySource(), "empty");
    sources[0]?.append(2n ** 62n);
    assert.deepEqual(pollAll(fanIn), []);
    const waiting = fanIn.wait(foreverMs);
    await nextTurn();
    fanIn.remove("empty");
    await waiting;
    assert.deepEqual(pollAll(fanIn), [`a${time + 1}`]);
  });
});

test("commits cover what was delivered, of each source, and nothing that was only looked at", () => {
  const { fanIn, sources } = openWith(3);
  const [a, b, c] = sources;
  a?.append(1n, 2n, 3n);
  b?.append(10n);
  c?.append(4n);
  const committed = (): (number | undefined)[] => sources.map((source) => source.committed);
  fanIn.commit();
  pollAll(fanIn, 2);
  assert.deepEqual(committed(), [0, 0, 0]);
  fanIn.commit();
  assert.deepEqual(committed(), [2, 0, 0]);
  // In a handler the message that it has is not delivered yet.
  fanIn.poll(() => fanIn.commit(), 2);
  assert.deepEqual(committed(), [3, 0, 0]);
  fanIn.commit();
  // A second time there is nothing new: the sources would object.
  fanIn.commit();
  assert.deepEqual(committed(), [3, 0, 1]);
});

test("a source that cannot commit keeps none of the others from it, and tries again", () => {
  const { fanIn, sources } = openWith(3);
  for (const source of sources) source.append(1n);
  pollAll(fanIn);
  const [, b] = sources;
  assert.ok(b);
  const failure = new Error("no room");
  Object.assign(b, {
    commitThrough: () => {
      throw failure;
    },
  });
  assert.throws(
    () => fanIn.commit(),
    (error) => error === failure,
  );
  assert.deepEqual(
    sources.map(({ committed }) => committed),
    [1, 0, 1],
  );
  Reflect.deleteProperty(b, "commitThrough");
  fanIn.commit();
  assert.equal(b.committed, 1);
});

test("a message that the handler throws on is not taken, and not committed", () => {
  const { fanIn, sources } = openWith(2);
  sources[0]?.append(1n, 3n);
  sources[1]?.append(2n);
  const failure = new Error("cannot handle this");
  let count = 0;
  const failing = (): void => {
    if (++count === 2) throw failure;
  };
  assert.throws(
    () => fanIn.poll(failing, 10),
    (error) => error === failure,
  );
  fanIn.commit();
  assert.deepEqual(
    sources.map(({ committed }) => committed),
    [1, 0],
  );
  assert.deepEqual(pollAll(fanIn), ["b1", "a2"]);
});

test("a source that is removed leaves with its position: nothing that it still has is taken", () => {
  const { fanIn, sources } = openWith(2);
  const [a, b] = sources;
  a?.append(1n, 3n);
  b?.append(2n, 4n);
  pollAll(fanIn, 1);
  assert.equal(fanIn.remove("a"), true);
  assert.equal(fanIn.remove("a"), false);
  assert.deepEqual(fanIn.names, ["b"]);
  fanIn.commit();
  assert.deepEqual([a?.taken, a?.committed], [1, 0]);
  assert.deepEqual(pollAll(fanIn), ["b1", "b2"]);
  // Back again, behind the other: its next message is the one that was looked at.
  assert.ok(a);
  fanIn.add(a, "a");
  b?.append(5n);
  a.append(5n);
  assert.deepEqual(pollAll(fanIn), ["a2", "b3", "a3"]);
  assert.equal(fanIn.late, 1);
  fanIn.commit();
  assert.equal(a.committed, 3);
});

test("a handler may add and remove sources, its own one and others, and close", () => {
  const { fanIn, sources } = openWith(3);
  const [a, b, c] = sources;
  const added = new MemorySource();
  a?.append(1n, 11n);
  b?.append(2n, 12n);
  c?.append(3n, 13n);
  added.append(4n, 14n);
  const delivered: string[] = [];
  fanIn.poll((source) => {
    delivered.push(`${source}${fanIn.envelope.sequence}`);
    // Its own one: what it was given counts as taken. Those behind it move up.
    if (delivered.length === 1) fanIn.remove("a");
    if (delivered.length === 2) fanIn.add(added, "d");
    if (delivered.length === 3) fanIn.remove("b");
  }, 100);
  assert.deepEqual(delivered, ["a1", "b1", "c1", "d1", "c2", "d2"]);
  assert.deepEqual(
    [a, b, c, added].map((source) => source?.taken),
    [1, 1, 2, 2],
  );
  c?.append(20n, 21n);
  assert.equal(
    fanIn.poll(() => fanIn.close(), 100),
    1,
  );
  assert.equal(c?.taken, 3);
  assert.throws(
    () => pollAll(fanIn),
    (error) => isGaplessError(error, "CLOSED"),
  );
});

test("a handler may remove its own source and add it anew", () => {
  const { fanIn, sources } = openWith(2);
  const [a, b] = sources;
  a?.append(1n, 3n);
  b?.append(3n);
  const delivered: string[] = [];
  fanIn.poll((source) => {
    delivered.push(`${source}${fanIn.envelope.sequence}`);
    if (delivered.length > 1 || a === undefined) return;
    fanIn.remove("a");
    fanIn.add(a, "a");
  }, 100);
  // Now it is the last one: of equal times b comes first.
  assert.deepEqual(delivered, ["a1", "b1", "a2"]);
});

test("a handler that polls its own fan-in is told of its mistake", () => {
  const { fanIn, sources } = openWith(1);
  sources[0]?.append(1n);
  assert.throws(() => fanIn.poll(() => pollAll(fanIn), 1), { code: "INVALID_OPERATION" });
  assert.deepEqual(pollAll(fanIn), ["a1"]);
});

test("what is wrong with a source is told once everything before it was delivered, and again", () => {
  const { fanIn, sources } = openWith(3);
  const [a, b, c] = sources;
  assert.ok(b);
  const failure = new Error("record is damaged");
  a?.append(1n, 30n);
  b.append(2n, 20n);
  c?.append(3n);
  const delivered: string[] = [];
  const count = fanIn.poll((source) => {
    delivered.push(source);
    if (source === "b") b.failure = failure;
  }, 100);
  assert.equal(count, 2);
  assert.deepEqual(delivered, ["a", "b"]);
  for (let time = 0; time < 2; time++) {
    assert.throws(
      () => pollAll(fanIn),
      (error) => error === failure,
    );
  }
  fanIn.commit();
  assert.deepEqual([a?.committed, b.committed, c?.committed], [1, 1, 0]);
  b.failure = undefined;
  assert.deepEqual(pollAll(fanIn), ["c1", "b2", "a2"]);
  // Also where it goes wrong with one that is only looked at, in the middle of a long poll.
  a?.append(...Array.from({ length: 1000 }, () => 30n));
  assert.ok(
    fanIn.poll(() => {
      b.failure = failure;
    }, Infinity) > 0,
  );
  assert.throws(
    () => pollAll(fanIn),
    (error) => error === failure,
  );
  fanIn.remove("b");
  pollAll(fanIn);
  a?.append(40n);
  assert.deepEqual(pollAll(fanIn), ["a1003"]);
});

test("options, names and sources that cannot be are refused", () => {
  for (const watermarkMs of [-1, NaN, Infinity, -Infinity]) {
    assert.throws(
      () => openFanIn({ watermarkMs }),
      (error) =>
        isGaplessError(error, "CONFIG_INVALID") && error.message.includes(`${watermarkMs}`),
    );
  }
  const { fanIn, sources } = openWith(1);
  const [a] = sources;
  assert.ok(a);
  assert.throws(
    () => fanIn.add(new MemorySource(), "a"),
    (error) => isGaplessError(error, "CONFIG_INVALID") && /source a already/.test(error.message),
  );
  assert.throws(
    () => fanIn.add(a, "b"),
    (error) => isGaplessError(error, "CONFIG_INVALID") && /a and b .* are one/.test(error.message),
  );
  assert.deepEqual(fanIn.names, ["a"]);
});

test("batches come as long as there is something, are copies, and commit when they are asked to", async () => {
  const { fanIn, sources } = openWith(2);
  const [a, b] = sources;
  a?.append(...Array.from({ length: 300 }, (_, index) => BigInt(2 * index)));
  b?.append(...Array.from({ length: 300 }, (_, index) => BigInt(2 * index + 1)));
  const kept: { source: string; sequence: number; payload: Uint8Array; timestampNs: bigint }[] = [];
  for await (const batch of fanIn) {
    kept.push(...batch);
    fanIn.commit();
    assert.equal((a?.committed ?? 0) + (b?.committed ?? 0), kept.length);
    // The next one comes while the loop waits for it.
    if (kept.length === 600) setTimeout(() => b?.append(1000n), 5);
    if (kept.length > 600) break;
  }
  assert.equal(kept.length, 601);
  for (const [index, { source, sequence, payload, timestampNs }] of kept.slice(0, 600).entries()) {
    assert.equal(source, nameOf(index % 2));
    assert.equal(sequence, (index >> 1) + 1);
    assert.equal(timestampNs, BigInt(index));
    assert.equal(Buffer.from(payload).readUInt32LE(), sequence);
  }
});

test("batches end with the signal, and with the fan-in", async () => {
  const { fanIn } = openWith(2);
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 5);
  for await (const batch of fanIn.batches(abort.signal)) assert.fail(`${batch.length} messages`);
  setTimeout(() => fanIn.close(), 5);
  await assert.rejects(
    async () => {
      for await (const batch of fanIn) assert.fail(`${batch.length} messages`);
    },
    (error) => isGaplessError(error, "CLOSED"),
  );
});

test("a wait ends with a message of any source, and there is none where there is a message", async () => {
  const { fanIn, sources } = openWith(40);
  await expectSoon(async (time) => {
    let isAwake = false;
    const waiting = fanIn.wait(foreverMs).then(() => void (isAwake = true));
    for (let turn = 0; turn < 100; turn++) await nextTurn();
    await fs.promises.stat(import.meta.filename);
    assert.equal(isAwake, false);
    assert.ok(sources.every(({ hasSleeper }) => hasSleeper));
    sources[(39 * (time + 1)) % 40]?.append(1n);
    await waiting;
    await fanIn.wait(foreverMs);
    fanIn.waitBlocking(foreverMs);
    assert.equal(pollAll(fanIn).length, 1);
  });
});

test("more sources than the kernel takes at once are waited for all the same", async () => {
  const { fanIn, sources } = openWith(300);
  await expectSoon(async () => {
    const waiting = fanIn.wait(foreverMs);
    await pause(5);
    sources[299]?.append(1n);
    await waiting;
    assert.equal(pollAll(fanIn).length, 1);
  });
});

test("a source that is added during a wait is waited for as well", async () => {
  const fanIn = openFanIn();
  await expectSoon(async (time) => {
    const waiting = fanIn.wait(foreverMs);
    await nextTurn();
    const source = new MemorySource();
    fanIn.add(source, nameOf(time));
    while (!source.hasSleeper) await nextTurn();
    source.append(1n);
    await waiting;
    assert.deepEqual(pollAll(fanIn), [`${nameOf(time)}1`]);
  });
});

test("a wait ends with its time, its signal and its fan-in, and not before", async () => {
  const { fanIn } = openWith(2);
  for (const timeoutMs of [0, 0.5, 20, 300]) {
    const before = performance.now();
    await fanIn.wait(timeoutMs);
    fanIn.waitBlocking(timeoutMs);
    assert.ok(performance.now() - before >= 2 * timeoutMs - 1);
  }
  await fanIn.wait(foreverMs, AbortSignal.abort());
  await expectSoon(async () => {
    const abort = new AbortController();
    const waiting = fanIn.wait(foreverMs, abort.signal);
    await nextTurn();
    abort.abort();
    await waiting;
  });
  await expectSoon(async () => {
    const closing = openFanIn();
    const waiting = closing.wait(foreverMs);
    await nextTurn();
    closing.close();
    await waiting;
  });
  fanIn.close();
  fanIn.close();
  await assert.rejects(fanIn.wait(0), (error) => isGaplessError(error, "CLOSED"));
  assert.throws(
    () => fanIn.waitBlocking(0),
    (error) => isGaplessError(error, "CLOSED"),
  );
});

test("what is wrong with a source ends a wait", async () => {
  const { fanIn, sources } = openWith(2);
  const [a] = sources;
  assert.ok(a);
  a.failure = new Error("record is damaged");
  await fanIn.wait(foreverMs);
  fanIn.waitBlocking(foreverMs);
  assert.throws(() => pollAll(fanIn), a.failure);
});

test("a wait ends when what is held may go, and not before", async () => {
  const watermarkMs = 40;
  const { fanIn, sources } = openWith(2, { watermarkMs });
  const agesMs: number[] = [];
  for (let time = 0; time < 6; time++) {
    const writtenMs = Date.now();
    sources[0]?.append(BigInt(writtenMs) * 1_000_000n);
    if (time % 2 === 0) await fanIn.wait(foreverMs);
    else fanIn.waitBlocking(foreverMs);
    agesMs.push(Date.now() - writtenMs);
    assert.deepEqual(pollAll(fanIn), [`a${time + 1}`]);
  }
  // The system's clock and that of the fan-in differ by a fraction of a millisecond.
  assert.ok(Math.min(...agesMs) >= watermarkMs - 1, `${agesMs.join()} ms`);
  // Without knowing for how long it is held, one would look every 250 ms.
  assert.ok(Math.min(...agesMs) < 200, `${agesMs.join()} ms`);
});
