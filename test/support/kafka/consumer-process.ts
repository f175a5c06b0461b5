/**
 * A consumer in a process of its own: from Kafka into SQLite, until SIGTERM.
 *
 * It writes `at ID` when something is committed, and ends with `error CODE` and status 1.
 */
import fs from "node:fs";
import { kafkaSource } from "../../../src/connect/kafka.ts";
import { sqliteSink } from "../../../src/connect/sqlite.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { pump } from "../../../src/flow/flow.ts";
import { seenTables } from "./stream.ts";

export interface ConsumerTask {
  readonly bootstrap: string;
  readonly topic: string;
  readonly group: string;
  readonly path: string;
  readonly batchMax: number;
  readonly sessionTimeoutMs: number;
}

const { path, ...where } = JSON.parse(process.argv[2] ?? "") as ConsumerTask;
const ending = new AbortController();
process.on("SIGTERM", () => ending.abort());
// Not console.log: it must be out before a SIGKILL.
const say = (line: string): void => void fs.writeSync(1, `${line}\n`);

await using sink = sqliteSink({ path, stream: "trades", tables: seenTables });
await using source = kafkaSource(where);
try {
  await pump({
    source,
    sink,
    signal: ending.signal,
    onProgress: (position) => say(`at ${position}`),
  });
} catch (error) {
  if (!isGaplessError(error)) throw error;
  say(`error ${error.code} ${error.message}`);
  process.exitCode = 1;
}
