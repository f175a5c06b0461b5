/** The errors of a buffer on the wire: a gRPC status and a BufferError, and back. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { describeError, GaplessError, isGaplessError, type ErrorCode } from "../errors.ts";
import {
  BufferFull,
  chainIds,
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
  StorageError,
} from "./buffer-errors.ts";
import { closedUnheard, handshakeFault, type Unheard } from "./peer-tls.ts";
import { errorTrailer } from "./peer-wire.ts";
import { BufferErrorSchema, type BufferError } from "./proto/msg_sync_pb.ts";

/** What crosses as itself. Any other error says that this peer cannot answer now. */
const statusByCode: Partial<Record<ErrorCode, Code>> = {
  DATA_TRIMMED: Code.NotFound,
  DATA_NOT_YET_AVAILABLE: Code.OutOfRange,
  CHAIN_BROKEN: Code.DataLoss,
  STORAGE_CORRUPT: Code.DataLoss,
  MESSAGE_MALFORMED: Code.DataLoss,
  STORAGE_FULL: Code.ResourceExhausted,
  BUFFER_FULL: Code.ResourceExhausted,
  MESSAGE_TOO_LARGE: Code.ResourceExhausted,
  SYSTEM_CALL_FAILED: Code.Internal,
  INVALID_OPERATION: Code.FailedPrecondition,
  CONFIG_INVALID: Code.InvalidArgument,
};

/** Headers are small: clients of other makers refuse more than 8 KiB of them. */
const messageCharactersMax = 1000;

/** The error as it crosses; `status` instead of the one that its code has by itself. */
export function toWireError(error: unknown, status?: Code): ConnectError {
  // Ours already, or a deadline of the framework's.
  if (error instanceof ConnectError) return error;
  const text = describeError(error).slice(0, messageCharactersMax).toWellFormed();
  const code = isGaplessError(error) ? statusByCode[error.code] : undefined;
  if (!isGaplessError(error) || code === undefined) return new ConnectError(text, Code.Unavailable);
  const wire = create(BufferErrorSchema, {
    ...idsOf(error),
    code: error.code,
    message: text,
  });
  return new ConnectError(text, status ?? code, {
    [errorTrailer]: encodeBinaryHeader(wire, BufferErrorSchema),
  });
}

function idsOf(error: GaplessError) {
  if (error instanceof DataTrimmed) {
    return { requestedId: error.requestedId, minAvailableId: error.minAvailableId };
  }
  if (error instanceof DataNotYetAvailable) {
    return { requestedId: error.requestedId, currentMaxId: error.currentMaxId };
  }
  if (error instanceof DataCorrupted) {
    return { expectedId: error.expectedId, foundId: error.foundId };
  }
  return {};
}

/** What a call to the peer at `address` has failed with. */
export function fromWireError(error: unknown, address: string, unheard?: Unheard): GaplessError {
  if (error instanceof GaplessError) return error;
  const failure = ConnectError.from(error);
  const reason = reasonOf(failure, unheard);
  return (
    decided(failure) ??
    new GaplessError("PEER_UNAVAILABLE", `The peer at ${address} does not answer: ${reason}.`, {
      cause: error,
    })
  );
}

function reasonOf({ code, cause, rawMessage }: ConnectError, unheard?: Unheard): string {
  if (unheard !== undefined && code === Code.Canceled && cause === undefined) {
    return closedUnheard(unheard);
  }
  return handshakeFault(cause) ?? oneLine(rawMessage);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").replace(/[ .:]+$/, "");
}

/** What asking again does not change, and what says when to ask again. */
function decided(failure: ConnectError): GaplessError | undefined {
  const trailer = failure.metadata.get(errorTrailer);
  if (trailer === null) return undefined;
  let wire: BufferError;
  try {
    wire = decodeBinaryHeader(trailer, BufferErrorSchema);
  } catch {
    return undefined;
  }
  const code = (Object.keys(statusByCode) as ErrorCode[]).find((known) => known === wire.code);
  return code === undefined ? undefined : rebuild(code, wire, { cause: failure });
}

function rebuild(code: ErrorCode, wire: BufferError, options: ErrorOptions): GaplessError {
  const { message, requestedId, minAvailableId, currentMaxId, expectedId, foundId } = wire;
  if (code === "DATA_TRIMMED" && requestedId !== undefined && minAvailableId !== undefined) {
    return new DataTrimmed(requestedId, minAvailableId, options);
  }
  if (
    code === "DATA_NOT_YET_AVAILABLE" &&
    requestedId !== undefined &&
    currentMaxId !== undefined
  ) {
    return new DataNotYetAvailable(requestedId, currentMaxId, options);
  }
  if (code === "CHAIN_BROKEN" && expectedId !== undefined && foundId !== undefined) {
    const ids = `: ${chainIds(expectedId, foundId)}.`;
    const what = message.endsWith(ids) ? message.slice(0, -ids.length) : message;
    return new DataCorrupted(expectedId, foundId, what, options);
  }
  if (code === "BUFFER_FULL") return new BufferFull(message, options);
  if (code === "INVALID_OPERATION") return new InvalidOperation(message, options);
  if (code === "STORAGE_FULL" || code === "STORAGE_CORRUPT" || code === "SYSTEM_CALL_FAILED") {
    return new StorageError(code, message, options);
  }
  return new GaplessError(code, message, options);
}
