/**
 * The part of @nxtedition/rocksdb that the cold tier uses; the package brings no types.
 *
 * Traps, each seen with 12.2: `batch.write` and `clear` block the calling thread for all of the
 * write, fsync included. `compression` (on unless told) trains a zstd dictionary for each file
 * and costs two thirds of the throughput. `querySync` needs both encodings, else they are
 * whatever was in memory. After a `close` that failed the object is open in name only, and any
 * further call ends the process.
 */
declare module "@nxtedition/rocksdb" {
  export interface RocksOptions {
    readonly createIfMissing: boolean;
    readonly keyEncoding: "buffer";
    readonly valueEncoding: "buffer";
    readonly compression: boolean;
    readonly walCompression: boolean;
    readonly compaction?: "universal";
    /** Four write buffers; has an effect only with `compaction`. */
    readonly memtableMemoryBudget?: number;
  }

  export interface Range {
    readonly gte?: Buffer;
    readonly lte?: Buffer;
  }

  export interface Query extends Range {
    readonly keyEncoding: "buffer";
    readonly valueEncoding: "buffer";
    readonly limit: number;
    readonly reverse?: boolean;
    readonly values?: boolean;
    readonly highWaterMarkBytes?: number;
  }

  export interface ChainedBatch {
    put(key: Buffer, value: Buffer): this;
    write(options: { readonly sync: boolean }): Promise<void>;
  }

  export class RocksLevel {
    constructor(location: string, options: RocksOptions);
    open(): Promise<void>;
    close(): Promise<void>;
    batch(): ChainedBatch;
    getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]>;
    /** Deletes the range by one tombstone, not synced. */
    clear(range: Range): Promise<void>;
    /** Keys and values, taking turns. */
    querySync(query: Query): { readonly rows: readonly Buffer[] };
  }
}
