import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { flyweight, isGaplessError, memoryOf, type Flyweight } from "gapless/tlv";

function emptyTrade(offset = 0): Flyweight<"trade"> {
  return flyweight("trade").wrap(memoryOf(new Uint8Array(64)), offset);
}

const isRefused = (error: unknown): boolean => isGaplessError(error, "INPUT_MALFORMED");

test("64 bits are the same as a bigint, as a number and as two words", () => {
  const trade = emptyTrade(3);
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      trade.priceNumber = value;
      assert.equal(trade.price, BigInt(value));
      assert.equal(trade.priceNumber, value);
      assert.equal(trade.priceHigh * 2 ** 32 + (trade.priceLow >>> 0), value);
      trade.volumeLow = trade.priceLow;
      trade.volumeHigh = trade.priceHigh;
      assert.equal(trade.volume, BigInt(value));
    }),
  );
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (value) => {
      trade.price = value;
      assert.equal(trade.price, value);
      trade.assetId = BigInt.asUintN(64, value);
      assert.equal(trade.assetId, BigInt.asUintN(64, value));
      if (value >= -(2n ** 53n) && value < 2n ** 53n) {
        assert.equal(trade.priceNumber, Number(value));
      } else {
        assert.throws(() => trade.priceNumber, isRefused);
      }
    }),
  );
});

test("a number is exact at the edges of its range, and refused behind them", () => {
  const trade = emptyTrade();
  for (const value of [Number.MIN_SAFE_INTEGER, -(2 ** 32), -1, 0, 1, Number.MAX_SAFE_INTEGER]) {
    trade.priceNumber = value;
    assert.equal(trade.price, BigInt(value));
  }
  for (const value of [2 ** 53, -(2 ** 54), 0.5, NaN, Infinity]) {
    assert.throws(() => (trade.priceNumber = value), isRefused, String(value));
    assert.throws(() => (trade.assetIdNumber = value), isRefused, String(value));
  }
  assert.throws(() => (trade.assetIdNumber = -1), isRefused);
  trade.assetId = 2n ** 53n;
  assert.throws(() => trade.assetIdNumber, isRefused);
});

test("a time as a number is the nearest there is", () => {
  const trade = emptyTrade();
  trade.executedNs = 1_700_000_000_123_456_789n;
  assert.equal(trade.executedNsNumber, Number(1_700_000_000_123_456_789n));
  trade.executedNsNumber = 1_700_000_000_123_456_768;
  assert.equal(trade.executedNs, 1_700_000_000_123_456_768n);
  assert.throws(() => (trade.executedNsNumber = 2 ** 63), isRefused);
});

test("what a field cannot hold is refused, and the field left as it was", () => {
  const trade = emptyTrade();
  trade.venue = 65_535;
  for (const value of [-1, 65_536, 1.5, NaN]) {
    assert.throws(() => (trade.venue = value), /venue is .* Expected 0 to 65,535/);
  }
  assert.equal(trade.venue, 65_535);
  assert.throws(() => (trade.side = 256), isRefused);
  assert.throws(() => (trade.price = 2n ** 63n), isRefused);
  assert.throws(() => (trade.assetId = -1n), isRefused);
  const memory = memoryOf(new Uint8Array(84));
  const addresses = flyweight("executionAddresses").wrap(memory, 0);
  assert.throws(() => (addresses.pool = new Uint8Array(19)), isRefused);
  assert.throws(() => (addresses.chainId = 2 ** 32), isRefused);
  const correlation = flyweight("assetCorrelation").wrap(memory, 0);
  assert.throws(() => (correlation.correlation = 2 ** 31), isRefused);
});

test("values are set by name, of 64 bits as a bigint or a number", () => {
  const trade = emptyTrade();
  trade.set({ assetId: 7, price: -5n, volume: -6, venue: 3 });
  assert.deepEqual([trade.assetId, trade.price, trade.volume, trade.venue], [7n, -5n, -6n, 3]);
  assert.throws(
    () => trade.set({ sidde: 1 } as object),
    /sidde is 1. Expected one of assetId, price/,
  );
});

test("bytes come out as a copy, and where they lie without one", () => {
  const memory = memoryOf(Uint8Array.from({ length: 40 }, (_, index) => index));
  const context = flyweight("traceContext").wrap(memory, 2, 36);
  const { spanId, traceState } = context;
  assert.deepEqual([...traceState], [34, 35, 36, 37]);
  assert.deepEqual([context.traceStateOffset, context.traceStateLength], [34, 4]);
  assert.deepEqual([context.spanIdOffset, context.spanIdLength], [18, 8]);
  memory.bytes.fill(0);
  assert.equal(spanId[0], 18);
});
