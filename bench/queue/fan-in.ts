/**
 * How many messages a second does one process read from four queues, merged by time?
 *
 *   queue.fanin.4   M msg/s: messages of 256 bytes, whose times are those of the four in turns
 *
 * The median of some passes; the sum of what was read is checked. Each queue has the checksum that
 * is the default, and it is verified. The C program reads the same files.
 */
import os from "node:os";
import path from "node:path";
import { openFanIn, openSubscriber, type FanInHandler } from "gapless/queue";
import { bootNs } from "../../src/clock.ts";
import { recordHeaderBytes } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { pinNearEnd, unpin } from "../peers/cores.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { expectedSum, summing } from "./payload.ts";
import { pollMessages, readInC, type Reading } from "./read.ts";
import { inScratch } from "./scratch.ts";

const payloadBytes = 256;
const queues = 4;

const limits = {
  full: { passes: 5, bytes: 64 * 2 ** 20 },
  small: { passes: 1, bytes: 2 ** 18 },
} as const satisfies Record<Size, object>;

export async function fanIn(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { passes, bytes } = limits[size];
  const each = Math.floor(bytes / (payloadBytes + recordHeaderBytes));
  const messages = each * queues;
  const sum = expectedSum(payloadBytes, each) * queues;
  const ours: number[] = [];
  const inC: number[] = [];
  await inScratch(os.tmpdir(), async (root) => {
    await using member = crew.hire();
    const directories = Array.from({ length: queues }, (_, index) => path.join(root, `${index}`));
    for (const [index, directory] of directories.entries()) {
      await member.run("fillQueue", {
        ...{ directory, payloadBytes, messages: each, checksum: "fast" },
        ...{ firstNs: 1 + index, intervalNs: queues },
      });
    }
    // In the first pass the code is not compiled yet.
    for (let pass = 0; pass <= passes; pass++) {
      const reader = `pass-${pass}`;
      const outcome = await member.run("mergeQueues", { directories, messages, reader });
      if (outcome.sum !== sum) throw new Error("the fan-in read something else");
      if (pass > 0) ours.push(outcome.rate);
      if (pass > 0 && reference !== undefined) inC.push(readInC(reference, directories, sum));
    }
  });
  const { median, ...fields } = spreadOf(ours);
  const inCMedian = reference && spreadOf(inC).median;
  return [figure(`queue.fanin.${queues}`, median, "M msg/s", inCMedian, fields)];
}

/** One pass: readers that begin with the oldest message of each queue. */
export async function mergeQueues(task: {
  readonly directories: readonly string[];
  readonly reader: string;
  readonly messages: number;
}): Promise<Reading> {
  const { directories, reader, messages } = task;
  const subscribers = directories.map((directory) => openSubscriber(directory, reader));
  const merged = openFanIn();
  for (const [index, subscriber] of subscribers.entries()) merged.add(subscriber, `${index}`);
  const sum = new Float64Array(1);
  const sumUp = summing(sum);
  const handler: FanInHandler = (_source, memory, offset, length) => sumUp(memory, offset, length);
  pinNearEnd();
  const startNs = bootNs();
  for (let taken = 0; taken < messages;) {
    taken += merged.poll(handler, pollMessages);
    merged.commit();
  }
  const rate = (messages / (bootNs() - startNs)) * 1000;
  unpin();
  merged.close();
  for (const subscriber of subscribers) await subscriber.close();
  return { rate, sum: sum[0] ?? NaN };
}
