/**
 * Finds and copies messages of a journal, by id or by time, without a lock and without a reader's
 * seat in the queue.
 *
 * A queue counts its records; a journal is asked for ids, which may skip. Both only go up, so
 * whoever knows one message knows a range for every other id, and two ranges are soon one place:
 *
 *   id          40 ............ 47 ............ 90
 *   sequence     7               ?              30
 *                7 + (47 - 40) >= ? >= 30 - (90 - 47)
 *
 * Where no id is skipped between the oldest and the newest message, that is the place.
 */
import { GaplessError } from "../errors.ts";
import type { Link } from "../chain.ts";
import { decodeLink, unpackMessages, type Message } from "../message.ts";
import { openControl, type Control } from "../queue/control.ts";
import { controlOffset, recordHeaderBytes, recordOffset } from "../queue/layout.ts";
import { Cursor, recordWord } from "../queue/record.ts";
import { placeBefore, placeBeforeTime, type Place } from "../queue/sparse-index.ts";
import type { Begun } from "../queue/spot.ts";
import { segmentDamaged } from "../queue/storage-errors.ts";
import { JournalSegments } from "./journal-segments.ts";

/** The type of each record of a journal: "JRNL". Its payload is one encoded message. */
export const journalRecordType = 0x4c_4e_52_4a;

/** A message of which both numbers are known. */
export interface Known {
  readonly sequence: number;
  readonly id: bigint;
}

/** What of a journal can be read. */
export interface Extent {
  readonly oldest: Known;
  /** Everything through this id is not kept any more; 0n where nothing is missing. */
  readonly trimmedThrough: bigint;
  readonly newest: Known;
}

/** A read takes no more than this at once, whatever its limit, but always one message. */
const batchBytesMax = 16 * 1024 * 1024;
const packingBytesFirst = 4096;

export class JournalReader {
  private readonly control: Control;
  private readonly segments: JournalSegments;
  /** The message that was handed out last: the next one is asked for most of the time. */
  private latest: Known | undefined;
  private oldest: { readonly known: Known; readonly prevId: bigint } | undefined;

  /** @throws GaplessError DATA_NOT_YET_AVAILABLE where there is no queue yet; STORAGE_CORRUPT */
  constructor(directory: string) {
    this.control = openControl(directory, "read");
    this.segments = new JournalSegments({ directory, control: this.control });
  }

  /** The newest sequence that is durable, as far as its writer has said; 0: none is. */
  get durableSequence(): number {
    return this.control.doubles[controlOffset.durable / 8] ?? 0;
  }

  /**
   * What can be read through `newest`; undefined where nothing can.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  extent(newest: Known): Extent | undefined {
    this.segments.refresh();
    const first = this.segments.first();
    if (first === undefined || first.beginning.firstSequence > newest.sequence) return undefined;
    const { firstSequence: sequence } = first.beginning;
    if (this.oldest?.known.sequence !== sequence) {
      const { id, prevId } = linkAt(this.seek(sequence));
      this.oldest = { known: { sequence, id }, prevId };
    }
    return { oldest: this.oldest.known, trimmedThrough: this.oldest.prevId, newest };
  }

  /** The message with this sequence. @throws GaplessError STORAGE_CORRUPT, DATA_TRIMMED */
  known(sequence: number): Known {
    this.segments.refresh();
    return { sequence, id: this.idAt(sequence) };
  }

  /**
   * Up to `limit` messages of the extent, beginning with the first whose id is at least `fromId`.
   * Their bytes are views into one copy.
   *
   * @throws GaplessError STORAGE_CORRUPT where the first of them does not hold.
   */
  read(extent: Extent, fromId: bigint, limit: number): Message[] {
    const { newest } = extent;
    let sequence = this.locate(extent, fromId);
    if (sequence > newest.sequence) return [];
    const packing = new Packing();
    let cursor = this.seek(sequence);
    const end = Math.min(newest.sequence, sequence + limit - 1);
    for (; sequence <= end; sequence++) {
      try {
        cursor = this.settle(cursor, true);
      } catch (error) {
        // What comes before the damage is whole; the read after this one begins with it.
        if (packing.bytes > 0) break;
        throw error;
      }
      if (packing.bytes > 0 && packing.bytes + cursor.length > batchBytesMax) break;
      packing.add(cursor);
      cursor.advance();
    }
    const messages = unpackMessages(packing.pack());
    const last = messages.at(-1);
    if (last !== undefined) this.latest = { sequence: sequence - 1, id: last.id };
    return messages;
  }

  /**
   * Id of the first message of the extent whose time is at least `timestampNs`; where there is
   * none, the id behind the newest.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  find({ oldest, newest }: Extent, timestampNs: bigint): bigint {
    const begun = this.segments.last(({ latestNs }) => latestNs < timestampNs);
    let cursor =
      begun === undefined
        ? this.seek(oldest.sequence)
        : cursorAt(begun, placeBeforeTime(begun.segment, begun.beginning, timestampNs));
    while (cursor.sequence <= newest.sequence) {
      cursor = this.settle(cursor, false);
      const { segment, offset } = cursor;
      const ns = segment.view.getBigUint64(offset + recordOffset.timestamp, true);
      if (ns >= timestampNs) return linkAt(cursor).id;
      cursor.advance();
    }
    return newest.id + 1n;
  }

  close(): void {
    this.segments.close();
    this.control.mapping.unmap();
  }

  private idAt(sequence: number): bigint {
    return linkAt(this.seek(sequence)).id;
  }

  /** Sequence of the first message whose id is at least `id`. */
  private locate({ oldest, newest }: Extent, id: bigint): number {
    const range = new Range(oldest.sequence, newest.sequence + 1);
    range.narrow(oldest, id);
    range.narrow(newest, id);
    if (this.latest !== undefined) range.narrow(this.latest, id);
    while (range.from < range.to) {
      const sequence = range.middle;
      range.narrow({ sequence, id: this.idAt(sequence) }, id);
    }
    return range.from;
  }

  /** A walk that stands on the record with this sequence, whose structure holds. */
  private seek(sequence: number): Cursor {
    const begun = this.segments.holding(sequence);
    if (begun === undefined) throw trimmed(sequence);
    let cursor = cursorAt(begun, placeBefore(begun.segment, begun.beginning, sequence));
    for (;;) {
      cursor = this.settle(cursor, false);
      if (cursor.sequence === sequence) return cursor;
      cursor.advance();
    }
  }

  /** Looks at the record that a walk has come to, in the next segment where this one has ended. */
  private settle(cursor: Cursor, verify: boolean): Cursor {
    const { segment, offset, sequence } = cursor;
    const found = cursor.look(verify);
    if (found === "record") {
      checkType(cursor);
      return cursor;
    }
    const next = found === "end" ? this.segments.after(segment) : undefined;
    if (next?.beginning.firstSequence === sequence) {
      const { recordsStart } = next.segment;
      return this.settle(cursorAt(next, { offset: recordsStart, sequence }), verify);
    }
    const reason = `no valid record with sequence=${sequence}`;
    throw segmentDamaged(segment.filePath, offset, reason);
  }
}

/** Where the first message behind an id can be: from `from` to `to`, both included. */
class Range {
  from: number;
  to: number;

  constructor(from: number, to: number) {
    this.from = from;
    this.to = to;
  }

  get middle(): number {
    return this.from + Math.floor((this.to - this.from) / 2);
  }

  /** What a message that is known says about the first whose id is at least `id`. */
  narrow(known: Known, id: bigint): void {
    // A difference that a number rounds is greater than any range.
    const distance = Number(id - known.id);
    if (distance > 0) {
      this.from = Math.max(this.from, known.sequence + 1);
      this.to = Math.min(this.to, known.sequence + distance);
    } else {
      this.from = Math.max(this.from, known.sequence + distance);
      this.to = Math.min(this.to, known.sequence);
    }
  }
}

/** Payloads of records, copied behind one another. */
class Packing {
  bytes = 0;
  private packed = new Uint8Array(packingBytesFirst);

  add({ segment, offset, length }: Cursor): void {
    const bytes = this.bytes + length - recordHeaderBytes;
    if (bytes > this.packed.length) {
      const larger = new Uint8Array(Math.max(bytes, this.packed.length * 2));
      larger.set(this.packed);
      this.packed = larger;
    }
    const payload = segment.bytes.subarray(offset + recordHeaderBytes, offset + length);
    this.packed.set(payload, this.bytes);
    this.bytes = bytes;
  }

  pack(): Uint8Array {
    return this.packed.subarray(0, this.bytes);
  }
}

function cursorAt({ segment, beginning }: Begun, place: Omit<Place, "latestNs">): Cursor {
  return new Cursor(segment, place.offset, place.sequence, beginning.epoch);
}

/** Of the message in the record that a walk stands on. */
function linkAt({ segment, offset }: Cursor): Link {
  return decodeLink(segment.view, offset + recordHeaderBytes);
}

function checkType({ segment, offset, sequence }: Cursor): void {
  const type = segment.words[(offset >>> 2) + recordWord.type];
  if (type === journalRecordType) return;
  throw new GaplessError(
    "MESSAGE_MALFORMED",
    `${segment.filePath} is of a queue that is no journal: the record with sequence=${sequence} ` +
      `has type=${type}, those of a journal have type=${journalRecordType}. Give the journal a ` +
      "directory of its own.",
  );
}

function trimmed(sequence: number): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `The message with sequence=${sequence} was deleted while it was looked for.`,
  );
}
