/** The gRPC of the serving end. Loaded with the first server: most buffers have no peer. */
import type http2 from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { describeError, isGaplessError, type ErrorCode } from "../errors.ts";
import type { Archive } from "../flow/endpoints.ts";
import { encodedBytes, packMessages, type Batch, type Message } from "../message.ts";
import { codeTrailer, replyBytesMax, replyMessagesMax, requestBytesMax } from "./peer-wire.ts";
import { BufferService } from "./proto/gapless/buffer/v1/buffer_pb.ts";
import { readBytesMax } from "./range.ts";

type Handler = (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void;

/** Answers the requests of buffer.proto from the archive. */
export function createHandler(archive: Archive): Handler {
  return connectNodeAdapter({
    grpc: true,
    grpcWeb: false,
    connect: false,
    acceptCompression: [],
    readMaxBytes: requestBytesMax,
    writeMaxBytes: replyBytesMax,
    routes: (router) => {
      router.service(BufferService, {
        async bounds() {
          return (await answer(archive.bounds())) ?? {};
        },
        async read({ fromId, limit }) {
          const batch = await answer(archive.read(fromId, Math.min(limit, replyMessagesMax)));
          return { messages: packMessages(fitReply(batch)) };
        },
      });
    },
  });
}

/** The messages of a batch that a reply has room for, one at least. */
function fitReply(batch: Batch): readonly Message[] {
  let bytes = 0;
  const last = batch.findIndex((message) => (bytes += encodedBytes(message)) >= readBytesMax);
  return last === -1 ? batch : batch.slice(0, last + 1);
}

/** @throws ConnectError with the code of what went wrong. */
async function answer<Result>(result: Promise<Result>): Promise<Result> {
  try {
    return await result;
  } catch (error) {
    const code = isGaplessError(error) ? error.code : "SYSTEM_CALL_FAILED";
    const status = statusByCode[code] ?? Code.Unavailable;
    throw new ConnectError(describeError(error), status, { [codeTrailer]: code });
  }
}

const statusByCode: Partial<Record<ErrorCode, Code>> = {
  DATA_TRIMMED: Code.NotFound,
  DATA_NOT_YET_AVAILABLE: Code.OutOfRange,
  STORAGE_CORRUPT: Code.DataLoss,
  INVALID_OPERATION: Code.InvalidArgument,
};
