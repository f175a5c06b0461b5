import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  externalAccount,
  openingEntry,
  openingPostings,
  postingsFor,
  type Posting,
} from "../../../src/settlement/settlement.ts";
import { market, withCode } from "../connect/fixture.ts";
import { anyTrade, u64 } from "../../support/trades.ts";

function sums(
  postings: readonly Posting[],
  key: (posting: Posting) => string,
): Map<string, bigint> {
  const totals = new Map<string, bigint>();
  for (const posting of postings) {
    totals.set(key(posting), (totals.get(key(posting)) ?? 0n) + posting.amount);
  }
  return totals;
}

test("the legs of any trade add up to zero in each asset, however large", () => {
  fc.assert(
    fc.property(anyTrade, (trade) => {
      const totals = sums(postingsFor(trade, market), ({ asset }) => asset);
      assert.deepEqual(
        [...totals],
        [
          ["BTC", 0n],
          ["USD", 0n],
        ],
      );
    }),
  );
});

test("the buyer has the base and the seller exactly price × quantity of the quote", () => {
  fc.assert(
    fc.property(anyTrade, (trade) => {
      fc.pre(trade.buyer !== trade.seller);
      const { buyer, seller, price, quantity } = trade;
      assert.deepEqual(postingsFor(trade, market), [
        { account: buyer, asset: "BTC", amount: quantity },
        { account: seller, asset: "BTC", amount: -quantity },
        { account: buyer, asset: "USD", amount: -(price * quantity) },
        { account: seller, asset: "USD", amount: price * quantity },
      ]);
    }),
  );
});

test("who trades with himself has afterwards what he had before", () => {
  fc.assert(
    fc.property(anyTrade, u64, (trade, account) => {
      const postings = postingsFor({ ...trade, buyer: account, seller: account }, market);
      const totals = sums(postings, (posting) => `${posting.account.toString()} ${posting.asset}`);
      assert.deepEqual([...totals.values()], [0n, 0n]);
    }),
  );
});

test("what a user brings comes from external, asset by asset in the order of their names", () => {
  const postings = openingPostings(7n, { USD: 500n, BTC: 3n, EUR: 0n });
  assert.deepEqual(postings, [
    { account: 7n, asset: "BTC", amount: 3n },
    { account: externalAccount, asset: "BTC", amount: -3n },
    { account: 7n, asset: "USD", amount: 500n },
    { account: externalAccount, asset: "USD", amount: -500n },
  ]);
  assert.deepEqual(openingPostings(7n, {}), []);
});

test("a deposit below zero, or of something without a name, is refused", () => {
  assert.throws(() => openingPostings(7n, { USD: -1n }), withCode("CONFIG_INVALID", "USD=-1"));
  for (const asset of ["", "US D", "USD\n", "€"]) {
    assert.throws(() => openingPostings(7n, { [asset]: 1n }), withCode("CONFIG_INVALID"));
  }
});

test("the entry of a deposit is never that of a trade, nor of another account", () => {
  fc.assert(
    fc.property(u64, u64, (one, other) => {
      assert.ok(openingEntry(one) < 0n);
      assert.equal(openingEntry(one) === openingEntry(other), one === other);
    }),
  );
});
