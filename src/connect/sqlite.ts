/**
 * A sink in one SQLite file.
 *
 * Rows and position commit in one transaction, with `synchronous=FULL` in a write-ahead log: what
 * `apply` returned from is durable. SQLite blocks its thread while it writes and syncs (some
 * milliseconds a batch), so a sink that carries load has a process to itself.
 *
 *   checkpoint   one row a stream: the id of the last message whose rows are in this file,
 *                and how much of what it received had to be fetched again from an archive
 *
 * All integers are signed 64-bit and leave here as bigint. The upper half of u64 does not fit:
 * an id up there is refused, never wrapped or rounded.
 */
import { DatabaseSync } from "node:sqlite";
import { beginning, follow } from "../chain.ts";
import { GaplessError, type ErrorCode } from "../errors.ts";
import { lastIdOf, type Batch } from "../message.ts";
import { reachedStep } from "../steps.ts";
import type { Repair, Sink } from "../flow/endpoints.ts";

/** What a room keeps in the file: its tables, and how a batch becomes rows of them. */
export interface SqliteTables {
  /** SQL that creates what is missing. Runs at every opening, in a transaction. */
  readonly schema: string;
  /**
   * Returns the function that writes the rows of a batch. It runs inside the sink's transaction,
   * which it neither begins nor ends; what it throws rolls everything back, so it keeps nothing
   * between batches that the file does not say.
   */
  prepare(database: DatabaseSync): (batch: Batch) => void;
}

export interface SqliteSinkOptions {
  readonly path: string;
  /** Name of the stream whose position this is. */
  readonly stream: string;
  readonly tables: SqliteTables;
  /** How long to block for another writer before ALREADY_OPEN. One second if not given. */
  readonly busyTimeoutMs?: number;
}

/** Closing is idempotent, and leaves nothing in the write-ahead log. */
export interface SqliteSink extends Sink, AsyncDisposable {}

/** A row of `checkpoint`. */
export interface Checkpoint {
  readonly position: bigint;
  /** Sums of the `Repair` of every batch so far. */
  readonly gapsFilled: bigint;
  readonly messagesFilled: bigint;
}

const busyTimeoutMsDefault = 1000;
/** Measured: a third more throughput than SQLite's own 2 MiB as soon as tables are larger. */
const cacheKib = 65_536;

const checkpointSchema = `
  CREATE TABLE IF NOT EXISTS checkpoint (
    stream          TEXT    NOT NULL PRIMARY KEY,
    position        INTEGER NOT NULL,
    gaps_filled     INTEGER NOT NULL,
    messages_filled INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;`;

const checkpointSelect = `
  SELECT position, gaps_filled, messages_filled FROM checkpoint WHERE stream = ?`;

const checkpointUpsert = `
  INSERT INTO checkpoint (stream, position, gaps_filled, messages_filled) VALUES (?, ?, ?, ?)
  ON CONFLICT (stream) DO UPDATE SET
    position = excluded.position,
    gaps_filled = gaps_filled + excluded.gaps_filled,
    messages_filled = messages_filled + excluded.messages_filled`;

/**
 * Opens or creates the file.
 *
 * Several sinks, in one process or more, may share a file: each transaction reads the position
 * that it follows, so a second writer of the same stream gets CHAIN_BROKEN, not duplicate rows.
 *
 * @throws GaplessError STORAGE_FULL, STORAGE_CORRUPT, ALREADY_OPEN, or CONFIG_INVALID for a path
 *   where no file can be; whatever `tables.prepare` throws. `apply` throws the first three,
 *   CHAIN_BROKEN for a batch that does not follow the position, AMOUNT_OVERFLOW for an id beyond
 *   2^63 - 1, and CLOSED. It wrote nothing then, and the sink takes the next call.
 */
export function sqliteSink(options: SqliteSinkOptions): SqliteSink {
  const { path, stream, tables, busyTimeoutMs = busyTimeoutMsDefault } = options;
  const database = open(path, { timeout: busyTimeoutMs });
  const { select, upsert, writeRows } = orClose(database, path, () => {
    useWriteAheadLog(database, path);
    transact(database, () => database.exec(checkpointSchema + tables.schema));
    return {
      select: database.prepare(checkpointSelect),
      upsert: database.prepare(checkpointUpsert),
      writeRows: tables.prepare(database),
    };
  });

  function readPosition(): bigint {
    const row = select.get(stream);
    return row === undefined ? beginning : (row["position"] as bigint);
  }

  function write(batch: Batch, repair: Repair): void {
    requireFollowing(batch, readPosition(), stream);
    writeRows(batch);
    upsert.run(stream, lastIdOf(batch), repair.gaps, repair.messages);
    reachedStep("sink.written");
  }

  function whileOpen<Result>(call: () => Result): Result {
    if (!database.isOpen) throw new GaplessError("CLOSED", `The sink of ${path} was closed.`);
    try {
      return call();
    } catch (error) {
      throw translated(error, path);
    }
  }

  return {
    async position() {
      return whileOpen(readPosition);
    },
    async apply(batch, repair) {
      whileOpen(() => transact(database, () => write(batch, repair)));
    },
    async [Symbol.asyncDispose]() {
      if (database.isOpen) database.close();
    },
  };
}

/**
 * Opens a sink's file beside its writer, to read only. Neither blocks the other; what is read
 * between BEGIN and COMMIT is one moment of the file.
 *
 * @throws GaplessError STORAGE_CORRUPT, or CONFIG_INVALID where there is no such file.
 */
export function openSqliteReader(path: string): DatabaseSync {
  const database = open(path, { timeout: busyTimeoutMsDefault, readOnly: true });
  // Opening reads nothing yet: what the file is shows in its first page.
  orClose(database, path, () => database.exec("SELECT count(*) FROM sqlite_schema"));
  return database;
}

/** How far the sink of `stream` came; null before its first batch. */
export function readCheckpoint(database: DatabaseSync, stream: string): Checkpoint | null {
  const row = database.prepare(checkpointSelect).get(stream);
  if (row === undefined) return null;
  return {
    position: row["position"] as bigint,
    gapsFilled: row["gaps_filled"] as bigint,
    messagesFilled: row["messages_filled"] as bigint,
  };
}

function open(path: string, options: { timeout: number; readOnly?: boolean }): DatabaseSync {
  try {
    return new DatabaseSync(path, {
      ...options,
      readBigInts: true,
      enableForeignKeyConstraints: true,
    });
  } catch (error) {
    throw translated(error, path);
  }
}

/** What cannot be set up is not left open. */
function orClose<Result>(database: DatabaseSync, path: string, setUp: () => Result): Result {
  try {
    return setUp();
  } catch (error) {
    database.close();
    throw translated(error, path);
  }
}

function useWriteAheadLog(database: DatabaseSync, path: string): void {
  const mode = database.prepare("PRAGMA journal_mode = WAL").get()?.["journal_mode"];
  if (mode !== "wal") {
    throw new GaplessError(
      "CONFIG_INVALID",
      `${path} cannot have a write-ahead log: journal_mode=${String(mode)}. ` +
        "Put it on a local file system that supports shared memory.",
    );
  }
  database.exec(`PRAGMA synchronous = FULL; PRAGMA cache_size = ${-cacheKib}`);
}

/** Runs `write` in a transaction: all of it or, whatever throws, nothing. */
function transact(database: DatabaseSync, write: () => void): void {
  // IMMEDIATE: the position that `write` reads is the one that its rows go behind.
  database.exec("BEGIN IMMEDIATE");
  try {
    write();
    database.exec("COMMIT");
  } catch (error) {
    // SQLite ends the transaction by itself on some errors, a full disk among them.
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

function requireFollowing(batch: Batch, position: bigint, stream: string): void {
  let last = position;
  for (const message of batch) {
    const placement = follow(last, message);
    if (placement !== "next") {
      throw new GaplessError(
        "CHAIN_BROKEN",
        `A batch does not follow what ${stream} has stored: position=${position.toString()}, ` +
          `message ${message.id.toString()} behind ${message.prevId.toString()} is ${placement} ` +
          `after ${last.toString()}. Nothing was written.`,
      );
    }
    last = message.id;
  }
  if (BigInt.asIntN(64, last) !== last) {
    throw new GaplessError(
      "AMOUNT_OVERFLOW",
      `An id is beyond what SQLite stores: id=${last.toString()}, at most 2^63 - 1. ` +
        "Nothing was written.",
    );
  }
}

const resultBusy = 5;
const resultLocked = 6;
const resultCorrupt = 11;
const resultFull = 13;
const resultCannotOpen = 14;
/** A row of a batch contradicts one that is there, though the position says that it is new. */
const resultConstraint = 19;
const resultNotADatabase = 26;
/** A full disk, met in the index of the write-ahead log: SQLite counts it among I/O errors. */
const resultSharedMemorySize = 4874;

/** A failure of SQLite as an error with a code; anything else as it is. */
function translated(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !("errcode" in error)) return error;
  const result = Number(error.errcode);
  const [code, advice] = meaningOf(result === resultSharedMemorySize ? resultFull : result & 0xff);
  const message = `${path}: ${error.message} (SQLite result ${result}). ${advice}`;
  return new GaplessError(code, message, { cause: error });
}

function meaningOf(result: number): [code: ErrorCode, advice: string] {
  switch (result) {
    case resultFull:
      return ["STORAGE_FULL", "Nothing was written. Free space on its file system and go on."];
    case resultCorrupt:
    case resultNotADatabase:
    case resultConstraint:
      return [
        "STORAGE_CORRUPT",
        "Restore it from a backup, or move it away with its -wal and -shm: its rows are then " +
          "rebuilt from the stage before it.",
      ];
    case resultBusy:
    case resultLocked:
      return ["ALREADY_OPEN", "Another process is writing to it: let it finish, or stop it."];
    case resultCannotOpen:
      return ["CONFIG_INVALID", "Expected a path within an existing directory."];
    default:
      return ["SYSTEM_CALL_FAILED", "Nothing was written."];
  }
}
