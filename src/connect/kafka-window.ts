/**
 * What was delivered and not acknowledged, in the order of its records: which offset may be
 * committed when everything through an id is safe.
 */
import type { Batch } from "../message.ts";

interface Delivered {
  readonly batch: Batch;
  readonly offsets: readonly bigint[];
}

/** Between the committed offset and the last record that was delivered. */
export class DeliveryWindow {
  private delivered: Delivered[] = [];
  /** Of the first one, how many of its messages are acknowledged. */
  private taken = 0;

  /** @param offsets Of the records of `batch`, one for each message. */
  push(batch: Batch, offsets: readonly bigint[]): void {
    this.delivered.push({ batch, offsets });
  }

  /**
   * The offset to commit: behind the last record of the run of acknowledged ones that the window
   * begins with. undefined where its first one is not acknowledged. A duplicate of an older
   * message waits for what was delivered before it.
   */
  acknowledge(throughId: bigint): bigint | undefined {
    let committed: bigint | undefined;
    for (let first = this.delivered[0]; first !== undefined; first = this.delivered[0]) {
      while (this.taken < first.batch.length) {
        const message = first.batch[this.taken];
        const offset = first.offsets[this.taken];
        if (message === undefined || offset === undefined || message.id > throughId) {
          return committed;
        }
        committed = offset + 1n;
        this.taken += 1;
      }
      this.delivered.shift();
      this.taken = 0;
    }
    return committed;
  }

  clear(): void {
    this.delivered = [];
    this.taken = 0;
  }
}
