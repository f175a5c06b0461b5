import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isGaplessError } from "../../src/errors.ts";
import { decodeTrade, encodeTrade, tradeBytes, type Trade } from "../../src/trade.ts";
import type { Message } from "../../src/message.ts";
import { anyTrade } from "../support/trades.ts";

function messageOf(bytes: Uint8Array, id = 7n, timestampNs = 8n): Message {
  return { id, prevId: 0n, timestampNs, bytes };
}

test("a trade comes out as it went in, wherever its bytes lie", () => {
  fc.assert(
    fc.property(anyTrade, fc.nat(9), (trade, offset) => {
      const larger = new Uint8Array(offset + tradeBytes + 3).fill(0xff);
      larger.set(encodeTrade(trade), offset);
      const bytes = larger.subarray(offset, offset + tradeBytes);
      assert.deepEqual(decodeTrade(messageOf(bytes, trade.id, trade.timestampNs)), trade);
    }),
  );
});

test("any bytes are exactly one trade, or none", () => {
  const almost = fc
    .tuple(anyTrade, fc.nat(tradeBytes - 1), fc.nat(255))
    .map(([trade, at, value]) => {
      const bytes = encodeTrade(trade);
      bytes[at] = value;
      return bytes;
    });
  const garbage = fc.oneof(fc.uint8Array({ maxLength: 2 * tradeBytes }), almost);
  fc.assert(
    fc.property(garbage, (bytes) => {
      let trade: Trade;
      try {
        trade = decodeTrade(messageOf(bytes));
      } catch (error) {
        assert.ok(isGaplessError(error, "MESSAGE_MALFORMED"), String(error));
        assert.match(error.message, /Message 7 is no trade/);
        return;
      }
      assert.deepEqual(encodeTrade(trade), bytes);
    }),
    { numRuns: 1000 },
  );
});

test("a trade that would be wrapped to another one is not encoded", () => {
  const [trade] = fc.sample(anyTrade, { numRuns: 1, seed: 1 }) as [Trade];
  const bad: Partial<Record<keyof Trade, bigint>>[] = [
    { price: 0n },
    { price: -1n },
    { price: 2n ** 63n },
    { quantity: 0n },
    { quantity: 2n ** 64n + 5n },
    { buyer: -1n },
    { seller: 2n ** 64n },
    { makerOrderId: 2n ** 64n },
    { takerOrderId: -1n },
  ];
  for (const change of bad) {
    assert.throws(
      () => encodeTrade({ ...trade, ...change } as Trade),
      (error) => isGaplessError(error, "INPUT_MALFORMED"),
    );
  }
});
