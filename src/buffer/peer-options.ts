/** What a server and a client of peers are told, checked once. */
import { checkArray, checkOptions, checkWhole, wrong, type OptionNames } from "../arguments.ts";
import { GaplessError } from "../errors.ts";
import type { BufferArchive } from "./archive.ts";
import { messageBytesMax } from "./chunk.ts";
import { checkPlace, parseAddress, type Place } from "./peer-address.ts";
import { checkCertificate, checkIdentity, checkServerIdentity } from "./peer-tls.ts";
import { readMessagesMax } from "./peer-wire.ts";

/** PEM, as in files that `openssl` writes. */
export type Pem = string | Buffer;

export interface ServeOptions {
  /** Buffers, or archives of them, each served under its `component`. */
  readonly flows: readonly (BufferArchive | { readonly archive: BufferArchive })[];
  /** A Unix domain socket, or a TCP port; port 0 takes one that is free. */
  readonly listen: Place;
  /** The server's own key and certificate. With `clientCa`, clients have to show one of theirs. */
  readonly tls?: { readonly key: Pem; readonly cert: Pem; readonly clientCa?: Pem };
  /** What every call but those of health has to bring. Without TLS, a listener can read it. */
  readonly bearerToken?: string;
  readonly limits?: ServeLimits;
}

export interface ServeLimits {
  /** A larger message is not sent, and ends the call: MESSAGE_TOO_LARGE. Default 16 MiB. */
  readonly messageBytes?: number;
  /** The most that one call of Sync may ask for, 16,384 at least. Default 1,000,000. */
  readonly rangeMessages?: number;
  /** Calls of Sync and Follow under way, of all clients together. Default 100. */
  readonly streams?: number;
}

export interface PeerOptions {
  /** `unix:/path/of/a/socket` or `host:port`. */
  readonly address: string;
  /** Which of the server's flows: the `component` of a buffer. */
  readonly flow: string;
  /**
   * Speaks TLS. `ca` says whom to believe, instead of the authorities that Node knows; key and
   * certificate are shown to a server that asks for them; `serverName` is what the server's
   * certificate has to be for, where that is not the host of the address.
   */
  readonly tls?: {
    readonly ca?: Pem;
    readonly key?: Pem;
    readonly cert?: Pem;
    readonly serverName?: string;
  };
  readonly bearerToken?: string;
  /** How long a call may take before it rejects with PEER_UNAVAILABLE. Default 5,000. */
  readonly timeoutMs?: number;
}

export type ResolvedServe = Omit<ServeOptions, "flows" | "limits"> & {
  readonly flows: readonly BufferArchive[];
  readonly limits: Required<ServeLimits>;
};

export type ResolvedPeer = Omit<Required<PeerOptions>, "tls" | "bearerToken"> &
  Pick<PeerOptions, "tls" | "bearerToken"> & { readonly place: Place };

const timeoutMsDefault = 5000;
const timeoutMsMax = 2 ** 31 - 1;
const rangeMessagesDefault = 1_000_000;
const streamsDefault = 100;
/** The wire has 32 bits for a limit. */
const wireMax = 0xffff_ffff;

const serveNames = {
  flows: true,
  listen: true,
  tls: true,
  bearerToken: true,
  limits: true,
} as const satisfies OptionNames<ServeOptions>;
const serveTlsNames = {
  key: true,
  cert: true,
  clientCa: true,
} as const satisfies OptionNames<NonNullable<ServeOptions["tls"]>>;
const limitNames = {
  messageBytes: true,
  rangeMessages: true,
  streams: true,
} as const satisfies OptionNames<ServeLimits>;
const peerNames = {
  address: true,
  flow: true,
  tls: true,
  bearerToken: true,
  timeoutMs: true,
} as const satisfies OptionNames<PeerOptions>;

const peerTlsNames = {
  ca: true,
  key: true,
  cert: true,
  serverName: true,
} as const satisfies OptionNames<NonNullable<PeerOptions["tls"]>>;

/** @throws GaplessError CONFIG_INVALID */
export function resolveServe(options: ServeOptions): ResolvedServe {
  checkOptions("serveBuffers", options, serveNames);
  const { listen, tls, bearerToken, limits = {} } = options;
  checkArray("flows", options.flows, "buffers");
  checkOptions("limits", limits, limitNames);
  const flows = options.flows.map(archiveOf);
  checkPlace(listen);
  checkToken(bearerToken);
  if (tls !== undefined) {
    checkOptions("tls of serveBuffers", tls, serveTlsNames);
    checkServerIdentity(tls);
  }
  if (tls?.clientCa !== undefined) checkCertificate("clientCa", tls.clientCa);
  const names = flows.map(({ component }) => component);
  const twice = names.find((name, index) => name === "" || names.indexOf(name) !== index);
  if (names.length === 0 || twice !== undefined) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `flows=${names.join(", ")}: expected one at least, each with a name of its own.`,
    );
  }
  const { messageBytes = messageBytesMax, rangeMessages = rangeMessagesDefault } = limits;
  const { streams = streamsDefault } = limits;
  checkWhole("limits.messageBytes", messageBytes, 1, messageBytesMax);
  // Fewer than a client of this package asks for at a time would refuse every one of them.
  checkWhole("limits.rangeMessages", rangeMessages, readMessagesMax, wireMax);
  checkWhole("limits.streams", streams, 1, wireMax);
  return Object.freeze({ ...options, flows, limits: { messageBytes, rangeMessages, streams } });
}

/** @throws GaplessError CONFIG_INVALID */
export function resolvePeer(options: PeerOptions): ResolvedPeer {
  checkOptions("connectPeer", options, peerNames);
  const { address, flow, tls, bearerToken, timeoutMs = timeoutMsDefault } = options;
  const place = parseAddress(address);
  checkToken(bearerToken);
  if (tls !== undefined) {
    checkOptions("tls of connectPeer", tls, peerTlsNames);
    checkIdentity(tls);
  }
  if (tls?.ca !== undefined) checkCertificate("ca", tls.ca);
  if (tls?.serverName !== undefined && typeof tls.serverName !== "string") {
    throw wrong("tls.serverName", tls.serverName, "a name");
  }
  if (typeof flow !== "string" || flow === "") {
    throw wrong("flow", flow, "the component of a buffer that is served there");
  }
  checkWhole("timeoutMs", timeoutMs, 1, timeoutMsMax);
  return Object.freeze({ ...options, place, timeoutMs });
}

function archiveOf(flow: ServeOptions["flows"][number]): BufferArchive {
  const isObject = typeof flow === "object" && (flow as unknown) !== null;
  const archive = isObject && "archive" in flow ? flow.archive : flow;
  if (isObject && typeof (archive as BufferArchive).status === "function") {
    return archive as BufferArchive;
  }
  throw wrong("flows", flow, "buffers, or archives of buffers");
}

/** What a header can carry; the token itself is not for logs. */
function checkToken(bearerToken: string | undefined): void {
  if (bearerToken === undefined) return;
  if (typeof bearerToken === "string" && /^[\x21-\x7e]+$/.test(bearerToken)) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    "bearerToken: expected one visible ASCII character at least, and no other ones.",
  );
}
