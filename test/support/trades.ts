/** Any trade there can be. */
import fc from "fast-check";
import type { Trade } from "../../src/trade.ts";

export const u64 = fc.bigInt(0n, 2n ** 64n - 1n);
const amount = fc.bigInt(1n, 2n ** 63n - 1n);

export const anyTrade: fc.Arbitrary<Trade> = fc.record(
  {
    id: u64,
    timestampNs: u64,
    price: amount,
    quantity: amount,
    makerOrderId: u64,
    takerOrderId: u64,
    buyer: u64,
    seller: u64,
    takerSide: fc.constantFrom("buy", "sell"),
  },
  { noNullPrototype: true },
);
