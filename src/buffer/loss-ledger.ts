/**
 * What somebody is not going to get, in the folder of the buffer: a line of JSON each.
 *
 *   {"cause":"passed-over","consumer":"audit","from":"1","through":"40","atMs":1764547200000}
 */
import path from "node:path";
import { appendDurableLine, readDurableLines, syncDurableLines } from "../memory/durable-lines.ts";
import { InvalidOperation } from "./buffer-errors.ts";

export const lossesFileName = "losses.jsonl";

/**
 *   missing       no peer has it any more; the consumer is the component of the buffer
 *   passed-over   a trim was forced before the consumer had acknowledged it
 */
export type BufferLossCause = "missing" | "passed-over";

/** A stretch of ids, both ends included, as far as they were there: ids may skip. */
export interface BufferLoss {
  readonly cause: BufferLossCause;
  readonly consumer: string;
  readonly fromId: bigint;
  readonly throughId: bigint;
  /** When it was found out, in milliseconds since 1970. */
  readonly atMs: number;
}

/** Every loss that was recorded, in the order in which they were found out. */
export interface BufferLosses {
  readonly losses: readonly BufferLoss[];
  /** Lines that say nothing: cut short by a crash, or damaged. */
  readonly unreadable: number;
}

/** Where losses are recorded: a `MsgBuffer`. */
export interface LossRecorder {
  readonly component: string;
  recordLoss(loss: BufferLoss): void;
}

/**
 * False where all of it was recorded before, for the same consumer.
 *
 * @throws InvalidOperation for what could not be read again; GaplessError STORAGE_FULL
 */
export function recordBufferLoss(directory: string, loss: BufferLoss): boolean {
  const { cause, consumer, fromId, throughId, atMs } = loss;
  const document = { cause, consumer, from: `${fromId}`, through: `${throughId}`, atMs };
  const text = JSON.stringify(document);
  if (lossOf(document) === undefined || fromId > throughId) {
    throw new InvalidOperation(`Not a loss: ${text}. Expected a cause, a consumer and a range.`);
  }
  const filePath = path.join(directory, lossesFileName);
  if (isRecorded(directory, loss)) {
    syncDurableLines(filePath);
    return false;
  }
  appendDurableLine(filePath, text);
  return true;
}

/** @throws GaplessError SYSTEM_CALL_FAILED where it may not be read */
export function readBufferLosses(directory: string): BufferLosses {
  const { entries, unreadable } = readDurableLines(path.join(directory, lossesFileName), lossOf);
  return { losses: entries, unreadable };
}

function isRecorded(directory: string, { consumer, fromId, throughId }: BufferLoss): boolean {
  const known = readBufferLosses(directory)
    .losses.filter((one) => one.consumer === consumer)
    .sort((left, right) => (left.fromId < right.fromId ? -1 : 1));
  let nextId = fromId;
  for (const one of known) {
    if (one.fromId <= nextId && one.throughId >= nextId) nextId = one.throughId + 1n;
  }
  return nextId > throughId;
}

const causes: readonly unknown[] = ["missing", "passed-over"] satisfies BufferLossCause[];

function lossOf(document: unknown): BufferLoss | undefined {
  const fields = (document ?? {}) as Readonly<Record<string, unknown>>;
  const { cause, consumer, from, through, atMs } = fields;
  if (!causes.includes(cause) || typeof consumer !== "string") return undefined;
  if (!isId(from) || !isId(through) || !Number.isSafeInteger(atMs)) return undefined;
  return {
    cause: cause as BufferLossCause,
    consumer,
    fromId: BigInt(from),
    throughId: BigInt(through),
    atMs: Number(atMs),
  };
}

function isId(text: unknown): text is string {
  return typeof text === "string" && /^[0-9]{1,20}$/.test(text);
}
