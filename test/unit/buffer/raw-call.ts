/** A call of MsgSync as bytes on HTTP/2, for clients that do what no library would. */
import http2 from "node:http2";
import net from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { SyncRequestSchema } from "../../../src/buffer/proto/msg_sync_pb.ts";

/** Connects to the socket, and lets the server send `windowBytes` before anything is read. */
export function connectRaw(socketPath: string, windowBytes: number): http2.ClientHttp2Session {
  const session = http2.connect("http://raw", {
    createConnection: () => net.connect(socketPath),
    settings: { initialWindowSize: windowBytes },
  });
  session.on("error", () => undefined);
  session.on("connect", () => session.setLocalWindowSize(windowBytes));
  return session;
}

/** Asks for everything; nothing is read until the caller does. */
export function callSync(
  session: http2.ClientHttp2Session,
  flow: string,
  headers: http2.OutgoingHttpHeaders = {},
): http2.ClientHttp2Stream {
  const call = session.request({
    ":method": "POST",
    ":path": "/gapless.buffer.v1.MsgSync/Sync",
    "content-type": "application/grpc+proto",
    te: "trailers",
    ...headers,
  });
  call.on("error", () => undefined);
  const request = create(SyncRequestSchema, { flow, fromId: 1n, limit: 0xffff_ffff });
  const message = toBinary(SyncRequestSchema, request);
  const envelope = Buffer.alloc(5 + message.length);
  envelope.writeUInt32BE(message.length, 1);
  envelope.set(message, 5);
  call.end(envelope);
  return call;
}
