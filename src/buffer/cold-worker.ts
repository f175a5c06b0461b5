/** The thread that owns RocksDB: one request after the other, in the order they came. */
import { parentPort, workerData, type Transferable } from "node:worker_threads";
import { assert, describeError, GaplessError } from "../errors.ts";
import { openColdRows, type ColdRows } from "./cold-rocksdb.ts";
import type { ColdAnswer, ColdOptions, ColdRequest } from "./cold-protocol.ts";

assert(parentPort !== null, "cold-worker.ts runs as a worker only");
const port = parentPort;

try {
  const rows = await openColdRows(workerData as ColdOptions);
  send({ kind: "opened", ...rows.opened });
  let turn = Promise.resolve();
  port.on("message", (request: ColdRequest) => {
    turn = turn.then(() => serve(rows, request));
  });
} catch (error) {
  send(failed(error));
}

async function serve(rows: ColdRows, request: ColdRequest): Promise<void> {
  try {
    switch (request.kind) {
      case "commit":
        await rows.commit(request.chunks, request.logPosition);
        send(
          { kind: "committed", chunks: request.chunks },
          request.chunks.map(({ bytes }) => bytes.buffer),
        );
        break;
      case "read": {
        const found = rows.read(request.fromId, request.limit);
        send({ kind: "rows", rows: found }, found.flatMap(ownMemory));
        break;
      }
      case "trim":
        send({ kind: "trimmed", ...(await rows.trim(request.throughId, request.logPosition)) });
        break;
      case "start":
        send({ kind: "trimmed", ...(await rows.start(request.afterId)) });
        break;
      case "digest": {
        const { digest, fromId, throughId } = request;
        send({ kind: "digested", ...rows.digest(digest, fromId, throughId) });
        break;
      }
      case "excess":
        send({ kind: "excess", beforeId: rows.excess(request) });
        break;
      case "close":
        await rows.close();
        send({ kind: "closed" });
        break;
      default:
        request satisfies never;
    }
  } catch (error) {
    send(failed(error));
  }
  // Without its port the thread has nothing to wait for, and ends.
  if (request.kind === "close") port.close();
}

function send(answer: ColdAnswer, transfer: readonly Transferable[] = []): void {
  port.postMessage(answer, transfer);
}

function failed(error: unknown): ColdAnswer {
  return error instanceof GaplessError
    ? { kind: "failed", code: error.code, message: error.message }
    : { kind: "failed", code: "SYSTEM_CALL_FAILED", message: describeError(error) };
}

/** What can be handed over without a copy: memory that this row does not share with others. */
function ownMemory(row: Uint8Array): ArrayBuffer[] {
  const { buffer } = row;
  return buffer instanceof ArrayBuffer && buffer.byteLength === row.length ? [buffer] : [];
}
