/** A service that follows the trades into a SQLite file: the same for every such file. */
import path from "node:path";
import { connectPeer } from "gapless/buffer";
import {
  openSqliteReader,
  readCheckpoint,
  sqliteSink,
  type SqliteTables,
} from "gapless/connect/sqlite";
import { busSource, pump } from "gapless/flow";
import type { ServiceContext } from "gapless/supervise";

export const stream = "trades";
const batchMax = 4096;

export async function followTrades(
  context: ServiceContext,
  file: string,
  tables: SqliteTables,
): Promise<void> {
  const { signal } = context;
  const databasePath = path.join(context.dataDirectory, file);
  await using sink = sqliteSink({ path: databasePath, stream, tables });
  await using archive = connectPeer({
    address: `unix:${context.socketPath("matching-engine")}`,
    flow: stream,
  });
  const source = busSource(context.bus.subscriber("trades"), { batchMax });
  context.ready();

  let gapsFilled = readGapsFilled(databasePath);
  const progress = (consumed: bigint) => ({ consumed, gapsFilled });
  const consumed = await pump({
    source,
    sink,
    archives: [archive],
    signal,
    onProgress: (position, repair) => {
      gapsFilled += BigInt(repair.gaps);
      context.report(progress(position));
    },
  });
  if (!signal.aborted) await context.done(progress(consumed));
}

function readGapsFilled(databasePath: string): bigint {
  const database = openSqliteReader(databasePath);
  try {
    return readCheckpoint(database, stream)?.gapsFilled ?? 0n;
  } finally {
    database.close();
  }
}
