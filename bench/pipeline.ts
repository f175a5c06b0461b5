/**
 * How many trades a second does the whole exchange carry, from the order to the last row?
 *
 *   pipeline.trades   feed → bus → journal → matching → buffer → bus → ledger and candles, each a
 *                     process, every stage synced to disk before the one before it is told
 *
 * From the moment that the feed may begin until the last stage has committed the last trade; the
 * audit has to hold. The reference is the ledger alone: the same trades into SQLite, by one process
 * with nothing before it.
 */
import fs from "node:fs";
import path from "node:path";
import { openMsgBuffer } from "gapless/buffer";
import { sqliteSink } from "gapless/connect/sqlite";
import { isGaplessError, noRepair } from "gapless/flow";
import { ledgerTables } from "gapless/settlement";
import { market, openingBalance } from "../examples/exchange/market.ts";
import { stream } from "../examples/exchange/trade-sink.ts";
import type { SupervisedService } from "../src/supervise/supervised-service.ts";
import { runTopology } from "../src/supervise/supervisor.ts";
import { loadTopology } from "../src/supervise/topology.ts";
import { figure, type Figure, type Size } from "./figure.ts";

const topologyFile = path.join(import.meta.dirname, "../examples/exchange/exchange.toml");
const batchMax = 4096;

export async function pipeline(size: Size): Promise<Figure[]> {
  const count = size === "full" ? 400_000 : 2000;
  // On the disk that the project is on: a temporary directory may be memory.
  const data = fs.mkdtempSync(path.join(import.meta.dirname, ".pipeline-"));
  try {
    const { trades, seconds } = await runExchange(count, path.join(data, "run"));
    const alone = await settleAlone(path.join(data, "run"), path.join(data, "alone.sqlite"));
    return [
      figure("pipeline.trades", trades / seconds, "trades/s", trades / alone, {
        trades,
        orders: count,
        durability: "synced to disk at every stage",
      }),
    ];
  } finally {
    fs.rmSync(data, { recursive: true });
  }
}

async function runExchange(
  count: number,
  dataDirectory: string,
): Promise<{ trades: number; seconds: number }> {
  let services: readonly SupervisedService[] = [];
  let beganMs = 0;
  let endedMs = 0;
  const look = setInterval(() => {
    const feed = services.find(({ entry }) => entry.name === "feed");
    if (beganMs === 0 && feed?.state === "running") beganMs = performance.now();
    if (endedMs === 0 && services.length > 0 && services.every(({ state }) => state === "done")) {
      endedMs = performance.now();
    }
  }, 1);
  const never = new AbortController().signal;
  try {
    const { audit } = await runTopology(loadTopology(topologyFile), {
      options: { orders: "", count, seed: 1 },
      dataDirectory,
      keepsData: false,
      drain: never,
      kill: never,
      watch: {
        log: (service, text) => console.error(`${service}: ${text}`),
        killed: () => undefined,
        started: (started) => {
          services = started;
        },
        finished: () => {
          if (endedMs === 0) endedMs = performance.now();
        },
      },
    });
    if (audit?.holds !== true) throw new Error("the audit does not hold");
  } finally {
    clearInterval(look);
  }
  const engine = services.find(({ entry }) => entry.name === "matching-engine");
  return { trades: Number(engine?.progress.produced), seconds: (endedMs - beganMs) / 1000 };
}

/** Seconds to settle the trades of a run once more, with nothing in front of the ledger. */
async function settleAlone(run: string, file: string): Promise<number> {
  await using trades = await openMsgBuffer({
    component: "trades",
    storage: { dbPath: path.join(run, "matching-engine"), cfName: "trades" },
  });
  await using sink = sqliteSink({
    path: file,
    stream,
    tables: ledgerTables({ market, openingBalance }),
  });
  let seconds = 0;
  while (true) {
    try {
      const batch = await trades.archive.read((await sink.position()) + 1n, batchMax);
      const start = performance.now();
      await sink.apply(batch, noRepair);
      seconds += (performance.now() - start) / 1000;
    } catch (error) {
      if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return seconds;
      throw error;
    }
  }
}
