/** What the messages hold, and what their readers make of it: the same as in the C program. */
import type { MessageHandler } from "gapless/queue";

export type Kind = "none" | "fast";

/** The number that the C program knows a kind of checksum by. */
export const kindInC: Readonly<Record<Kind, number>> = { none: 0, fast: 1 };

export const payloadSizes = [64, 256, 1024] as const;
export const type = 1;

const lineBytes = 64;

/** A payload, and a way to make each message another one. */
export interface Payload {
  readonly bytes: Uint8Array;
  /** The numbers in it. */
  readonly doubles: Float64Array;
}

export function makePayload(payloadBytes: number): Payload {
  const doubles = new Float64Array(payloadBytes / 8);
  return { bytes: new Uint8Array(doubles.buffer), doubles };
}

/** Of more than a line the first number, of a line all eight. */
export function fillPayload({ doubles }: Payload, value: number): void {
  if (doubles.length > lineBytes / 8) doubles[0] = value;
  else doubles.fill(value);
}

/** What the sum of the first `messages` messages has to be. */
export function expectedSum(payloadBytes: number, messages: number): number {
  const numbers = payloadBytes > lineBytes ? 1 : payloadBytes / 8;
  return ((messages * (messages - 1)) / 2) * numbers;
}

/** Sums one number a cache line, of a payload of one line all eight. Kept in memory, not boxed. */
export function summing(sum: Float64Array): MessageHandler {
  return ({ view }, offset, length) => {
    const step = length > lineBytes ? lineBytes : 8;
    let part = 0;
    for (let at = offset; at < offset + length; at += step) part += view.getFloat64(at, true);
    // In range: it has one number.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    sum[0]! += part;
  };
}
