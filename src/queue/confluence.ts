/**
 * The sources of a fan-in, and what is known of each: which message is next, how far it was
 * delivered, and how far that is committed. Which source is next is up to `Merge`.
 */
import type { Clock } from "../clock.ts";
import type { AwaitedWord } from "../memory/futex.ts";
import type { FanInEnvelope, FanInSource } from "./fan-in-source.ts";
import { HELD, Merge } from "./merge.ts";
import type { SegmentMemory } from "./segment.ts";

/** Gets the name of the source, and where the payload is: valid until it returns. */
export type FanInHandler = (
  source: string,
  memory: SegmentMemory,
  offset: number,
  length: number,
) => void;

interface Entry {
  readonly name: string;
  readonly source: FanInSource;
  /** Sequence of the message that was delivered last; 0 where there is none. */
  delivered: number;
  committed: number;
}

const nothingYet: FanInEnvelope = {
  ...{ sequence: 0, type: 0, epoch: 0, timestampNs: 0n, timestampHigh: 0, timestampLow: 0 },
};

export class Confluence {
  /** Of the message that the handler has. */
  envelope = nothingYet;

  /** In the order in which they were added, as in `merge`. */
  private readonly entries: Entry[] = [];
  private readonly merge = new Merge();
  private readonly clock: Clock;
  private readonly watermarkNs: bigint | undefined;
  /** The one whose message the handler has, until that is taken. */
  private handled: Entry | undefined;
  /** Counts what a handler can do to the entries. */
  private changes = 0;
  private hasEnded = false;

  constructor(clock: Clock, watermarkNs: bigint | undefined) {
    this.clock = clock;
    this.watermarkNs = watermarkNs;
  }

  get names(): string[] {
    return this.entries.map(({ name }) => name);
  }

  get late(): number {
    return this.merge.late;
  }

  get lag(): number {
    return this.entries.reduce((sum, { source }) => sum + source.lag, 0);
  }

  /** Milliseconds until a message may go that is held back; infinite where none is. */
  get heldForMs(): number {
    return this.merge.next() === HELD ? this.merge.heldForNs / 1e6 : Infinity;
  }

  /** The name under which either of the two is there. */
  nameOf(source: FanInSource, name: string): string | undefined {
    return this.entries.find((entry) => entry.name === name || entry.source === source)?.name;
  }

  add(source: FanInSource, name: string): void {
    const index = this.entries.push({ name, source, delivered: 0, committed: 0 }) - 1;
    this.merge.add();
    // A handler may be at work: what is delivered behind its message is not to pass this source by.
    this.tryPeek(source, index);
  }

  remove(name: string): boolean {
    const index = this.entries.findIndex((entry) => entry.name === name);
    const entry = this.entries[index];
    if (entry === undefined) return false;
    if (this.handled === entry) this.take(entry, index);
    this.entries.splice(index, 1);
    this.merge.remove(index);
    this.changes++;
    return true;
  }

  /** Nothing is delivered any more behind the message that a handler has. */
  end(): void {
    this.hasEnded = true;
    this.changes++;
  }

  /** Looks at the clock, and at the sources that had nothing. @throws what they throw */
  look(): void {
    const { entries, merge, watermarkNs } = this;
    if (watermarkNs !== undefined) {
      // Before the sources: one that is empty after this has nothing that was appended in time.
      const now = this.clock.nowNs();
      const horizon = now > watermarkNs ? now - watermarkNs : 0n;
      merge.setHorizon(Number(horizon >> 32n), Number(horizon & 0xffff_ffffn));
    }
    for (let index = 0; index < entries.length; index++) {
      const source = entries[index]?.source;
      if (source !== undefined && !merge.hasHead(index)) this.peek(source, index);
    }
  }

  /** Whether there is something to deliver, or an error to be thrown. */
  isReady(): boolean {
    try {
      this.look();
    } catch {
      return true;
    }
    return this.merge.next() >= 0;
  }

  /** Hands out up to `limit` messages of those that `look` and this saw. */
  deliver(handler: FanInHandler, limit: number): number {
    const { entries, merge } = this;
    let count = 0;
    try {
      while (count < limit) {
        let index = merge.next();
        const entry = entries[index];
        // No source is next, or none may be yet.
        if (entry === undefined) break;
        const { name, source } = entry;
        const { changes } = this;
        this.handled = entry;
        this.envelope = source.envelope;
        handler(name, source.memory, source.offset, source.length);
        count++;
        if (changes !== this.changes) {
          index = entries.indexOf(entry);
          // Removed, and taken before that; perhaps even added again.
          if (index < 0) continue;
        }
        this.take(entry, index);
        if (this.hasEnded || !this.tryPeek(source, index)) break;
      }
    } finally {
      this.handled = undefined;
    }
    return count;
  }

  /** @throws what a source throws, after the others */
  commit(): void {
    const failures: unknown[] = [];
    for (const entry of this.entries) {
      if (entry.committed === entry.delivered) continue;
      try {
        entry.source.commitThrough(entry.delivered);
        entry.committed = entry.delivered;
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** What to sleep on; undefined where there is a reason not to. */
  prepareToSleep(): AwaitedWord[] | undefined {
    if (this.isReady()) return undefined;
    const words: AwaitedWord[] = [];
    for (const [index, { source }] of this.entries.entries()) {
      // Whatever comes behind a head that is held changes nothing.
      if (this.merge.hasHead(index)) continue;
      if (source.prepareToSleep()) words.push(source.sleep);
      else if (this.isReady()) return undefined;
    }
    return words;
  }

  private take(entry: Entry, index: number): void {
    this.handled = undefined;
    entry.delivered = entry.source.envelope.sequence;
    this.merge.noteDelivered(index);
    entry.source.take();
  }

  private peek(source: FanInSource, index: number): void {
    if (source.peek()) this.merge.setHead(index, source.envelope);
    else this.merge.clearHead(index);
  }

  /** False where the source throws: it does so again when it is looked at, and then it is told. */
  private tryPeek(source: FanInSource, index: number): boolean {
    try {
      this.peek(source, index);
      return true;
    } catch {
      this.merge.clearHead(index);
      return false;
    }
  }
}
