/**
 * What the thread of the caller and the worker tell each other. The worker answers in the order
 * of the requests, so whoever sees a read's answer has seen the commits before it.
 */
import type { ErrorCode } from "../errors.ts";
import type { Chunk, Extent } from "./chunk.ts";
import type { ColdState } from "./cold-layout.ts";

export interface ColdOptions {
  readonly directory: string;
  /** Whether rows are stored compressed. */
  readonly isCompressed: boolean;
  /** Whether a write is on the device before it is answered; else it outlives the process only. */
  readonly isSynced: boolean;
  /** Of RocksDB: written to a table once it is so large. */
  readonly writeBufferBytes: number;
}

export type ColdRequest =
  /** Writes the chunks, and the position with them. Their memory comes back with the answer. */
  | { readonly kind: "commit"; readonly chunks: readonly Chunk[]; readonly logPosition?: bigint }
  /** The chunks that hold `limit` messages from `fromId`, or fewer by bytes, but one at least. */
  | { readonly kind: "read"; readonly fromId: bigint; readonly limit: number }
  | { readonly kind: "trim"; readonly throughId: bigint; readonly logPosition?: bigint }
  /** Begins a stream that has nothing yet behind an id. */
  | { readonly kind: "start"; readonly afterId: bigint }
  /** Goes on with a digest, or begins it: some messages at a time. */
  | {
      readonly kind: "digest";
      readonly digest: number;
      readonly fromId: bigint;
      readonly throughId: bigint;
    }
  | ({ readonly kind: "excess" } & Excess)
  /** The last request: after its answer the worker ends. */
  | { readonly kind: "close" };

/** What is too much: what either says. */
export interface Excess {
  /** Messages that stay. */
  readonly count: number | undefined;
  /** Times before it are too far back. */
  readonly beforeNs: bigint | undefined;
}

/** What the store holds when it is opened. */
export interface ColdOpened {
  readonly lastId: bigint;
  /** Of the whole stream, trimmed messages too. */
  readonly appended: Extent;
  readonly state: ColdState;
}

/** What a trim has led to. */
export interface Trimmed {
  readonly state: ColdState;
  /** Messages that it has taken. */
  readonly deleted: number;
}

/** The worker's first message is an answer that nobody asked for: what it found at opening. */
export type ColdAnswer =
  | ({ readonly kind: "opened" } & ColdOpened)
  | { readonly kind: "committed"; readonly chunks: readonly Chunk[] }
  | { readonly kind: "rows"; readonly rows: readonly Uint8Array[] }
  | ({ readonly kind: "trimmed" } & Trimmed)
  /** Where to go on; undefined once all of the range is in. */
  | {
      readonly kind: "digested";
      readonly count: number;
      readonly nextId: bigint | undefined;
      readonly sha256: Uint8Array | undefined;
    }
  | { readonly kind: "excess"; readonly beforeId: bigint | undefined }
  | { readonly kind: "closed" }
  /** A GaplessError, which loses its class on the way between threads. */
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly message: string };
