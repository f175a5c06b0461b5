/** What a right answer to `read(fromId, limit)` looks like, whoever gave it. */
import { beginning } from "../chain.ts";
import type { Message } from "../message.ts";
import { InvalidOperation } from "./buffer-errors.ts";
import { idMax } from "./cold-layout.ts";

/** What is bounded by bytes stops at this many, after one message at least. */
export const readBytesMax = 1024 * 1024;

/**
 * What is wrong with an answer, or undefined. The first message has to be the first at or after
 * `fromId`, which its predecessor shows, and each other one has to follow on the one before.
 */
export function rangeFault(
  messages: readonly Message[],
  fromId: bigint,
  limit: number,
): string | undefined {
  const [first] = messages;
  if (first === undefined) return `nothing at or after id=${fromId}`;
  if (messages.length > limit) return `messages=${messages.length}, asked for ${limit}`;
  const from = fromId === beginning ? 1n : fromId;
  if (first.id < from || first.prevId >= from) {
    return `asked from id=${fromId}, begins with id=${first.id}, prevId=${first.prevId}`;
  }
  let previousId = first.prevId;
  for (const { id, prevId } of messages) {
    if (prevId !== previousId || id <= prevId) {
      return `after id=${previousId} comes id=${id}, prevId=${prevId}`;
    }
    previousId = id;
  }
  return undefined;
}

/** @throws InvalidOperation for what no archive can be asked. */
export function checkReadArguments(fromId: bigint, limit: number): void {
  checkId("fromId", fromId);
  if (!Number.isSafeInteger(limit) || limit < 1) {
    throw new InvalidOperation(`Not a limit: limit=${limit}. Expected a whole number, at least 1.`);
  }
}

/** @throws InvalidOperation for what is no u64. */
export function checkId(what: string, id: bigint): void {
  if (typeof id === "bigint" && id >= 0n && id <= idMax) return;
  throw new InvalidOperation(`Not an id: ${what}=${String(id)}. Expected a bigint of 64 bits.`);
}
