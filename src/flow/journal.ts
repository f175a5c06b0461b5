/**
 * The durable log of a stream: a queue whose records are chained messages.
 *
 *   await using journal = await openJournal({ directory: "/var/lib/exchange/orders" });
 *   journal.append(messages);        // survives SIGKILL of this process
 *   await journal.flush();           // survives power loss: now acknowledge upstream
 *   const batch = await journal.read(1n, 1000);
 *
 * What a queue does not know, a journal checks: that each message follows the one before it.
 */
import { follow } from "../chain.ts";
import { assert, GaplessError } from "../errors.ts";
import { encodedBytes, encodeMessage, isBatch, type Batch, type Message } from "../message.ts";
import { pageBytes, payloadBytesMaxOf, recordHeaderBytes, spaceOf } from "../queue/layout.ts";
import {
  BACK_PRESSURED,
  openPublisher,
  type Publisher,
  type PublisherOptions,
} from "../queue/queue.ts";
import type { Archive, Bounds } from "./endpoints.ts";
import { JournalReader, journalRecordType, type Known } from "./journal-reader.ts";

export interface JournalOptions extends Pick<
  PublisherOptions,
  "checksum" | "preallocate" | "onCut"
> {
  /** Where the queue is. Made, with its parents, where it does not exist. */
  readonly directory: string;
  /**
   * Size of a segment file in bytes, 4 KiB to 1 GiB, rounded up to whole pages. Default 64 MiB.
   * Bounds the size of a message. May change from one opening to the next.
   */
  readonly segmentBytes?: number;
}

/** An open journal: one writer, and reading passes from any id. It satisfies `Archive`. */
export interface Journal extends Archive, AsyncDisposable {
  /** Id of the newest message appended; 0n before the first. */
  readonly lastId: bigint;
  /** Id of the newest message that survives power loss; 0n before the first. */
  readonly durableId: bigint;

  /**
   * Appends messages that follow `lastId` and each other. When it returns, they survive SIGKILL of
   * this process, but not power loss: see `flush`. After a kill all of them are there, or none is;
   * of those that take more than a segment, a part may be, from the first on.
   *
   * @throws GaplessError CHAIN_BROKEN for a message that is not next, duplicates included;
   *   MESSAGE_TOO_LARGE; MESSAGE_MALFORMED where an id or a time does not fit 64 bits: nothing is
   *   appended then. STORAGE_FULL, where the call may be made again with what follows `lastId`;
   *   FENCED; CLOSED. After a failed flush, its SYSTEM_CALL_FAILED.
   */
  append(messages: readonly Message[]): void;

  /**
   * Makes durable what was appended before the call. Calls at the same time share their syncs.
   *
   * @throws GaplessError SYSTEM_CALL_FAILED where the device failed. That is final: what it lost
   *   cannot be told, so the journal takes nothing more until it is opened again.
   */
  flush(): Promise<void>;

  /**
   * Up to `limit` durable messages in chain order, beginning with the first whose id is at least
   * `fromId`; fewer where they take more than 16 MiB. What is appended but not durable is not
   * handed out: a power loss could take it back from under a reader that went on with it. The
   * `bytes` of a batch are views into one copy, which is the caller's.
   *
   * @throws GaplessError DATA_TRIMMED where something from `fromId` on is not kept any more;
   *   DATA_NOT_YET_AVAILABLE where nothing from `fromId` on is durable; STORAGE_CORRUPT where the
   *   first record of the range does not hold; CLOSED.
   */
  read(fromId: bigint, limit: number): Promise<Batch>;

  /** Oldest and newest id that can be read; null where there is none. @throws CLOSED. */
  bounds(): Promise<Bounds | null>;

  /**
   * Flushes, closes, and lets others open it. Idempotent; calls under way complete first.
   *
   * @throws GaplessError what the flush threw; the journal is closed nevertheless.
   */
  close(): Promise<void>;
}

const segmentBytesDefault = 64 * 1024 * 1024;

/**
 * Opens a journal for writing, and repairs what a crash left in it: afterwards everything that it
 * holds is durable.
 *
 * @throws GaplessError CONFIG_INVALID; WRITER_ALREADY_ACTIVE with the process that has it;
 *   STORAGE_CORRUPT where what was durable, or could not have been lost in a crash, is damaged;
 *   MESSAGE_MALFORMED for a queue that is no journal; STORAGE_FULL.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { directory, segmentBytes = segmentBytesDefault, ...others } = options;
  const publisher = openPublisher(directory, { ...others, segmentBytes });
  let reader: JournalReader | undefined;
  try {
    await publisher.flush();
    reader = new JournalReader(publisher.directory);
    const { lastSequence } = publisher;
    const newest = lastSequence === 0 ? nothing : reader.known(lastSequence);
    return new QueueJournal(publisher, reader, newest, segmentBytes);
  } catch (error) {
    reader?.close();
    // What went wrong first is what is told.
    await publisher.close().catch(() => undefined);
    throw error;
  }
}

/** Before the first message. */
const nothing: Known = { sequence: 0, id: 0n };

/** Encoded messages are kept in memory of this size; larger batches get one of their own. */
const scratchBytes = 1024 * 1024;

class QueueJournal implements Journal {
  private readonly publisher: Publisher;
  private readonly reader: JournalReader;
  private readonly messageBytesMax: number;
  private scratch: Scratch | undefined;
  private newest: Known;
  private durable: Known;
  private closing: Promise<void> | undefined;

  constructor(publisher: Publisher, reader: JournalReader, newest: Known, segmentBytes: number) {
    const bytes = Math.ceil(segmentBytes / pageBytes) * pageBytes;
    this.publisher = publisher;
    this.reader = reader;
    this.newest = newest;
    this.durable = newest;
    this.messageBytesMax = payloadBytesMaxOf(bytes);
  }

  get lastId(): bigint {
    return this.newest.id;
  }

  get durableId(): bigint {
    return this.durable.id;
  }

  append(messages: readonly Message[]): void {
    this.checkOpen();
    this.check(messages);
    for (let from = 0; from < messages.length;) {
      const to = this.endOfPart(messages, from);
      const part = to - from === messages.length ? messages : messages.slice(from, to);
      const sequence = this.appendPart(part);
      assert(sequence !== BACK_PRESSURED, "a journal has no limits");
      this.newest = { sequence, id: part.at(-1)?.id ?? this.newest.id };
      from = to;
    }
  }

  async flush(): Promise<void> {
    this.checkOpen();
    const { newest } = this;
    await this.publisher.flush();
    // A call behind this one may have come further already.
    if (newest.sequence > this.durable.sequence) this.durable = newest;
  }

  async read(fromId: bigint, limit: number): Promise<Batch> {
    assert(Number.isSafeInteger(limit) && limit > 0, `read with limit=${limit}`);
    this.checkOpen();
    const { durable } = this;
    const extent = this.reader.extent(durable);
    const trimmedThrough = extent?.trimmedThrough ?? durable.id;
    if (trimmedThrough > 0n && fromId <= trimmedThrough) throw trimmed(fromId, trimmedThrough);
    const messages = extent === undefined ? [] : this.reader.read(extent, fromId, limit);
    if (!isBatch(messages)) throw notYetAvailable(fromId, durable.id);
    return messages;
  }

  async bounds(): Promise<Bounds | null> {
    this.checkOpen();
    const extent = this.reader.extent(this.durable);
    return extent === undefined ? null : { minId: extent.oldest.id, maxId: extent.newest.id };
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async shutDown(): Promise<void> {
    try {
      await this.publisher.close();
    } finally {
      this.reader.close();
    }
  }

  /** Throws before anything is written if one of the messages must not be. */
  private check(messages: readonly Message[]): void {
    const { messageBytesMax } = this;
    let { id: lastId } = this.newest;
    for (const message of messages) {
      const placement = follow(lastId, message);
      if (placement !== "next") throw chainBroken(lastId, message, placement);
      const bytes = encodedBytes(message);
      if (bytes > messageBytesMax) throw tooLarge(message, bytes, messageBytesMax);
      if (!isUint64(message.id) || !isUint64(message.timestampNs)) throw malformed(message);
      lastId = message.id;
    }
  }

  /** Where the messages end that fit into one segment, from `from` on: behind one at least. */
  private endOfPart(messages: readonly Message[], from: number): number {
    let room = recordHeaderBytes + this.messageBytesMax;
    for (let to = from; ; to++) {
      const message = messages[to];
      if (message === undefined) return to;
      room -= spaceOf(recordHeaderBytes + encodedBytes(message));
      if (room < 0) return to;
    }
  }

  /** Appends what fits into a segment. */
  private appendPart(messages: readonly Message[]): number {
    const { publisher } = this;
    const [first] = messages;
    if (first !== undefined && messages.length === 1) {
      const start = publisher.claim(journalRecordType, encodedBytes(first), first.timestampNs);
      if (start === BACK_PRESSURED) return start;
      const { bytes, view } = publisher.memory;
      encodeMessage(first, bytes, view, start);
      return publisher.commit();
    }
    const { bytes, view } = this.scratchFor(messages);
    let start = 0;
    const entries = messages.map((message) => {
      const end = encodeMessage(message, bytes, view, start);
      const payload = bytes.subarray(start, end);
      start = end;
      return { type: journalRecordType, payload, timestampNs: message.timestampNs };
    });
    return publisher.appendMany(entries);
  }

  private scratchFor(messages: readonly Message[]): Scratch {
    let size = 0;
    for (const message of messages) size += encodedBytes(message);
    if (size > scratchBytes) return makeScratch(size);
    this.scratch ??= makeScratch(scratchBytes);
    return this.scratch;
  }

  private checkOpen(): void {
    if (this.closing === undefined) return;
    throw new GaplessError("CLOSED", `The journal in ${this.publisher.directory} is closed.`);
  }
}

interface Scratch {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function makeScratch(size: number): Scratch {
  const bytes = new Uint8Array(size);
  return { bytes, view: new DataView(bytes.buffer) };
}

const uint64Bits = 64;

function isUint64(value: bigint): boolean {
  return BigInt.asUintN(uint64Bits, value) === value;
}

function chainBroken(lastId: bigint, message: Message, placement: string): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `Message ${message.id} cannot be appended: prevId=${message.prevId}, the journal ends with ` +
      `id=${lastId} (${placement}). Append each message once, behind its predecessor.`,
  );
}

function tooLarge({ id }: Message, bytes: number, bytesMax: number): GaplessError {
  return new GaplessError(
    "MESSAGE_TOO_LARGE",
    `Message ${id} does not fit into a segment: bytes=${bytes}, at most ${bytesMax}. ` +
      "Raise segmentBytes.",
  );
}

function malformed({ id, timestampNs }: Message): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `Message ${id} has numbers outside 64 bits: timestampNs=${timestampNs}.`,
  );
}

function trimmed(fromId: bigint, throughId: bigint): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `Messages through id=${throughId} are not kept any more: fromId=${fromId}.`,
  );
}

function notYetAvailable(fromId: bigint, durableId: bigint): GaplessError {
  return new GaplessError(
    "DATA_NOT_YET_AVAILABLE",
    `Nothing from id=${fromId} on is durable yet: the newest durable id=${durableId}.`,
  );
}
