/** Messages and copies that the tests of the journal share. */
import fs from "node:fs";
import path from "node:path";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import type { Journal } from "../../../src/flow/journal.ts";
import type { Message } from "../../../src/message.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import { controlOffset } from "../../../src/queue/layout.ts";

export const withCode =
  (...codes: ErrorCode[]) =>
  (error: unknown): boolean =>
    isGaplessError(error, ...codes);

/** `count` messages behind `lastId`. What a message holds follows from its id alone. */
export function makeMessages(lastId: bigint, count: number): Message[] {
  return Array.from({ length: count }, (_, index) => {
    const id = lastId + BigInt(index) + 1n;
    return makeMessage(id, id - 1n, Number(id % 90n));
  });
}

/** Filled with bytes above zero, so that none of them can be missing unseen. */
export function makeMessage(id: bigint, prevId: bigint, size: number): Message {
  const bytes = new Uint8Array(size).fill(Number(id % 255n) + 1);
  return { id, prevId, timestampNs: id - 1n, bytes };
}

export function idsOf(messages: readonly Message[]): bigint[] {
  return messages.map(({ id }) => id);
}

/** Everything that is durable. */
export async function readAll(journal: Journal): Promise<Message[]> {
  const messages: Message[] = [];
  let fromId = (await journal.bounds())?.minId ?? 1n;
  while (fromId <= journal.durableId) {
    for (const message of await journal.read(fromId, 1000)) {
      messages.push(message);
      fromId = message.id + 1n;
    }
  }
  return messages;
}

export function segmentNames(directory: string): string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => name.endsWith(".segment"))
    .sort();
}

/** Makes a copy one of another boot, whose control file came to the disk without its last words. */
export function pretendReboot(copy: string): void {
  const file = path.join(copy, controlFileName);
  const control = fs.readFileSync(file);
  control.fill(0xee, controlOffset.boot, controlOffset.boot + 16);
  control.writeDoubleLE(0, controlOffset.durable);
  fs.writeFileSync(file, control);
}
