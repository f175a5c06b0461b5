/** The two ends of a throughput benchmark: write as fast as there is room, and read as fast. */
import type { MessageHandler, Publisher } from "gapless/bus";
import { bootNs } from "../../src/clock.ts";
import type { Role } from "./member.ts";
import { leaveOrphaned, leaveOrphanedNow } from "./orphan.ts";

export const channelName = "there";
const pollMessages = 512;
const waitMs = 1000;
/** How long a ring is left alone: who hammers a position slows down who moves it. */
const pauses = 64;

/** `Atomics.pause` is younger than TypeScript's library. */
const atomics = Atomics as typeof Atomics & { pause(iterations: number): void };

export const produce: Role = (bus, { payloadBytes, batch, isCrowded }) => {
  const publisher = bus.publisher(channelName);
  const template = new Uint8Array(payloadBytes);
  return (messages) => {
    const startNs = bootNs();
    let open = 0;
    let sum = 0;
    for (let message = 0; message < messages; message++) {
      let offset = publisher.claim(payloadBytes);
      while (offset < 0) {
        if (open > 0) publisher.commit();
        else if (!isCrowded) lookAgainLater();
        else if (!publisher.waitForRoomBlocking(payloadBytes, waitMs)) leaveOrphanedNow();
        open = 0;
        offset = publisher.claim(payloadBytes);
      }
      sum += fill(publisher.memory, offset, template, message);
      if (++open === batch) {
        publisher.commit();
        open = 0;
      }
    }
    publisher.commit();
    return { startNs, endNs: bootNs(), sum };
  };
};

/** Writes a message, and returns what it adds to the sum. */
export function fill(
  { bytes, doubles }: Publisher["memory"],
  offset: number,
  template: Uint8Array,
  message: number,
): number {
  const start = offset >>> 3;
  if (template.length > 64) {
    bytes.set(template, offset);
    doubles[start] = message;
    return message;
  }
  doubles[start] = message;
  doubles[start + 1] = message;
  doubles[start + 2] = message;
  doubles[start + 3] = message;
  doubles[start + 4] = message;
  doubles[start + 5] = message;
  doubles[start + 6] = message;
  doubles[start + 7] = message;
  return message * 8;
}

export const consume: Role = (bus, { isCrowded, wait }) => {
  const subscriber = bus.subscriber(channelName, { wait });
  const sum = new Float64Array(1);
  const handler = summing(sum);
  return (messages) => {
    const startNs = bootNs();
    sum[0] = 0;
    for (let taken = 0; taken < messages;) {
      const count = subscriber.poll(handler, pollMessages);
      if (count > 0) {
        subscriber.release();
        taken += count;
      } else if (isCrowded) {
        subscriber.waitBlocking(waitMs);
        if (subscriber.lag === 0) leaveOrphanedNow();
      } else {
        lookAgainLater();
      }
    }
    return { startNs, endNs: bootNs(), sum: sum[0] };
  };
};

function lookAgainLater(): void {
  atomics.pause(pauses);
  leaveOrphaned();
}

/** Sums one double a cache line, of a payload of one line all eight. Kept in memory, not boxed. */
export function summing(sum: Float64Array): MessageHandler {
  return ({ doubles }, offset, length) => {
    const start = offset >>> 3;
    const end = start + (length >>> 3);
    const step = length > 64 ? 8 : 1;
    let part = 0;
    // In range: the message lies within the ring.
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    for (let index = start; index < end; index += step) part += doubles[index]!;
    // eslint-disable-next-line @typescript-eslint/no-non-null-assertion
    sum[0]! += part;
  };
}
