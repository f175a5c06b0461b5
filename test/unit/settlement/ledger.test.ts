import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import fc from "fast-check";
import { sqliteSink, type SqliteSink } from "../../../src/connect/sqlite.ts";
import { noRepair } from "../../../src/flow/endpoints.ts";
import {
  balancesDigest,
  ledgerTables,
  openingPostings,
  postingsFor,
  type Balance,
  type LedgerOptions,
  type Posting,
} from "../../../src/settlement/settlement.ts";
import {
  applyAll,
  batchesOf,
  i64Max,
  makePath,
  makeTrades,
  market,
  messagesOf,
  query,
  withCode,
} from "../connect/fixture.ts";
import type { Batch } from "../../../src/message.ts";
import type { Trade } from "../../../src/trade.ts";

const openingBalance = (account: bigint): Record<string, bigint> => ({
  BTC: 5_000n + account,
  USD: 1_000_000n,
});

function openLedger(path: string, options: Partial<LedgerOptions> = {}): SqliteSink {
  const tables = ledgerTables({ market, openingBalance, ...options });
  return sqliteSink({ path, stream: "trades", tables });
}

async function settle(path: string, trades: readonly Trade[], ...sizes: number[]): Promise<void> {
  await using sink = openLedger(path);
  await applyAll(sink, batchesOf(messagesOf(trades), ...sizes));
}

function postingsIn(path: string): unknown[][] {
  return query(path, "SELECT entry, leg, account, asset, amount FROM postings");
}

function balancesIn(path: string): unknown[][] {
  return query(path, "SELECT account, asset, amount FROM balances ORDER BY account, asset");
}

/** The ledger as plain arithmetic has it. */
function expectedBalances(trades: readonly Trade[]): Balance[] {
  const balances = new Map<string, Balance>();
  const post = ({ account, asset, amount }: Posting): void => {
    const key = `${account.toString()} ${asset}`;
    const before = balances.get(key)?.amount ?? 0n;
    if (account >= 0n) balances.set(key, { account, asset, amount: before + amount });
  };
  const users = new Set(trades.flatMap(({ buyer, seller }) => [buyer, seller]));
  for (const user of users) openingPostings(user, openingBalance(user)).forEach(post);
  for (const trade of trades) postingsFor(trade, market).forEach(post);
  return [...balances.values()].sort((one, other) =>
    one.account === other.account
      ? Number(one.asset > other.asset) - 0.5
      : Number(one.account - other.account),
  );
}

test("a trade becomes four legs, behind the deposits of the two who made it", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  await settle(path, [{ ...first, id: 9n, buyer: 1n, seller: 2n, price: 10n, quantity: 3n }]);
  assert.deepEqual(postingsIn(path), [
    [-3n, 0n, 2n, "BTC", 5_002n],
    [-3n, 1n, -1n, "BTC", -5_002n],
    [-3n, 2n, 2n, "USD", 1_000_000n],
    [-3n, 3n, -1n, "USD", -1_000_000n],
    [-2n, 0n, 1n, "BTC", 5_001n],
    [-2n, 1n, -1n, "BTC", -5_001n],
    [-2n, 2n, 1n, "USD", 1_000_000n],
    [-2n, 3n, -1n, "USD", -1_000_000n],
    [9n, 0n, 1n, "BTC", 3n],
    [9n, 1n, 2n, "BTC", -3n],
    [9n, 2n, 1n, "USD", -30n],
    [9n, 3n, 2n, "USD", 30n],
  ]);
  assert.deepEqual(balancesIn(path), [
    [1n, "BTC", 5_004n],
    [1n, "USD", 999_970n],
    [2n, "BTC", 4_999n],
    [2n, "USD", 1_000_030n],
  ]);
});

test("the ledger is the one of plain arithmetic, however batched", async (context) => {
  const trades = makeTrades(300);
  const expected = expectedBalances(trades).map(({ account, asset, amount }) => [
    account,
    asset,
    amount,
  ]);
  const whole = makePath(context);
  await settle(whole, trades, trades.length);
  assert.deepEqual(balancesIn(whole), expected);
  for (const sizes of [[1], [16, 17], [2, 100, 3]]) {
    const path = makePath(context);
    await settle(path, trades, ...sizes);
    assert.deepEqual(balancesIn(path), expected);
    assert.deepEqual(postingsIn(path), postingsIn(whole));
  }
});

test("a batch may name more accounts than one statement holds", async (context) => {
  const trades = makeTrades(600, 500);
  const path = makePath(context);
  await settle(path, trades, 200);
  const expected = expectedBalances(trades);
  assert.ok(expected.length > 600);
  assert.deepEqual(
    balancesIn(path),
    expected.map(({ account, asset, amount }) => [account, asset, amount]),
  );
});

test("a deposit is made once, by the first trade that names the account", async (context) => {
  const path = makePath(context);
  const asked: bigint[] = [];
  const trades = makeTrades(100);
  await using sink = openLedger(path, {
    openingBalance: (account) => {
      asked.push(account);
      return account === 3n ? {} : { EUR: 4n };
    },
  });
  await applyAll(sink, batchesOf(messagesOf(trades), 7));
  assert.deepEqual(asked.length, 10);
  assert.deepEqual(new Set(asked).size, 10);
  const deposits = query(path, "SELECT account, amount FROM balances WHERE asset = 'EUR'");
  assert.deepEqual(
    deposits,
    [0n, 1n, 2n, 4n, 5n, 6n, 7n, 8n, 9n].map((account) => [account, 4n]),
  );
});

test("a batch that is rolled back leaves nothing to the next", async (context) => {
  const path = makePath(context);
  const other = makePath(context);
  const trades = makeTrades(20);
  const [good, bad] = batchesOf(messagesOf(trades), 10) as [Batch, Batch];
  const [head, ...rest] = bad;
  const last = { ...(rest.pop() ?? head), bytes: new Uint8Array(3) };
  await using sink = openLedger(path);
  await sink.apply(good, noRepair);
  const before = [postingsIn(path), balancesIn(path)];
  await assert.rejects(sink.apply([head, ...rest, last], noRepair), withCode("MESSAGE_MALFORMED"));
  assert.deepEqual([postingsIn(path), balancesIn(path)], before);
  await sink.apply(bad, noRepair);
  await settle(other, trades, 20);
  assert.deepEqual(postingsIn(path), postingsIn(other));
  assert.deepEqual(balancesIn(path), balancesIn(other));
});

test("amounts are exact to the last of 63 bits, and refused beyond", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  const trade: Trade = { ...first, id: 1n, buyer: 1n, seller: 2n, price: 1n, quantity: i64Max };
  await using sink = openLedger(path, { openingBalance: () => ({}) });
  await applyAll(sink, batchesOf(messagesOf([trade]), 1));
  assert.deepEqual(balancesIn(path), [
    [1n, "BTC", i64Max],
    [1n, "USD", -i64Max],
    [2n, "BTC", -i64Max],
    [2n, "USD", i64Max],
  ]);
  const overflows: [Partial<Trade>, string][] = [
    // The balance, the amount of a leg, and an account number that no 64 bits with a sign hold.
    [{ price: 1n, quantity: 1n }, "balance of account 1, BTC=9223372036854775808"],
    [{ price: 2n ** 32n, quantity: 2n ** 31n, buyer: 8n }, "USD=9223372036854775808"],
    [{ price: 2n ** 62n, quantity: 2n ** 62n, buyer: 8n }, "USD=-2126764793255865396646091"],
    [{ price: 1n, quantity: 1n, seller: 2n ** 63n }, "account=9223372036854775808"],
  ];
  for (const [change, text] of overflows) {
    const [message] = messagesOf([{ ...trade, id: 2n, ...change }], 1n);
    assert.ok(message !== undefined);
    await assert.rejects(sink.apply([message], noRepair), withCode("AMOUNT_OVERFLOW", text));
    assert.equal(await sink.position(), 1n);
    assert.equal(postingsIn(path).length, 4);
  }
});

test("sums that pass the limit within a batch and come back are no overflow", async (context) => {
  const path = makePath(context);
  const [first] = makeTrades(1) as [Trade];
  const big = { ...first, price: 1n, quantity: i64Max };
  const there = { ...big, buyer: 1n, seller: 2n };
  const back = { ...big, buyer: 2n, seller: 1n };
  const trades = [there, there, back, back].map((it, index) => ({ ...it, id: BigInt(index + 1) }));
  await using sink = openLedger(path, { openingBalance: () => ({ BTC: 1n }) });
  await applyAll(sink, batchesOf(messagesOf(trades), 4));
  assert.deepEqual(balancesIn(path), [
    [1n, "BTC", 1n],
    [1n, "USD", 0n],
    [2n, "BTC", 1n],
    [2n, "USD", 0n],
  ]);
});

test("external may owe more than 64 bits hold: it has postings and no balance", async (context) => {
  const path = makePath(context);
  await using sink = openLedger(path, { openingBalance: () => ({ EUR: i64Max }) });
  await applyAll(sink, batchesOf(messagesOf(makeTrades(100)), 50));
  const external = query(path, "SELECT count(*), max(amount) FROM postings WHERE account = -1");
  assert.deepEqual(external, [[10n, -i64Max]]);
  assert.deepEqual(query(path, "SELECT * FROM balances WHERE account < 0"), []);
});

test("a ledger of another market is refused, and stays as it was", async (context) => {
  const path = makePath(context);
  await settle(path, makeTrades(3));
  for (const other of [
    { ...market, quote: "EUR" },
    { ...market, priceScale: 3 },
    { ...market, base: "USD", quote: "BTC" },
  ]) {
    assert.throws(
      () => openLedger(path, { market: other }),
      withCode("CONFIG_INVALID", "BTC/USD priceScale=2 quantityScale=8"),
    );
  }
  await settle(path, []);
});

test("what is no market is refused before any file is opened", () => {
  for (const bad of [
    { base: "USD" },
    { base: "" },
    { quote: "US D" },
    { priceScale: -1 },
    { quantityScale: 0.5 },
    { priceScale: NaN },
  ]) {
    assert.throws(
      () => ledgerTables({ market: { ...market, ...bad }, openingBalance }),
      withCode("CONFIG_INVALID"),
    );
  }
  const quoted = ledgerTables({ market: { ...market, base: "O'BTC" }, openingBalance });
  assert.ok(quoted.schema.includes("'O''BTC'"));
});

test("the digest is that of the lines of its text, without balances of zero", () => {
  const balances = [
    { account: 1n, asset: "BTC", amount: 5n },
    { account: 1n, asset: "USD", amount: 0n },
    { account: 10n, asset: "BTC", amount: -7n },
  ];
  // printf '1 BTC 5\n10 BTC -7\n' | sha256sum
  const digest = "4a52153745bf67ca825f3edf0b767ba49d7c76f42bc7a45470f496aa929f473f";
  assert.equal(balancesDigest(balances), digest);
  const many = fc.sample(
    fc.record({ account: fc.nat().map(BigInt), asset: fc.constant("BTC"), amount: fc.bigInt() }),
    { numRuns: 10_000, seed: 1 },
  );
  const text = many
    .filter(({ amount }) => amount !== 0n)
    .map(({ account, asset, amount }) => `${account.toString()} ${asset} ${amount.toString()}\n`);
  assert.equal(balancesDigest(many), createHash("sha256").update(text.join("")).digest("hex"));
});
