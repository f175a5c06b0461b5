/** One event after the other, from any id on. */
import type { Link } from "../chain.ts";
import { lastIdOf, type Batch, type Message } from "../message.ts";
import { checkId } from "./range.ts";
import { unlessClosed } from "./unless-closed.ts";

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
  private readonly decode: (message: Message) => Event;
  private nextId: bigint;
  private ahead: Message[] = [];

  /** Use `MsgBuffer.reader`. */
  constructor(source: ReaderSource, decode: (message: Message) => Event, startId: bigint) {
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
   * The next event. It never waits for one that is not there yet. Calls may overlap: each gets
   * another event.
   *
   * @throws GaplessError DATA_TRIMMED where what comes next was trimmed, and STORAGE_CORRUPT where
   *   it cannot be read: again with each call, as long as no `seek` has gone behind it
   */
  async next(): Promise<Next<Event>> {
    const { source } = this;
    let message = this.ahead[0];
    while (message === undefined) {
      if (source.isClosed) return "end";
      const { nextId } = this;
      if (nextId > source.lastId || source.lastId === 0n) return "not-yet";
      const batch = await unlessClosed(source, source.read(nextId, readMax));
      if (batch === undefined) return "end";
      // A seek, or another call, may have gone elsewhere meanwhile.
      if (this.nextId === nextId && this.ahead.length === 0) {
        this.ahead = [...batch];
        this.nextId = lastIdOf(batch) + 1n;
      }
      message = this.ahead[0];
    }
    const event = this.decode(message);
    this.ahead.shift();
    return event;
  }

  /** Goes to the first event whose id is at least `id`, in either direction. */
  seek(id: bigint): void {
    checkId("id", id);
    this.ahead = [];
    this.nextId = id;
  }
}
