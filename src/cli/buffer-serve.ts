/** `gapless buffer serve`: buffers for peers to ask, and for dashboards to watch. */
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { Command, Option } from "commander";
import type { MsgBuffer, ServeOptions } from "../buffer/buffer.ts";
import { parseAddress } from "../buffer/peer-address.ts";
import { describeError } from "../errors.ts";
import { measureBuffers, type FollowedPeers } from "./buffer-measure.ts";
import { readFile, readToken } from "./buffer-peer.ts";
import { familiesIn, noBuffer, openFamily, wrong } from "./buffer-place.ts";
import { untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import type { ExportOptions } from "./metrics-export.ts";

const listenDefault = "127.0.0.1:7400";
const metricsHostDefault = "127.0.0.1";
const otlpIntervalSeconds = 15;
const otlpPath = "/v1/metrics";

interface ServeFlags {
  readonly family?: string;
  readonly listen: string;
  readonly prometheus?: NonNullable<ExportOptions["prometheus"]>;
  readonly otlp?: string;
  readonly otlpInterval: number;
  readonly peer?: readonly string[];
  readonly peerTlsCa?: string;
  readonly peerTokenFile?: string;
  readonly tlsKey?: string;
  readonly tlsCert?: string;
  readonly tlsClientCa?: string;
  readonly tokenFile?: string;
  readonly json?: boolean;
}

/** What is served under one name. */
interface Flow {
  readonly name: string;
  readonly dbPath: string;
  readonly family: string;
}

export function bufferServe(): Command {
  return new Command("serve")
    .description(
      "Serve buffers that nobody else has open to peers over gRPC, and export their metrics, " +
        "until Ctrl-C. Each family under a path is a flow of that name, unless the path is given " +
        "as NAME=PATH.",
    )
    .argument("<path...>", "directories that the buffers are under")
    .option("--family <name>", "only this buffer under each path")
    .option("--listen <address>", "unix:/path or host:port; port 0 takes a free one", listenDefault)
    .addOption(
      new Option("--prometheus <port>", "serve /metrics at this [HOST:]PORT").argParser(
        parseMetricsPlace,
      ),
    )
    .option("--otlp <url>", "send metrics to the collector there, as OTLP/HTTP in JSON")
    .addOption(
      new Option("--otlp-interval <seconds>", "so often")
        .default(otlpIntervalSeconds)
        .argParser(parseInterval),
    )
    .option("--peer <address...>", "report how far the flows are behind this one's, as sync.lag")
    .option(
      "--peer-tls-ca <file>",
      "speak TLS to those, and believe whom this authority has signed; they are shown --tls-cert",
    )
    .option("--peer-token-file <file>", "file of the bearer token that those ask for")
    .option("--tls-key <file>", "speak TLS: the key of --tls-cert")
    .option("--tls-cert <file>", "the certificate of that")
    .option("--tls-client-ca <file>", "let only clients in that this authority has signed")
    .option("--token-file <file>", "ask for the bearer token in this file")
    .option("--json", "print where it serves as a JSON object on one line")
    .action(serve);
}

async function serve(paths: readonly string[], flags: ServeFlags): Promise<void> {
  const flows = paths.flatMap((text) => flowsOf(text, flags.family));
  const options = serveOptionsOf(flags);
  const { prometheus, otlp } = flags;
  const isMeasured = prometheus !== undefined || otlp !== undefined;
  const peers = peersOf(flags);
  if (peers.addresses.length > 0 && !isMeasured) {
    throw wrong("--peer", "is for the metrics: expected --prometheus or --otlp with it");
  }
  const otlpTarget = otlp === undefined ? undefined : targetOf(otlp, flags.otlpInterval);
  using interrupt = untilInterrupted();
  await using opened = new AsyncDisposableStack();
  const buffers: MsgBuffer[] = [];
  for (const { name, dbPath, family } of flows) {
    buffers.push(opened.use(await openFamily(dbPath, family, name)));
  }
  const prometheusUrl = isMeasured
    ? await measureBuffers(buffers, peers, { prometheus, otlp: otlpTarget }, opened)
    : undefined;
  const { serveBuffers } = await import("../buffer/buffer.ts");
  const archives = buffers.map(({ archive }) => archive);
  const server = opened.use(await serveBuffers({ ...options, flows: archives }));
  const places = flows.map(({ name, dbPath, family }) => ({
    flow: name,
    directory: path.resolve(dbPath, family),
  }));
  const document = {
    address: server.address,
    flows: places,
    prometheus: prometheusUrl,
    otlp: otlpTarget?.url,
  };
  const lines = [
    ...places.map(({ flow, directory }) => `serving  ${flow}  ${directory}`),
    `peers    ${server.address}`,
    ...(prometheusUrl === undefined ? [] : [`metrics  ${prometheusUrl}`]),
    ...(otlpTarget === undefined ? [] : [`metrics  to ${otlpTarget.url}`]),
  ];
  process.stdout.write(`${flags.json === true ? formatJson(document) : lines.join("\n")}\n`);
  if (!interrupt.signal.aborted) await once(interrupt.signal, "abort");
}

/** @throws GaplessError CONFIG_INVALID; DATA_NOT_YET_AVAILABLE where there is no buffer */
function flowsOf(text: string, family: string | undefined): Flow[] {
  const named = fs.existsSync(text) ? null : /^([\w-][\w.-]*)=(.+)$/.exec(text);
  const [, name, given] = named ?? [];
  const dbPath = given ?? text;
  const families = family === undefined ? familiesIn(dbPath) : [family];
  if (families.length === 0) throw noBuffer(`under ${path.resolve(dbPath)}`, dbPath);
  if (name !== undefined && families.length > 1) {
    const problem = `${text} has several (${families.join(", ")}): expected --family with a name`;
    throw wrong("path", problem);
  }
  return families.map((one) => ({ name: name ?? one, dbPath, family: one }));
}

function serveOptionsOf(flags: ServeFlags): Omit<ServeOptions, "flows"> {
  const { tlsKey, tlsCert, tlsClientCa } = flags;
  if ((tlsKey === undefined) !== (tlsCert === undefined)) {
    throw wrong("--tls-key", "goes with --tls-cert, and --tls-cert with it");
  }
  if (tlsClientCa !== undefined && tlsKey === undefined) {
    throw wrong("--tls-client-ca", "expected --tls-key and --tls-cert with it");
  }
  const bearerToken = readToken(flags.tokenFile);
  return {
    listen: placeOf(flags.listen),
    ...(tlsKey !== undefined &&
      tlsCert !== undefined && {
        tls: {
          key: readFile("--tls-key", tlsKey),
          cert: readFile("--tls-cert", tlsCert),
          ...(tlsClientCa !== undefined && { clientCa: readFile("--tls-client-ca", tlsClientCa) }),
        },
      }),
    ...(bearerToken !== undefined && { bearerToken }),
  };
}

/** Those that the flows follow are shown who this is by what clients are shown. */
function peersOf(flags: ServeFlags): FollowedPeers {
  const { peer: addresses = [], peerTlsCa: tlsCa, peerTokenFile: tokenFile } = flags;
  const { tlsKey, tlsCert } = flags;
  if (addresses.length === 0 && tlsCa !== undefined) {
    throw wrong("--peer-tls-ca", "expected --peer with it");
  }
  if (addresses.length === 0 && tokenFile !== undefined) {
    throw wrong("--peer-token-file", "expected --peer with it");
  }
  return {
    addresses,
    ...(tlsCa !== undefined && { tlsCa }),
    ...(tlsCa !== undefined && tlsKey !== undefined && { tlsKey }),
    ...(tlsCa !== undefined && tlsCert !== undefined && { tlsCert }),
    ...(tokenFile !== undefined && { tokenFile }),
  };
}

/** As an address of a peer, where port 0 would be none. */
function placeOf(listen: string): ServeOptions["listen"] {
  const isFree = !listen.startsWith("unix:") && /:0+$/.test(listen);
  const place = parseAddress(isFree ? listen.replace(/:0+$/, ":1") : listen);
  return isFree && "host" in place ? { host: place.host, port: 0 } : place;
}

/** PORT or HOST:PORT. */
function parseMetricsPlace(text: string): NonNullable<ExportOptions["prometheus"]> {
  const [, bracketed, plain, digits = ""] =
    /^(?:\[([^\]]+)\]:|([^:]+):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits !== "" && port <= 0xffff)
    return { host: bracketed ?? plain ?? metricsHostDefault, port };
  throw wrong("--prometheus", `expected PORT or HOST:PORT, found ${JSON.stringify(text)}`);
}

function parseInterval(text: string): number {
  const seconds = Number(text);
  if (seconds >= 0.1 && seconds <= 3600) return seconds;
  throw wrong("--otlp-interval", `expected 0.1 to 3600 seconds, found ${JSON.stringify(text)}`);
}

/** Where no path is given, the one that collectors listen at. */
function targetOf(text: string, intervalSeconds: number): NonNullable<ExportOptions["otlp"]> {
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw wrong(
      "--otlp",
      `expected an URL, found ${JSON.stringify(text)}: ${describeError(error)}`,
    );
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw wrong("--otlp", `expected http: or https:, found ${JSON.stringify(text)}`);
  }
  if (url.pathname === "/") url.pathname = otlpPath;
  return { url: url.href, intervalMs: intervalSeconds * 1000 };
}
