/** One event after the other, from any id on. */
import type { Link } from "../chain.ts";
import { lastIdOf, type Batch } from "../message.ts";
import { checkId } from "./range.ts";

/**
 *   an event     the next one
 *   "not-yet"    nothing that new is durable: a lag, and asking again later may bring more
 *   "end"        the buffer was closed: nothing comes any more
 */
export type Next<Event> = Event | "not-yet" | "end";

interface ReaderSource {
  readonly lastId: bigint;
  readonly isClosed: boolean;
  read(fromId: bigint, limit: number): Promise<Batch>;
}

const readMax = 256;

export class MsgReader<Event extends Link> {
  private readonly source: ReaderSource;
  private readonly decode: (batch: Batch) => Event[];
  private nextId: bigint;
  private ahead: Event[] = [];

  /** Use `MsgBuffer.reader`. */
  constructor(source: ReaderSource, decode: (batch: Batch) => Event[], startId: bigint) {
    checkId("startId", startId);
    this.source = source;
    this.decode = decode;
    this.nextId = startId;
  }

  /** What it returns next is the first whose id is at least this. */
  get position(): bigint {
    return this.ahead[0]?.id ?? this.nextId;
  }

  /**
   * The next event. It never waits for one that is not there yet.
   *
   * @throws GaplessError DATA_TRIMMED where what comes next was trimmed, as long as no `seek` has
   *   gone behind it; STORAGE_CORRUPT
   */
  async next(): Promise<Next<Event>> {
    const { source } = this;
    if (this.ahead.length === 0) {
      if (source.isClosed) return "end";
      if (this.nextId > source.lastId || source.lastId === 0n) return "not-yet";
      const batch = await source.read(this.nextId, readMax);
      this.ahead = this.decode(batch);
      this.nextId = lastIdOf(batch) + 1n;
    }
    return this.ahead.shift() ?? "not-yet";
  }

  /** Goes to the first event whose id is at least `id`, in either direction. */
  seek(id: bigint): void {
    checkId("id", id);
    this.ahead = [];
    this.nextId = id;
  }
}
