/** The gRPC of the calling end. Loaded with the first call: most buffers have no peer. */
import net from "node:net";
import { createClient, ConnectError } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { GaplessError } from "../errors.ts";
import { codeTrailer, replyBytesMax, requestBytesMax } from "./peer-wire.ts";
import { BufferService, type BoundsResponse } from "./proto/gapless/buffer/v1/buffer_pb.ts";

/** Answers as they came, unchecked. */
export interface PeerConnection {
  read(fromId: bigint, limit: number): Promise<Uint8Array>;
  bounds(): Promise<BoundsResponse>;
  /** Rejects the calls under way. */
  close(): void;
}

// HTTP/2 wants a name for whom it speaks to; here the path of the socket says that.
const authority = "http://gapless";

export function openConnection(socketPath: string, timeoutMs: number): PeerConnection {
  const sessions = new Http2SessionManager(authority, undefined, {
    createConnection: () => net.connect(socketPath),
  });
  const transport = createGrpcTransport({
    baseUrl: authority,
    sessionManager: sessions,
    acceptCompression: [],
    readMaxBytes: replyBytesMax,
    writeMaxBytes: requestBytesMax,
    defaultTimeoutMs: timeoutMs,
  });
  const client = createClient(BufferService, transport);

  const answered = async <Answer>(answer: Promise<Answer>): Promise<Answer> => {
    try {
      return await answer;
    } catch (error) {
      throw peerError(error, socketPath);
    }
  };

  return {
    async read(fromId, limit) {
      return (await answered(client.read({ fromId, limit }))).messages;
    },
    bounds: () => answered(client.bounds({})),
    close: () => sessions.abort(),
  };
}

/** What asking again does not change, and what says when to ask again. */
const decidedCodes = ["DATA_TRIMMED", "DATA_NOT_YET_AVAILABLE", "STORAGE_CORRUPT"] as const;

function peerError(error: unknown, socketPath: string): GaplessError {
  const { metadata, rawMessage } = ConnectError.from(error);
  const code = metadata.get(codeTrailer);
  const decided = decidedCodes.find((known) => known === code);
  if (decided !== undefined) return new GaplessError(decided, rawMessage, { cause: error });
  return new GaplessError(
    "PEER_UNAVAILABLE",
    `The peer at ${socketPath} does not answer: ${rawMessage}.`,
    { cause: error },
  );
}
