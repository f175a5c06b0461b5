/** The segments of a queue, mapped to be read: a few at a time, whoever else writes or trims. */
import { GaplessError } from "../errors.ts";
import { listSegments, readEnding, type Beginning, type Segment } from "../queue/segment.ts";
import { openBegun, type Begun, type QueueFiles } from "../queue/spot.ts";

const mappedMax = 8;

export class JournalSegments {
  private readonly queue: QueueFiles;
  /** Begun and reserved ones, without a hole, as of the last look. */
  private oldest = 0;
  private newest = -1;
  /** By number, the least recently used first. */
  private readonly mapped = new Map<number, Begun>();
  private latest: Begun | undefined;

  constructor(queue: QueueFiles) {
    this.queue = queue;
  }

  /** Looks which segments there are. */
  refresh(): void {
    const numbers = listSegments(this.queue.directory);
    this.oldest = numbers[0] ?? 0;
    this.newest = numbers.at(-1) ?? -1;
  }

  /** The oldest one, if any is begun. */
  first(): Begun | undefined {
    return this.oldest > this.newest ? undefined : this.at(this.oldest);
  }

  /** The one behind `segment`, if it is begun. */
  after({ number }: Segment): Begun | undefined {
    return this.at(number + 1);
  }

  /** The one that a sequence is in, if it is in any. Sequences before the first are in none. */
  holding(sequence: number): Begun | undefined {
    const { latest } = this;
    if (latest !== undefined && sequence >= latest.beginning.firstSequence) {
      const ending = readEnding(latest.segment);
      if (ending === undefined || sequence <= ending.lastSequence) return latest;
    }
    return this.last(({ firstSequence }) => firstSequence <= sequence);
  }

  /** The last one that is begun and `isBefore`, by bisection: where one is, all before it are. */
  last(isBefore: (beginning: Beginning) => boolean): Begun | undefined {
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
  private at(number: number): Begun | undefined {
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

  private open(number: number): Begun | undefined {
    const begun = openBegun(this.queue, number);
    if (begun !== undefined) return begun;
    this.refresh();
    if (number >= this.oldest) return undefined;
    throw new GaplessError(
      "DATA_TRIMMED",
      `Segment ${number} of the journal in ${this.queue.directory} was deleted while it was read.`,
    );
  }
}
