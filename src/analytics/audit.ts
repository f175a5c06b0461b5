/**
 * The proof that the candles hold exactly the trades that were made: rolled up once more from the
 * trades themselves, they come out the same. Memory grows with the number of minutes.
 */
import { createHash } from "node:crypto";
import { GaplessError } from "../errors.ts";
import { readCandles } from "./candle-tables.ts";
import { rollUp, type Candle } from "./candles.ts";
import type { DatabaseSync } from "node:sqlite";
import type { Trade } from "../trade.ts";

export interface CandleAuditOptions {
  /** The candles: a connection without a transaction under way. */
  readonly database: DatabaseSync;
  /** What was really traded, ascending by id. A trade that has yet to be counted is lost. */
  readonly trades: Iterable<Trade> | AsyncIterable<Trade>;
  /**
   * Trades through this id are no longer to be had: a minute with one of them is not compared.
   * 0n if none.
   */
  readonly afterId?: bigint;
}

export interface CandleAudit {
  /** Nothing lost, nothing duplicated, every candle right. */
  readonly passed: boolean;
  /** Trades that the compared candles count. */
  readonly analysed: number;
  /** Trades that candles lack. */
  readonly lost: number;
  /** Trades that candles count too much. */
  readonly duplicated: number;
  /** Candles that differ from those of the trades, in whatever column. */
  readonly candlesWrong: number;
  /** Candles that were not compared. */
  readonly unverified: number;
  /** `candlesDigest` of all candles. */
  readonly digest: string;
  /** The first findings, as sentences. */
  readonly findings: readonly string[];
}

const findingsMax = 20;

/**
 * Reads one moment of the candles, after the last of `trades` came.
 *
 * @throws GaplessError CONFIG_INVALID for a file that holds no candles; INPUT_MALFORMED for trades
 *   that do not ascend; whatever `trades` throws.
 */
export async function auditCandles(options: CandleAuditOptions): Promise<CandleAudit> {
  const { database, trades, afterId = 0n } = options;
  requireCandles(database);
  const expected = new Map<bigint, Candle>();
  let lastId = 0n;
  for await (const trade of trades) {
    requireAscending(lastId, trade.id);
    lastId = trade.id;
    if (trade.id > afterId) rollUp(expected, trade);
  }

  let analysed = 0n;
  let lost = 0n;
  let duplicated = 0n;
  let candlesWrong = 0;
  let unverified = 0;
  const findings: string[] = [];

  function compare(candle: Candle | undefined, truth: Candle | undefined): void {
    const [found, wanted] = [describe(candle), describe(truth)];
    if (found === wanted) return;
    candlesWrong++;
    const missing = (truth?.count ?? 0n) - (candle?.count ?? 0n);
    if (missing > 0n) lost += missing;
    else duplicated -= missing;
    if (findings.length < findingsMax) findings.push(`${found}, expected ${wanted}.`);
  }

  function* compared(): Generator<Candle> {
    for (const candle of readCandles(database)) {
      yield candle;
      const truth = expected.get(candle.startNs);
      expected.delete(candle.startNs);
      if (candle.openId <= afterId) {
        unverified++;
      } else {
        analysed += candle.count;
        compare(candle, truth);
      }
    }
  }

  const digest = candlesDigest(compared());
  for (const truth of expected.values()) compare(undefined, truth);
  return {
    passed: candlesWrong === 0,
    analysed: Number(analysed),
    lost: Number(lost),
    duplicated: Number(duplicated),
    candlesWrong,
    unverified,
    digest,
    findings,
  };
}

/**
 * SHA-256, in hexadecimal, of the candles as text: a line
 * `startNs open high low close volume quoteVolume count` each, with single blanks between and
 * "\n" behind, numbers in decimal, ascending.
 *
 * @param candles In that order.
 */
export function candlesDigest(candles: Iterable<Candle>): string {
  const hash = createHash("sha256");
  for (const candle of candles) hash.update(`${lineOf(candle)}\n`);
  return hash.digest("hex");
}

function lineOf(candle: Candle): string {
  const { startNs, open, high, low, close, volume, quoteVolume, count } = candle;
  return [startNs, open, high, low, close, volume, quoteVolume, count].join(" ");
}

function describe(candle: Candle | undefined): string {
  if (candle === undefined) return "no candle";
  return `${lineOf(candle)} of trades ${candle.openId.toString()} to ${candle.closeId.toString()}`;
}

function requireCandles(database: DatabaseSync): void {
  const table = database.prepare("SELECT name FROM sqlite_schema WHERE name = 'candles'");
  if (table.get() !== undefined) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `There are no candles in ${database.location() ?? "memory"}: it lacks their table.`,
  );
}

function requireAscending(lastId: bigint, id: bigint): void {
  if (id > lastId) return;
  throw new GaplessError(
    "INPUT_MALFORMED",
    `The trades to audit by do not ascend: ${id.toString()} comes after ${lastId.toString()}.`,
  );
}
