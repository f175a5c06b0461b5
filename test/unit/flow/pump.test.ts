import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import test from "node:test";
import fc from "fast-check";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { pump, type PumpOptions } from "../../../src/flow/pump.ts";
import type { Batch, Message } from "../../../src/message.ts";
import { stepChannelName } from "../../../src/steps.ts";
import {
  batchOf,
  countedStream,
  Crash,
  makeStream,
  MemoryArchive,
  MemorySink,
  MemorySource,
  type Moment,
} from "./doubles.ts";

const never = new AbortController().signal;

/** Runs the pump over what is given, with an empty sink and no archive where none is. */
async function run(
  items: readonly (Batch | null)[],
  options: Partial<PumpOptions> & { sink?: MemorySink } = {},
): Promise<{ source: MemorySource; sink: MemorySink; position: bigint }> {
  const source = new MemorySource(items);
  const sink = options.sink ?? new MemorySink();
  const position = await pump({ source, signal: never, retryDelayMs: 1, ...options, sink });
  return { source, sink, position };
}

function failsWith(code: ErrorCode, text: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(isGaplessError(error, code), String(error));
    assert.match(error.message, text);
    return true;
  };
}

test("a stream goes to the sink as it comes, batch by batch, and is acknowledged behind it", async () => {
  const stream = makeStream([1, 2, 1, 5, 1]);
  const progress: bigint[] = [];
  const { source, sink, position } = await run(
    [batchOf(stream.slice(0, 2)), batchOf(stream.slice(2))],
    { onProgress: (id) => progress.push(id) },
  );
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual(sink.batches, [
    [1n, 3n],
    [4n, 9n, 10n],
  ]);
  assert.deepEqual(source.acknowledged, [3n, 10n]);
  assert.deepEqual(progress, [3n, 10n]);
  assert.equal(position, 10n);
});

test("a batch is applied, then acknowledged, then reported: in this order", async () => {
  const stream = countedStream(4);
  const events: string[] = [];
  const moment: Moment = (what) => events.push(what);
  const onStep = (step: unknown): void => void events.push(String(step));
  subscribe(stepChannelName, onStep);
  try {
    const source = new MemorySource(
      [batchOf(stream.slice(0, 1)), batchOf(stream.slice(3))],
      moment,
    );
    const sink = new MemorySink([], moment);
    const archives = [new MemoryArchive(stream, moment)];
    const onProgress = (): void => void events.push("progress");
    await pump({ source, sink, archives, signal: never, onProgress });
  } finally {
    unsubscribe(stepChannelName, onStep);
  }
  const commit = [
    "before apply",
    "after apply",
    "flow.applied",
    "before acknowledge",
    "after acknowledge",
    "flow.acknowledged",
    "progress",
  ];
  assert.deepEqual(events, [
    "position",
    "live",
    ...commit,
    "live",
    "read",
    ...commit,
    ...commit,
    "bounds",
  ]);
});

test("a gap is told once, before any archive is asked for it", async () => {
  const stream = countedStream(10);
  const archive = new MemoryArchive(stream);
  const told: [bigint, bigint, number][] = [];
  await run([batchOf(stream.slice(0, 2)), batchOf(stream.slice(8))], {
    archives: [archive],
    fillBatchMax: 2,
    onGap: (last, throughId) => told.push([last, throughId, archive.reads.length]),
  });
  assert.deepEqual(told, [[2n, 8n, 0]]);
  assert.equal(archive.reads.length, 3);
});

test("a sink that has come further gets what it lacks, and the rest is acknowledged all the same", async () => {
  const stream = countedStream(6);
  const sink = new MemorySink(stream.slice(0, 4));
  const { source } = await run(
    [
      batchOf(stream.slice(0, 2)),
      batchOf(stream.slice(1, 4)),
      batchOf(stream.slice(2, 5)),
      batchOf(stream),
    ],
    { sink },
  );
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual(sink.batches, [[5n], [6n]]);
  assert.ok(source.isSettled);
  assert.deepEqual(source.acknowledged, [4n, 4n, 5n, 6n]);
});

test("a batch of duplicates that goes backwards is acknowledged as a whole", async () => {
  const stream = countedStream(6);
  const [one, two, three] = [stream.slice(0, 1), stream.slice(1, 2), stream.slice(2, 3)];
  const sink = new MemorySink(stream);
  const { source } = await run([batchOf([...three, ...two, ...one])], { sink });
  assert.ok(source.isSettled);
});

test("what was delivered before a restart comes before what is new", async () => {
  const stream = countedStream(4);
  let left = 2;
  const source = new MemorySource(
    stream.map((message) => [message]),
    (what) => {
      if (what === "before acknowledge" && left-- === 0) throw new Crash();
    },
  );
  const sink = new MemorySink();
  await assert.rejects(pump({ source, sink, signal: never }), Crash);
  assert.equal(sink.lastId, 3n);
  await pump({ source, sink, signal: never });
  assert.deepEqual(sink.rows, stream);
  assert.ok(source.isSettled);
});

test("a gap is filled from the first archive that has it, in parts, and counted once", async () => {
  const stream = makeStream([1, 1, 2, 1, 3, 1, 1]);
  const first = new MemoryArchive(stream);
  first.trimmedThrough = stream[2]?.id ?? 0n;
  const second = new MemoryArchive(stream);
  const third = new MemoryArchive(stream);
  const { sink } = await run([batchOf(stream.slice(0, 1)), batchOf(stream.slice(6))], {
    archives: [first, second, third],
    fillBatchMax: 2,
  });
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual(sink.batches, [[1n], [2n, 4n], [5n, 8n], [9n], [10n]]);
  assert.deepEqual(sink.repairs, [
    { gaps: 0, messages: 0 },
    { gaps: 0, messages: 2 },
    { gaps: 0, messages: 2 },
    { gaps: 1, messages: 1 },
    { gaps: 0, messages: 0 },
  ]);
  assert.deepEqual(first.reads, [2n, 5n, 9n]);
  assert.deepEqual(second.reads, [2n]);
  assert.deepEqual(third.reads, []);
});

test("an archive that does not answer, or has it not yet, is asked again until it has", async () => {
  const stream = countedStream(9);
  for (const code of ["PEER_UNAVAILABLE", "DATA_NOT_YET_AVAILABLE"] as const) {
    for (const isFirst of [true, false]) {
      const archive = new MemoryArchive(stream);
      archive.failures = new Array<ErrorCode>(7).fill(code);
      const trimmed = new MemoryArchive(stream);
      trimmed.trimmedThrough = 9n;
      const archives = isFirst ? [archive, trimmed] : [trimmed, archive];
      const { sink } = await run([batchOf(stream.slice(8))], { archives });
      assert.deepEqual(sink.rows, stream);
      assert.equal(archive.reads.length, 8);
    }
  }
});

test("a gap is filled from the second archive at once where the first does not answer", async () => {
  const stream = countedStream(9);
  const first = new MemoryArchive(stream);
  first.failures = ["PEER_UNAVAILABLE"];
  const second = new MemoryArchive(stream);
  const { sink } = await run([batchOf(stream.slice(8))], { archives: [first, second] });
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual([first.reads.length, second.reads.length], [1, 1]);
});

test("a gap that every archive has trimmed stops the pump before what comes behind it", async () => {
  const stream = countedStream(9);
  const archives = [new MemoryArchive(stream), new MemoryArchive(stream)];
  for (const archive of archives) archive.trimmedThrough = 4n;
  const sink = new MemorySink();
  const items = [batchOf(stream.slice(0, 2)), batchOf(stream.slice(6))];
  await assert.rejects(run(items, { sink, archives }), (error) => {
    failsWith("GAP_NOT_FILLED", /\(2, 6\].*trimmed, as asked/)(error);
    assert.ok(isGaplessError(error) && isGaplessError(error.cause, "DATA_TRIMMED"));
    assert.equal(error.advice, "stop");
    return true;
  });
  assert.deepEqual(sink.rows, stream.slice(0, 2));
  await assert.rejects(
    run(items, { sink: new MemorySink() }),
    failsWith("GAP_NOT_FILLED", /\(2, 6\].*no archive is configured/),
  );
});

test("what an archive throws that is no answer of an archive goes to the caller", async () => {
  const stream = countedStream(3);
  const broken = new MemoryArchive(stream, () => {
    throw new TypeError("a bug");
  });
  await assert.rejects(
    run([batchOf(stream.slice(2))], { archives: [broken, new MemoryArchive(stream)] }),
    TypeError,
  );
});

test("an archive with a hole, or with another stream, is not believed", async () => {
  const stream = countedStream(8);
  const live = [batchOf(stream.slice(7))];
  const withHole = new MemoryArchive([...stream.slice(0, 3), ...stream.slice(4)]);
  await assert.rejects(
    run(live, { archives: [withHole] }),
    failsWith("CHAIN_BROKEN", /last=3, id=5, prevId=4/),
  );
  const past = new MemoryArchive(stream.slice(7));
  await assert.rejects(
    run(live, { archives: [past] }),
    failsWith("GAP_NOT_FILLED", /\(0, 7\].*answered past it/),
  );
});

test("a broken chain stops the pump with both ids; what came before is applied and acknowledged", async () => {
  const stream = countedStream(5);
  const stranger: Message = { id: 9n, prevId: 2n, timestampNs: 0n, bytes: new Uint8Array(0) };
  const sink = new MemorySink();
  const source = new MemorySource([batchOf(stream.slice(0, 3)), [stranger]]);
  await assert.rejects(
    pump({ source, sink, signal: never, archives: [new MemoryArchive(stream)] }),
    failsWith("CHAIN_BROKEN", /last=3, id=9, prevId=2/),
  );
  assert.deepEqual(sink.rows, stream.slice(0, 3));
  assert.deepEqual(source.acknowledged, [3n]);
  await assert.rejects(
    run([[{ ...stranger, prevId: 9n }]]),
    failsWith("CHAIN_BROKEN", /last=0, id=9, prevId=9/),
  );
});

test("what the sink throws goes to the caller, and nothing is acknowledged", async () => {
  const stream = countedStream(2);
  const source = new MemorySource([batchOf(stream)]);
  const sink = new MemorySink([], (what) => {
    if (what === "before apply") throw new RangeError("disk on fire");
  });
  await assert.rejects(pump({ source, sink, signal: never }), RangeError);
  assert.deepEqual(source.acknowledged, []);
});

test("what an archive has since the last silence, and nobody delivered, is fetched in the next", async () => {
  const stream = countedStream(7);
  const archive = new MemoryArchive(stream.slice(0, 4));
  const other = new MemoryArchive(stream.slice(0, 3));
  const empty = new MemoryArchive([]);
  const { sink } = await run(
    [
      batchOf(stream.slice(0, 2)),
      null,
      batchOf(stream.slice(2, 3)),
      null,
      null,
      batchOf(stream.slice(1)),
    ],
    { archives: [empty, archive, other] },
  );
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual(sink.batches, [[1n, 2n], [3n], [4n], [5n, 6n, 7n]]);
  assert.deepEqual(sink.repairs[2], { gaps: 1, messages: 1 });
});

test("what comes between two silences is not fetched", async () => {
  const stream = countedStream(4);
  const archive = new MemoryArchive(stream);
  const { sink } = await run([null, batchOf(stream.slice(0, 4)), null], { archives: [archive] });
  assert.deepEqual(sink.batches, [[1n, 2n, 3n, 4n]]);
  assert.deepEqual(archive.reads, []);
});

test("an archive that does not answer in a silence is asked in the next one", async () => {
  const stream = countedStream(3);
  const archive = new MemoryArchive(stream);
  archive.failures = ["PEER_UNAVAILABLE", "PEER_UNAVAILABLE"];
  const asked: number[] = [];
  const { sink } = await run([null, null, null, null, batchOf(stream.slice(0, 1))], {
    archives: [archive],
    onProgress: () => asked.push(archive.boundsAsked),
  });
  assert.deepEqual(sink.rows, stream);
  assert.deepEqual(asked, [4]);
});

test("at the end of the stream the archives are asked for the rest, and waited for", async () => {
  const stream = countedStream(8);
  const first = new MemoryArchive(stream.slice(0, 6));
  const second = new MemoryArchive(stream);
  second.failures = new Array<ErrorCode>(5).fill("PEER_UNAVAILABLE");
  const { sink, position } = await run([batchOf(stream.slice(0, 2))], {
    archives: [first, second],
  });
  assert.deepEqual(sink.rows, stream);
  assert.equal(position, 8n);
});

test("an abort ends the waiting for an archive, in a gap and at the end of the stream", async () => {
  const stream = countedStream(4);
  for (const items of [[batchOf(stream.slice(3))], []]) {
    const archive = new MemoryArchive(stream);
    archive.failures = new Array<ErrorCode>(100_000).fill("PEER_UNAVAILABLE");
    const abort = new AbortController();
    const sink = new MemorySink(stream.slice(0, 1));
    const pumping = run(items, { sink, archives: [archive], signal: abort.signal });
    setTimeout(() => abort.abort(), 5);
    assert.equal((await pumping).position, 1n);
    assert.equal(sink.batches.length, 0);
  }
});

test("an abort ends the pump behind the batch under way, acknowledged", async () => {
  const stream = countedStream(4);
  const abort = new AbortController();
  const { source, sink } = await run(
    stream.map((message) => [message]),
    { signal: abort.signal, onProgress: (id) => id === 2n && abort.abort() },
  );
  assert.deepEqual(sink.rows, stream.slice(0, 2));
  assert.deepEqual(source.acknowledged, [1n, 2n]);
});

/** Kinds of trouble that a stream may have on its way to the source. */
const troubled = fc
  .record({
    steps: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 25 }),
    /** Which messages the source never sees. */
    lost: fc.infiniteStream(fc.boolean()),
    batchMax: fc.integer({ min: 1, max: 6 }),
    fillBatchMax: fc.integer({ min: 1, max: 4 }),
    /** Messages that are delivered once more, by how far back they begin. */
    repeats: fc.array(fc.nat(24), { maxLength: 3 }),
    silences: fc.array(fc.nat(24), { maxLength: 3 }),
    crashes: fc.array(fc.nat(120), { maxLength: 6 }),
    unavailable: fc.nat(3),
  })
  .map(({ steps, lost, batchMax, repeats, silences, ...rest }) => {
    const stream = makeStream(steps);
    const seen = stream.filter(() => lost.next().value);
    for (const back of repeats) {
      const from = back % (seen.length + 1);
      seen.push(...seen.slice(from, from + 5));
    }
    // A producer repeats what it has sent, it does not go back in the middle of it.
    seen.sort((left, right) => Number(left.id - right.id));
    const items: (Batch | null)[] = [];
    for (let start = 0; start < seen.length; start += batchMax) {
      items.push(batchOf(seen.slice(start, start + batchMax)));
    }
    for (const place of silences) items.splice(place % (items.length + 1), 0, null);
    return { stream, items, ...rest };
  });

test("G5: whatever is lost, repeated or crashes, the sink's rows are the stream, exactly once", async () => {
  await fc.assert(
    fc.asyncProperty(troubled, async ({ stream, items, fillBatchMax, crashes, unavailable }) => {
      const left = [...crashes];
      const sinkOf: { current?: MemorySink } = {};
      const moment: Moment = (what) => {
        if (what === "before acknowledge") assert.ok(sinkOf.current);
        const [next] = left;
        if (next === undefined) return;
        if (next > 0) left[0] = next - 1;
        else {
          left.shift();
          throw new Crash(what);
        }
      };
      const source = new MemorySource(items, moment);
      const sink = new MemorySink([], moment);
      sinkOf.current = sink;
      const acknowledge = source.acknowledge.bind(source);
      source.acknowledge = async (throughId) => {
        assert.ok(throughId <= sink.lastId, "acknowledged before it was committed");
        await acknowledge(throughId);
      };
      const archive = new MemoryArchive(stream, moment);
      archive.failures = new Array<ErrorCode>(unavailable).fill("PEER_UNAVAILABLE");
      for (;;) {
        try {
          await pump({
            source,
            sink,
            archives: [archive],
            signal: never,
            fillBatchMax,
            retryDelayMs: 0,
          });
          break;
        } catch (error) {
          assert.ok(error instanceof Crash, String(error));
        }
      }
      assert.deepEqual(sink.rows, stream);
      assert.ok(source.isSettled);
    }),
    { numRuns: 400 },
  );
});

test("G5: a crash at any one moment of a run with a gap, duplicates and a lost end is repaired", async () => {
  const stream = makeStream([1, 1, 2, 1, 1, 3, 1, 1, 1]);
  const items = [
    batchOf(stream.slice(0, 2)),
    batchOf([...stream.slice(1, 2), ...stream.slice(4, 6)]),
    null,
    null,
    batchOf(stream.slice(5, 7)),
  ];
  for (let stop = 0; ; stop++) {
    let left = stop;
    const moment: Moment = (what) => {
      if (left-- === 0) throw new Crash(what);
    };
    const source = new MemorySource(items, moment);
    const sink = new MemorySink([], moment);
    const archives = [new MemoryArchive(stream, moment)];
    const options = { source, sink, archives, signal: never, fillBatchMax: 2 };
    const crashed = await pump(options).then(
      () => false,
      (error: unknown) => error instanceof Crash,
    );
    if (crashed) await pump(options);
    assert.deepEqual(sink.rows, stream, `crash ${stop}`);
    assert.ok(source.isSettled);
    if (crashed) continue;
    assert.ok(stop > 25);
    break;
  }
});
