/** What a publisher needs of a ring, however many producers the ring has. */
import type { Room } from "./room.ts";

export interface Claims {
  readonly room: Room;
  /** Newest sequence that this producer knows of: that of its newest claim right after it. */
  readonly sequence: number;
  /** Whether something is claimed and not settled. */
  readonly hasOpen: boolean;
  /**
   * Claims a record and returns the index of its first word, or -1 where it would use more than
   * `room` units of the ring. `mark` is the descriptor without the length.
   */
  tryClaim(bodyBytes: number, mark: number, room: number): number;
  /** Publishes everything claimed since the last time, and says how many messages that were. */
  commit(): number;
  /** Takes back everything claimed since the last time. */
  abort(): void;
  /** Uses up the sequence of a message that is not written. */
  giveUpSequence(): number;
  /** Units between the slowest consumer and the newest claim. */
  used(): number;
  /** Marks consumers that are in the way and dead or silent, and settles the claims of the dead. */
  failTheDead(): void;
  /** Position of this producer's newest committed record, as far as it is still there. */
  newestCommitted(): number | undefined;
  /** Takes up what the last owner of this end left. */
  recover(): void;
}
