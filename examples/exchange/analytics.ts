/** Rolls the trades up into one-minute candles. */
import { candleTables } from "gapless/analytics";
import type { Service } from "gapless/supervise";
import { followTrades } from "./trade-sink.ts";

const run: Service = (context) => followTrades(context, "candles.sqlite", candleTables());

export default run;
