/** The segments of a queue, mapped to be read: a few at a time, whoever else writes or trims. */
import { isGaplessError } from "../errors.ts";
import {
  listSegments,
  openSegment,
  readBeginning,
  readEnding,
  type Beginning,
  type Segment,
} from "../queue/segment.ts";

/** A segment that has been begun. */
export interface BegunSegment {
  readonly segment: Segment;
  readonly beginning: Beginning;
}

const mappedMax = 8;

export class JournalSegments {
  private readonly directory: string;
  private readonly identity: bigint;
  /** Begun and reserved ones, without a hole, as of the last look. */
  private oldest = 0;
  private newest = -1;
  /** By number, the least recently used first. */
  private readonly mapped = new Map<number, BegunSegment>();
  private latest: BegunSegment | undefined;

  constructor(directory: string, identity: bigint) {
    this.directory = directory;
    this.identity = identity;
  }

  /** Looks which segments there are. */
  refresh(): void {
    const numbers = listSegments(this.directory);
    this.oldest = numbers[0] ?? 0;
    this.newest = numbers.at(-1) ?? -1;
  }

  /** The oldest one, if any is begun. */
  first(): BegunSegment | undefined {
    return this.oldest > this.newest ? undefined : this.at(this.oldest);
  }

  /** The one behind `segment`, if it is begun. */
  after({ number }: Segment): BegunSegment | undefined {
    return this.at(number + 1);
  }

  /** The one that a sequence is in, if it is in any. Sequences before the first are in none. */
  holding(sequence: number): BegunSegment | undefined {
    const { latest } = this;
    if (latest !== undefined && sequence >= latest.beginning.firstSequence) {
      const ending = readEnding(latest.segment);
      if (ending === undefined || sequence <= ending.lastSequence) return latest;
    }
    return this.last(({ firstSequence }) => firstSequence <= sequence);
  }

  /** The last one that is begun and `isBefore`, by bisection: where one is, all before it are. */
  last(isBefore: (beginning: Beginning) => boolean): BegunSegment | undefined {
    const { oldest } = this;
    let low = oldest;
    let high = this.newest + 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const begun = this.at(middle);
      if (begun !== undefined && isBefore(begun.beginning)) low = middle + 1;
      else high = middle;
    }
    return low > oldest ? this.at(low - 1) : undefined;
  }

  close(): void {
    this.latest = undefined;
    for (const { segment } of this.mapped.values()) segment.mapping.unmap();
    this.mapped.clear();
  }

  /** @throws GaplessError DATA_TRIMMED where it was removed, STORAGE_CORRUPT */
  private at(number: number): BegunSegment | undefined {
    const begun = this.mapped.get(number) ?? this.open(number);
    if (begun === undefined) return undefined;
    this.mapped.delete(number);
    this.mapped.set(number, begun);
    this.latest = begun;
    for (const [unused, { segment }] of this.mapped) {
      if (this.mapped.size <= mappedMax) break;
      segment.mapping.unmap();
      this.mapped.delete(unused);
    }
    return begun;
  }

  private open(number: number): BegunSegment | undefined {
    let segment: Segment;
    try {
      segment = openSegment(this.directory, number, this.identity, "read");
    } catch (error) {
      if (!isGaplessError(error, "DATA_TRIMMED")) throw error;
      this.refresh();
      // One that was only reserved may be taken back, and the one behind the newest is to come.
      if (number > this.newest) return undefined;
      throw error;
    }
    try {
      const beginning = readBeginning(segment);
      if (beginning !== undefined) return { segment, beginning };
    } catch (error) {
      segment.mapping.unmap();
      throw error;
    }
    segment.mapping.unmap();
    return undefined;
  }
}
