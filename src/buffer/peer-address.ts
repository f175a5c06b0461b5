/**
 * Where peers meet:
 *
 *   unix:/run/exchange/buffers.sock     a Unix domain socket
 *   10.0.0.7:7400   [::1]:7400          a TCP port
 */
import { wrong } from "../arguments.ts";
import { GaplessError } from "../errors.ts";

/** A Unix domain socket, or a TCP port; port 0 listens at one that is free. */
export type Place = { readonly path: string } | { readonly host: string; readonly port: number };

/** `sun_path` less its terminating zero. Node cuts a longer path off without a word. */
const socketPathBytesMax = 107;
const unixPrefix = "unix:";

/** @throws GaplessError CONFIG_INVALID for what names no place. */
export function parseAddress(address: string): Place {
  if (typeof address !== "string") throw wrong("address", address, "a text");
  if (address.startsWith(unixPrefix)) {
    return checkPlace({ path: address.slice(unixPrefix.length) });
  }
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) === 0) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `address=${address}: expected "unix:/path/of/a/socket" or "host:port".`,
    );
  }
  return checkPlace({ host, port: Number(port) });
}

/** The address at which a place is found. */
export function formatAddress(place: Place): string {
  if ("path" in place) return `${unixPrefix}${place.path}`;
  return `${place.host.includes(":") ? `[${place.host}]` : place.host}:${place.port}`;
}

/** @throws GaplessError CONFIG_INVALID for a path or port that no socket can have. */
export function checkPlace(place: Place): Place {
  if (typeof place !== "object" || (place as unknown) === null) {
    throw wrong("listen", place, "{ path }, or { host, port }");
  }
  if ("path" in place) {
    const { path } = place;
    if (typeof path !== "string") throw wrong("listen.path", path, "the path of a socket");
    const bytes = Buffer.byteLength(path);
    if (bytes >= 1 && bytes <= socketPathBytesMax && !path.includes("\0")) return place;
    throw new GaplessError(
      "CONFIG_INVALID",
      `Not a path for a socket: bytes=${bytes}, expected 1 to ${socketPathBytesMax}: ${path}`,
    );
  }
  const { host, port } = place;
  if (
    typeof host === "string" &&
    host !== "" &&
    Number.isInteger(port) &&
    port >= 0 &&
    port <= 0xffff
  )
    return place;
  throw new GaplessError(
    "CONFIG_INVALID",
    `Not a place to listen at: host=${host}, port=${port}. Expected a port from 0 to 65535.`,
  );
}
