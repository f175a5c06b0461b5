/** Whether what TLS is to be spoken with makes sense: else every call would fail with it. */
import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { describeError, GaplessError } from "../errors.ts";
import type { Pem } from "./peer-options.ts";

export interface Identity {
  readonly key?: Pem | undefined;
  readonly cert?: Pem | undefined;
}

/** A key and its certificate, or neither. @throws GaplessError CONFIG_INVALID */
export function checkIdentity({ key, cert }: Identity): void {
  if (key === undefined && cert === undefined) return;
  if (key === undefined || cert === undefined) {
    throw new GaplessError("CONFIG_INVALID", "tls.key goes with tls.cert: one of them is missing.");
  }
  const made: KeyObject = parse("key", "a private key", () => createPrivateKey(key));
  if (checkCertificate("cert", cert).checkPrivateKey(made)) return;
  throw new GaplessError("CONFIG_INVALID", "tls.key is that of another certificate than tls.cert.");
}

/** As `checkIdentity`, of who has to have one. */
export function checkServerIdentity(identity: Identity): void {
  if (identity.key === undefined && identity.cert === undefined) {
    throw new GaplessError("CONFIG_INVALID", "A server speaks TLS with tls.key and tls.cert.");
  }
  checkIdentity(identity);
}

/** The first of those that the text has. @throws GaplessError CONFIG_INVALID naming `name` */
export function checkCertificate(name: "cert" | "ca" | "clientCa", pem: Pem): X509Certificate {
  return parse(name, "a certificate", () => new X509Certificate(pem));
}

function parse<Parsed>(name: string, expected: string, make: () => Parsed): Parsed {
  try {
    return make();
  } catch (cause) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `tls.${name}: expected ${expected} in PEM, found none: ${describeError(cause)}.`,
      { cause },
    );
  }
}

/** A server that has not answered anything yet, and what it was spoken to with. */
export interface Unheard {
  readonly speaksTls: boolean;
}

/** By the codes of Node. What they say beyond that is of the inside of OpenSSL. */
const faults: readonly (readonly [RegExp, string])[] = [
  [/^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)$/, "it speaks no TLS"],
  [
    /^ERR_SSL_.*CERTIFICATE_REQUIRED$|^ERR_SSL_.*ALERT_HANDSHAKE_FAILURE$/,
    "it asks for a certificate of the client: tls.key and tls.cert",
  ],
  [
    /^ERR_SSL_.*ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_\w+)$/,
    "it does not believe the certificate of the client: tls.cert",
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "its certificate is not believed, being for another name: tls.serverName",
  ],
  [
    /^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/,
    "its certificate has expired, or begins later: by the clock of this machine",
  ],
  [
    /^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_)/,
    "its certificate is not believed, nor who signed it: tls.ca",
  ],
];

/** What a failed connection says of a handshake; undefined where it was something else. */
export function handshakeFault(error: unknown): string | undefined {
  const code = String((error as NodeJS.ErrnoException | undefined)?.code);
  return faults.find(([pattern]) => pattern.test(code))?.[1];
}

/** Of a server that was never heard of, why it may have closed the connection. */
export function closedUnheard({ speaksTls }: Unheard): string {
  const why = speaksTls
    ? "it may not believe the certificate of the client, or want one"
    : "it may speak TLS: tls";
  return `it closed the connection without a word (${why})`;
}
