/** Whether all that an archive keeps can be read, follows on itself, and is as many as it says. */
import { createHash } from "node:crypto";
import type { BufferArchive, BufferStats } from "../buffer/buffer.ts";
import { describeError, GaplessError, type ErrorCode } from "../errors.ts";
import { encodedBytes, lastIdOf, packMessages, type Batch, type Message } from "../message.ts";

export interface ArchiveReport {
  readonly minId: bigint | undefined;
  readonly maxId: bigint | undefined;
  /** Read, with nothing wrong about them. */
  readonly messages: number;
  /** Of those, encoded. */
  readonly bytes: number;
  /** Of those, one behind the other: the same for every buffer that has the same ones. */
  readonly sha256: string;
  /** Whether all was read that was there when it began: not where it was stopped, or damage is. */
  readonly isComplete: boolean;
  /** The first: what is behind it was not looked at. */
  readonly damage: ArchiveDamage | undefined;
}

export interface ArchiveDamage {
  /** The last message before it; undefined where there is none. */
  readonly behindId: bigint | undefined;
  readonly code: ErrorCode;
  readonly problem: string;
}

const batchMax = 1024;

/**
 * Reads everything there is by now.
 *
 * @param stats What the buffer says that there is, where it says that.
 * @throws GaplessError what is no damage: PEER_UNAVAILABLE, DATA_TRIMMED where a trim came between
 */
export async function checkArchive(
  archive: BufferArchive,
  stats: BufferStats | undefined,
  signal: AbortSignal,
): Promise<ArchiveReport> {
  const walk = new Walk();
  let minId: bigint | undefined;
  let maxId: bigint | undefined;
  let isComplete = false;
  let damage: ArchiveDamage | undefined;
  try {
    ({ minId, maxId } = await archive.status());
    if (minId === undefined || maxId === undefined) {
      isComplete = true;
    } else {
      isComplete = await walk.through(archive, minId, maxId, signal);
      if (isComplete) await compareDigest(archive, minId, maxId, walk);
    }
    if (isComplete && stats !== undefined) compareCounts(stats, walk);
  } catch (error) {
    damage = damageOf(error, walk.lastId);
  }
  return { minId, maxId, ...walk.report(), isComplete, damage };
}

/** What there is to say of one that does not open for damage. @throws `error` where it is none */
export function reportUnopened(error: unknown): ArchiveReport {
  const damage = damageOf(error, undefined);
  const ids = { minId: undefined, maxId: undefined };
  return { ...ids, ...new Walk().report(), isComplete: false, damage };
}

function damageOf(error: unknown, behindId: bigint | undefined): ArchiveDamage {
  if (!(error instanceof GaplessError) || !error.isCorruption) throw error;
  return { behindId, code: error.code, problem: describeError(error) };
}

class Walk {
  messages = 0;
  bytes = 0;
  lastId: bigint | undefined;
  private readonly hash = createHash("sha256");

  /** Whether it came through; else it was stopped. @throws GaplessError for damage */
  async through(
    archive: BufferArchive,
    fromId: bigint,
    throughId: bigint,
    signal: AbortSignal,
  ): Promise<boolean> {
    let limit = batchMax;
    let nextId = fromId;
    while (nextId <= throughId) {
      if (signal.aborted) return false;
      let batch: Batch;
      try {
        batch = await archive.read(nextId, limit);
      } catch (error) {
        const isDamage = error instanceof GaplessError && error.isCorruption;
        if (!isDamage || limit === 1) throw error;
        // Again, message by message: before the damaged one there may be more.
        limit = 1;
        continue;
      }
      this.take(batch.filter(({ id }) => id <= throughId));
      nextId = lastIdOf(batch) + 1n;
    }
    return true;
  }

  sha256(): string {
    return this.hash.copy().digest("hex");
  }

  report(): Pick<ArchiveReport, "messages" | "bytes" | "sha256"> {
    const { messages, bytes } = this;
    return { messages, bytes, sha256: this.sha256() };
  }

  private take(batch: readonly Message[]): void {
    const [first] = batch;
    if (first === undefined) return;
    if (this.lastId !== undefined && first.prevId !== this.lastId) {
      throw new GaplessError(
        "CHAIN_BROKEN",
        `Behind id=${this.lastId} comes id=${first.id}, which follows on id=${first.prevId}.`,
      );
    }
    this.hash.update(packMessages(batch));
    this.messages += batch.length;
    this.bytes += batch.reduce((sum, message) => sum + encodedBytes(message), 0);
    this.lastId = batch.at(-1)?.id;
  }
}

async function compareDigest(
  archive: BufferArchive,
  minId: bigint,
  maxId: bigint,
  walk: Walk,
): Promise<void> {
  const { count, sha256 } = await archive.digest(minId, maxId);
  const digest = Buffer.from(sha256).toString("hex");
  if (count === walk.messages && digest === walk.sha256()) return;
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `Read twice, it is not the same: messages=${walk.messages}, then ${count}; ` +
      `sha256=${walk.sha256()}, then ${digest}. The memory or the device may be failing.`,
  );
}

function compareCounts({ total, bytes }: BufferStats, walk: Walk): void {
  if (total === walk.messages && bytes === walk.bytes) return;
  throw new GaplessError(
    "STORAGE_CORRUPT",
    `It says that it has messages=${total}, bytes=${bytes}, and has messages=${walk.messages}, ` +
      `bytes=${walk.bytes}.`,
  );
}
