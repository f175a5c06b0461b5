/** `gapless buffer get`: messages of a buffer, by id. */
import { Command, Option } from "commander";
import type { BufferArchive } from "../buffer/buffer.ts";
import { GaplessError, isGaplessError } from "../errors.ts";
import { lastIdOf, type Message } from "../message.ts";
import { withPeerOptions } from "./buffer-peer.ts";
import {
  openPlace,
  parseId,
  withFamily,
  withPeer,
  wrong,
  type PlaceFlags,
} from "./buffer-place.ts";
import { exitInterrupted, untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import { decodeMessage, decodeText, formatDecoded, type DecodedMessage } from "./message-text.ts";
import { formatTime } from "./queue-table.ts";
import { formatCount } from "./table.ts";

const decodings = ["json", "text", "hex"] as const;
const batchMax = 1000;

interface GetFlags extends PlaceFlags {
  readonly count?: number;
  readonly follow?: boolean;
  readonly decode?: (typeof decodings)[number];
  readonly json?: boolean;
}

export function bufferGet(): Command {
  const command = new Command("get")
    .description(
      "Print messages from an id on, or from the next one that exists: each with its id, that of " +
        "the one before it, its time and size. Without --decode they are shown as TLV, text or " +
        "hexadecimal, whatever they are.",
    )
    .argument("[path]", "directory that the buffer is under; left out with --peer")
    .argument("[id]", "of the first message")
    .addOption(
      new Option(
        "--count <messages>",
        "so many at most (default: 1, with --follow any number)",
      ).argParser(parseCount),
    )
    .option("-f, --follow", "with --peer: go on with what comes, until Ctrl-C")
    .addOption(new Option("--decode <as>", "what the bytes of a message are").choices(decodings))
    .option("--json", "print a JSON object a line");
  return withPeerOptions(withPeer(withFamily(command))).action(get);
}

async function get(
  dbPath: string | undefined,
  idText: string | undefined,
  flags: GetFlags,
): Promise<void> {
  // Where there is no path, the only argument is the id.
  const [given, text] = flags.peer === undefined ? [dbPath, idText] : [idText, dbPath];
  if (text === undefined) throw wrong("id", "expected the id of the first message");
  const fromId = parseId("id", text);
  const { follow: isFollowing = false } = flags;
  const { count = isFollowing ? Infinity : 1 } = flags;
  if (isFollowing && flags.peer === undefined) {
    throw wrong("--follow", "goes with --peer: to files that a command has open, nobody adds");
  }
  await using place = await openPlace(given, flags);
  using interrupt = untilInterrupted();
  const { signal } = interrupt;
  const messages = isFollowing
    ? followFrom(place.archive, fromId, count, signal)
    : readFrom(place.archive, fromId, count);
  let printed = 0;
  for await (const message of messages) {
    if (signal.aborted) {
      // What goes on until it is stopped has come to its end.
      if (!isFollowing) process.exitCode = exitInterrupted;
      return;
    }
    if (printed++ === 0 && message.id !== fromId) {
      process.stderr.write(`There is no id=${fromId}: the next one is id=${message.id}.\n`);
    }
    process.stdout.write(`${formatMessage(message, flags)}\n`);
  }
  if (!isFollowing && printed < count && count > 1) {
    process.stderr.write(`These are all: ${formatCount(printed)} messages.\n`);
  }
}

async function* readFrom(
  archive: BufferArchive,
  fromId: bigint,
  count: number,
): AsyncGenerator<Message> {
  let nextId = fromId;
  for (let left = count; left > 0;) {
    let batch;
    try {
      batch = await archive.read(nextId, Math.min(left, batchMax));
    } catch (error) {
      if (left < count && isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return;
      throw error;
    }
    yield* batch;
    left -= batch.length;
    nextId = lastIdOf(batch) + 1n;
  }
}

async function* followFrom(
  archive: BufferArchive,
  fromId: bigint,
  count: number,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  let left = count;
  for await (const batch of archive.follow(fromId, { signal })) {
    yield* batch.slice(0, left);
    left -= batch.length;
    if (left <= 0) return;
  }
}

function formatMessage(message: Message, { decode, json }: GetFlags): string {
  const { id, prevId, timestampNs, bytes } = message;
  const decoded = decode === undefined ? decodeAny(bytes) : decodeAs(decode, message);
  if (json === true) {
    const head = { id, prevId, timestampNs, bytes: bytes.length };
    // Text that is JSON stays as it is: parsed, its large numbers would be rounded.
    if (decode === "json") return `${formatJson(head).slice(0, -1)},"json":${decoded.text ?? ""}}`;
    return formatJson({ ...head, ...decoded });
  }
  const cells = [
    String(id).padStart(12),
    `behind ${String(prevId).padEnd(12)}`,
    formatTime(timestampNs, 6),
    `${formatCount(bytes.length).padStart(6)} B`,
    decode === "hex" ? (decoded.hex ?? "") : formatDecoded(decoded),
  ];
  return cells.join("  ");
}

function decodeAny(bytes: Uint8Array): DecodedMessage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return decodeMessage({ bytes, view }, 0, bytes.length);
}

function decodeAs(decode: (typeof decodings)[number], { id, bytes }: Message): DecodedMessage {
  if (decode === "hex") return { hex: Buffer.from(bytes).toString("hex") };
  const text = decodeText(bytes);
  if (text === undefined) throw undecodable(id, "text");
  if (decode === "text") return { text };
  try {
    JSON.parse(text);
  } catch (error) {
    throw undecodable(id, "JSON", error);
  }
  // Between its values only: within a string, JSON has no line breaks.
  return { text: text.replace(/[\t\n\r]+/g, " ").trim() };
}

function undecodable(id: bigint, what: string, cause?: unknown): GaplessError {
  const message = `id=${id} is not ${what}: --decode hex shows its bytes.`;
  return new GaplessError("INPUT_MALFORMED", message, { cause });
}

function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(count) && count >= 1) return count;
  throw wrong("--count", `expected a whole number, at least 1, found ${JSON.stringify(text)}`);
}
