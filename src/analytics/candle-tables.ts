/**
 * Candles in SQLite: what `sqliteSink` needs to know of them.
 *
 * A batch is rolled up in memory and merged with the candles that are there, in the transaction
 * that also moves the position: a batch is in the candles once or not at all. All columns are
 * absolute, and the chain of the stream is what keeps a trade from counting twice.
 */
import type { DatabaseSync } from "node:sqlite";
import { GaplessError } from "../errors.ts";
import { decodeTrade } from "../trade.ts";
import { mergeCandles, rollUp, type Candle } from "./candles.ts";
import type { Batch } from "../message.ts";

/** Fits the `tables` of a SQLite sink. */
export interface CandleTables {
  readonly schema: string;
  prepare(database: DatabaseSync): (batch: Batch) => void;
}

const schema = `
  CREATE TABLE IF NOT EXISTS candles (
    start_ns     INTEGER NOT NULL PRIMARY KEY, -- beginning of the minute, since 1970
    open         INTEGER NOT NULL,
    high         INTEGER NOT NULL,
    low          INTEGER NOT NULL,
    close        INTEGER NOT NULL,
    volume       INTEGER NOT NULL, -- lots
    quote_volume INTEGER NOT NULL, -- sum of price times quantity
    count        INTEGER NOT NULL, -- trades
    open_id      INTEGER NOT NULL, -- ids of the trades that open and close are of
    close_id     INTEGER NOT NULL
  ) STRICT;`;

const columns = "start_ns, open, high, low, close, volume, quote_volume, count, open_id, close_id";

/**
 * Keeps one-minute candles. Writing throws MESSAGE_MALFORMED for a message that is no trade, and
 * AMOUNT_OVERFLOW where a number of a candle leaves the signed 64 bits of SQLite.
 */
export function candleTables(): CandleTables {
  return {
    schema,
    prepare(database) {
      const select = database.prepare(`SELECT ${columns} FROM candles WHERE start_ns = ?`);
      const replace = database.prepare(
        `INSERT OR REPLACE INTO candles (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      );
      select.setReturnArrays(true);

      return (batch) => {
        const candles = new Map<bigint, Candle>();
        for (const message of batch) rollUp(candles, decodeTrade(message));
        for (const added of candles.values()) {
          const candle = requireI64(added);
          const row = select.get(candle.startNs) as unknown as CandleRow | undefined;
          const before = row === undefined ? undefined : candleOfRow(row);
          const after = before === undefined ? candle : requireI64(mergeCandles(before, candle));
          replace.run(...rowOf(after));
        }
      };
    },
  };
}

/** Every candle, ascending. */
export function* readCandles(database: DatabaseSync): Generator<Candle, void, undefined> {
  const select = database.prepare(`SELECT ${columns} FROM candles ORDER BY start_ns`);
  select.setReadBigInts(true);
  select.setReturnArrays(true);
  for (const row of select.iterate()) yield candleOfRow(row as unknown as CandleRow);
}

/** In the order of `columns`. */
type CandleRow = readonly [
  startNs: bigint,
  open: bigint,
  high: bigint,
  low: bigint,
  close: bigint,
  volume: bigint,
  quoteVolume: bigint,
  count: bigint,
  openId: bigint,
  closeId: bigint,
];

function rowOf(candle: Candle): CandleRow {
  return [
    candle.startNs,
    candle.open,
    candle.high,
    candle.low,
    candle.close,
    candle.volume,
    candle.quoteVolume,
    candle.count,
    candle.openId,
    candle.closeId,
  ];
}

function candleOfRow(row: CandleRow): Candle {
  const [startNs, open, high, low, close, volume, quoteVolume, count, openId, closeId] = row;
  return { startNs, open, high, low, close, volume, quoteVolume, count, openId, closeId };
}

function requireI64(candle: Candle): Candle {
  for (const value of rowOf(candle)) {
    if (BigInt.asIntN(64, value) === value) continue;
    throw new GaplessError(
      "AMOUNT_OVERFLOW",
      "A number of a candle leaves the signed 64 bits that it is kept in: " +
        `${value.toString()} in the minute that begins at ${candle.startNs.toString()} ns, ` +
        `volume=${candle.volume.toString()} quoteVolume=${candle.quoteVolume.toString()}. ` +
        "Nothing was written.",
    );
  }
  return candle;
}
