/** A queue as lines of at most 100 columns: pure, from one look at it, or two. */
import type { QueueLoss } from "../queue/loss-ledger.ts";
import type {
  QueueSnapshot,
  ReaderSnapshot,
  SegmentSnapshot,
  UnreadableFile,
} from "../queue/inspect.ts";
import { formatBytes, formatCount, formatDuration, formatRate, formatRow, wrap } from "./table.ts";

const lossesShown = 3;
const readerWidths = [-26, -8, 8, 7, 14, 12, 14] as const;
const segmentWidths = [7, -8, 12, 10, 8, 7, 8, 6, 6, 19] as const;

/** What it is, how far it has come, and who reads it. `before`: an earlier look, for the rates. */
export function formatQueue(snapshot: QueueSnapshot, before?: QueueSnapshot): string[] {
  return [
    ...formatHead(snapshot, before),
    "",
    ...formatReaders(snapshot, before),
    ...formatLosses(snapshot),
  ];
}

function formatHead(snapshot: QueueSnapshot, before: QueueSnapshot | undefined): string[] {
  const { segments, firstSequence, lastSequence, identity } = snapshot;
  const seconds = (snapshot.atMs - (before?.atMs ?? 0)) / 1000;
  const begun = segments.filter(({ state }) => state !== "reserved");
  const reserved = segments.length - begun.length;
  const bytes = segments.reduce((sum, one) => sum + one.bytes, 0);
  const kept =
    lastSequence < firstSequence
      ? `no message, the next is #${formatCount(firstSequence)}`
      : `#${formatCount(firstSequence)} to #${formatCount(lastSequence)}`;
  const files = [`${begun.length} segments`, ...(reserved > 0 ? [`${reserved} reserved`] : [])];
  const rate = formatRate(lastSequence, before?.lastSequence, seconds);
  const rates =
    before === undefined ? "" : `, ${rate} msg/s, ${formatByteRate(snapshot, before, seconds)}`;
  return [
    `${snapshot.directory}  ${identity}`,
    `  writer   ${formatWriter(snapshot)}`,
    `  kept     ${kept}${rates}`,
    `  durable  ${formatDurable(snapshot)}`,
    `  files    ${files.join(", ")}, ${formatBytes(bytes)}`,
    ...formatUnreadable(snapshot.unreadable),
  ];
}

function formatUnreadable(unreadable: readonly UnreadableFile[]): string[] {
  return unreadable.flatMap(({ file, reason, isDamaged }) =>
    wrap(`${isDamaged ? "DAMAGED" : "UNREAD "}  ${file}: ${reason}`, "  "),
  );
}

function formatDurable({ firstSequence, lastSequence, durableSequence }: QueueSnapshot): string {
  const behind = lastSequence - durableSequence;
  if (behind === 0) return "all of it";
  if (durableSequence < firstSequence) return "none of it yet";
  return `through #${formatCount(durableSequence)}, ${formatCount(behind)} are not`;
}

function formatWriter({ writer }: QueueSnapshot): string {
  if (writer === undefined) return "none that is known";
  const { state, pid, epoch, silentMs } = writer;
  const silent = silentMs === undefined ? "of another boot" : `silent ${formatDuration(silentMs)}`;
  return `${state}, pid ${pid}, epoch ${epoch}, ${silent}`;
}

/** By the ends of the newest segments: of those between, all is taken to be used. */
function formatByteRate(now: QueueSnapshot, before: QueueSnapshot, seconds: number): string {
  if (seconds <= 0) return "-";
  const bytes = writtenBytes(now) - writtenBytes(before);
  return `${formatBytes(Math.max(0, bytes / seconds))}/s`;
}

function writtenBytes({ segments }: QueueSnapshot): number {
  const newest = segments.findLast(({ state }) => state !== "reserved");
  return newest === undefined ? 0 : (newest.number - 1) * newest.bytes + newest.end;
}

/** The readers by themselves, with those whose files cannot be read. */
export function formatReadersAlone(snapshot: QueueSnapshot): string[] {
  const broken = snapshot.unreadable.filter(({ file }) => file.startsWith("readers/"));
  const isKnown = snapshot.readers.length > 0 || broken.length === 0;
  return [...(isKnown ? formatReaders(snapshot) : []), ...formatUnreadable(broken)];
}

function formatReaders(snapshot: QueueSnapshot, before?: QueueSnapshot): string[] {
  const seconds = (snapshot.atMs - (before?.atMs ?? 0)) / 1000;
  const rows = snapshot.readers.map((reader) => {
    const former = before?.readers.find(({ name }) => name === reader.name);
    return formatReader(reader, formatRate(reader.taken, former?.taken, seconds), snapshot.atMs);
  });
  if (rows.length === 0) return ["  nobody reads it, and nobody has"];
  const titles = ["  reader", "state", "pid", "silent", "committed", "msg/s", "lag"];
  return [formatRow(readerWidths, titles), ...rows.flat()];
}

function formatReader(reader: ReaderSnapshot, rate: string, atMs: number): string[] {
  const { name, pid, isAlive, committed, taken, lag, passedOver, seenMs } = reader;
  const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name;
  const silentMs = isAlive && reader.silentMs !== undefined ? reader.silentMs : atMs - seenMs;
  const line = formatRow(readerWidths, [
    `  ${shown}`,
    isAlive ? "reading" : pid === undefined ? "away" : "dead",
    pid === undefined ? "-" : String(pid),
    formatDuration(Math.max(0, silentMs)),
    committed === undefined || committed === 0 ? "-" : `#${formatCount(committed)}`,
    rate,
    formatCount(lag),
  ]);
  const ahead = taken - (committed ?? 0);
  const notes = [
    ...(isAlive && ahead > 0 ? [`${formatCount(ahead)} taken and not committed`] : []),
    ...(passedOver > 0 ? [`passed over through #${formatCount(passedOver)}`] : []),
  ];
  return notes.length === 0 ? [line] : [line, `    ${notes.join(", ")}`];
}

/** A line for each segment. */
export function formatSegments(segments: readonly SegmentSnapshot[]): string[] {
  const titles = ["segment", "state", "from", "messages", "used", "of", "durable", "sums", "epoch"];
  return [
    formatRow(segmentWidths, [...titles, "since (UTC)"]),
    ...segments.map((segment) => formatRow(segmentWidths, segmentCells(segment))),
  ];
}

function segmentCells(segment: SegmentSnapshot): string[] {
  const { number, state, firstSequence, lastSequence, bytes, end, durableEnd, firstNs } = segment;
  const messages = lastSequence - firstSequence + 1;
  if (state === "reserved") return [String(number), state, "-", "-", "-", formatBytes(bytes)];
  const isSealed = state === "ended" && !segment.isSealed ? "unsealed" : state;
  return [
    String(number),
    isSealed,
    `#${formatCount(firstSequence)}`,
    formatCount(messages),
    formatBytes(end),
    formatBytes(bytes),
    durableEnd >= end ? "all" : formatBytes(durableEnd),
    segment.checksum,
    String(segment.epoch),
    firstNs === undefined ? "-" : formatTime(firstNs, 0),
  ];
}

function formatLosses({ losses, atMs }: QueueSnapshot): string[] {
  const { losses: all, unreadable } = losses;
  if (all.length + unreadable === 0) return [];
  const more = all.length > lossesShown ? [`  ${all.length} losses, the newest:`] : [];
  const torn = unreadable > 0 ? [`  ${unreadable} lines of the loss ledger cannot be read`] : [];
  const shown = all.slice(-lossesShown).map((loss) => formatLoss(loss, atMs));
  return ["", ...more, ...shown, ...torn];
}

function formatLoss({ cause, reader, from, to, atMs }: QueueLoss, nowMs: number): string {
  const who = reader === "*" ? "everybody" : reader;
  const when = `${formatDuration(Math.max(0, nowMs - atMs))} ago`;
  return `  loss: ${cause}, ${who}, ${formatRange(from, to)}, ${when}`;
}

/** Both ends included. */
export function formatRange(from: number, to: number): string {
  if (from === to) return `#${formatCount(from)}`;
  const count = formatCount(to - from + 1);
  return `#${formatCount(from)} to #${formatCount(to)}, ${count} messages`;
}

/** As in ISO 8601, in UTC, with so many digits of a second. */
export function formatTime(ns: bigint, digits: 0 | 6): string {
  const date = new Date(Number(ns / 1_000_000n));
  if (Number.isNaN(date.getTime())) return `${ns} ns`;
  const seconds = date.toISOString().slice(0, 19);
  if (digits === 0) return seconds;
  const micros = (ns / 1000n) % 1_000_000n;
  return `${seconds}.${micros.toString().padStart(6, "0")}Z`;
}
