/** The messages of a buffer as they are stored: what peers serve, ask and compare. */
import type { Archive } from "../flow/endpoints.ts";
import type { Batch } from "../message.ts";

/** An archive of one component that also grows. Its bytes are views: read them only. */
export interface BufferArchive extends Archive {
  /** Whose messages they are: a peer asks for a flow by this name. */
  readonly component: string;
  status(): Promise<ArchiveStatus>;
  /**
   * Everything from the first message whose id is at least `fromId`, past and to come, until the
   * signal aborts or the archive is closed.
   *
   * @throws GaplessError DATA_TRIMMED, also later: where a trim overtakes a slow reader
   */
  follow(fromId: bigint, options?: FollowOptions): AsyncIterable<Batch>;
  /**
   * What the messages from `fromId` through `throughId` amount to, so that two archives can be
   * compared without moving them.
   *
   * @throws GaplessError as `read`, for either end
   */
  digest(fromId: bigint, throughId: bigint): Promise<RangeDigest>;
}

export interface FollowOptions {
  /** Ends the iteration normally. */
  readonly signal?: AbortSignal;
}

export interface ArchiveStatus {
  /** Oldest id that can be read; undefined where none can. */
  readonly minId: bigint | undefined;
  /** Newest id there is, or was: undefined only where nothing ever came, not where all went. */
  readonly maxId: bigint | undefined;
  /** Of the replicated log, what of it has been applied; 0n where there is none. */
  readonly logPosition: bigint;
}

export interface RangeDigest {
  readonly count: number;
  /** SHA-256 of the messages as message.ts encodes them, one behind the other. */
  readonly sha256: Uint8Array;
}
