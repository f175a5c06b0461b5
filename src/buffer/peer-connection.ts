/** The gRPC of the calling end. Loaded with the first call: most buffers have no peer. */
import type http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { createClient, type CallOptions } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { messageBytesMax } from "./chunk.ts";
import { fromWireError } from "./peer-errors.ts";
import type { ResolvedPeer } from "./peer-options.ts";
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

type SessionManager = NonNullable<Parameters<typeof createGrpcTransport>[0]["sessionManager"]>;

/** What a peer may send ahead of what was read, of one call and of all: a range at a time. */
const streamWindowBytes = 2 * 1024 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;
/** With calls under way and nothing coming, how soon the peer is asked whether it is there. */
const pingIntervalMs = 5000;

export function openConnection(peer: ResolvedPeer): PeerConnection {
  const { address, flow, place, bearerToken, timeoutMs } = peer;
  // HTTP/2 wants a name for whom it speaks to; for a path it says nothing.
  const host = "path" in place ? "gapless" : address;
  const authority = `${peer.tls === undefined ? "http" : "https"}://${host}`;
  const sessions = new Http2SessionManager(
    authority,
    { pingIntervalMs, pingTimeoutMs: timeoutMs },
    {
      createConnection: () => connectSocket(peer),
      settings: { initialWindowSize: streamWindowBytes },
    },
  );
  const transport = createGrpcTransport({
    baseUrl: authority,
    sessionManager: withWiderWindow(sessions),
    acceptCompression: [],
    readMaxBytes: frameBytes + messageBytesMax + frameOverheadBytes,
    writeMaxBytes: requestBytesMax,
    defaultTimeoutMs: timeoutMs,
  });
  const client = createClient(MsgSync, transport);
  const call: CallOptions =
    bearerToken === undefined ? {} : { headers: { authorization: `Bearer ${bearerToken}` } };

  const answered = async <Answer>(answer: Promise<Answer>): Promise<Answer> => {
    try {
      return await answer;
    } catch (error) {
      throw fromWireError(error, address);
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
      throw fromWireError(error, address);
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
    close: () => sessions.abort(),
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

/** A connection of Node's has 64 KiB for all its calls, which is a round trip for each. */
function withWiderWindow(sessions: Http2SessionManager): SessionManager {
  const widened = new WeakSet<http2.Http2Session>();
  return {
    authority: sessions.authority,
    async request(method, path, headers, options) {
      const stream = await sessions.request(method, path, headers, options);
      const { session } = stream;
      if (session !== undefined && !widened.has(session)) {
        widened.add(session);
        session.setLocalWindowSize(connectionWindowBytes);
      }
      return stream;
    },
    notifyResponseByteRead: (stream) => sessions.notifyResponseByteRead(stream),
  };
}
