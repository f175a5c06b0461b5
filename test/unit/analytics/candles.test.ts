import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  candleNs,
  candleOf,
  candleStartNs,
  mergeCandles,
  rollUp,
  type Candle,
} from "../../../src/analytics/analytics.ts";
import { makeTrades } from "../connect/fixture.ts";
import type { Trade } from "../../../src/trade.ts";

const amount = fc.bigInt(1n, 2n ** 63n - 1n);

/** Trades of a few minutes, ascending by id; their times need not ascend. */
const trades: fc.Arbitrary<Trade[]> = fc
  .array(
    fc.record({
      timestampNs: fc.bigInt(0n, 4n * candleNs),
      price: amount,
      quantity: amount,
      makerOrderId: fc.constant(1n),
      takerOrderId: fc.constant(2n),
      buyer: fc.constant(3n),
      seller: fc.constant(4n),
      takerSide: fc.constantFrom("buy" as const, "sell" as const),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((list) => list.map((it, index) => ({ ...it, id: BigInt(index * 3 + 1) })));

function rolledUp(list: readonly Trade[]): Map<bigint, Candle> {
  const candles = new Map<bigint, Candle>();
  for (const trade of list) rollUp(candles, trade);
  return candles;
}

function mergeInto(candles: Map<bigint, Candle>, more: ReadonlyMap<bigint, Candle>): void {
  for (const candle of more.values()) {
    const before = candles.get(candle.startNs);
    candles.set(candle.startNs, before === undefined ? candle : mergeCandles(before, candle));
  }
}

test("a candle is what its definition says of the trades of its minute", () => {
  fc.assert(
    fc.property(trades, (list) => {
      const candles = rolledUp(list);
      const minutes = new Set(list.map(({ timestampNs }) => timestampNs / candleNs));
      assert.equal(candles.size, minutes.size);
      for (const minute of minutes) {
        const within = list.filter(({ timestampNs }) => timestampNs / candleNs === minute);
        const prices = within.map(({ price }) => price).sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(candles.get(minute * candleNs), {
          startNs: minute * candleNs,
          open: within[0]?.price,
          high: prices.at(-1),
          low: prices[0],
          close: within.at(-1)?.price,
          volume: within.reduce((sum, { quantity }) => sum + quantity, 0n),
          quoteVolume: within.reduce((sum, { price, quantity }) => sum + price * quantity, 0n),
          count: BigInt(within.length),
          openId: within[0]?.id,
          closeId: within.at(-1)?.id,
        });
      }
    }),
  );
});

test("batches rolled up and merged in any order equal all trades at once", () => {
  const cut = fc.array(fc.nat(4), { minLength: 30, maxLength: 30 });
  fc.assert(
    fc.property(trades, cut, fc.infiniteStream(fc.nat()), (list, parts, picks) => {
      // Not only cuts: any trade may be in any of five parts.
      const batches = [0, 1, 2, 3, 4].map((part) =>
        rolledUp(list.filter((_, index) => parts[index] === part)),
      );
      const merged = new Map<bigint, Candle>();
      while (batches.length > 0) {
        const [batch] = batches.splice((picks.next().value ?? 0) % batches.length, 1);
        if (batch !== undefined) mergeInto(merged, batch);
      }
      assert.deepEqual(merged, rolledUp(list));
    }),
  );
});

test("merging is associative", () => {
  fc.assert(
    fc.property(trades, (list) => {
      fc.pre(list.length >= 3);
      const [one, two, three] = list.map((it) => candleOf({ ...it, timestampNs: 5n })) as [
        Candle,
        Candle,
        Candle,
      ];
      assert.deepEqual(
        mergeCandles(mergeCandles(one, two), three),
        mergeCandles(one, mergeCandles(two, three)),
      );
    }),
  );
});

test("the last nanosecond of a minute is in it, and the next one is not", () => {
  assert.equal(candleStartNs(0n), 0n);
  assert.equal(candleStartNs(candleNs - 1n), 0n);
  assert.equal(candleStartNs(candleNs), candleNs);
  assert.equal(candleStartNs(2n ** 64n - 1n) % candleNs, 0n);
});

test("candles of different minutes are never merged", () => {
  const [trade] = makeTrades(1) as [Trade];
  const later = { ...trade, timestampNs: trade.timestampNs + candleNs };
  assert.throws(() => mergeCandles(candleOf(trade), candleOf(later)), /different minutes/);
});
