/**
 * The steps between which a crash makes a difference, published on the diagnostics channel
 * `gapless:step`: a tracer can time them, and the fault tests kill a process at each. Costs one
 * property load where nobody subscribes.
 */
import { channel } from "node:diagnostics_channel";

export const stepChannelName = "gapless:step";

export type Step =
  /** bus: a batch is committed to the ring, its publisher knows nothing of it yet. */
  | "bus.committed"
  /** queue: a publisher is open, and its epoch durable. */
  | "queue.entered"
  /** queue: records are in the mapped file, not yet durable. */
  | "queue.appended"
  /** queue: the next segment is there, reserved and mapped. */
  | "queue.obtained"
  /** queue: the segment has its end mark, the next one is not begun. */
  | "queue.ended"
  /** queue: the next segment is begun, the one before it is not sealed. */
  | "queue.begun"
  /** queue: appending goes on in the next segment. */
  | "queue.rolled"
  /** queue: a segment is synced, and its durable mark not stored. */
  | "queue.synced"
  /** queue: records are durable. */
  | "queue.durable"
  /** queue: a segment is reserved and headed, under a temporary name. */
  | "queue.reserved"
  /** queue: a segment has its name, and nobody has begun it. */
  | "queue.published"
  /** queue: that readers are passed over is recorded, and what they needed is still there. */
  | "queue.passed-over"
  /** queue: segments are moved aside, and not deleted. */
  | "queue.moved-aside"
  /** queue: segments are deleted. */
  | "queue.removed"
  /** buffer: messages are durable in RocksDB, not yet visible to readers. */
  | "buffer.durable"
  /** sink: rows and position are written, the transaction is open. */
  | "sink.written"
  /** flow: the sink has committed, the source has not been told. */
  | "flow.applied"
  /** flow: the source has been told. */
  | "flow.acknowledged"
  /** A snapshot is written under its temporary name. */
  | "snapshot.written"
  /** A snapshot has its final name. */
  | "snapshot.renamed";

const steps = channel(stepChannelName);

export function reachedStep(step: Step): void {
  if (steps.hasSubscribers) steps.publish(step);
}
