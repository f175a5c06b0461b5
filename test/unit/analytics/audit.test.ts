import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import {
  auditCandles,
  candlesDigest,
  candleTables,
  type Candle,
  type CandleAudit,
} from "../../../src/analytics/analytics.ts";
import { openSqliteReader, sqliteSink } from "../../../src/connect/sqlite.ts";
import {
  applyAll,
  batchesOf,
  makePath,
  makeTrades,
  messagesOf,
  tamper,
  withCode,
} from "../connect/fixture.ts";
import type { Trade } from "../../../src/trade.ts";

async function makeCandles(context: TestContext, trades: readonly Trade[]): Promise<string> {
  const path = makePath(context);
  await using sink = sqliteSink({ path, stream: "trades", tables: candleTables() });
  await applyAll(sink, batchesOf(messagesOf(trades), 50));
  return path;
}

async function audit(
  path: string,
  trades: Iterable<Trade> | AsyncIterable<Trade>,
  afterId = 0n,
): Promise<CandleAudit> {
  using database = openSqliteReader(path);
  return await auditCandles({ database, trades, afterId });
}

test("candles of exactly these trades pass, however the trades arrive", async (context) => {
  const trades = makeTrades(300);
  const path = await makeCandles(context, trades);
  const result = await audit(path, trades);
  assert.deepEqual(
    { ...result, digest: "" },
    {
      passed: true,
      analysed: 300,
      lost: 0,
      duplicated: 0,
      candlesWrong: 0,
      unverified: 0,
      digest: "",
      findings: [],
    },
  );
  async function* arriving(): AsyncGenerator<Trade> {
    yield* trades;
  }
  assert.deepEqual(await audit(path, arriving()), result);
});

test("trades that candles lack are lost, also with their whole minute", async (context) => {
  const trades = makeTrades(300);
  // The trades are a second apart from 20 s past the minute: the second whole minute is left out.
  const kept = trades.filter(
    (_, index) => index !== 5 && index !== 7 && !(index >= 40 && index < 100),
  );
  const result = await audit(await makeCandles(context, kept), trades);
  assert.deepEqual(
    [result.analysed, result.lost, result.duplicated, result.candlesWrong, result.passed],
    [238, 62, 0, 2, false],
  );
  assert.match(result.findings.join("\n"), /^no candle, expected \d+/m);
});

test("trades that candles count too much are duplicated", async (context) => {
  const trades = makeTrades(300);
  const real = trades.filter((_, index) => index !== 5 && index !== 200);
  const result = await audit(await makeCandles(context, trades), real);
  assert.deepEqual(
    [result.analysed, result.lost, result.duplicated, result.candlesWrong, result.passed],
    [300, 0, 2, 2, false],
  );
});

for (const column of ["open", "high", "low", "close", "volume", "quote_volume", "open_id"]) {
  test(`a candle whose ${column} is one off is wrong, though nothing is lost`, async (context) => {
    const trades = makeTrades(300);
    const path = await makeCandles(context, trades);
    const second = "SELECT start_ns FROM candles ORDER BY start_ns LIMIT 1 OFFSET 1";
    tamper(path, `UPDATE candles SET ${column} = ${column} + 1 WHERE start_ns = (${second})`);
    const result = await audit(path, trades);
    assert.deepEqual([result.lost, result.duplicated, result.candlesWrong], [0, 0, 1]);
    assert.ok(!result.passed);
    assert.equal(result.findings.length, 1);
  });
}

test("only minutes of trades that can still be had are compared", async (context) => {
  const trades = makeTrades(300);
  const path = await makeCandles(context, trades);
  const afterId = trades[59]?.id ?? 0n;
  const result = await audit(path, trades.slice(60), afterId);
  assert.deepEqual([result.passed, result.unverified, result.analysed], [true, 2, 200]);
  tamper(path, "UPDATE candles SET volume = volume + 1 WHERE open_id > 400");
  assert.ok(!(await audit(path, trades.slice(60), afterId)).passed);
});

test("the digest is that of the lines of its text", () => {
  const candle: Candle = {
    startNs: 60_000_000_000n,
    open: 1n,
    high: 9n,
    low: 1n,
    close: 5n,
    volume: 12n,
    quoteVolume: 70n,
    count: 3n,
    openId: 4n,
    closeId: 8n,
  };
  // printf '60000000000 1 9 1 5 12 70 3\n120000000000 1 9 1 5 12 70 3\n' | sha256sum
  const digest = "dade9a9f7ff1ba434be276b2f4008cb17958492a9454bc4f702aec7762454564";
  assert.equal(candlesDigest([candle, { ...candle, startNs: 120_000_000_000n }]), digest);
});

test("trades out of order, or a file without candles, are no audit", async (context) => {
  const trades = makeTrades(3);
  const path = await makeCandles(context, trades);
  await assert.rejects(audit(path, [...trades].reverse()), withCode("INPUT_MALFORMED"));
  const empty = makePath(context);
  tamper(empty, "CREATE TABLE postings (x)");
  await assert.rejects(audit(empty, []), withCode("CONFIG_INVALID", empty));
});
