/** Serves an archive to other processes: gRPC over HTTP/2 on a Unix domain socket. */
import fs from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { describeError, GaplessError } from "../errors.ts";
import type { Archive } from "../flow/endpoints.ts";
import { checkSocketPath } from "./peer-wire.ts";

/**
 * Serves `archive` at `socketPath` until disposed, which ends the connections too. A socket file
 * that a dead server left behind is replaced.
 *
 * @throws GaplessError ALREADY_OPEN where somebody listens there; CONFIG_INVALID for a path that
 *   is too long, not a socket, or cannot be created.
 */
export async function serveBuffer(archive: Archive, socketPath: string): Promise<AsyncDisposable> {
  checkSocketPath(socketPath);
  await removeStaleSocket(socketPath);
  const { createHandler } = await import("./peer-handler.ts");
  const server = http2.createServer(
    { settings: { maxConcurrentStreams: concurrentCallsMax }, maxSessionMemory: sessionMemoryMb },
    createHandler(archive),
  );
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  await listen(server, socketPath);
  let closing: Promise<void> | undefined;
  return {
    [Symbol.asyncDispose]() {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
      });
      return closing;
    },
  };
}

/** Of one connection; a client beyond that waits. */
const concurrentCallsMax = 64;
/** Room for the replies of all of them. Node's own 10 MB refuse a call while ten others wait. */
const sessionMemoryMb = 256;

async function listen(server: http2.Http2Server, socketPath: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(socketPath, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (cause) {
    throw new GaplessError(
      (cause as NodeJS.ErrnoException).code === "EADDRINUSE" ? "ALREADY_OPEN" : "CONFIG_INVALID",
      `No socket can be created at ${socketPath}: ${describeError(cause)}.`,
      { cause },
    );
  }
}

async function removeStaleSocket(socketPath: string): Promise<void> {
  const found = fs.lstatSync(socketPath, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `Not a socket: ${socketPath}. Expected a path for the buffer's own.`,
    );
  }
  if (await isListening(socketPath)) {
    throw new GaplessError("ALREADY_OPEN", `Another process serves ${socketPath} already.`);
  }
  fs.rmSync(socketPath, { force: true });
}

function isListening(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // Whatever else goes wrong, a full backlog or a lack of rights, there is somebody.
    socket.on("error", ({ code }: NodeJS.ErrnoException) => {
      resolve(code !== "ECONNREFUSED" && code !== "ENOENT");
    });
  });
}
