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
