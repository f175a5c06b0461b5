/**
 * A recorded order-by-order log, one event a line:
 *
 *   1430438404518 order_created {"id": 65595247, "order_type": 0, "price": "236.47", "amount": "2"}
 *
 * received milliseconds, kind, JSON. `order_type` is 0 for buy, 1 for sell. Created, changed and
 * deleted orders become new, amend and cancel; `trade` and `order_book` lines, what the recorded
 * exchange made of them, are passed over.
 */
import { spawn } from "node:child_process";
import fs from "node:fs";
import readline from "node:readline";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";
import { GaplessError } from "gapless/flow";
import { market } from "./market.ts";
import type { Order } from "./order.ts";

export interface LogOrder {
  readonly order: Order;
  readonly timestampNs: bigint;
}

/** One line: an order, null for an event that is none, or what is wrong with it. */
export type LogLine = LogOrder | null | { readonly malformed: string };

const kindByEvent: Readonly<Record<string, Order["kind"] | null>> = {
  order_created: "new",
  order_changed: "amend",
  order_deleted: "cancel",
  trade: null,
  order_book: null,
};

/** The lines of a log file, decompressed by what its first bytes say it is. */
export async function* readOrderLog(file: string): AsyncGenerator<LogLine> {
  const { input, ended } = openDecompressed(file);
  try {
    for await (const line of readline.createInterface({ input, crlfDelay: Infinity })) {
      yield parseLine(line);
    }
    // The end of what a program writes is not its success: xz says that with its exit code.
    await ended;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new GaplessError("INPUT_MALFORMED", `${file} cannot be read to its end: ${reason}.`, {
      cause: error,
    });
  }
}

export function parseLine(line: string): LogLine {
  const match = /^(\d{1,16}) (\w+) (\{.*\})$/.exec(line);
  const [, time = "", event = "", json = ""] = match ?? [];
  const kind = kindByEvent[event];
  if (match === null || kind === undefined) return { malformed: "expected MILLISECONDS KIND JSON" };
  if (kind === null) return null;
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return { malformed: "its JSON does not parse" };
  }
  const { id, order_type: type } = fields;
  const price = parseDecimal(fields["price"], market.priceScale);
  const quantity = parseDecimal(fields["amount"], market.quantityScale);
  if (!Number.isSafeInteger(id) || Number(id) <= 0) return { malformed: "expected a whole id" };
  if (type !== 0 && type !== 1) return { malformed: "expected order_type 0 or 1" };
  if (price === undefined)
    return { malformed: "expected a price of 0 or more, at most 2 decimals" };
  if (quantity === undefined)
    return { malformed: "expected an amount of 0 or more, at most 8 decimals" };
  if (kind === "new" && (price === 0n || quantity === 0n)) {
    return { malformed: "expected price and amount above 0" };
  }
  return {
    order: { kind, id: BigInt(Number(id)), side: type === 0 ? "buy" : "sell", price, quantity },
    timestampNs: BigInt(time) * 1_000_000n,
  };
}

/** "236.47" at scale 2 is 23647n. Exact, or undefined: nothing is rounded. */
export function parseDecimal(value: unknown, scale: number): bigint | undefined {
  if (typeof value !== "string") return undefined;
  const match = /^(\d+)(?:\.(?=\d)(\d*?)0*)?$/.exec(value);
  const [, whole = "", fraction = ""] = match ?? [];
  if (match === null || fraction.length > scale) return undefined;
  const units = BigInt(whole + fraction.padEnd(scale, "0"));
  // What the book computes with stays a whole number only this far.
  return units <= BigInt(Number.MAX_SAFE_INTEGER) ? units : undefined;
}

interface DecompressedLog {
  readonly input: Readable;
  /** Rejects where what came is not all there is. */
  readonly ended: Promise<void>;
}

function openDecompressed(file: string): DecompressedLog {
  const fd = fs.openSync(file, "r");
  const magic = Buffer.alloc(6);
  fs.readSync(fd, magic, 0, magic.length, 0);
  fs.closeSync(fd);
  const starts = (hex: string): boolean => magic.toString("hex").startsWith(hex);
  if (starts("fd377a585a00")) return runXz(file);
  const bytes = fs.createReadStream(file);
  if (starts("1f8b")) return through(bytes, zlib.createGunzip());
  if (starts("28b52ffd")) return through(bytes, zlib.createZstdDecompress());
  return { input: bytes, ended: Promise.resolve() };
}

function runXz(file: string): DecompressedLog {
  const xz = spawn("xz", ["--decompress", "--stdout", file], { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  xz.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  const ended = new Promise<void>((resolve, reject) => {
    xz.on("error", () => {
      reject(new Error("the program xz is needed: install xz-utils, or decompress the file first"));
    });
    xz.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(complaint.trim() || `xz ended with code ${code ?? "none"}`));
    });
  });
  // A reader that stops early does not ask how it ended.
  ended.catch(() => undefined);
  return { input: xz.stdout, ended };
}

function through(source: Readable, transform: zlib.Gunzip | zlib.ZstdDecompress): DecompressedLog {
  const ended = pipeline(source, transform);
  // The transform itself passes the error on to whoever reads it.
  ended.catch(() => undefined);
  return { input: transform, ended: Promise.resolve() };
}
