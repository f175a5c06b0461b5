/** The cold tier itself. Every call blocks its thread, which is the worker's. */
import fs from "node:fs";
import path from "node:path";
import type { Query, RocksLevel } from "@nxtedition/rocksdb";
import { beginning } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import { countOfChunk, type Chunk } from "./chunk.ts";
import {
  currentFile,
  decodeMark,
  encodeId,
  encodeMark,
  idMax,
  keyBytes,
  markBytes,
  markFile,
  rocksDirectory,
  trimKey,
} from "./cold-layout.ts";
import { corrupt, storageError } from "./cold-errors.ts";
import { Milestones } from "./milestones.ts";
import { readBytesMax } from "./range.ts";

const rowOptions = { keyEncoding: "buffer", valueEncoding: "buffer" } as const;

/**
 * Compression stays off: with it, appends fall to a third and stall for most of a second, reads
 * take three times as long. What a buffer holds is trimmed before its size matters.
 */
const rocksOptions = { ...rowOptions, compression: false, walCompression: false } as const;

/** Of 100-byte messages appended in bulk, as a first guess of how many rows a read needs. */
const messagesPerRow = 512;
/** In one look: the binding counts in 32 bits. What bounds a read is its bytes. */
const rowsMax = 16_384;

/** Opens or creates. @throws GaplessError as `openBuffer`. */
export async function openColdRows(directory: string): Promise<ColdRows> {
  const rocksPath = path.join(directory, rocksDirectory);
  const markPath = path.join(directory, markFile);
  try {
    await createDirectory(rocksPath);
  } catch (error) {
    throw storageError(error, directory, "open");
  }
  const createIfMissing = !fs.existsSync(markPath);
  if (!fs.existsSync(path.join(rocksPath, currentFile))) {
    // Told to create what is missing, RocksDB would begin anew and delete what is left.
    const remains = fs.readdirSync(rocksPath).some((name) => name.endsWith(".sst"));
    if (!createIfMissing || remains) {
      throw corrupt(directory, `${rocksDirectory}/${currentFile} is missing`);
    }
  }
  const db = await openRocks(directory, rocksPath, createIfMissing);
  let rows: ColdRows | undefined;
  try {
    const trimmedId = await readTrimMark(db, directory);
    const lastId = readLastId(db, directory, trimmedId);
    // Only now, behind RocksDB's lock, is nobody else about to create it.
    if (fs.existsSync(markPath)) {
      checkMark(directory, fs.readFileSync(markPath), lastId, trimmedId);
    } else {
      // Killed between the creation of the database and of the mark, it was never appended to.
      if (lastId !== beginning) throw corrupt(directory, `${markFile} is missing`);
      await createMark(directory, markPath);
    }
    rows = new ColdRows(directory, db, fs.openSync(markPath, "r+"), lastId, trimmedId);
    await rows.clearTrimmed();
    return rows;
  } catch (error) {
    await (rows ?? db).close().catch(() => undefined);
    throw storageError(error, directory, "open");
  }
}

export class ColdRows {
  readonly #directory: string;
  readonly #db: RocksLevel;
  readonly #markFd: number;
  #lastId: bigint;
  #trimmedId: bigint;
  /** Rows through this id are deleted. */
  #clearedId: bigint;
  readonly #milestones: Milestones;
  /** After a write that failed, RocksDB takes no other, and has nothing left to save. */
  #failed = false;

  constructor(
    directory: string,
    db: RocksLevel,
    markFd: number,
    lastId: bigint,
    trimmedId: bigint,
  ) {
    this.#directory = directory;
    this.#db = db;
    this.#markFd = markFd;
    this.#lastId = lastId;
    this.#trimmedId = trimmedId;
    this.#clearedId = trimmedId;
    this.#milestones = new Milestones(trimmedId, lastId);
    this.#writeMark();
  }

  get lastId(): bigint {
    return this.#lastId;
  }

  get trimmedId(): bigint {
    return this.#trimmedId;
  }

  async commit(chunks: readonly Chunk[]): Promise<void> {
    await this.#write(async () => {
      const batch = this.#db.batch();
      for (const { lastId, bytes } of chunks) {
        batch.put(encodeId(lastId), Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
      }
      await batch.write({ sync: true });
      for (const { lastId, bytes } of chunks) {
        this.#lastId = lastId;
        this.#milestones.appended(lastId, bytes.length);
      }
      this.#writeMark();
    });
  }

  async trim(throughId: bigint): Promise<void> {
    if (throughId <= this.#trimmedId) return;
    await this.#write(async () => {
      await this.#db.batch().put(trimKey, encodeId(throughId)).write({ sync: true });
      this.#trimmedId = throughId;
      this.#writeMark();
      const milestone = this.#milestones.pass(throughId);
      if (milestone === undefined) return;
      // Not synced: after a crash `clearTrimmed` does it again.
      await this.#db.clear({ gte: encodeId(this.#clearedId + 1n), lte: encodeId(milestone) });
      this.#clearedId = milestone;
    });
  }

  /** Deletes what trims before this opening have left. */
  async clearTrimmed(): Promise<void> {
    if (this.#trimmedId === beginning) return;
    const range = { gte: encodeId(1n), lte: encodeId(this.#trimmedId) };
    const [left] = queryRows(this.#db, this.#directory, { ...range, limit: 1 });
    if (left !== undefined) await this.#db.clear(range);
  }

  /** The chunks that hold `limit` messages from `fromId` on, or fewer by bytes. */
  read(fromId: bigint, limit: number): Buffer[] {
    try {
      return this.#read(fromId, limit);
    } catch (error) {
      throw storageError(error, this.#directory, "read");
    }
  }

  #read(fromId: bigint, limit: number): Buffer[] {
    const chunks: Buffer[] = [];
    let messages = 0;
    let bytes = 0;
    let gte = encodeId(fromId === beginning ? 1n : fromId);
    while (messages < limit && bytes < readBytesMax) {
      const perRow = chunks.length === 0 ? messagesPerRow : Math.max(1, messages / chunks.length);
      const rowsWanted = Math.ceil((limit - messages) / perRow);
      const rows = queryRows(this.#db, this.#directory, {
        gte,
        limit: Math.min(rowsWanted, rowsMax),
        highWaterMarkBytes: readBytesMax - bytes,
      });
      for (const { value } of rows) {
        chunks.push(value);
        messages += countOfChunk(value);
        bytes += value.length;
      }
      const newest = rows.at(-1);
      if (newest === undefined || newest.id === idMax) break;
      gte = encodeId(newest.id + 1n);
    }
    return chunks;
  }

  async close(): Promise<void> {
    try {
      fs.fdatasyncSync(this.#markFd);
      fs.closeSync(this.#markFd);
      await this.#db.close();
    } catch (error) {
      if (!this.#failed) throw storageError(error, this.#directory, "close");
    }
  }

  async #write(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#failed = true;
      throw storageError(error, this.#directory, "write");
    }
  }

  #writeMark(): void {
    const mark = encodeMark({ lastId: this.#lastId, trimmedId: this.#trimmedId });
    fs.writeSync(this.#markFd, mark, 0, markBytes, 0);
  }
}

async function openRocks(
  directory: string,
  rocksPath: string,
  createIfMissing: boolean,
): Promise<RocksLevel> {
  let rocks: typeof import("@nxtedition/rocksdb");
  try {
    rocks = await import("@nxtedition/rocksdb");
  } catch (cause) {
    throw new GaplessError(
      "PLATFORM_UNSUPPORTED",
      `RocksDB does not load on ${process.platform} ${process.arch}: the buffer needs its ` +
        "prebuilt binary.",
      { cause },
    );
  }
  const db = new rocks.RocksLevel(rocksPath, { ...rocksOptions, createIfMissing });
  try {
    await db.open();
    return db;
  } catch (error) {
    throw storageError(error, directory, "open");
  }
}

async function createDirectory(rocksPath: string): Promise<void> {
  const created = fs.mkdirSync(rocksPath, { recursive: true });
  if (created === undefined) return;
  // Each new directory is an entry of the one above it, up to the first that was there before.
  for (let current = rocksPath; ; current = path.dirname(current)) {
    await syncDirectory(path.dirname(current));
    if (current === created) return;
  }
}

async function createMark(directory: string, markPath: string): Promise<void> {
  const temporary = `${markPath}.tmp`;
  fs.writeFileSync(temporary, encodeMark({ lastId: beginning, trimmedId: beginning }), {
    mode: 0o600,
    flush: true,
  });
  fs.renameSync(temporary, markPath);
  await syncDirectory(directory);
}

/** Only a first opening needs it, and the door to the system calls takes 20 ms to load. */
async function syncDirectory(directory: string): Promise<void> {
  const mapping = await import("../memory/mapping.ts");
  mapping.syncDirectory(directory);
}

function checkMark(directory: string, bytes: Buffer, lastId: bigint, trimmedId: bigint): void {
  const mark = decodeMark(bytes);
  if (mark === undefined) throw corrupt(directory, `${markFile} is no mark of this version`);
  if (mark.lastId <= lastId && mark.trimmedId <= trimmedId) return;
  throw corrupt(
    directory,
    `acknowledged through id=${mark.lastId}, trimmed through id=${mark.trimmedId}, but RocksDB ` +
      `came up with id=${lastId} and id=${trimmedId}: its log is damaged or missing`,
  );
}

async function readTrimMark(db: RocksLevel, directory: string): Promise<bigint> {
  const [mark] = await db.getMany([trimKey]);
  if (mark === undefined) return beginning;
  if (mark.length !== keyBytes) throw corrupt(directory, "the trim mark is no id");
  return mark.readBigUInt64BE();
}

function readLastId(db: RocksLevel, directory: string, trimmedId: bigint): bigint {
  const [row] = queryRows(db, directory, { reverse: true, limit: 1 });
  return row !== undefined && row.id > trimmedId ? row.id : trimmedId;
}

function queryRows(
  db: RocksLevel,
  directory: string,
  query: Omit<Query, keyof typeof rowOptions>,
): { id: bigint; value: Buffer }[] {
  const { rows } = db.querySync({ ...rowOptions, ...query });
  const pairs: { id: bigint; value: Buffer }[] = [];
  for (let index = 0; index + 1 < rows.length; index += 2) {
    const key = rows[index];
    const value = rows[index + 1];
    if (key?.length !== keyBytes || value === undefined) {
      throw corrupt(directory, "a row has a key that is no id");
    }
    pairs.push({ id: key.readBigUInt64BE(), value });
  }
  return pairs;
}
