/**
 * Candles: what the trades of one minute amount to.
 *
 * A candle knows the ids of its first and last trade, so candles of the same minute merge in any
 * order and grouping to the same result: trades may be rolled up in whatever batches they come.
 * A minute without trades has no candle.
 */
import { assert } from "../errors.ts";
import type { Trade } from "../trade.ts";

export interface Candle {
  /** Beginning of the minute, in nanoseconds since 1970. */
  readonly startNs: bigint;
  /** Prices in ticks. Open and close are those of the lowest and the highest trade id. */
  readonly open: bigint;
  readonly high: bigint;
  readonly low: bigint;
  readonly close: bigint;
  /** Sum of the quantities, in lots. */
  readonly volume: bigint;
  /** Sum of price × quantity. */
  readonly quoteVolume: bigint;
  /** Number of trades. */
  readonly count: bigint;
  readonly openId: bigint;
  readonly closeId: bigint;
}

/** Length of a candle in nanoseconds. */
export const candleNs = 60_000_000_000n;

/** Beginning of the minute that a moment lies in. */
export function candleStartNs(timestampNs: bigint): bigint {
  return timestampNs - (timestampNs % candleNs);
}

/** The candle of a single trade. */
export function candleOf(trade: Trade): Candle {
  const { id, price, quantity } = trade;
  return {
    startNs: candleStartNs(trade.timestampNs),
    open: price,
    high: price,
    low: price,
    close: price,
    volume: quantity,
    quoteVolume: price * quantity,
    count: 1n,
    openId: id,
    closeId: id,
  };
}

/** The candle of the trades of both, which have none in common. Associative and commutative. */
export function mergeCandles(one: Candle, other: Candle): Candle {
  assert(one.startNs === other.startNs, "candles of different minutes do not merge");
  const first = one.openId < other.openId ? one : other;
  const last = one.closeId > other.closeId ? one : other;
  return {
    startNs: one.startNs,
    open: first.open,
    high: one.high > other.high ? one.high : other.high,
    low: one.low < other.low ? one.low : other.low,
    close: last.close,
    volume: one.volume + other.volume,
    quoteVolume: one.quoteVolume + other.quoteVolume,
    count: one.count + other.count,
    openId: first.openId,
    closeId: last.closeId,
  };
}

/** Adds a trade to the candle of its minute. */
export function rollUp(candles: Map<bigint, Candle>, trade: Trade): void {
  const candle = candleOf(trade);
  const before = candles.get(candle.startNs);
  candles.set(candle.startNs, before === undefined ? candle : mergeCandles(before, candle));
}
