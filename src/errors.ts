/**
 * One error class for the whole package.
 *
 * A caller decides by `code` (stable across releases) or by `advice`, never by the text:
 *
 *   retry    the same call may succeed later: a peer is starting, an answer is not there yet
 *   repair   a person or an operator's script has to do something first; the message says what
 *   stop     the program or its input is wrong, and going on would lose or corrupt data
 */
export type Advice = "retry" | "repair" | "stop";

const adviceByCode = {
  /** A topology, channel table or option is wrong: the message names file, key and expectation. */
  CONFIG_INVALID: "stop",
  /** This operating system or processor lacks what the rings and logs are built on. */
  PLATFORM_UNSUPPORTED: "stop",
  /** A system call failed for a reason that none of the other codes names. */
  SYSTEM_CALL_FAILED: "stop",
  /** The file system refused to reserve the space asked for; nothing was written. */
  STORAGE_FULL: "repair",
  /** Bytes on disk or in shared memory are not what the layout says. */
  STORAGE_CORRUPT: "repair",
  /** Another live process holds what was to be opened for writing. */
  ALREADY_OPEN: "repair",
  /** Another live process writes to the queue; the message says which. */
  WRITER_ALREADY_ACTIVE: "repair",
  /** A message is larger than the channel or log it is meant for. */
  MESSAGE_TOO_LARGE: "stop",
  /** A payload is larger than a segment of its queue has room for. */
  PAYLOAD_TOO_LARGE: "stop",
  /** Encoded messages do not parse; the message names the offset. */
  MESSAGE_MALFORMED: "stop",
  /** Neither next, nor duplicate, nor a gap: two streams were mixed, or a producer lies. */
  CHAIN_BROKEN: "stop",
  /** No archive holds the missing range any more. */
  GAP_NOT_FILLED: "stop",
  /** The range asked for was trimmed away. */
  DATA_TRIMMED: "stop",
  /** The range asked for begins past the newest durable message. */
  DATA_NOT_YET_AVAILABLE: "retry",
  /** Nothing is overwritten, and there is no room: it comes with a trim. */
  BUFFER_FULL: "retry",
  /** A call that makes no sense in the state that its object is in. */
  INVALID_OPERATION: "stop",
  /** A peer does not answer. */
  PEER_UNAVAILABLE: "retry",
  /** A sum left the 64 bits that the store keeps it in; nothing was written. */
  AMOUNT_OVERFLOW: "stop",
  /** A record of the input cannot be read; the message names where. */
  INPUT_MALFORMED: "stop",
  /** Another one has taken over: whoever gets this writes no longer. */
  FENCED: "stop",
  /** Something is claimed that has to be committed or aborted first. */
  CLAIM_OPEN: "stop",
  /** Messages are missing before the next one: the error says which. */
  MESSAGES_LOST: "repair",
  /** The object was closed, or has finished its stream, before or during the call. */
  CLOSED: "stop",
} as const satisfies Record<string, Advice>;

/** The stable codes; each has one advice. */
export type ErrorCode = keyof typeof adviceByCode;

const dataLossCodes = new Set<ErrorCode>(["DATA_TRIMMED", "GAP_NOT_FILLED", "MESSAGES_LOST"]);
const corruptionCodes = new Set<ErrorCode>([
  "STORAGE_CORRUPT",
  "CHAIN_BROKEN",
  "MESSAGE_MALFORMED",
]);

/** Every code with its advice, in the order of the table above. */
export const errorCodes: ReadonlyMap<ErrorCode, Advice> = new Map(
  Object.entries(adviceByCode) as [ErrorCode, Advice][],
);

/** What Gapless throws for everything that is not a bug of its own. */
export class GaplessError extends Error {
  readonly code: ErrorCode;
  readonly advice: Advice;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "GaplessError";
    this.code = code;
    this.advice = adviceByCode[code];
  }

  /** Whether the same call may succeed later. */
  get isTemporary(): boolean {
    return this.advice === "retry";
  }

  /** Whether messages are gone for good. */
  get isDataLoss(): boolean {
    return dataLossCodes.has(this.code);
  }

  /** Whether bytes or messages are not what they were, or do not belong together. */
  get isCorruption(): boolean {
    return corruptionCodes.has(this.code);
  }
}

/** Whether `error` is a Gapless error, of one of `codes` where any are given. */
export function isGaplessError(error: unknown, ...codes: ErrorCode[]): error is GaplessError {
  return error instanceof GaplessError && (codes.length === 0 || codes.includes(error.code));
}

/** The text of anything that was thrown. */
export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const noSpace = new Set(["ENOSPC", "EDQUOT"]);

/** The error for a failed file operation: a full disk has its own code, a bug stays what it is. */
export function storageFailed(what: string, error: unknown): Error {
  if (error instanceof GaplessError) return error;
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (code === undefined) return new Error(describeError(error), { cause: error });
  return noSpace.has(code)
    ? new GaplessError(
        "STORAGE_FULL",
        `No room: ${what}: ${describeError(error)}. Free space on its file system, then try again.`,
        { cause: error },
      )
    : new GaplessError("SYSTEM_CALL_FAILED", `${what}: ${describeError(error)}.`, {
        cause: error,
      });
}

/** Stops on a bug of ours. What a peer, a disk or a user can cause is a GaplessError instead. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`Bug in gapless: ${message}`);
}
