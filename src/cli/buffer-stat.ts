/** `gapless buffer stat`: what a buffer keeps. */
import { Command } from "commander";
import type { ArchiveStatus, BufferLoss, BufferLosses, BufferStats } from "../buffer/buffer.ts";
import { withPeerOptions } from "./buffer-peer.ts";
import { bytesOnDisk, openPlace, withFamily, withPeer, type PlaceFlags } from "./buffer-place.ts";
import { formatJson } from "./json-text.ts";
import { formatBytes, formatCount, formatDuration } from "./table.ts";

const lossesShown = 3;

export function bufferStat(): Command {
  const command = new Command("stat")
    .description("Show which messages a buffer keeps.")
    .argument("[path]", "directory that the buffer is under, where nobody has it open")
    .option("--json", "print what was seen as one JSON object");
  return withPeerOptions(withPeer(withFamily(command))).action(show);
}

async function show(
  dbPath: string | undefined,
  flags: PlaceFlags & { readonly json?: boolean },
): Promise<void> {
  await using place = await openPlace(dbPath, flags);
  const { name, archive, stats, losses } = place;
  const print = (document: object, lines: readonly string[]): void => {
    process.stdout.write(`${flags.json === true ? formatJson(document, 2) : lines.join("\n")}\n`);
  };
  if (stats === undefined || losses === undefined) {
    const status = await archive.status();
    const document = { address: flags.peer, flow: archive.component, ...status };
    print(document, [name, ...formatStatus(status)]);
    return;
  }
  const diskBytes = bytesOnDisk(name);
  const { total, bytes, trimmed, lastTrim } = stats;
  const { family } = flags;
  const kept = { total, bytes, ...(await archive.status()), trimmed, lastTrim };
  const document = { directory: name, family, ...kept, diskBytes, ...losses };
  print(document, [name, ...formatStats(stats, diskBytes), ...formatLosses(losses)]);
}

function formatStats(stats: BufferStats, diskBytes: number): string[] {
  const { total, bytes } = stats;
  const [kept, log] = formatStatus(stats);
  const size = total === 0 ? "" : `, ${formatCount(total)} messages, ${formatBytes(bytes)}`;
  return [
    `${kept}${size}`,
    `  trimmed  ${formatTrimmed(stats)}`,
    ...(log === undefined ? [] : [log]),
    `  files    ${formatBytes(diskBytes)}`,
  ];
}

function formatTrimmed({ trimmed, lastTrim }: BufferStats): string {
  if (lastTrim === undefined) return "never";
  const { beforeId, deleted, atMs } = lastTrim;
  const last = deleted === trimmed ? "" : `the last ${formatCount(deleted)} of them `;
  return `before id ${beforeId}, ${formatCount(trimmed)} messages, ${last}${formatAge(atMs)}`;
}

function formatLosses({ losses, unreadable }: BufferLosses): string[] {
  const older = losses.length - lossesShown;
  return [
    ...(older > 0 ? [`  losses   ${formatCount(losses.length)}, the newest:`] : []),
    ...losses.slice(-lossesShown).map(formatLoss),
    ...(unreadable > 0 ? [`  losses   ${unreadable} lines of losses.jsonl cannot be read`] : []),
  ];
}

function formatLoss({ cause, consumer, fromId, throughId, atMs }: BufferLoss): string {
  return `  loss     ${cause}, ${consumer}, id ${fromId} to ${throughId}, ${formatAge(atMs)}`;
}

function formatAge(atMs: number): string {
  return `${formatDuration(Math.max(0, Date.now() - atMs))} ago`;
}

function formatStatus({ minId, maxId, logPosition }: ArchiveStatus): string[] {
  const ids = minId === undefined ? "no message" : `id ${minId} to ${maxId}`;
  const log = logPosition === 0n ? [] : [`  log      applied through ${logPosition}`];
  return [`  kept     ${ids}`, ...log];
}
