/**
 * What the thread of the caller and the worker tell each other. The worker answers in the order
 * of the requests, so whoever sees a read's answer has seen the commits before it.
 */
import type { ErrorCode } from "../errors.ts";
import type { Chunk } from "./chunk.ts";

export interface ColdWorkerData {
  readonly directory: string;
}

export type ColdRequest =
  /** Makes the chunks durable. Their memory goes along, and comes back with the reply. */
  | { readonly kind: "commit"; readonly chunks: readonly Chunk[] }
  /** The chunks that hold `limit` messages from `fromId`, or fewer by bytes, but one at least. */
  | { readonly kind: "read"; readonly fromId: bigint; readonly limit: number }
  | { readonly kind: "trim"; readonly throughId: bigint }
  /** The last request: after its reply the worker ends. */
  | { readonly kind: "close" };

/** The worker's first message is an answer that nobody asked for: what it found at opening. */
export type ColdAnswer =
  | { readonly kind: "opened"; readonly lastId: bigint; readonly trimmedId: bigint }
  | { readonly kind: "committed"; readonly chunks: readonly Chunk[] }
  | { readonly kind: "rows"; readonly rows: readonly Uint8Array[] }
  | { readonly kind: "trimmed" }
  | { readonly kind: "closed" }
  /** A GaplessError, which loses its class on the way between threads. */
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly message: string };
