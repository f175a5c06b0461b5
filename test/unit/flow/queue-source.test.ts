/** A queue as the source of a flow: nothing is left out, and what was acknowledged stays behind. */
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import { openPublisher, openSubscriber, type QueueMessage } from "gapless/queue";
import { openJournal } from "../../../src/flow/journal.ts";
import { pump } from "../../../src/flow/pump.ts";
import { queueSource } from "../../../src/flow/queue-source.ts";
import type { Batch, Message } from "../../../src/message.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";
import { countedStream, makeStream, MemorySink } from "./doubles.ts";

const silenceMs = { first: 5, most: 20 };

/** Pumps until the sink has come so far. */
async function pumpTo(
  directory: string,
  sink: MemorySink,
  lastId: bigint,
  batchMax = 7,
): Promise<void> {
  await using subscriber = openSubscriber(directory, "ledger");
  const stop = new AbortController();
  await pump({
    source: queueSource(subscriber, { batchMax, silenceMs }),
    sink,
    signal: stop.signal,
    onProgress: (position) => {
      if (position >= lastId) stop.abort();
    },
  });
}

test("a journal goes into the sink, each run behind what the one before has acknowledged", async (t) => {
  const directory = path.join(makeFastDirectory(t), "journal");
  await using journal = await openJournal({ directory });
  const stream = makeStream(Array.from({ length: 100 }, (_, index) => 1 + (index % 3)));
  journal.append(stream.slice(0, 40));
  const sink = new MemorySink();
  await pumpTo(directory, sink, stream[39]?.id ?? 0n);
  {
    await using subscriber = openSubscriber(directory, "ledger");
    assert.deepEqual([subscriber.committed, subscriber.position], [40, 41]);
  }
  journal.append(stream.slice(40));
  await pumpTo(directory, sink, stream[99]?.id ?? 0n);
  assert.deepEqual(sink.rows, stream);
  await using subscriber = openSubscriber(directory, "ledger");
  assert.equal(subscriber.committed, 100);
});

test("G7: options that would never deliver anything are refused", async (t) => {
  const directory = path.join(makeFastDirectory(t), "journal");
  await using _journal = await openJournal({ directory });
  await using subscriber = openSubscriber(directory, "ledger");
  for (const options of [{ batchMax: 0 }, { batchMax: 1.5 }, { decode: "json" }, { batch: 5 }]) {
    const message = new RegExp(Object.keys(options)[0] ?? "");
    const expected = { code: "CONFIG_INVALID", message };
    assert.throws(() => queueSource(subscriber, options as never), expected);
  }
});

test("what was not acknowledged comes again, to this source and to the next one", async (t) => {
  const directory = path.join(makeFastDirectory(t), "journal");
  await using journal = await openJournal({ directory });
  const stream = countedStream(30);
  journal.append(stream);
  {
    await using subscriber = openSubscriber(directory, "ledger", { start: "earliest" });
    const source = queueSource(subscriber, { batchMax: 10, silenceMs });
    const signal = new AbortController().signal;
    const take = async (count: number): Promise<Batch[]> => {
      const batches: Batch[] = [];
      for await (const _ of source.pending()) assert.fail("it delivers live");
      for await (const batch of source.live(signal)) {
        if (batch !== null) batches.push(batch);
        if (batches.length === count) break;
      }
      return batches;
    };
    assert.deepEqual((await take(2)).flat(), stream.slice(0, 20));
    // A part of what was delivered.
    await source.acknowledge(5n);
    assert.equal(subscriber.committed, 5);
    assert.deepEqual((await take(1)).flat(), stream.slice(5, 15));
    await source.acknowledge(15n);
  }
  const sink = new MemorySink(stream.slice(0, 15));
  await pumpTo(directory, sink, 30n);
  assert.deepEqual(sink.rows, stream);
});

test("a silence is told, and an abort ends it", async (t) => {
  const directory = path.join(makeFastDirectory(t), "journal");
  await using journal = await openJournal({ directory });
  await using subscriber = openSubscriber(directory, "ledger", { start: "earliest" });
  const stop = new AbortController();
  const items: (Batch | null)[] = [];
  for await (const item of queueSource(subscriber, { silenceMs }).live(stop.signal)) {
    items.push(item);
    if (items.length === 2) journal.append(countedStream(3));
    if (item !== null) stop.abort();
  }
  assert.deepEqual(items.slice(0, 2), [null, null]);
  assert.deepEqual(items.at(-1), countedStream(3));
});

test("G1: a record that is no message ends the stream behind all before it, each time", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  const publisher = openPublisher(directory, { segmentBytes: 65_536, preallocate: false });
  for (let number = 1; number <= 9; number++) {
    publisher.append(1, Buffer.from(number === 6 ? "six" : String(number)), 0n);
  }
  await publisher.close();
  const decode = ({ sequence, payload, timestampNs }: QueueMessage): Message => {
    const id = BigInt(Buffer.from(payload).toString());
    assert.equal(id, BigInt(sequence));
    return { id, prevId: id - 1n, timestampNs, bytes: payload };
  };
  const sink = new MemorySink();
  for (let time = 0; time < 2; time++) {
    await using subscriber = openSubscriber(directory, "ledger", { start: "earliest" });
    const source = queueSource(subscriber, { decode, silenceMs });
    for (let attempt = 0; attempt < 2; attempt++) {
      const signal = new AbortController().signal;
      await assert.rejects(pump({ source, sink, signal }), {
        code: "MESSAGE_MALFORMED",
        message: /sequence=6 of the queue in .* is no message for ledger: .*six/,
      });
    }
    assert.equal(await sink.position(), 5n);
    assert.equal(subscriber.committed, 5);
  }
});
