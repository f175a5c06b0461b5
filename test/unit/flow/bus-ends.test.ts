/** A flow over a channel of the bus, and what it makes of a channel's troubles. */
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import test from "node:test";
import fc from "fast-check";
import type { Bus, Publisher, Subscriber } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";
import { busSource, publishMessages } from "../../../src/flow/bus-ends.ts";
import { pump } from "../../../src/flow/pump.ts";
import { consumerOffset, producerOffset, sleepWord, tailWord } from "../../../src/bus/layout.ts";
import { encodedBytes, packMessages, unpackMessages, type Message } from "../../../src/message.ts";
import { stepChannelName } from "../../../src/steps.ts";
import {
  channelName,
  makeDirectory,
  openAs,
  openFile,
  until,
  type Settings,
} from "../../support/bus-channel.ts";
import { countedStream, makeStream, MemoryArchive, MemorySink } from "./doubles.ts";

const never = new AbortController().signal;
const settings: Settings = { failedConsumer: "evict", keys: { consumer_timeout_ms: 250 } };
/** Soon enough for a test, and late enough not to be taken for silence while it works. */
const silenceMs = { first: 5, most: 20 };

interface Ends {
  readonly engine: Bus;
  readonly ledger: Bus;
  readonly publisher: Publisher;
  readonly subscriber: Subscriber;
}

function openEnds(directory: string): Ends {
  const engine = openAs(directory, "engine", settings);
  const ledger = openAs(directory, "ledger", settings);
  const publisher = engine.publisher(channelName);
  return { engine, ledger, publisher, subscriber: ledger.subscriber(channelName) };
}

function withBytes(stream: readonly Message[], size: (index: number) => number): Message[] {
  return stream.map((message, index) => ({
    ...message,
    bytes: new Uint8Array(size(index)).fill(Number(message.id & 0xffn)),
  }));
}

function lastIdIn(publisher: Publisher): bigint | undefined {
  const newest = publisher.last();
  return newest === undefined ? undefined : unpackMessages(newest)[0]?.id;
}

test("what is published goes through the channel to the sink, whatever the sizes", async (t) => {
  const root = makeDirectory(t);
  const sizes = fc.array(fc.oneof(fc.nat(60), fc.nat(496 - 32)), { maxLength: 200 });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1, max: 50 }), async (list, batchMax) => {
      const { engine, ledger, publisher, subscriber } = openEnds(`${root}/${run++}`);
      const stream = withBytes(countedStream(list.length), (index) => list[index] ?? 0);
      const sink = new MemorySink();
      const source = busSource(subscriber, { batchMax, silenceMs });
      const pumping = pump({ source, sink, signal: never });
      await publishMessages(publisher, stream, never);
      publisher.finish();
      assert.equal(await pumping, BigInt(list.length));
      assert.deepEqual(sink.rows, stream);
      assert.ok(sink.batches.every(({ length }) => length <= batchMax));
      engine.close();
      ledger.close();
    }),
    { numRuns: 60 },
  );
});

test("what was not acknowledged comes again, what was does not, and a part of a batch is not", async (t) => {
  const directory = makeDirectory(t);
  const stream = makeStream([1, 3, 1, 1, 2]);
  const { ledger, publisher, subscriber } = openEnds(directory);
  await publishMessages(publisher, stream, never);

  const idsOfNext = async (from: Subscriber, throughId?: bigint): Promise<bigint[]> => {
    const source = busSource(from, { batchMax: 3, silenceMs });
    for await (const batch of source.live(never)) {
      assert.ok(batch);
      if (throughId !== undefined) await source.acknowledge(throughId);
      from.close();
      return batch.map(({ id }) => id);
    }
    return assert.fail("the stream ended");
  };
  assert.deepEqual(await idsOfNext(subscriber), [1n, 4n, 5n]);
  assert.deepEqual(await idsOfNext(ledger.subscriber(channelName), 4n), [1n, 4n, 5n]);
  assert.deepEqual(await idsOfNext(ledger.subscriber(channelName), 5n), [1n, 4n, 5n]);
  assert.deepEqual(await idsOfNext(ledger.subscriber(channelName), 9n), [6n, 8n]);
});

test("a ring full of repeated messages that go backwards is emptied all the same", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const stream = withBytes(countedStream(9), () => 400);
  const sink = new MemorySink(stream.slice(0, 8));
  const source = busSource(subscriber, { silenceMs });
  const pumping = pump({ source, sink, signal: never });
  for (let round = 0; round < 5; round++) {
    await publishMessages(publisher, stream.slice(0, 8).reverse(), never);
  }
  await publishMessages(publisher, stream.slice(8), never);
  publisher.finish();
  await pumping;
  assert.deepEqual(sink.rows, stream);
});

test("a batch is not released for an id that it reaches past, in whatever order it comes", async (t) => {
  const directory = makeDirectory(t);
  const { publisher, subscriber } = openEnds(directory);
  const stream = countedStream(9);
  const pick = (...ids: number[]): Message[] => ids.map((id) => stream[id - 1] ?? assert.fail());
  await publishMessages(publisher, pick(6, 9, 5), never);
  const source = busSource(subscriber, { silenceMs });
  const file = openFile(directory, settings);
  const [{ words }] = file.lanes;
  const position = file.lanes[0].consumer(0) + consumerOffset.position;
  const released = (): boolean => words[position] === words[tailWord.tail];
  const batches = source.live(never)[Symbol.asyncIterator]();
  const next = async (): Promise<bigint[]> => {
    const { value } = (await batches.next()) as { value: readonly Message[] };
    return value.map(({ id }) => id);
  };
  assert.deepEqual(await next(), [6n, 9n, 5n]);
  await source.acknowledge(6n);
  assert.equal(released(), false);
  await source.acknowledge(9n);
  assert.ok(released());
  // What is repeated later is another batch, and goes by its own ids.
  await publishMessages(publisher, pick(2), never);
  assert.deepEqual(await next(), [2n]);
  assert.equal(released(), false);
  await source.acknowledge(2n);
  assert.ok(released());
  file.unmap();
});

test("silence is told, again and again, until the stream goes on, ends or is aborted", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const [message] = countedStream(1);
  assert.ok(message);
  const abort = new AbortController();
  let silences = 0;
  let batches = 0;
  const source = busSource(subscriber, { silenceMs: { first: 1, most: 2 } });
  for await (const batch of source.live(abort.signal)) {
    if (batch === null) silences++;
    else batches++;
    if (silences === 3 && batches === 0) await publishMessages(publisher, [message], never);
    if (silences === 5) abort.abort();
  }
  assert.deepEqual({ silences, batches }, { silences: 5, batches: 1 });
  publisher.finish();
  for await (const _batch of source.live(never)) assert.fail("something came after the end");
});

test("a source that waits is ended by an abort, and a publication that waits fails with its reason", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const abort = new AbortController();
  const reason = new Error("enough");
  const longest = { first: 300_000, most: 300_000 };
  const source = busSource(subscriber, { silenceMs: longest });
  const listening = source.live(abort.signal)[Symbol.asyncIterator]().next();
  const stream = withBytes(countedStream(30), () => 400);
  setTimeout(() => abort.abort(reason), 5);
  assert.equal((await listening).done, true);

  const again = new AbortController();
  setTimeout(() => again.abort(reason), 5);
  await assert.rejects(publishMessages(publisher, stream, again.signal), reason);
  // What it had claimed before it waited is published: the next one goes on behind it.
  const published = lastIdIn(publisher) ?? 0n;
  assert.ok(published > 0n);
  const sink = new MemorySink();
  const pumping = pump({ source: busSource(subscriber), sink, signal: never });
  await publishMessages(publisher, stream.slice(Number(published)), never);
  publisher.finish();
  await pumping;
  assert.deepEqual(sink.rows, stream);
});

test("a message that is too large publishes nothing of what was claimed before it", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const stream = withBytes(countedStream(4), (index) => (index === 2 ? 500 : 20));
  await assert.rejects(publishMessages(publisher, stream, never), (error) =>
    isGaplessError(error, "MESSAGE_TOO_LARGE"),
  );
  assert.equal(lastIdIn(publisher), undefined);
  await publishMessages(publisher, stream.slice(0, 2), never);
  const ids: bigint[] = [];
  subscriber.poll(({ bytes }, offset, length) => {
    ids.push(...unpackMessages(bytes.slice(offset, offset + length)).map(({ id }) => id));
  }, 10);
  assert.deepEqual(ids, [1n, 2n]);
});

test("each batch that is committed is a step, and a long list is several", async (t) => {
  const directory = makeDirectory(t);
  const large: Settings = { ...settings, bufferSize: "1MB" };
  using engine = openAs(directory, "engine", large);
  const publisher = engine.publisher(channelName);
  const stream = withBytes(countedStream(100), () => 400);
  const total = stream.reduce((sum, message) => sum + encodedBytes(message), 0);
  let steps = 0;
  const onStep = (step: unknown): number => (step === "bus.committed" ? steps++ : 0);
  subscribe(stepChannelName, onStep);
  try {
    await publishMessages(publisher, stream, never);
    assert.ok(steps > 1 && steps <= Math.ceil(total / (16 * 1024)), String(steps));
    const before = steps;
    await publishMessages(publisher, [], never);
    assert.equal(steps, before);
  } finally {
    unsubscribe(stepChannelName, onStep);
  }
});

test("what is no packed message on a channel is an error that nothing goes past", async (t) => {
  const whole = packMessages(countedStream(1));
  for (const record of [new Uint8Array(0), whole.subarray(0, 20), new Uint8Array([...whole, 0])]) {
    const { engine, ledger, publisher, subscriber } = openEnds(makeDirectory(t));
    publisher.offer(record);
    await publishMessages(publisher, countedStream(2), never);
    const sink = new MemorySink();
    const source = busSource(subscriber, { batchMax: 1, silenceMs });
    await assert.rejects(pump({ source, sink, signal: never }), (error) =>
      isGaplessError(error, "MESSAGE_MALFORMED"),
    );
    assert.deepEqual(sink.rows, []);
    engine.close();
    ledger.close();
  }
});

test("messages packed into one record are as many messages", async (t) => {
  const { publisher, subscriber } = openEnds(makeDirectory(t));
  const stream = countedStream(7);
  publisher.offer(packMessages(stream.slice(0, 4)));
  publisher.offer(packMessages(stream.slice(4)));
  publisher.finish();
  const sink = new MemorySink();
  await pump({ source: busSource(subscriber), sink, signal: never });
  assert.deepEqual(sink.rows, stream);
});

test("G2: a consumer that was evicted gets what it missed from the archive, then the channel's", async (t) => {
  const directory = makeDirectory(t);
  const { ledger, publisher, subscriber } = openEnds(directory);
  const stream = withBytes(countedStream(60), () => 200);
  const sink = new MemorySink();
  const abort = new AbortController();
  const first = pump({
    source: busSource(subscriber, { batchMax: 2, silenceMs }),
    sink,
    signal: abort.signal,
    onProgress: (position) => position >= 4n && abort.abort(),
  });
  await publishMessages(publisher, stream.slice(0, 6), never);
  await first;
  // Nobody is at that end any more: the producer goes on without it.
  subscriber.close();
  await publishMessages(publisher, stream.slice(6, 40), never);

  const returned = ledger.subscriber(channelName);
  assert.ok(returned.hadFailed);
  const archive = new MemoryArchive(stream);
  const second = pump({
    source: busSource(returned, { silenceMs }),
    sink,
    archives: [archive],
    signal: never,
  });
  await publishMessages(publisher, stream.slice(40), never);
  publisher.finish();
  await second;
  assert.deepEqual(sink.rows, stream);
});

test("G5: a flow over a channel that is broken off anywhere leaves each message once", async (t) => {
  const root = makeDirectory(t);
  const stream = withBytes(countedStream(40), (index) => (index * 37) % 300);
  const stops = fc.array(fc.nat(60), { maxLength: 5 });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(stops, fc.integer({ min: 1, max: 9 }), async (list, batchMax) => {
      const { engine, ledger, publisher, subscriber } = openEnds(`${root}/${run++}`);
      const publishing = publishMessages(publisher, stream, never).then(() => publisher.finish());
      const left = [...list];
      const sink = new MemorySink([], () => {
        const [next] = left;
        if (next === undefined) return;
        left[0] = next - 1;
        if (next > 0) return;
        left.shift();
        throw new Error("broken off");
      });
      let end = subscriber;
      while (
        await pump({ source: busSource(end, { batchMax, silenceMs }), sink, signal: never }).then(
          () => false,
          () => true,
        )
      ) {
        end.close();
        end = ledger.subscriber(channelName);
        assert.equal(end.hadFailed, false);
      }
      await publishing;
      assert.deepEqual(sink.rows, stream);
      engine.close();
      ledger.close();
    }),
    { numRuns: 60 },
  );
});

test("a publication into a full channel goes on as soon as its consumer has", async (t) => {
  const directory = makeDirectory(t);
  const { publisher, subscriber } = openEnds(directory);
  const file = openFile(directory, settings);
  const [{ words }] = file.lanes;
  const finished = file.lanes[0].producer(0) + producerOffset.finished;
  const stream = withBytes(countedStream(50), () => 400);
  const publishing = publishMessages(publisher, stream, never).then(() => publisher.finish());
  const source = busSource(subscriber, { batchMax: 3, silenceMs });
  const ids: bigint[] = [];
  for await (const batch of source.live(never)) {
    if (batch === null) continue;
    ids.push(...batch.map(({ id }) => id));
    await until(
      "the producer sleeps or is done",
      () => words[sleepWord.producersAsleep] === 1 || words[finished] === 1,
    );
    await source.acknowledge(ids.at(-1) ?? 0n);
  }
  await publishing;
  assert.deepEqual(
    ids,
    stream.map(({ id }) => id),
  );
  file.unmap();
});
