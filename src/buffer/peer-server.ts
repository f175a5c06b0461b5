/** Serves the archives of buffers to other processes: gRPC over HTTP/2. */
import http2 from "node:http2";
import { formatAddress } from "./peer-address.ts";
import { listenAt } from "./peer-listen.ts";
import { resolveServe, type ResolvedServe, type ServeOptions } from "./peer-options.ts";

/** Serves until it is disposed. */
export interface BufferServer extends AsyncDisposable {
  /** Where it listens, as `connectPeer` takes it. */
  readonly address: string;
}

/**
 * Serves the flows at one socket until disposed, which ends the connections too. A socket file
 * that a dead server left behind is replaced. For a client that does not read, what was read for
 * it and two frames wait in memory, and nothing more is read until it goes on.
 *
 * @throws GaplessError ALREADY_OPEN where somebody listens there; CONFIG_INVALID for options that
 *   make no sense, and for a path or port that cannot be had.
 */
export async function serveBuffers(options: ServeOptions): Promise<BufferServer> {
  const resolved = resolveServe(options);
  const { createHandler } = await import("./peer-handler.ts");
  const server = createServer(resolved, createHandler(resolved));
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  const address = formatAddress(await listenAt(server, resolved.listen));
  let closing: Promise<void> | undefined;
  return {
    address,
    [Symbol.asyncDispose]() {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
      });
      return closing;
    },
  };
}

/** Room for the frames of all calls of a client. Node's own 10 MB refuse one while ten wait. */
const sessionMemoryMb = 256;
/** Calls of one connection; a client beyond that waits. */
const concurrentCallsMax = 128;
/** A client whose machine is gone holds its streams until the system has asked for it in vain. */
const keepAliveMs = 30_000;

function createServer(
  { tls }: ResolvedServe,
  handler: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void,
): http2.Http2Server | http2.Http2SecureServer {
  const shared = {
    settings: { maxConcurrentStreams: concurrentCallsMax },
    maxSessionMemory: sessionMemoryMb,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs,
  };
  if (tls === undefined) return http2.createServer(shared, handler);
  const { key, cert, clientCa } = tls;
  const mutual =
    clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  return http2.createSecureServer({ ...shared, key, cert, ...mutual }, handler);
}
