/** Analytics: trades into candles, exactly once, and the proof of it. */
export { auditCandles, candlesDigest, type CandleAudit, type CandleAuditOptions } from "./audit.ts";
export { candleTables, readCandles, type CandleTables } from "./candle-tables.ts";
export { candleNs, candleOf, candleStartNs, mergeCandles, rollUp, type Candle } from "./candles.ts";
