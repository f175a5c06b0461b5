/** What a buffer answers instead of messages, with the ids that it is about. */
import { GaplessError } from "../errors.ts";

/** What was asked for is gone for good. */
export class DataTrimmed extends GaplessError {
  readonly requestedId: bigint;
  /** The oldest that can be read, or the first that would be. */
  readonly minAvailableId: bigint;

  constructor(requestedId: bigint, minAvailableId: bigint, options?: ErrorOptions) {
    super(
      "DATA_TRIMMED",
      `Gone: id=${requestedId} was asked for, and everything before id=${minAvailableId} is ` +
        "trimmed.",
      options,
    );
    this.requestedId = requestedId;
    this.minAvailableId = minAvailableId;
  }
}

/** What was asked for is newer than all that is durable. */
export class DataNotYetAvailable extends GaplessError {
  readonly requestedId: bigint;
  /** 0n where nothing is there. */
  readonly currentMaxId: bigint;

  constructor(requestedId: bigint, currentMaxId: bigint, options?: ErrorOptions) {
    super(
      "DATA_NOT_YET_AVAILABLE",
      `Not there yet: id=${requestedId} was asked for, and the newest durable message is ` +
        `id=${currentMaxId}.`,
      options,
    );
    this.requestedId = requestedId;
    this.currentMaxId = currentMaxId;
  }
}

/** A message that does not follow on the one before it, or is another one than it was. */
export class DataCorrupted extends GaplessError {
  /** Where the next message was to follow on, or whose bytes are others. */
  readonly expectedId: bigint;
  readonly foundId: bigint;

  constructor(expectedId: bigint, foundId: bigint, what: string, options?: ErrorOptions) {
    super("CHAIN_BROKEN", `${what}: ${chainIds(expectedId, foundId)}.`, options);
    this.expectedId = expectedId;
    this.foundId = foundId;
  }
}

/** The end of what a DataCorrupted says. */
export function chainIds(expectedId: bigint, foundId: bigint): string {
  return expectedId === foundId
    ? `id=${foundId}`
    : `expected id=${expectedId}, found id=${foundId}`;
}

/** The ring is full and may not overwrite: trim first. */
export class BufferFull extends GaplessError {
  constructor(message: string, options?: ErrorOptions) {
    super("BUFFER_FULL", message, options);
  }
}

/** A call that makes no sense, whatever the buffer holds. */
export class InvalidOperation extends GaplessError {
  constructor(message: string, options?: ErrorOptions) {
    super("INVALID_OPERATION", message, options);
  }
}

/** The store itself has failed: STORAGE_FULL, STORAGE_CORRUPT or SYSTEM_CALL_FAILED. */
export class StorageError extends GaplessError {}
