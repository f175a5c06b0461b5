/** Real buffers as OpenTelemetry metrics, through the real SDK. */
import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import type { DataPoint, Histogram } from "@opentelemetry/sdk-metrics";
import {
  fillGap,
  jsonCodec,
  openMsgBuffer,
  type MsgBuffer,
  type RingBufferOptions,
} from "gapless/buffer";
import { instrumentBuffer } from "gapless/telemetry";
import { openColdRows } from "../../../src/buffer/cold-rocksdb.ts";
import { packChunks } from "../../../src/buffer/chunk.ts";
import { coldIn, hasCode, makeMessages, temporaryDirectory } from "../buffer/fixture.ts";
import { openMeter } from "./collector.ts";

function open(
  context: TestContext,
  component: string,
  ringBuffer: RingBufferOptions = {},
): Promise<MsgBuffer> {
  const storage = { dbPath: temporaryDirectory(context) };
  return openMsgBuffer({ component, ringBuffer, storage });
}

type Points = ReadonlyMap<string, readonly DataPoint<unknown>[]>;

/** Values by their attributes besides the component. */
function valuesOf(points: Points, name: string): unknown {
  return points.get(`msg_buffer.${name}`)?.map(({ value }) => value);
}

interface Timed {
  readonly component: unknown;
  readonly storage: unknown;
  readonly count: number;
}

function timesOf(points: Points, name: string): Timed[] {
  return (points.get(`msg_buffer.${name}.duration`) ?? []).map(({ attributes, value }) => {
    const { count, sum } = value as Histogram;
    assert.ok(sum !== undefined && sum > 0 && sum < 60, `${name}: ${sum} s`);
    return { component: attributes["component"], storage: attributes["storage"], count };
  });
}

test("what a buffer does is timed in seconds and counted, each read by the tier that answered", async (context) => {
  const { meter, collector } = openMeter(context);
  await using buffer = await open(context, "trades", { capacity: 100 });
  using _metrics = instrumentBuffer(buffer, meter);
  const messages = makeMessages(0n, 300);
  await buffer.append(messages.slice(0, 200));
  await buffer.append(messages.slice(200));
  await buffer.sync(1n, 10);
  await buffer.sync(250n, 10);
  await buffer.sync(260n, 10);
  assert.equal(await buffer.trim(51n), 50);
  const points = await collector.points();
  const component = "trades";
  assert.deepEqual(timesOf(points, "append"), [{ component, storage: undefined, count: 2 }]);
  assert.deepEqual(timesOf(points, "trim"), [{ component, storage: undefined, count: 1 }]);
  assert.deepEqual(timesOf(points, "query"), [
    { component, storage: "cold", count: 1 },
    { component, storage: "hot", count: 2 },
  ]);
  assert.deepEqual(valuesOf(points, "trim.total"), [50]);
  assert.deepEqual(valuesOf(points, "size"), [250]);
  assert.deepEqual(valuesOf(points, "hot_size"), [100]);
  assert.deepEqual(valuesOf(points, "hit_rate"), [2 / 3]);
  for (const name of ["append.errors", "query.errors", "data_loss.detected"]) {
    assert.deepEqual(valuesOf(points, name), [0], name);
  }
  // It follows nobody.
  assert.equal(valuesOf(points, "sync.lag"), undefined);
});

test("lost and broken data is counted as that, and coming too early or a full buffer is not", async (context) => {
  const { meter, collector } = openMeter(context);
  await using buffer = await open(context, "trades", { capacity: 100, overwriteOnFull: false });
  using _metrics = instrumentBuffer(buffer, meter);
  const messages = makeMessages(0n, 100);
  await buffer.append(messages);
  await assert.rejects(buffer.sync(101n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));
  const counts = async (): Promise<unknown[]> => {
    const points = await collector.points();
    const names = ["append.errors", "query.errors", "data_loss.detected"];
    return names.flatMap((name) => valuesOf(points, name));
  };
  assert.deepEqual(await counts(), [0, 0, 0]);
  await assert.rejects(buffer.append(makeMessages(100n, 1)), hasCode("BUFFER_FULL"));
  assert.deepEqual(await counts(), [1, 0, 0]);
  await assert.rejects(buffer.sync(1n, 0), hasCode("INVALID_OPERATION"));
  assert.deepEqual(await counts(), [1, 1, 0]);
  await buffer.trim(51n);
  await assert.rejects(buffer.sync(50n, 1), hasCode("DATA_TRIMMED"));
  assert.deepEqual(await counts(), [1, 2, 1]);
  await assert.rejects(buffer.append(makeMessages(200n, 1)), hasCode("CHAIN_BROKEN"));
  assert.deepEqual(await counts(), [2, 2, 2]);
  // What is no message was never there to be lost.
  await assert.rejects(buffer.append(makeMessages(0n, 1, 0, 0n)), hasCode("MESSAGE_MALFORMED"));
  assert.deepEqual(await counts(), [3, 2, 2]);
});

test("an event that cannot be decoded is counted as damaged", async (context) => {
  const { meter, collector } = openMeter(context);
  const storage = { dbPath: temporaryDirectory(context) };
  {
    await using written = await openMsgBuffer({ component: "trades", storage });
    await written.append(makeMessages(0n, 1));
  }
  await using buffer = await openMsgBuffer({ component: "trades", storage, codec: jsonCodec() });
  using _metrics = instrumentBuffer(buffer, meter);
  await assert.rejects(buffer.sync(1n, 1), hasCode("STORAGE_CORRUPT"));
  const points = await collector.points();
  assert.deepEqual(valuesOf(points, "query.errors"), [1]);
  assert.deepEqual(valuesOf(points, "data_loss.detected"), [1]);
});

test("a range that no peer has any more is counted as lost by who could not fill it", async (context) => {
  const { meter, collector } = openMeter(context);
  await using buffer = await open(context, "trades");
  await using peer = await open(context, "peer");
  await peer.append(makeMessages(0n, 20));
  await peer.trim(11n);
  using _metrics = instrumentBuffer(buffer, meter);
  const filling = fillGap({
    peers: [peer.archive],
    afterId: 0n,
    throughId: 20n,
    apply: async (batch) => {
      await buffer.append(batch);
    },
    ledger: buffer,
  });
  await assert.rejects(filling, hasCode("DATA_TRIMMED"));
  assert.deepEqual(valuesOf(await collector.points(), "data_loss.detected"), [1]);
});

test("damage that a digest meets is counted as well, and a digest that comes too early is not", async (context) => {
  const { meter, collector } = openMeter(context);
  const dbPath = temporaryDirectory(context);
  const messages = makeMessages(0n, 2000);
  const rows = await openColdRows(coldIn(path.join(dbPath, "messages")));
  await rows.commit(packChunks(messages.slice(0, 1200)));
  await rows.commit(packChunks(messages.slice(1201)));
  await rows.close();
  await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
  using _metrics = instrumentBuffer(buffer, meter);
  await buffer.archive.digest(1n, 1000n);
  await assert.rejects(buffer.archive.digest(1n, 2001n), hasCode("DATA_NOT_YET_AVAILABLE"));
  await assert.rejects(buffer.archive.digest(1n, 2000n), hasCode("STORAGE_CORRUPT"));
  const points = await collector.points();
  const names = ["query.errors", "data_loss.detected"];
  assert.deepEqual(
    names.flatMap((name) => valuesOf(points, name)),
    [1, 1],
  );
});

test("damage that only a look at the sizes meets is counted as well", async (context) => {
  const { meter, collector } = openMeter(context);
  const dbPath = temporaryDirectory(context);
  const rows = await openColdRows(coldIn(path.join(dbPath, "messages")));
  // Nothing is trimmed, and the first message follows on one that is not there.
  await rows.commit(packChunks(makeMessages(10n, 10)));
  await rows.close();
  await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
  using _metrics = instrumentBuffer(buffer, meter);
  const points = await collector.points();
  assert.equal(valuesOf(points, "size"), undefined);
  assert.deepEqual(valuesOf(await collector.points(), "data_loss.detected"), [2]);
});

test("several buffers of a meter are told apart, and one that is closed or disposed stays as it was", async (context) => {
  const { meter, collector } = openMeter(context);
  await using trades = await open(context, "trades");
  await using orders = await open(context, "orders");
  using _trades = instrumentBuffer(trades, meter);
  using watched = instrumentBuffer(orders, meter);
  await trades.append(makeMessages(0n, 10));
  await orders.append(makeMessages(0n, 20));
  const sizes = async (): Promise<unknown> =>
    (await collector.points())
      .get("msg_buffer.size")
      ?.map(({ attributes, value }) => [attributes["component"], value]);
  assert.deepEqual(await sizes(), [
    ["trades", 10],
    ["orders", 20],
  ]);
  watched[Symbol.dispose]();
  await trades.append(makeMessages(10n, 1));
  await orders.append(makeMessages(20n, 1));
  const last = [
    ["trades", 11],
    ["orders", 20],
  ];
  assert.deepEqual(await sizes(), last);
  await trades.close();
  const points = await collector.points();
  assert.deepEqual(await sizes(), last);
  assert.deepEqual(
    timesOf(points, "append").map(({ component, count }) => [component, count]),
    [
      ["trades", 2],
      ["orders", 1],
    ],
  );
});

test("a follower is behind the newest of its peers, whoever of them does not answer", async (context) => {
  const { meter, collector } = openMeter(context);
  await using follower = await open(context, "follower");
  await using near = await open(context, "near");
  await using far = await open(context, "far");
  await near.append(makeMessages(0n, 10));
  await far.append(makeMessages(0n, 30));
  await follower.append(makeMessages(0n, 5));
  const silent = { status: () => new Promise<never>(() => undefined) };
  let isDown = false;
  const mortal = {
    status: async () => (isDown ? Promise.reject(new Error("down")) : far.archive.status()),
  };
  const peers = [silent, near.archive, mortal];
  using _metrics = instrumentBuffer(follower, meter, { peers });
  const lag = async (): Promise<unknown> => valuesOf(await collector.points(), "sync.lag");
  assert.deepEqual(await lag(), [25]);
  isDown = true;
  assert.deepEqual(await lag(), [25]);
  await follower.append(makeMessages(5n, 35));
  assert.deepEqual(await lag(), [0]);
});

test("the lag is what the caller says, and stays that while it is not known", async (context) => {
  const { meter, collector } = openMeter(context);
  await using buffer = await open(context, "trades");
  let behind: number | undefined = 7;
  using _metrics = instrumentBuffer(buffer, meter, { lag: () => behind });
  assert.deepEqual(valuesOf(await collector.points(), "sync.lag"), [7]);
  behind = undefined;
  assert.deepEqual(valuesOf(await collector.points(), "sync.lag"), [7]);
  behind = 8;
  assert.deepEqual(valuesOf(await collector.points(), "sync.lag"), [8]);
});
