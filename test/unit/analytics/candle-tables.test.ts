import assert from "node:assert/strict";
import test from "node:test";
import {
  candleTables,
  readCandles,
  rollUp,
  type Candle,
} from "../../../src/analytics/analytics.ts";
import { openSqliteReader, sqliteSink, type SqliteSink } from "../../../src/connect/sqlite.ts";
import { noRepair } from "../../../src/flow/endpoints.ts";
import {
  applyAll,
  batchesOf,
  i64Max,
  makePath,
  makeTrades,
  messagesOf,
  query,
  withCode,
} from "../connect/fixture.ts";
import type { Trade } from "../../../src/trade.ts";

function openCandles(path: string): SqliteSink {
  return sqliteSink({ path, stream: "trades", tables: candleTables() });
}

function candlesIn(path: string): Candle[] {
  using database = openSqliteReader(path);
  return [...readCandles(database)];
}

function rolledUp(trades: readonly Trade[]): Candle[] {
  const candles = new Map<bigint, Candle>();
  for (const trade of trades) rollUp(candles, trade);
  return [...candles.values()];
}

test("the candles in the file are those of all trades, however batched", async (context) => {
  const trades = makeTrades(400);
  const expected = rolledUp(trades);
  assert.equal(expected.length, 7);
  for (const sizes of [[400], [1, 59, 61], [7]]) {
    const path = makePath(context);
    await using sink = openCandles(path);
    await applyAll(sink, batchesOf(messagesOf(trades), ...sizes));
    assert.deepEqual(candlesIn(path), expected);
  }
});

test("a trade that comes late finds its minute, and closes it by its id", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  const trades = [
    { ...first, id: 1n, timestampNs: 10n, price: 5n },
    { ...first, id: 2n, timestampNs: 60_000_000_000n, price: 9n },
    { ...first, id: 3n, timestampNs: 1n, price: 7n },
  ];
  await using sink = openCandles(path);
  await applyAll(sink, batchesOf(messagesOf(trades), 1));
  assert.deepEqual(
    candlesIn(path).map(({ startNs, open, close, count }) => [startNs, open, close, count]),
    [
      [0n, 5n, 7n, 2n],
      [60_000_000_000n, 9n, 9n, 1n],
    ],
  );
});

test("the table is plain to read for whoever has SQLite and nothing of ours", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  await using sink = openCandles(path);
  const trade = { ...first, id: 4n, timestampNs: 61_000_000_000n, price: 5n, quantity: 3n };
  await applyAll(sink, batchesOf(messagesOf([trade]), 1));
  const columns =
    "start_ns, open, high, low, close, volume, quote_volume, count, open_id, close_id";
  assert.deepEqual(query(path, `SELECT ${columns} FROM candles`), [
    [60_000_000_000n, 5n, 5n, 5n, 5n, 3n, 15n, 1n, 4n, 4n],
  ]);
});

test("sums are exact to the last of 63 bits, and refused beyond", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  const trade = { ...first, id: 1n, timestampNs: 5n, price: 1n, quantity: i64Max - 1n };
  await using sink = openCandles(path);
  await applyAll(sink, batchesOf(messagesOf([trade]), 1));
  await applyAll(sink, batchesOf(messagesOf([{ ...trade, id: 2n, quantity: 1n }], 1n), 1));
  const before = candlesIn(path);
  assert.deepEqual([before[0]?.volume, before[0]?.quoteVolume], [i64Max, i64Max]);
  const overflows: [Partial<Trade>, string][] = [
    [{ quantity: 1n }, "volume=9223372036854775808"],
    [{ timestampNs: 2n ** 40n, price: 2n, quantity: 2n ** 62n }, "quoteVolume=9223372036854775808"],
    [{ timestampNs: 2n ** 64n - 1n, quantity: 1n }, "minute"],
  ];
  for (const [change, text] of overflows) {
    const good = { ...trade, id: 3n, timestampNs: 2n ** 50n, quantity: 1n };
    const messages = messagesOf([good, { ...trade, id: 4n, ...change }], 2n);
    const [batch] = batchesOf(messages, 2);
    assert.ok(batch !== undefined);
    await assert.rejects(sink.apply(batch, noRepair), withCode("AMOUNT_OVERFLOW", text));
    assert.deepEqual(candlesIn(path), before);
    assert.equal(await sink.position(), 2n);
  }
});

test("what is no trade is refused with the batch that it came in", async (context) => {
  const path = makePath(context);
  await using sink = openCandles(path);
  const [one, other] = messagesOf(makeTrades(2));
  assert.ok(one !== undefined && other !== undefined);
  const bad = { ...other, bytes: new Uint8Array(64) };
  await assert.rejects(sink.apply([one, bad], noRepair), withCode("MESSAGE_MALFORMED"));
  assert.deepEqual(candlesIn(path), []);
  await sink.apply([one, other], noRepair);
  assert.equal(candlesIn(path)[0]?.count, 2n);
});
