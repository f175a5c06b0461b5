/** The socket of a server of peers: taken over from a dead one, never from a live one. */
import fs from "node:fs";
import type http2 from "node:http2";
import net from "node:net";
import { assert, describeError, GaplessError } from "../errors.ts";
import { formatAddress, type Place } from "./peer-address.ts";

/**
 * Listens, and resolves to the place where the server is found.
 *
 * @throws GaplessError ALREADY_OPEN where somebody listens there; CONFIG_INVALID for a path that
 *   is not a socket or cannot be created, and for a host or port that cannot be had.
 */
export async function listenAt(
  server: http2.Http2Server | http2.Http2SecureServer,
  place: Place,
): Promise<Place> {
  if ("path" in place) await removeStaleSocket(place.path);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(place, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (cause) {
    throw new GaplessError(
      (cause as NodeJS.ErrnoException).code === "EADDRINUSE" ? "ALREADY_OPEN" : "CONFIG_INVALID",
      `No socket can be created at ${formatAddress(place)}: ${describeError(cause)}.`,
      { cause },
    );
  }
  if ("path" in place) return place;
  const bound = server.address();
  assert(bound !== null && typeof bound === "object", "a TCP server has no port");
  return { host: place.host, port: bound.port };
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
