/** Backwards through a queue: records do not say where the one before them begins. */
import { Cursor } from "./record.ts";
import { readBeginning, type Segment } from "./segment.ts";
import { placeBefore } from "./sparse-index.ts";
import { openBegun, type Begun, type QueueFiles, type Spot } from "./spot.ts";
import { segmentDamaged } from "./storage-errors.ts";

/** Where the records directly before a spot begin: those of 64 KiB, that were walked through. */
export class Backwards {
  private offsets: number[] = [];
  private segment: Segment | undefined;
  private epoch = 0;
  /** Of the record behind the last of the offsets. */
  private sequence = 0;

  /**
   * In front of the record before the spot; undefined where none is left.
   *
   * @throws GaplessError STORAGE_CORRUPT
   */
  step(queue: QueueFiles, here: Spot): Spot | undefined {
    const isKnown = this.segment === here.segment && this.sequence === here.sequence;
    if (!isKnown || this.offsets.length === 0) {
      if (!this.walk(queue, here)) return undefined;
    }
    const { segment, epoch } = this;
    const offset = this.offsets.pop();
    if (segment === undefined || offset === undefined) return undefined;
    return { segment, offset, sequence: --this.sequence, epoch };
  }

  /** Finds where records before the spot begin. False where there are none. */
  private walk(queue: QueueFiles, here: Spot): boolean {
    const begun = segmentBefore(queue, here);
    if (begun === undefined) return false;
    const { segment, beginning } = begun;
    const place = placeBefore(segment, beginning, here.sequence - 1);
    const cursor = new Cursor(segment, place.offset, place.sequence, beginning.epoch);
    this.offsets = [];
    while (cursor.sequence < here.sequence) {
      if (cursor.look(false) !== "record") {
        if (segment !== here.segment) segment.mapping.unmap();
        const reason = `sequence ${cursor.sequence} is to be there`;
        throw segmentDamaged(segment.filePath, cursor.offset, reason);
      }
      this.offsets.push(cursor.offset);
      cursor.advance();
    }
    this.segment = segment;
    this.epoch = beginning.epoch;
    this.sequence = here.sequence;
    return true;
  }
}

/** The segment that the record before the spot is in; undefined where that was deleted. */
function segmentBefore(queue: QueueFiles, { segment, sequence }: Spot): Begun | undefined {
  const isNowhere = segment.capacity === 0;
  const beginning = isNowhere ? undefined : readBeginning(segment);
  if (beginning !== undefined && beginning.firstSequence < sequence) return { segment, beginning };
  for (let number = segment.number - (isNowhere ? 0 : 1); number > 0; number--) {
    const begun = openBegun(queue, number);
    if (begun === undefined) return undefined;
    // Of a writer that was fenced before it could write there.
    if (begun.beginning.firstSequence < sequence) return begun;
    begun.segment.mapping.unmap();
  }
  return undefined;
}
