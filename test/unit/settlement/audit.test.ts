import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { openSqliteReader, sqliteSink } from "../../../src/connect/sqlite.ts";
import {
  auditLedger,
  balancesDigest,
  ledgerTables,
  type Balance,
  type LedgerAudit,
} from "../../../src/settlement/settlement.ts";
import {
  applyAll,
  batchesOf,
  makePath,
  makeTrades,
  market,
  messagesOf,
  query,
  tamper,
  withCode,
} from "../connect/fixture.ts";
import type { Trade } from "../../../src/trade.ts";

const openingBalance = (account: bigint): Record<string, bigint> => ({ BTC: account, USD: 900n });

async function makeLedger(context: TestContext, trades: readonly Trade[]): Promise<string> {
  const path = makePath(context);
  const tables = ledgerTables({ market, openingBalance });
  await using sink = sqliteSink({ path, stream: "trades", tables });
  await applyAll(sink, batchesOf(messagesOf(trades), 64));
  return path;
}

async function audit(
  path: string,
  trades: Iterable<Trade> | AsyncIterable<Trade>,
  afterId = 0n,
): Promise<LedgerAudit> {
  using database = openSqliteReader(path);
  return await auditLedger({ database, trades, afterId });
}

test("a ledger of exactly these trades passes, however they arrive", async (context) => {
  const trades = makeTrades(1500);
  const path = await makeLedger(context, trades);
  const result = await audit(path, trades);
  assert.deepEqual(result.findings, []);
  assert.ok(result.passed);
  assert.ok(result.conserved);
  assert.deepEqual(
    [result.settled, result.lost, result.duplicated, result.unverified, result.balancesWrong],
    [1500, 0, 0, 0, 0],
  );
  assert.deepEqual(result.assets, [
    { asset: "BTC", total: 0n, balances: 45n, deposits: 45n },
    { asset: "USD", total: 0n, balances: 9000n, deposits: 9000n },
  ]);
  async function* arriving(): AsyncGenerator<Trade> {
    yield* trades;
  }
  assert.deepEqual(await audit(path, arriving()), result);
});

test("the digest is the one of the balances as they are stored", async (context) => {
  const path = await makeLedger(context, makeTrades(50));
  const rows = query(path, "SELECT account, asset, amount FROM balances ORDER BY account, asset");
  const balances = rows.map(([account, asset, amount]) => ({ account, asset, amount }) as Balance);
  assert.equal((await audit(path, [])).digest, balancesDigest(balances));
});

test("every trade that was left out is counted as lost, and nothing else is", async (context) => {
  const trades = makeTrades(60);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), async (kept) => {
      const path = await makeLedger(
        context,
        trades.filter((_, index) => kept[index]),
      );
      const result = await audit(path, trades);
      const lost = kept.filter((it) => !it).length;
      assert.deepEqual(
        [result.settled, result.lost, result.duplicated, result.passed],
        [60 - lost, lost, 0, lost === 0],
      );
      assert.equal(result.findings.length, Math.min(lost, 20));
    }),
    { numRuns: 20 },
  );
});

test("an entry that no trade calls for is money out of thin air", async (context) => {
  const trades = makeTrades(10);
  const path = await makeLedger(context, trades);
  const real = trades.filter((_, index) => index !== 4 && index !== 9);
  const result = await audit(path, real);
  assert.deepEqual([result.settled, result.lost, result.duplicated], [8, 0, 2]);
  assert.ok(!result.passed);
  assert.match(result.findings.join(), new RegExp(`${String(trades[9]?.id)} belongs to no trade`));
});

for (const [what, sql] of [
  ["an amount that is one unit off", "UPDATE postings SET amount = amount + 1 WHERE leg = 0"],
  ["another account", "UPDATE postings SET account = account + 1 WHERE leg = 2"],
  ["another asset", "UPDATE postings SET asset = 'EUR' WHERE leg = 1"],
  ["a leg too few", "DELETE FROM postings WHERE leg = 3"],
  ["a leg in another place", "UPDATE postings SET leg = 7 WHERE leg = 3"],
  [
    "a leg twice",
    "INSERT INTO postings SELECT entry, 4, account, asset, amount FROM postings WHERE leg = 3",
  ],
] as const) {
  test(`an entry with ${what} is not the one that its trade calls for`, async (context) => {
    const trades = makeTrades(10);
    const path = await makeLedger(context, trades);
    const id = trades[5]?.id ?? 0n;
    const [statement = "", from = ""] = sql.split(/(?<= FROM postings) (?=WHERE)/);
    tamper(path, `${statement} ${from} AND entry = ${id.toString()}`);
    const result = await audit(path, trades);
    assert.ok(!result.passed);
    assert.deepEqual([result.settled, result.lost, result.duplicated], [9, 0, 1]);
    const text = result.findings.join("\n");
    assert.ok(text.includes(`Entry ${id.toString()} is not what its trade calls for`), text);
  });
}

test("a balance that is wrong, missing or made up is found", async (context) => {
  const trades = makeTrades(100);
  const wrong = await makeLedger(context, trades);
  tamper(wrong, "UPDATE balances SET amount = amount + 1 WHERE account = 3 AND asset = 'BTC'");
  tamper(wrong, "UPDATE balances SET amount = amount - 1 WHERE account = 4 AND asset = 'BTC'");
  const result = await audit(wrong, trades);
  assert.deepEqual([result.balancesWrong, result.conserved, result.passed], [2, true, false]);

  const missing = await makeLedger(context, trades);
  tamper(missing, "DELETE FROM balances WHERE account = 3");
  const found = await audit(missing, trades);
  assert.deepEqual([found.balancesWrong, found.conserved, found.passed], [2, false, false]);

  const invented = await makeLedger(context, trades);
  tamper(invented, "INSERT INTO balances VALUES (77, 'BTC', 5)");
  const extra = await audit(invented, trades);
  assert.deepEqual([extra.balancesWrong, extra.conserved, extra.passed], [1, false, false]);
});

test("a deposit that only one side knows of breaks conservation", async (context) => {
  const trades = makeTrades(100);
  const path = await makeLedger(context, trades);
  tamper(path, "UPDATE postings SET amount = amount + 5 WHERE entry = -4 AND leg = 2");
  tamper(path, "UPDATE balances SET amount = amount + 5 WHERE account = 3 AND asset = 'USD'");
  const result = await audit(path, trades);
  assert.deepEqual([result.conserved, result.balancesWrong, result.passed], [false, 0, false]);
  assert.deepEqual(result.assets[1], {
    asset: "USD",
    total: 5n,
    balances: 9005n,
    deposits: 9005n,
  });
  assert.match(result.findings.join(), /USD: postings add up to 5/);
});

test("a deposit into another account than its entry names is no deposit", async (context) => {
  const trades = makeTrades(100);
  const path = await makeLedger(context, trades);
  tamper(path, "UPDATE postings SET account = 8 WHERE entry = -4 AND account = 3");
  const result = await audit(path, trades);
  assert.equal(result.duplicated, 1);
  assert.ok(!result.passed);
});

test("trades that were trimmed away are neither held against it nor proven", async (context) => {
  const trades = makeTrades(40);
  const path = await makeLedger(context, trades);
  const afterId = trades[24]?.id ?? 0n;
  const result = await audit(path, trades.slice(25), afterId);
  assert.deepEqual([result.passed, result.settled, result.unverified], [true, 15, 25]);
  // The same trades once more from the beginning: what is at or below `afterId` is passed over.
  assert.deepEqual(await audit(path, trades, afterId), result);
});

test("an audit sees one moment, however much is settled while it reads", async (context) => {
  const trades = makeTrades(200);
  const path = await makeLedger(context, trades.slice(0, 100));
  const tables = ledgerTables({ market, openingBalance });
  await using sink = sqliteSink({ path, stream: "trades", tables });
  const rest = batchesOf(messagesOf(trades.slice(100), trades[99]?.id), 10);
  async function* settlingMeanwhile(): AsyncGenerator<Trade> {
    for (const [index, trade] of trades.slice(0, 100).entries()) {
      const batch = rest[index];
      if (batch !== undefined) await applyAll(sink, [batch]);
      yield trade;
    }
  }
  const during = await audit(path, settlingMeanwhile());
  assert.deepEqual([during.passed, during.settled], [true, 100]);
  const after = await audit(path, trades);
  assert.deepEqual([after.passed, after.settled], [true, 200]);
});

test("trades out of order, or a file without a ledger, are no audit", async (context) => {
  const trades = makeTrades(3);
  const path = await makeLedger(context, trades);
  using database = openSqliteReader(path);
  const twice = [trades[0], trades[0]] as Trade[];
  await assert.rejects(auditLedger({ database, trades: twice }), withCode("INPUT_MALFORMED"));
  const result = await auditLedger({ database, trades });
  assert.ok(result.passed);

  const empty = makePath(context);
  tamper(empty, "CREATE TABLE postings (x)");
  await assert.rejects(audit(empty, []), withCode("CONFIG_INVALID", empty));
});
