/**
 * Reads a journal that another process writes, as far as it is durable. It takes no lock, has no
 * seat in the queue, and changes nothing: how far that is, the writer notes in the control file.
 */
import { isGaplessError } from "../errors.ts";
import type { Message } from "../message.ts";
import { JournalReader, type Extent, type Known } from "./journal-reader.ts";

export interface JournalFollower extends Disposable {
  /**
   * Up to `limit` durable messages in chain order, beginning with the first that is kept and whose
   * id is at least `fromId`; none where nothing that new is durable yet. Their bytes are views into
   * one copy.
   *
   * @throws GaplessError STORAGE_CORRUPT where the first of them does not hold.
   */
  read(fromId: bigint, limit: number): Message[];
  /**
   * Id of the first durable message whose time is at least `timestampNs`; where there is none, the
   * id behind the newest.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  find(timestampNs: bigint): bigint;
  close(): void;
}

/** Follows the journal in `directory`, also where its writer has not made it yet. */
export function followJournal(directory: string): JournalFollower {
  return new Follower(directory);
}

class Follower implements JournalFollower {
  private readonly directory: string;
  private reader: JournalReader | undefined;
  private newest: Known | undefined;

  constructor(directory: string) {
    this.directory = directory;
  }

  read(fromId: bigint, limit: number): Message[] {
    const view = this.look();
    return view === undefined ? [] : view.reader.read(view.extent, fromId, limit);
  }

  find(timestampNs: bigint): bigint {
    const view = this.look();
    return view === undefined ? 1n : view.reader.find(view.extent, timestampNs);
  }

  close(): void {
    this.reader?.close();
    this.reader = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What can be read by now. */
  private look(): { readonly reader: JournalReader; readonly extent: Extent } | undefined {
    const reader = this.open();
    const sequence = reader?.durableSequence ?? 0;
    if (reader === undefined || sequence === 0) return undefined;
    if (this.newest?.sequence !== sequence) this.newest = reader.known(sequence);
    const extent = reader.extent(this.newest);
    return extent === undefined ? undefined : { reader, extent };
  }

  private open(): JournalReader | undefined {
    try {
      this.reader ??= new JournalReader(this.directory);
    } catch (error) {
      if (!isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) throw error;
    }
    return this.reader;
  }
}
