/** The gRPC of the calling end. Loaded with the first call: most buffers have no peer. */
import net from "node:net";
import tls from "node:tls";
import { createClient, type CallOptions } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { messageBytesMax } from "./chunk.ts";
import { fromWireError } from "./peer-errors.ts";
import type { ResolvedPeer } from "./peer-options.ts";
import { PeerSession } from "./peer-session.ts";
import type { Unheard } from "./peer-tls.ts";
import { frameBytes, frameOverheadBytes, requestBytesMax } from "./peer-wire.ts";
import { MsgSync, type DigestResponse, type StatusResponse } from "./proto/msg_sync_pb.ts";

/** Answers as they came, unchecked. Each rejects with what the peer's error means here. */
export interface PeerConnection {
  /** Packed messages, a frame a step. */
  sync(fromId: bigint, limit: number, bytesMax: number): AsyncGenerator<Uint8Array>;
  /** Without a deadline: a peer that is gone is noticed by the connection. */
  follow(fromId: bigint, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array>;
  status(): Promise<StatusResponse>;
  digest(fromId: bigint, throughId: bigint): Promise<DigestResponse>;
  /** Rejects the calls under way. */
  close(): void;
}

export function openConnection(peer: ResolvedPeer): PeerConnection {
  const { address, flow, place, bearerToken, timeoutMs } = peer;
  // HTTP/2 wants a name for whom it speaks to; for a path it says nothing.
  const host = "path" in place ? "gapless" : address;
  const authority = `${peer.tls === undefined ? "http" : "https"}://${host}`;
  const session = new PeerSession({
    authority,
    connect: () => connectSocket(peer),
    pingTimeoutMs: timeoutMs,
  });
  const transport = createGrpcTransport({
    baseUrl: authority,
    sessionManager: session,
    acceptCompression: [],
    readMaxBytes: frameBytes + messageBytesMax + frameOverheadBytes,
    writeMaxBytes: requestBytesMax,
    defaultTimeoutMs: timeoutMs,
  });
  const client = createClient(MsgSync, transport);
  const call: CallOptions =
    bearerToken === undefined ? {} : { headers: { authorization: `Bearer ${bearerToken}` } };

  const unheard = (): Unheard | undefined =>
    session.hasAnswered ? undefined : { speaksTls: peer.tls !== undefined };

  const answered = async <Answer>(answer: Promise<Answer>): Promise<Answer> => {
    try {
      return await answer;
    } catch (error) {
      throw fromWireError(error, address, unheard());
    }
  };

  /** Whoever leaves early leaves no stream behind. */
  async function* frames(
    ask: (options: CallOptions) => AsyncIterable<{ readonly messages: Uint8Array }>,
    outer?: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const leaving = new AbortController();
    const signal = outer === undefined ? leaving.signal : AbortSignal.any([outer, leaving.signal]);
    try {
      for await (const { messages } of ask({ ...call, signal })) yield messages;
    } catch (error) {
      throw fromWireError(error, address, unheard());
    } finally {
      leaving.abort();
    }
  }

  return {
    sync: (fromId, limit, bytesMax) =>
      frames((options) => client.sync({ flow, fromId, limit, bytesMax }, options)),
    follow: (fromId, signal) =>
      frames((options) => client.follow({ flow, fromId }, { ...options, timeoutMs: 0 }), signal),
    status: () => answered(client.status({ flow }, call)),
    digest: (fromId, throughId) => answered(client.digest({ flow, fromId, throughId }, call)),
    close: () => session.close(),
  };
}

function connectSocket({ place, tls: options }: ResolvedPeer): net.Socket {
  if (options === undefined) return net.connect(place);
  const { serverName, ...pem } = options;
  const servername = serverName ?? ("path" in place ? "localhost" : place.host);
  // An address of IP is no name to ask for, and is checked all the same.
  const asked = net.isIP(servername) === 0 ? { servername } : { host: servername };
  return tls.connect({ ...asked, ...place, ...pem, ALPNProtocols: ["h2"] });
}
