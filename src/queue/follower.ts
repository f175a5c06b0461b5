/**
 * Reads a queue that another process writes, as far as it is durable. It takes no lock and changes
 * nothing: how far that is, the writer notes in the header of each segment.
 */
import type { GaplessError } from "../errors.ts";
import { unpackMessages, type Message } from "../message.ts";
import { durableOffset, headerBytes, recordHeaderBytes, recordTimestampOffset } from "./layout.ts";
import { Cursor } from "./record.ts";
import { listSegments, openSegment, type Segment } from "./segment.ts";
import { countBelow, SparseIndex } from "./sparse-index.ts";
import { segmentCorrupt } from "./storage-errors.ts";

export interface QueueFollower extends Disposable {
  /**
   * Up to `limit` durable messages in chain order, beginning with the first whose id is at least
   * `fromId`; none where nothing that new is durable yet. The bytes are copies.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  read(fromId: bigint, limit: number): Message[];
  /**
   * Id of the first durable message whose time is at least `timestampNs`, where times never go
   * back; where there is none, the id behind the newest.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  find(timestampNs: bigint): bigint;
  close(): void;
}

/** Follows the queue in `directory`, also where its writer has not made it yet. */
export function followQueue(directory: string): QueueFollower {
  return new Follower(directory);
}

interface Followed {
  readonly segment: Segment;
  readonly index: SparseIndex;
}

const segmentsMappedMax = 4;

class Follower implements QueueFollower {
  private readonly directory: string;
  private readonly followed = new Map<bigint, Followed>();

  constructor(directory: string) {
    this.directory = directory;
  }

  read(fromId: bigint, limit: number): Message[] {
    const prevIds = this.list();
    const messages: Message[] = [];
    let index = Math.max(countBelow(prevIds, fromId) - 1, 0);
    while (messages.length < limit) {
      const prevId = prevIds[index];
      if (prevId === undefined) break;
      const lastId = this.walk(prevId, fromId, (cursor, segment) => {
        if (cursor.look(true) !== "record") throw damaged(segment, cursor);
        const start = cursor.offset + recordHeaderBytes;
        const packed = segment.memory.bytes.slice(start, start + cursor.size);
        messages.push(...unpackMessages(packed));
        return messages.length < limit;
      });
      // Where the newest of it is not durable yet, what comes behind it is not either.
      if (prevIds[++index] !== lastId) break;
    }
    return messages;
  }

  find(timestampNs: bigint): bigint {
    let first: bigint | undefined;
    for (const prevId of this.list().reverse()) {
      let found: bigint | undefined;
      let older = 0;
      const lastId = this.walk(prevId, 0n, (cursor, { memory }) => {
        const ns = memory.view.getBigUint64(cursor.offset + recordTimestampOffset, true);
        if (ns >= timestampNs) found = cursor.id;
        else older++;
        return found === undefined;
      });
      const id = found ?? lastId + 1n;
      if (first === undefined || id < first) first = id;
      if (older > 0) break;
    }
    return first ?? 1n;
  }

  close(): void {
    for (const { segment } of this.followed.values()) segment.mapping.unmap();
    this.followed.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private list(): bigint[] {
    try {
      return listSegments(this.directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  /**
   * Goes over what is durable of a segment from `fromId` on, as long as `visit` says so. Returns
   * the id that it ends with.
   */
  private walk(
    prevId: bigint,
    fromId: bigint,
    visit: (cursor: Cursor, segment: Segment) => boolean,
  ): bigint {
    const { segment, index } = this.map(prevId);
    // SYNC records-durable: before any of them is read; the writer stores it after them.
    const durable = Atomics.load(segment.memory.words, durableOffset >>> 2);
    const place = index.before(fromId);
    const cursor = new Cursor(segment.memory, place.offset, place.lastId);
    while (cursor.offset < durable) {
      if (cursor.look(false) !== "record") throw damaged(segment, cursor);
      if (cursor.id >= fromId && !visit(cursor, segment)) return cursor.id;
      cursor.advance();
      index.note(cursor);
    }
    // An empty one may still be replaced by a larger one of the same name.
    if (durable === headerBytes) {
      segment.mapping.unmap();
      this.followed.delete(prevId);
    }
    return cursor.lastId;
  }

  private map(prevId: bigint): Followed {
    let followed = this.followed.get(prevId);
    if (followed === undefined) {
      const segment = openSegment(this.directory, prevId);
      followed = { segment, index: new SparseIndex({ offset: headerBytes, lastId: prevId }) };
    }
    this.followed.delete(prevId);
    this.followed.set(prevId, followed);
    for (const [oldest, { segment }] of this.followed) {
      if (this.followed.size <= segmentsMappedMax) break;
      segment.mapping.unmap();
      this.followed.delete(oldest);
    }
    return followed;
  }
}

function damaged({ filePath, prevId }: Segment, { offset }: Cursor): GaplessError {
  return segmentCorrupt(filePath, prevId, offset, "a durable record does not hold");
}
