/** How a command reaches those that serve buffers: certificates, tokens, patience. */
import fs from "node:fs";
import { Option, type Command } from "commander";
import type { Peer } from "../buffer/buffer.ts";
import { invalidConfig } from "../config.ts";
import { describeError } from "../errors.ts";

export interface PeerFlags {
  readonly tls?: boolean;
  readonly tlsCa?: string;
  readonly tlsKey?: string;
  readonly tlsCert?: string;
  readonly tokenFile?: string;
  /** Seconds. */
  readonly timeout?: number;
}

const timeoutSeconds = 30;
const timeoutSecondsMax = 86_400;
const msPerSecond = 1000;

export function withPeerOptions(command: Command): Command {
  return command
    .option("--tls", "speak TLS to peers")
    .option("--tls-ca <file>", "the same, and believe whom this authority has signed")
    .option("--tls-key <file>", "the same, and show who you are: the key of --tls-cert")
    .option("--tls-cert <file>", "the certificate of that")
    .option("--token-file <file>", "file of the bearer token that peers ask for")
    .addOption(
      new Option(
        "--timeout <seconds>",
        `for each question to a peer (default: ${timeoutSeconds})`,
      ).argParser((text) => parseSeconds("--timeout", text)),
    );
}

/** The first of what was said that is for peers alone, as on the command line. */
export function peerOptionIn(flags: PeerFlags): string | undefined {
  const { tls, tlsCa, tlsKey, tlsCert, tokenFile, timeout } = flags;
  const given = {
    ...{ "--tls": tls, "--tls-ca": tlsCa, "--tls-key": tlsKey, "--tls-cert": tlsCert },
    ...{ "--token-file": tokenFile, "--timeout": timeout },
  };
  return Object.entries(given).find(([, value]) => value !== undefined)?.[0];
}

/** What buffers are made of is loaded for the commands that ask for it alone. */
export async function connectTo(address: string, flow: string, flags: PeerFlags): Promise<Peer> {
  const { connectPeer } = await import("../buffer/buffer.ts");
  const { tlsCa, tlsKey, tlsCert } = flags;
  const bearerToken = readToken(flags.tokenFile);
  const hasFiles = [tlsCa, tlsKey, tlsCert].some((file) => file !== undefined);
  const tls = {
    ...(tlsCa !== undefined && { ca: readFile("--tls-ca", tlsCa) }),
    ...(tlsKey !== undefined && { key: readFile("--tls-key", tlsKey) }),
    ...(tlsCert !== undefined && { cert: readFile("--tls-cert", tlsCert) }),
  };
  return connectPeer({
    address,
    flow,
    ...((flags.tls === true || hasFiles) && { tls }),
    ...(bearerToken !== undefined && { bearerToken }),
    timeoutMs: (flags.timeout ?? timeoutSeconds) * msPerSecond,
  });
}

/** @throws GaplessError CONFIG_INVALID naming `key` and the file */
export function readFile(key: string, file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    const problem = `${file} cannot be read: ${describeError(error)}`;
    throw invalidConfig("command line", [{ key, problem }]);
  }
}

/** A token without the end of its line. */
export function readToken(file: string | undefined): string | undefined {
  return file === undefined ? undefined : readFile("--token-file", file).toString("utf8").trim();
}

function parseSeconds(key: string, text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && seconds <= timeoutSecondsMax) return Math.max(1e-3, seconds);
  const problem = `expected seconds, at most ${timeoutSecondsMax}, found ${JSON.stringify(text)}`;
  throw invalidConfig("command line", [{ key, problem }]);
}
