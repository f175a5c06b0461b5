/** What a producer did not write: counted one by one, recorded as ranges that grow. */
import type { Lane } from "./lane.ts";
import { producerOffset } from "./layout.ts";
import { extendLoss } from "./losses.ts";

export class RefusalLog {
  private readonly lane: Lane;
  private readonly producer: number;
  /** The loss that the next one may go on with. */
  private number = 0;
  private from = 0;
  private messages = 0;

  constructor(lane: Lane, producer: number) {
    this.lane = lane;
    this.producer = producer;
  }

  /** The caller was told that it cannot write the message that `sequence` would have been. */
  noteRejected(sequence: number): void {
    this.count(producerOffset.rejected);
    this.note("rejected", sequence, this.from === sequence);
  }

  /** The message that `sequence` was given up for is not written. */
  noteDropped(sequence: number): void {
    this.count(producerOffset.dropped);
    this.note("dropped", sequence, this.from + this.messages === sequence);
  }

  /** One more, which goes on with those before it or begins a new range. */
  private note(cause: "rejected" | "dropped", sequence: number, goesOn: boolean): void {
    if (!goesOn || this.messages === 0) {
      this.number = 0;
      this.from = sequence;
      this.messages = 0;
    }
    this.messages++;
    const { from, messages } = this;
    const loss = { cause, party: this.producer, from, to: sequence, messages };
    this.number = extendLoss(this.lane, this.number, loss);
  }

  private count(offset: number): void {
    const { doubles } = this.lane;
    const index = (this.lane.producer(this.producer) + offset) / 2;
    doubles[index] = (doubles[index] ?? 0) + 1;
  }
}
