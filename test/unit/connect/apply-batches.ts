/**
 * Child of sqlite-kill.test.ts: goes on where the file says that it stopped, and kills itself when
 * it has reached "sink.written" so many times; never for 0.
 */
import { subscribe } from "node:diagnostics_channel";
import { candleTables } from "../../../src/analytics/analytics.ts";
import { sqliteSink } from "../../../src/connect/sqlite.ts";
import { ledgerTables } from "../../../src/settlement/settlement.ts";
import { stepChannelName } from "../../../src/steps.ts";
import { applyAll, batchesOf, makeTrades, market, messagesOf } from "./fixture.ts";

const [path = "", room = "", killAt = ""] = process.argv.slice(2);

let reached = 0;
subscribe(stepChannelName, (step) => {
  if (step !== "sink.written") return;
  reached += 1;
  if (reached === Number(killAt)) process.kill(process.pid, "SIGKILL");
});

const openingBalance = (account: bigint): Record<string, bigint> => ({
  BTC: 1_000_000n * (account + 1n),
  USD: 10n ** 15n,
});
const tables = room === "ledger" ? ledgerTables({ market, openingBalance }) : candleTables();
await using sink = sqliteSink({ path, stream: "trades", tables });
const position = await sink.position();
const left = messagesOf(makeTrades(400)).filter(({ id }) => id > position);
await applyAll(sink, batchesOf(left, 60, 1, 29));
