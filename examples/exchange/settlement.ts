/** Posts each trade to the ledger, once. */
import { ledgerTables } from "gapless/settlement";
import type { Service } from "gapless/supervise";
import { market, openingBalance } from "./market.ts";
import { followTrades } from "./trade-sink.ts";

const run: Service = (context) =>
  followTrades(context, "ledger.sqlite", ledgerTables({ market, openingBalance }));

export default run;
