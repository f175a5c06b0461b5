/** A partition of a real broker as a source; what it says is compared with what kafkajs sees. */
import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { packMessages, type Batch } from "../../src/message.ts";
import { pump } from "../../src/flow/flow.ts";
import type { KafkaSource } from "../../src/connect/kafka.ts";
import { startKafka } from "../support/kafka/broker.ts";
import { idsOf, messageOf, messagesOf, TestStream } from "../support/kafka/stream.ts";
import { withCode } from "../unit/connect/fixture.ts";
import { MemoryArchive, MemorySink } from "../unit/flow/doubles.ts";

const broker = await startKafka();
const skip = typeof broker === "string" ? broker : false;
after(() => (typeof broker === "string" ? undefined : broker[Symbol.asyncDispose]()));

async function makeStream(context: TestContext): Promise<TestStream> {
  assert.ok(typeof broker !== "string");
  return TestStream.create(context, broker);
}

/** Takes ids from a source until there are `count`. */
async function take(source: KafkaSource, count: number, acknowledge = true): Promise<bigint[]> {
  const ids: bigint[] = [];
  for await (const batch of source.live(AbortSignal.timeout(30_000))) {
    ids.push(...(batch ?? []).map(({ id }) => id));
    if (acknowledge && batch !== null) await source.acknowledge(batch.at(-1)?.id ?? 0n);
    if (ids.length >= count) return ids;
  }
  throw new Error(`only ${ids.length} of ${count} came`);
}

test(
  "what is committed is the offset behind the last acknowledged message",
  { skip },
  async (t) => {
    const stream = await makeStream(t);
    await stream.produce(10);
    const source = stream.source(t, { batchMax: 4 });
    const batches: (Batch | null)[] = [];
    const committed: number[] = [];
    for await (const batch of source.live(AbortSignal.timeout(30_000))) {
      if (batch === null) continue;
      batches.push(batch);
      committed.push(await stream.committed());
      // Of the second batch a part, of the third one nothing.
      if (batches.length === 1) await source.acknowledge(batch.at(-1)?.id ?? 0n);
      if (batches.length === 2) await source.acknowledge(batch[1]?.id ?? 0n);
      committed.push(await stream.committed());
      if (batches.length === 3) break;
    }
    const sizes = batches.map((batch) => batch?.length);
    assert.deepEqual(sizes, [4, 4, 2]);
    assert.deepEqual(batches.flat(), messagesOf(0, 10));
    assert.deepEqual(committed, [-1, 4, 4, 6, 6, 6]);
  },
);

test("what was delivered and not acknowledged comes again after a restart", { skip }, async (t) => {
  const stream = await makeStream(t);
  await stream.produce(6);
  const first = stream.source(t, { batchMax: 2 });
  assert.deepEqual(await take(first, 2), idsOf(2));
  // The same one that is iterated over again, then a new one.
  assert.deepEqual(await take(first, 4, false), idsOf(6).slice(2));
  assert.equal(await stream.committed(), 2);
  await first[Symbol.asyncDispose]();
  const second = stream.source(t);
  for await (const batch of second.pending()) assert.fail(`pending: ${batch.length}`);
  assert.deepEqual(await take(second, 4), idsOf(6).slice(2));
  assert.equal(await stream.committed(), 6);
});

test("a silence is told, then more seldom, and what comes ends it", { skip }, async (t) => {
  const stream = await makeStream(t);
  const source = stream.source(t);
  const told: string[] = [];
  const atMs: number[] = [];
  for await (const batch of source.live(AbortSignal.timeout(30_000))) {
    told.push(batch === null ? "silence" : batch.map(({ id }) => id).join(","));
    atMs.push(performance.now());
    if (told.length === 3) await stream.produce(1);
    if (told.length === 5) break;
  }
  assert.deepEqual(told, ["silence", "silence", "silence", "1", "silence"]);
  const [, second = 0, third = 0] = atMs.map((ms, index) => ms - (atMs[index - 1] ?? ms));
  assert.ok(second >= 199 && third >= 399, `${second}, ${third}`);
});

test("an abort ends a wait for messages at once, and normally", { skip }, async (t) => {
  const stream = await makeStream(t);
  const source = stream.source(t, { silenceMs: { first: 60_000, most: 60_000 } });
  const ending = new AbortController();
  const live = source.live(ending.signal)[Symbol.asyncIterator]().next();
  await pause(500);
  const beforeMs = performance.now();
  ending.abort();
  assert.deepEqual(await live, { value: undefined, done: true });
  assert.ok(performance.now() - beforeMs < 500);
});

test(
  "G1: a record that does not decode ends the stream behind all before it",
  { skip },
  async (t) => {
    const stream = await makeStream(t);
    await stream.produce(3);
    await stream.send([new Uint8Array([1, 2, 3])]);
    stream.produced = 3;
    await stream.produce(2);
    const sink = new MemorySink();
    for (let round = 0; round < 2; round++) {
      await using source = stream.source(t);
      await assert.rejects(
        pump({ source, sink, signal: AbortSignal.timeout(30_000) }),
        withCode("INPUT_MALFORMED", `topic=${stream.topic}, partition=0, offset=3`),
      );
      assert.deepEqual(sink.rows, messagesOf(0, 3));
      assert.equal(await stream.committed(), 3);
    }
  },
);

test("records that a transaction has aborted are not delivered", { skip }, async (t) => {
  const stream = await makeStream(t);
  assert.ok(typeof broker !== "string");
  const producer = broker.client.producer({
    transactionalId: stream.topic,
    maxInFlightRequests: 1,
    idempotent: true,
  });
  await producer.connect();
  t.after(() => producer.disconnect());
  const send = async (from: number, count: number, isCommitted: boolean): Promise<void> => {
    const transaction = await producer.transaction();
    const messages = messagesOf(from, count).map((message) => ({
      value: Buffer.from(packMessages([message])),
      partition: 0,
    }));
    await transaction.send({ topic: stream.topic, messages });
    await (isCommitted ? transaction.commit() : transaction.abort());
  };
  await send(0, 2, false);
  await send(0, 2, true);
  await send(2, 3, false);
  await send(2, 1, true);
  assert.deepEqual(await take(stream.source(t), 3), idsOf(3));
  // Three markers and five records that do not count lie in between.
  assert.equal(await stream.committed(), 12 - 1);
});

test("a second member stands by, and goes on where the first one leaves", { skip }, async (t) => {
  const stream = await makeStream(t);
  await stream.produce(4);
  const first = stream.source(t, { batchMax: 2 });
  assert.deepEqual(await take(first, 2), idsOf(2));
  const second = stream.source(t);
  const taken = take(second, 1);
  const early = await Promise.race([taken, pause(1500, "nothing")]);
  assert.equal(early, "nothing");
  // The one that was there first still has it, and commits in the new generation.
  assert.deepEqual(await take(first, 2, false), idsOf(4).slice(2));
  await first.acknowledge(messageOf(2).id);
  assert.equal(await stream.committed(), 3);
  await first[Symbol.asyncDispose]();
  assert.deepEqual(await taken, idsOf(4).slice(3));
});

test("each partition of a topic has a member of its own in a group", { skip }, async (t) => {
  const stream = await makeStream(t);
  await stream.produce(3);
  const value = Buffer.from(packMessages([messageOf(0)]));
  await stream.producer.send({ topic: stream.topic, messages: [{ value, partition: 1 }] });
  const [one, other] = await Promise.all([
    take(stream.source(t, { partition: 1 }), 1),
    take(stream.source(t), 3),
  ]);
  assert.deepEqual(one, idsOf(1));
  assert.deepEqual(other, idsOf(3));
});

test("a group whose members are not of Gapless is refused", { skip }, async (t) => {
  const stream = await makeStream(t);
  assert.ok(typeof broker !== "string");
  const foreign = broker.client.consumer({ groupId: stream.group });
  await foreign.connect();
  t.after(() => foreign.disconnect());
  await foreign.subscribe({ topic: stream.topic });
  const joined = Promise.withResolvers<unknown>();
  foreign.on("consumer.group_join", joined.resolve);
  await foreign.run({ eachMessage: () => Promise.resolve() });
  await joined.promise;
  await assert.rejects(
    take(stream.source(t), 1),
    withCode("CONFIG_INVALID", `group=${stream.group}`, "not of Gapless"),
  );
});

test("G2: what Kafka has deleted is told, and filled only if asked for", { skip }, async (t) => {
  const stream = await makeStream(t);
  await stream.produce(10);
  const first = stream.source(t, { batchMax: 2 });
  assert.deepEqual(await take(first, 2), idsOf(2));
  await first[Symbol.asyncDispose]();
  // It does not know where the partition is before it has asked for something of it.
  assert.equal(await stream.end(), 10);
  await stream.admin.deleteTopicRecords({
    topic: stream.topic,
    partitions: [{ partition: 0, offset: "7" }],
  });
  const second = stream.source(t);
  await assert.rejects(
    take(second, 1),
    withCode("DATA_TRIMMED", "offset=2, earliest=7, latest=10"),
  );
  await second[Symbol.asyncDispose]();
  assert.equal(await stream.committed(), 2);

  const sink = new MemorySink(messagesOf(0, 2));
  const ending = new AbortController();
  const archive = new MemoryArchive(messagesOf(0, 9));
  const source = stream.source(t, { whenTrimmed: "earliest" });
  await pump({
    source,
    sink,
    archives: [archive],
    signal: AbortSignal.any([ending.signal, AbortSignal.timeout(30_000)]),
    onProgress: (position) => {
      if (position === messageOf(9).id) ending.abort();
    },
  });
  assert.deepEqual(sink.rows, messagesOf(0, 10));
  assert.deepEqual(
    sink.repairs.filter(({ messages }) => messages > 0).map(({ gaps }) => gaps),
    [1],
  );
  assert.equal(await stream.committed(), 10);
});

test("a committed offset behind the end of the partition is told", { skip }, async (t) => {
  const stream = await makeStream(t);
  await stream.produce(3);
  await stream.admin.setOffsets({
    groupId: stream.group,
    topic: stream.topic,
    partitions: [{ partition: 0, offset: "7" }],
  });
  await assert.rejects(
    take(stream.source(t), 1),
    withCode("CHAIN_BROKEN", "offset=7, earliest=0, latest=3"),
  );
  assert.equal(await stream.committed(), 7);
});

test("a topic or a partition that is not there is named", { skip }, async (t) => {
  const stream = await makeStream(t);
  await assert.rejects(
    take(stream.source(t, { topic: `${stream.topic}-2`, topicWaitMs: 300 }), 1),
    withCode("DATA_NOT_YET_AVAILABLE", `no topic ${stream.topic}-2`),
  );
  await assert.rejects(
    take(stream.source(t, { partition: 2 }), 1),
    withCode("CONFIG_INVALID", "partition=2", "partitions 0 to 1"),
  );
});

test("a closed source says so, and one that is read twice at once", { skip }, async (t) => {
  const stream = await makeStream(t);
  const source = stream.source(t);
  const signal = AbortSignal.timeout(30_000);
  const begin = () => source.live(signal)[Symbol.asyncIterator]();
  const live = begin();
  assert.deepEqual(await live.next(), { value: null, done: false });
  await assert.rejects(begin().next(), withCode("INVALID_OPERATION"));
  const next = live.next();
  await source[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  assert.deepEqual(await next, { value: undefined, done: true });
  await assert.rejects(begin().next(), withCode("CLOSED"));
  await assert.rejects(source.acknowledge(1n), withCode("CLOSED"));
});
