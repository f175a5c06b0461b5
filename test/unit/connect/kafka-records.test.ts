import assert from "node:assert/strict";
import test from "node:test";
import {
  decodeMessage,
  decodeRecords,
  readRecords,
  type KafkaRecord,
  type RecordsBatch,
} from "../../../src/connect/kafka-records.ts";
import { packMessages, type Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { withCode } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const place = { topic: "trades", partition: 2 };
const transactional = 16;
const control = 32;

interface BatchShape {
  readonly firstOffset: bigint;
  readonly count?: number;
  readonly attributes?: number;
  readonly producerId?: bigint;
  readonly key?: Buffer;
  readonly magic?: number;
}

function makeBatch(shape: BatchShape): RecordsBatch {
  const { firstOffset, count = 1, attributes = 0, producerId = -1n, magic = 2 } = shape;
  const records = Array.from({ length: count }, (_, index) => ({
    timestampDelta: BigInt(index),
    offsetDelta: index,
    key: shape.key ?? null,
    value: Buffer.from(`${firstOffset + BigInt(index)}`),
    headers: [],
  }));
  const lastOffsetDelta = count - 1;
  return {
    firstOffset,
    lastOffsetDelta,
    magic,
    attributes,
    firstTimestamp: 1000n,
    producerId,
    records,
  };
}

/** Version 0, then the type: 0 aborts, 1 commits. */
function marker(firstOffset: bigint, producerId: bigint, type: 0 | 1): RecordsBatch {
  const attributes = transactional | control;
  return makeBatch({ firstOffset, producerId, attributes, key: Buffer.from([0, 0, 0, type]) });
}

function offsetsOf(records: readonly KafkaRecord[]): bigint[] {
  return records.map(({ offset }) => offset);
}

test("records in front of the offset that was asked for are not read twice", () => {
  const batches = [
    makeBatch({ firstOffset: 5n, count: 4 }),
    makeBatch({ firstOffset: 9n, count: 2 }),
  ];
  const { records, nextOffset } = readRecords(place, 7n, batches, []);
  assert.deepEqual(offsetsOf(records), [7n, 8n, 9n, 10n]);
  assert.equal(nextOffset, 11n);
  assert.equal(records[1]?.timestampMs, 1003n);
  assert.equal(records[0]?.topic, "trades");
});

test("nothing new leaves the offset where it is", () => {
  assert.deepEqual(readRecords(place, 7n, [], []), { records: [], nextOffset: 7n });
});

test("reading goes on behind offsets that nothing is at", () => {
  const { firstOffset, ...rest } = makeBatch({ firstOffset: 20n, count: 3 });
  const compacted = { ...rest, firstOffset, lastOffsetDelta: 9, records: rest.records.slice(1, 2) };
  const { records, nextOffset } = readRecords(place, 12n, [compacted], []);
  assert.deepEqual(offsetsOf(records), [21n]);
  assert.equal(nextOffset, 30n);
});

test("a batch of an old format is refused with its offset", () => {
  const old = makeBatch({ firstOffset: 3n, magic: 1 });
  assert.throws(
    () => readRecords(place, 3n, [old], []),
    withCode("INPUT_MALFORMED", "topic=trades, partition=2, offset=3"),
  );
});

test("what transactions have aborted is not read, whatever they are mixed with", (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  for (let round = 0; round < 200; round++) {
    const batches: RecordsBatch[] = [];
    const aborted: { producerId: bigint; firstOffset: bigint; endOffset: bigint }[] = [];
    const expected: bigint[] = [];
    const open = new Map<bigint, bigint[]>();
    let firstOffset = BigInt(random.below(100));
    const start = firstOffset;
    for (let step = 0; step < 30; step++) {
      const producerId = BigInt(random.below(3));
      const offsets = open.get(producerId);
      if (offsets !== undefined && random.below(3) === 0) {
        const type = random.below(2) === 0 ? 0 : 1;
        if (type === 1) expected.push(...offsets);
        else aborted.push({ producerId, firstOffset: offsets[0] ?? 0n, endOffset: firstOffset });
        open.delete(producerId);
        batches.push(marker(firstOffset, producerId, type));
        firstOffset += 1n;
        continue;
      }
      const count = 1 + random.below(3);
      const isPlain = random.below(4) === 0;
      const attributes = isPlain ? 0 : transactional;
      batches.push(
        makeBatch({ firstOffset, count, attributes, producerId: isPlain ? -1n : producerId }),
      );
      for (let index = 0; index < count; index++) {
        if (isPlain) expected.push(firstOffset);
        else open.set(producerId, [...(open.get(producerId) ?? []), firstOffset]);
        firstOffset += 1n;
      }
    }
    // Of those that are open at the end, a broker shows nothing before they are settled.
    for (const [producerId, offsets] of open) {
      aborted.push({ producerId, firstOffset: offsets[0] ?? 0n, endOffset: firstOffset });
    }
    // In one answer, and in two, of which the second begins within transactions.
    const whole = readRecords(place, start, batches, aborted);
    const order = expected.toSorted((one, other) => Number(one - other));
    assert.deepEqual(offsetsOf(whole.records), order, `SEED=${seed}`);
    const cut = random.below(batches.length);
    const middle = batches[cut]?.firstOffset ?? start;
    const first = readRecords(place, start, batches.slice(0, cut), aborted);
    // A broker lists those whose end is not before what is asked for.
    const rest = aborted.filter(({ endOffset }) => endOffset >= middle);
    const second = readRecords(place, middle, batches.slice(cut), rest);
    const both = [...first.records, ...second.records];
    assert.deepEqual(offsetsOf(both), order, `SEED=${seed}`);
    assert.equal(second.nextOffset, firstOffset);
  }
});

function recordOf(offset: bigint, value: Uint8Array | null): KafkaRecord {
  return { ...place, offset, timestampMs: 0n, key: null, value, headers: [] };
}

const message: Message = { id: 7n, prevId: 5n, timestampNs: 9n, bytes: new Uint8Array([1, 2]) };

test("a record's value is one message, as it is packed everywhere", () => {
  assert.deepEqual(decodeMessage(recordOf(1n, packMessages([message]))), message);
});

test("a record that does not decode ends what is delivered, and is named", () => {
  const good = packMessages([message]);
  const cases: [Uint8Array | null, string][] = [
    [null, "it has no value"],
    [new Uint8Array(0), "it has 0 messages, expected one"],
    [packMessages([message, message]), "it has 2 messages, expected one"],
    [good.subarray(0, 20), "the header is cut off"],
    [good.subarray(0, 33), "the size leads past the end"],
  ];
  for (const [value, reason] of cases) {
    const records = [recordOf(3n, good), recordOf(4n, value), recordOf(5n, good)];
    const { messages, offsets, fault } = decodeRecords(records, decodeMessage);
    assert.equal(messages.length, 1);
    assert.deepEqual(offsets, [3n]);
    assert.ok(withCode("INPUT_MALFORMED", "topic=trades, partition=2, offset=4", reason)(fault));
  }
});
