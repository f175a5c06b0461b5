/**
 * The three ends of a flow. Whatever carries, keeps or takes messages implements one of them, and
 * `pump` is the only loop between them.
 */
import type { Batch } from "../message.ts";

/** Delivers messages and holds what it delivered until it is told that they are safe. */
export interface Source {
  /** What was delivered before a restart and never acknowledged. Ends when that is exhausted. */
  pending(): AsyncIterable<Batch>;
  /**
   * New messages, until the producer closes the stream or `signal` aborts; both end the iteration
   * normally. `null` says that nothing has come for a while: time to ask an archive whether
   * something was missed. A batch is valid until the next step of the iteration.
   */
  live(signal: AbortSignal): AsyncIterable<Batch | null>;
  /** Everything through this id is durable downstream and will not be asked for again. */
  acknowledge(throughId: bigint): Promise<void>;
}

export interface Bounds {
  /** Oldest and newest id that can be read. */
  readonly minId: bigint;
  readonly maxId: bigint;
}

/** Serves ranges of the past. */
export interface Archive {
  /**
   * Up to `limit` messages in chain order, beginning with the first whose id is at least `fromId`.
   * Never a range with a hole in it.
   *
   * @throws GaplessError DATA_TRIMMED where that message, or one before it that `fromId` asks
   *   for, is gone; DATA_NOT_YET_AVAILABLE where nothing that new is durable; PEER_UNAVAILABLE.
   */
  read(fromId: bigint, limit: number): Promise<Batch>;
  /** null where nothing was ever kept. @throws GaplessError PEER_UNAVAILABLE. */
  bounds(): Promise<Bounds | null>;
}

/** What the gaps that a batch closes amounted to. A sink adds it up with its position. */
export interface Repair {
  /** Gaps whose last message is in the batch. */
  readonly gaps: number;
  /** Messages of the batch that came from an archive. */
  readonly messages: number;
}

/** Of a batch that came as it should. */
export const noRepair: Repair = { gaps: 0, messages: 0 };

/** Takes messages and remembers how far it came. */
export interface Sink {
  /** Id of the last message whose effects are committed; 0n before the first. */
  position(): Promise<bigint>;
  /**
   * Commits the effects of the batch and the new position together: after a crash at any point
   * either both are there or neither is.
   */
  apply(batch: Batch, repair: Repair): Promise<void>;
}
