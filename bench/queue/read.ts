/**
 * How many messages a second does one process read?
 *
 *   queue.read.64, .256, .1024   messages of so many bytes
 *   *.none, *.fast               without a checksum, and with the one that is the default, verified
 *
 * In M msg/s, the median of some passes over a queue of two segments that lies in the page cache.
 * Its reader commits every 512 messages; the sum of what it has read is checked. The C program
 * reads the same files.
 */
import os from "node:os";
import { openSubscriber } from "gapless/queue";
import { bootNs } from "../../src/clock.ts";
import { recordHeaderBytes } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { pinNearEnd, unpin } from "../peers/cores.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { expectedSum, payloadSizes, summing, type Kind } from "./payload.ts";
import { inScratch } from "./scratch.ts";

export const pollMessages = 512;

const limits = {
  full: { passes: 5, bytes: 240 * 2 ** 20 },
  small: { passes: 1, bytes: 2 ** 20 },
} as const satisfies Record<Size, object>;

export async function read(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const payloadBytes of payloadSizes) {
    for (const checksum of ["none", "fast"] as const) {
      figures.push(await measure(payloadBytes, checksum, size, crew, reference));
    }
  }
  return figures;
}

async function measure(
  payloadBytes: number,
  checksum: Kind,
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure> {
  const { passes, bytes } = limits[size];
  const messages = Math.floor(bytes / (payloadBytes + recordHeaderBytes));
  const sum = expectedSum(payloadBytes, messages);
  const ours: number[] = [];
  const inC: number[] = [];
  await inScratch(os.tmpdir(), async (directory) => {
    await using member = crew.hire();
    const filling = { directory, payloadBytes, messages, checksum, firstNs: 1, intervalNs: 1 };
    await member.run("fillQueue", filling);
    // In the first pass the code is not compiled yet.
    for (let pass = 0; pass <= passes; pass++) {
      const outcome = await member.run("readMessages", {
        directory,
        messages,
        reader: `pass-${pass}`,
      });
      if (outcome.sum !== sum) throw new Error("the subscriber read something else");
      if (pass > 0) ours.push(outcome.rate);
      if (pass > 0 && reference !== undefined) inC.push(readInC(reference, [directory], sum));
    }
  });
  const { median, min, max } = spreadOf(ours);
  const inCMedian = reference && spreadOf(inC).median;
  return figure(`queue.read.${payloadBytes}.${checksum}`, median, "M msg/s", inCMedian, {
    min,
    max,
    gigabytesPerSecond: Number(((median * payloadBytes) / 1000).toPrecision(3)),
  });
}

/** M msg/s of the C program. */
export function readInC(reference: Reference, directories: readonly string[], sum: number): number {
  const [rate, , found] = reference.run("read", ...directories);
  if (Number(found) !== sum) throw new Error("the reference read something else");
  return Number(rate);
}

/** M msg/s, and the sum of what was read. */
export interface Reading {
  readonly rate: number;
  readonly sum: number;
}

/** One pass: a reader that begins with the oldest message. */
export async function readMessages(task: {
  readonly directory: string;
  readonly reader: string;
  readonly messages: number;
}): Promise<Reading> {
  const { directory, reader, messages } = task;
  await using subscriber = openSubscriber(directory, reader);
  const sum = new Float64Array(1);
  const handler = summing(sum);
  pinNearEnd();
  const startNs = bootNs();
  for (let taken = 0; taken < messages;) {
    taken += subscriber.poll(handler, pollMessages);
    subscriber.commit();
  }
  const rate = (messages / (bootNs() - startNs)) * 1000;
  unpin();
  return { rate, sum: sum[0] ?? NaN };
}
