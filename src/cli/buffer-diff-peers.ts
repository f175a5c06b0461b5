/** `gapless buffer diff-peers`: whether those that serve a flow serve the same messages. */
import { createHash } from "node:crypto";
import { Command } from "commander";
import { parseAddress } from "../buffer/peer-address.ts";
import type { Message } from "../message.ts";
import {
  compareArchives,
  type Comparison,
  type Difference,
  type NamedArchive,
} from "./archive-difference.ts";
import { connectTo, withPeerOptions, type PeerFlags } from "./buffer-peer.ts";
import { wrong } from "./buffer-place.ts";
import { formatJson } from "./json-text.ts";
import { formatTime } from "./queue-table.ts";
import { formatCount, formatRow } from "./table.ts";

const exitDifferent = 1;
const idWidth = 20;

interface DiffFlags extends PeerFlags {
  readonly flow: string;
  readonly json?: boolean;
}

export function bufferDiffPeers(): Command {
  const command = new Command("diff-peers")
    .description(
      "Compare what peers keep of a flow, by digests of the ids that all of them have, and find " +
        "the first that differs. Exits with 1 where they differ, or have nothing in common. " +
        "Where there are both sockets and ports, TLS is for the ports.",
    )
    .argument("<address...>", "two peers or more: unix:/path or host:port")
    .requiredOption("--flow <name>", "which of their flows")
    .option("--json", "print what was found as one JSON object");
  return withPeerOptions(command).action(diff);
}

async function diff(addresses: readonly string[], flags: DiffFlags): Promise<void> {
  const names = new Set(addresses);
  if (names.size < 2) {
    const what = addresses.length < 2 ? "one" : `the same ${addresses.length} times`;
    throw wrong("address", `expected two at least, to compare, found ${what}: ${addresses[0]}`);
  }
  const isMixed = new Set(addresses.map(isSocket)).size > 1;
  await using connections = new AsyncDisposableStack();
  const archives: NamedArchive[] = [];
  for (const name of names) {
    const options = isMixed && isSocket(name) ? withoutTls(flags) : flags;
    const archive = connections.use(await connectTo(name, flags.flow, options));
    archives.push({ name, archive });
  }
  const comparison = await compareArchives(archives);
  const text =
    flags.json === true
      ? formatJson(documentOf(flags.flow, comparison), 2)
      : formatComparison(comparison).join("\n");
  process.stdout.write(`${text}\n`);
  if (!comparison.isSame) process.exitCode = exitDifferent;
}

function isSocket(address: string): boolean {
  return "path" in parseAddress(address);
}

function withoutTls({ tokenFile, timeout }: PeerFlags): PeerFlags {
  return {
    ...(tokenFile !== undefined && { tokenFile }),
    ...(timeout !== undefined && { timeout }),
  };
}

function documentOf(flow: string, { difference, ...comparison }: Comparison): object {
  return {
    flow,
    ...comparison,
    difference: difference && {
      id: difference.id,
      found: difference.found.map(({ name, message }) => ({
        name,
        message: message && { ...message, bytes: message.bytes.length, sha256: sumOf(message) },
      })),
    },
  };
}

function formatComparison({ peers, overlap, difference, divergent, isSame }: Comparison): string[] {
  const widths = [-Math.max(4, ...peers.map(({ name }) => name.length)), idWidth, idWidth, idWidth];
  const rows = peers.map(({ name, minId, maxId, logPosition }) =>
    formatRow(widths, [name, String(minId ?? "-"), String(maxId ?? "-"), String(logPosition)]),
  );
  return [
    formatRow(widths, ["peer", "oldest", "newest", "log position"]),
    ...rows,
    "",
    ...divergent.map((name) => `DIFFERENT  ${name}: as far in the log as others, with other ids`),
    ...formatOverlap(overlap, isSame),
    ...(difference === undefined ? [] : formatDifference(difference, -(widths[0] ?? 0))),
  ];
}

function formatOverlap(overlap: Comparison["overlap"], isSame: boolean): string[] {
  if (overlap === undefined) {
    return [isSame ? "None of them has a message." : "They have no ids in common to compare."];
  }
  const { fromId, throughId, count, sha256 } = overlap;
  const range = `id ${fromId} to ${throughId}, which all have`;
  if (count === undefined) return [`DIFFERENT  ${range}`];
  return [`same  ${range}: ${formatCount(count)} messages`, `sha256  ${sha256}`];
}

function formatDifference({ id, found }: Difference, nameWidth: number): string[] {
  return [
    `first at id ${id}:`,
    ...found.map(({ name, message }) => {
      const what = message === undefined ? "has none" : formatMessage(message);
      return `  ${name.padEnd(nameWidth)}  ${what}`;
    }),
  ];
}

function formatMessage(message: Message): string {
  const { prevId, timestampNs, bytes } = message;
  const size = `${formatCount(bytes.length)} B`;
  const sum = sumOf(message).slice(0, 16);
  return `behind ${prevId}, ${formatTime(timestampNs, 6)}, ${size}, sha256 ${sum}…`;
}

/** Of what the application has put into it. */
function sumOf({ bytes }: Message): string {
  return createHash("sha256").update(bytes).digest("hex");
}
