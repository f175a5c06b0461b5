/** The end of a segment that is being written: what is in it, and how far that is durable. */
import type { Message } from "../message.ts";
import { headerBytes } from "./layout.ts";
import { writeRecord } from "./record.ts";
import { durableBytes, isOfThisBoot, markDurable, stampBoot, type Segment } from "./segment.ts";

export class Tail {
  readonly segment: Segment;
  /** Offset behind the last record. All bytes from here on are zero. */
  #end: number;
  #lastId: bigint;
  #isSealed: boolean;

  constructor(segment: Segment, end: number, lastId: bigint) {
    this.segment = segment;
    this.#isSealed = isOfThisBoot(segment);
    this.#end = end;
    this.#lastId = lastId;
  }

  get lastId(): bigint {
    return this.#lastId;
  }

  get isEmpty(): boolean {
    return this.#end === headerBytes;
  }

  get isDurable(): boolean {
    return durableBytes(this.segment) >= this.#end;
  }

  hasRoomFor(bytes: number): boolean {
    return bytes <= this.segment.memory.capacity - this.#end;
  }

  /** The caller has checked room and links. */
  append(messages: readonly Message[]): void {
    let offset = this.#end;
    for (const message of messages) offset = writeRecord(this.segment.memory, offset, message);
    this.#end = offset;
    this.#lastId = messages.at(-1)?.id ?? this.#lastId;
  }

  /**
   * Makes what has been appended so far durable. The mark for it is stored afterwards and goes to
   * the disk with the next sync, so a mark never runs ahead of its records.
   */
  async sync(): Promise<void> {
    if (this.isDurable) return;
    const end = this.#end;
    await this.segment.mapping.sync(0, end);
    markDurable(this.segment, end);
    this.#isSealed = false;
  }

  /** Takes the mark of the last sync to the disk, with the boot that vouches for the segment. */
  async seal(): Promise<void> {
    if (this.#isSealed) return;
    stampBoot(this.segment);
    await this.segment.mapping.sync(0, headerBytes);
    this.#isSealed = true;
  }
}
