/** The cold tier itself. Every call blocks its thread, which is the worker's. */
import { createHash, type Hash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { Query, RocksLevel, RocksOptions } from "@nxtedition/rocksdb";
import { beginning } from "../chain.ts";
import { GaplessError } from "../errors.ts";
import { identifySelf } from "../memory/process-identity.ts";
import { makeDirectory, syncDirectory } from "../memory/sync-files.ts";
import { encodedBytes, packMessages } from "../message.ts";
import {
  chunkHeaderBytes,
  compressChunk,
  countOfChunk,
  expandChunk,
  extentBefore,
  unpackChunk,
  type Chunk,
  type Extent,
} from "./chunk.ts";
import {
  currentFile,
  decodeMark,
  decodeState,
  encodeId,
  encodeMark,
  encodeState,
  idMax,
  keyBytes,
  markBytes,
  markFile,
  rocksDirectory,
  stateAtFirst,
  stateKey,
  type ColdState,
} from "./cold-layout.ts";
import { corrupt, storageError } from "./cold-errors.ts";
import { findExcess } from "./cold-excess.ts";
import type { ColdOpened, ColdOptions, Excess, Trimmed } from "./cold-protocol.ts";
import { Milestones } from "./milestones.ts";
import { rangeFault, readBytesMax } from "./range.ts";

const rowOptions = { keyEncoding: "buffer", valueEncoding: "buffer" } as const;

/**
 * RocksDB's own compression stays off: with it, appends fall to a third and stall for most of a
 * second, reads take three times as long. Chunks are compressed here instead, each by itself.
 */
const rocksOptions = { ...rowOptions, compression: false, walCompression: false } as const;
/** What RocksDB takes unless told. It can be told only together with a style of compaction. */
const writeBufferBytesOfRocks = 64 * 1024 * 1024;
const writeBuffersInBudget = 4;

/** Of 100-byte messages appended in bulk, as a first guess of how many rows a read needs. */
const messagesPerRow = 512;
/** In one look: the binding counts in 32 bits. What bounds a read is its bytes. */
const rowsMax = 16_384;

/** Opens or creates. @throws GaplessError as `openMsgBuffer`. */
export async function openColdRows(options: ColdOptions): Promise<ColdRows> {
  const { directory } = options;
  const rocksPath = path.join(directory, rocksDirectory);
  const markPath = path.join(directory, markFile);
  try {
    makeDirectory(rocksPath);
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
  const db = await openRocks(options, rocksPath, createIfMissing);
  let rows: ColdRows | undefined;
  try {
    const state = await readState(db, directory);
    const { lastId, appended } = readEnd(db, directory, state);
    // Only now, behind RocksDB's lock, is nobody else about to create it.
    if (fs.existsSync(markPath)) {
      checkMark(directory, fs.readFileSync(markPath), lastId, state.trimmedId);
    } else {
      // Killed between the creation of the database and of the mark, it was never appended to.
      if (lastId !== beginning) throw corrupt(directory, `${markFile} is missing`);
      await createMark(directory, markPath);
    }
    const markFd = fs.openSync(markPath, "r+");
    rows = new ColdRows(options, db, markFd, { lastId, appended, state });
    await rows.clearTrimmed();
    return rows;
  } catch (error) {
    await (rows ?? db).close().catch(() => undefined);
    throw storageError(error, directory, "open");
  }
}

/** Of a range, some messages at a time. */
export interface DigestStep {
  readonly count: number;
  readonly nextId: bigint | undefined;
  readonly sha256: Uint8Array | undefined;
}

export class ColdRows {
  private readonly directory: string;
  private readonly options: ColdOptions;
  private readonly db: RocksLevel;
  private readonly markFd: number;
  private lastId: bigint;
  private appended: Extent;
  private state: ColdState;
  /** Rows through this id are deleted. */
  private clearedId: bigint;
  private readonly milestones: Milestones;
  private readonly hashes = new Map<number, Hash>();
  /** After a write that failed, RocksDB takes no other, and has nothing left to save. */
  private hasFailed = false;

  constructor(options: ColdOptions, db: RocksLevel, markFd: number, opened: ColdOpened) {
    this.directory = options.directory;
    this.options = options;
    this.db = db;
    this.markFd = markFd;
    this.lastId = opened.lastId;
    this.appended = opened.appended;
    this.state = opened.state;
    this.clearedId = opened.state.trimmedId;
    this.milestones = new Milestones(opened.state.trimmedId, opened.lastId);
    this.writeMark();
  }

  get opened(): ColdOpened {
    const { lastId, appended, state } = this;
    return { lastId, appended, state };
  }

  /** The position is in the same batch: after a crash both are there or neither is. */
  async commit(chunks: readonly Chunk[], logPosition?: bigint): Promise<void> {
    await this.write(async () => {
      const batch = this.db.batch();
      for (const { lastId, bytes } of chunks) {
        const row = this.options.isCompressed ? compressChunk(bytes) : bytes;
        batch.put(encodeId(lastId), Buffer.from(row.buffer, row.byteOffset, row.length));
      }
      const state = logPosition === undefined ? this.state : { ...this.state, logPosition };
      if (logPosition !== undefined) batch.put(stateKey, encodeState(state));
      await batch.write({ sync: this.options.isSynced });
      this.state = state;
      for (const { lastId, bytes } of chunks) {
        this.lastId = lastId;
        this.appended = extentBehind(bytes);
        this.milestones.appended(lastId, bytes.length);
      }
      this.writeMark();
    });
  }

  async trim(throughId: bigint, logPosition = this.state.logPosition): Promise<Trimmed> {
    const before = this.state.trimmed.messages;
    await this.write(async () => {
      const { state } = this;
      const isForward = throughId > state.trimmedId;
      const trimmed = isForward ? this.extentThrough(throughId) : state.trimmed;
      const moved: Partial<ColdState> = isForward
        ? {
            trimmedId: throughId,
            trimmed,
            trimmedAtMs: Date.now(),
            trimmedLast: Number(trimmed.messages - state.trimmed.messages),
          }
        : {};
      await this.writeState({ ...state, ...moved, logPosition });
      const milestone = this.milestones.pass(throughId);
      if (milestone === undefined) return;
      // Not synced: after a crash `clearTrimmed` does it again.
      await this.db.clear({ gte: encodeId(this.clearedId + 1n), lte: encodeId(milestone) });
      this.clearedId = milestone;
    });
    return { state: this.state, deleted: Number(this.state.trimmed.messages - before) };
  }

  /** Begins behind an id, where nothing was appended yet. */
  async start(afterId: bigint): Promise<Trimmed> {
    await this.write(async () => {
      this.lastId = afterId;
      await this.writeState({ ...this.state, trimmedId: afterId });
    });
    return { state: this.state, deleted: 0 };
  }

  /** Deletes what trims before this opening have left. */
  async clearTrimmed(): Promise<void> {
    const { trimmedId } = this.state;
    if (trimmedId === beginning) return;
    const range = { gte: encodeId(1n), lte: encodeId(trimmedId) };
    const [left] = queryRows(this.db, this.directory, { ...range, limit: 1 });
    if (left !== undefined) await this.db.clear(range);
  }

  /** The chunks that hold `limit` messages from `fromId` on, or fewer by bytes. */
  read(fromId: bigint, limit: number): Uint8Array[] {
    return this.reading(() => this.readRows(fromId, limit));
  }

  /** Goes on with the digest of a range at `fromId`. What holds a hole has none. */
  digest(digest: number, fromId: bigint, throughId: bigint): DigestStep {
    return this.reading(() => this.digestSome(digest, fromId, throughId));
  }

  /** As `findExcess`. */
  excess(excess: Excess): bigint | undefined {
    const { lastId } = this;
    const oldestId = this.state.trimmedId + 1n;
    const stretch = { oldestId, lastId, appended: this.appended.messages };
    return this.reading(() => findExcess(stretch, excess, (id) => this.rowFrom(id)));
  }

  async close(): Promise<void> {
    try {
      fs.fdatasyncSync(this.markFd);
      fs.closeSync(this.markFd);
      await this.db.close();
    } catch (error) {
      if (!this.hasFailed) throw storageError(error, this.directory, "close");
    }
  }

  private digestSome(digest: number, fromId: bigint, throughId: bigint): DigestStep {
    const hash = this.hashes.get(digest) ?? createHash("sha256");
    this.hashes.delete(digest);
    const rows = this.read(fromId, rowsMax);
    const found = rows.flatMap(unpackChunk).filter(({ id }) => id >= fromId);
    const wanted = found.filter(({ id }) => id <= throughId);
    // The one behind the range shows whether its end is missing.
    const shown = found.slice(0, wanted.length + 1);
    const fault = fromId > throughId ? undefined : rangeFault(shown, fromId, shown.length);
    if (fault !== undefined) throw corrupt(this.directory, fault);
    hash.update(packMessages(wanted));
    const lastId = wanted.at(-1)?.id ?? throughId;
    if (lastId < throughId && lastId < this.lastId) {
      this.hashes.set(digest, hash);
      return { count: wanted.length, nextId: lastId + 1n, sha256: undefined };
    }
    return { count: wanted.length, nextId: undefined, sha256: hash.digest() };
  }

  private readRows(fromId: bigint, limit: number): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    let messages = 0;
    let bytes = 0;
    let gte = encodeId(fromId === beginning ? 1n : fromId);
    while (messages < limit && bytes < readBytesMax) {
      const perRow = chunks.length === 0 ? messagesPerRow : Math.max(1, messages / chunks.length);
      const rowsWanted = Math.ceil((limit - messages) / perRow);
      const rows = queryRows(this.db, this.directory, {
        gte,
        limit: Math.min(rowsWanted, rowsMax),
        highWaterMarkBytes: readBytesMax - bytes,
      });
      for (const { value } of rows) {
        const chunk = expandChunk(value);
        chunks.push(chunk);
        messages += countOfChunk(chunk);
        bytes += chunk.length;
        // Compressed, more of them were read than are asked for.
        if (bytes >= readBytesMax) break;
      }
      const newest = rows.at(-1);
      if (newest === undefined || newest.id === idMax) break;
      gte = encodeId(newest.id + 1n);
    }
    return chunks;
  }

  /** What of the stream there was through an id: a look at the one chunk that it is in. */
  private extentThrough(throughId: bigint): Extent {
    if (throughId >= this.lastId) return this.appended;
    const row = this.rowFrom(throughId + 1n);
    const before = extentBefore(row.value);
    const below = unpackChunk(expandChunk(row.value)).filter(({ id }) => id <= throughId);
    const bytes = below.reduce((sum, message) => sum + encodedBytes(message), 0);
    return {
      messages: before.messages + BigInt(below.length),
      bytes: before.bytes + BigInt(bytes),
    };
  }

  /** The first row whose id is at least `id`, which is not beyond the newest. */
  private rowFrom(id: bigint): { readonly id: bigint; readonly value: Buffer } {
    const [row] = queryRows(this.db, this.directory, { gte: encodeId(id), limit: 1 });
    if (row === undefined) throw corrupt(this.directory, `id=${this.lastId} is missing`);
    return row;
  }

  private reading<Result>(read: () => Result): Result {
    try {
      return read();
    } catch (error) {
      throw storageError(error, this.directory, "read");
    }
  }

  private async writeState(state: ColdState): Promise<void> {
    const batch = this.db.batch().put(stateKey, encodeState(state));
    await batch.write({ sync: this.options.isSynced });
    this.state = state;
    this.writeMark();
  }

  private async write(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.hasFailed = true;
      throw storageError(error, this.directory, "write");
    }
  }

  private writeMark(): void {
    const mark = encodeMark({
      lastId: this.lastId,
      trimmedId: this.state.trimmedId,
      bootId: identifySelf().bootId,
      isSynced: this.options.isSynced,
    });
    fs.writeSync(this.markFd, mark, 0, markBytes, 0);
  }
}

/** What of the stream there is through a chunk that is not compressed. */
function extentBehind(bytes: Uint8Array): Extent {
  const before = extentBefore(bytes);
  return {
    messages: before.messages + BigInt(countOfChunk(bytes)),
    bytes: before.bytes + BigInt(bytes.length - chunkHeaderBytes),
  };
}

async function openRocks(
  { directory, writeBufferBytes }: ColdOptions,
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
  const sizes: Partial<RocksOptions> =
    writeBufferBytes === writeBufferBytesOfRocks
      ? {}
      : {
          compaction: "universal",
          memtableMemoryBudget: writeBufferBytes * writeBuffersInBudget,
        };
  const db = new rocks.RocksLevel(rocksPath, { ...rocksOptions, ...sizes, createIfMissing });
  try {
    await db.open();
    return db;
  } catch (error) {
    throw storageError(error, directory, "open");
  }
}

async function createMark(directory: string, markPath: string): Promise<void> {
  const temporary = `${markPath}.tmp`;
  const mark = { lastId: beginning, trimmedId: beginning, bootId: identifySelf().bootId };
  fs.writeFileSync(temporary, encodeMark({ ...mark, isSynced: true }), {
    mode: 0o600,
    flush: true,
  });
  fs.renameSync(temporary, markPath);
  syncDirectory(directory);
}

function checkMark(directory: string, bytes: Buffer, lastId: bigint, trimmedId: bigint): void {
  const mark = decodeMark(bytes);
  if (mark === undefined) throw corrupt(directory, `${markFile} is no mark of this version`);
  if (mark.lastId <= lastId && mark.trimmedId <= trimmedId) return;
  // A power loss has taken what was never synced.
  if (!mark.isSynced && mark.bootId !== identifySelf().bootId) return;
  throw corrupt(
    directory,
    `acknowledged through id=${mark.lastId}, trimmed through id=${mark.trimmedId}, but RocksDB ` +
      `came up with id=${lastId} and id=${trimmedId}: its log is damaged or missing`,
  );
}

async function readState(db: RocksLevel, directory: string): Promise<ColdState> {
  const [row] = await db.getMany([stateKey]);
  if (row === undefined) return stateAtFirst;
  const state = decodeState(row);
  if (state === undefined) throw corrupt(directory, "its state is none of this version");
  return state;
}

/** The newest id, and what of the stream there is through it. */
function readEnd(
  db: RocksLevel,
  directory: string,
  { trimmedId, trimmed }: ColdState,
): { lastId: bigint; appended: Extent } {
  const [row] = queryRows(db, directory, { reverse: true, limit: 1 });
  if (row === undefined || row.id <= trimmedId) return { lastId: trimmedId, appended: trimmed };
  return { lastId: row.id, appended: extentBehind(expandChunk(row.value)) };
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
