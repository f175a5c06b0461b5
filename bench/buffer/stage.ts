/** Buffers to be measured, and what is put into them. */
import { randomFillSync } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { openMsgBuffer, type MsgBuffer, type StorageOptions } from "../../src/buffer/buffer.ts";
import type { Message } from "../../src/message.ts";

export const payloadBytes = 100;
const fillBatch = 10_000;
/** Payloads that cannot be compressed, taken in turns. */
const payloads = randomFillSync(new Uint8Array(payloadBytes * 4096));

/** A folder for the time that `measure` takes. */
export async function inScratch<Result>(
  measure: (directory: string) => Promise<Result>,
): Promise<Result> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-buffer-"));
  try {
    return await measure(directory);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

export function openBench(
  dbPath: string,
  capacity: number,
  storage: Partial<StorageOptions> = {},
): Promise<MsgBuffer> {
  const ringBuffer = { capacity };
  return openMsgBuffer({ component: "bench", ringBuffer, storage: { dbPath, ...storage } });
}

/** `count` messages behind `lastId`, whose ids do not skip. */
export function makeMessages(lastId: number, count: number): Message[] {
  return Array.from({ length: count }, (_, index) => {
    const id = lastId + index + 1;
    const at = (id % 4096) * payloadBytes;
    const bytes = payloads.subarray(at, at + payloadBytes);
    return { id: BigInt(id), prevId: BigInt(id - 1), timestampNs: BigInt(id), bytes };
  });
}

/** Appends until there are `messages` of them. */
export async function fillTo(buffer: MsgBuffer, messages: number): Promise<void> {
  for (let last = Number(buffer.lastId); last < messages; last += fillBatch) {
    await buffer.append(makeMessages(last, Math.min(fillBatch, messages - last)));
  }
}

/** What `act` takes, so many times, in nanoseconds. */
export async function timesOf(
  count: number,
  act: (round: number) => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < count; round++) {
    const startMs = performance.now();
    await act(round);
    times.push((performance.now() - startMs) * 1e6);
  }
  return times;
}
