/**
 * How long does it take to open a queue that has something in it?
 *
 *   queue.open.10MB, .100MB, .1GB   ms until a publisher could append, after another one was killed
 *
 * The median of some openings, each the first of its process, as it is in life. `closed` is the
 * same after a publisher that closed the queue, `subscriber` that of a reader who begins at the
 * end.
 */
import os from "node:os";
import { openPublisher, openSubscriber } from "gapless/queue";
import { recordHeaderBytes } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { inScratch } from "./scratch.ts";

const payloadBytes = 1024;
const bytesByName = { "10MB": 10e6, "100MB": 100e6, "1GB": 1e9 } as const;

const limits = {
  full: { openings: 7, share: 1 },
  small: { openings: 1, share: 1000 },
} as const satisfies Record<Size, object>;

export async function open(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { share } = limits[size];
  const figures: Figure[] = [];
  for (const [name, bytes] of Object.entries(bytesByName)) {
    figures.push(await measure(`queue.open.${name}`, bytes / share, size, crew, reference));
  }
  return figures;
}

async function measure(
  bench: string,
  bytes: number,
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure> {
  const messages = Math.floor(bytes / (payloadBytes + recordHeaderBytes));
  return inScratch(os.tmpdir(), async (directory) => {
    const filling = { directory, payloadBytes, messages, checksum: "fast" } as const;
    {
      await using writer = crew.hire();
      await writer.run("abandonQueue", { ...filling, firstNs: 1, intervalNs: 1 });
      await writer.kill();
    }
    const killed: Opening[] = [];
    const closed: Opening[] = [];
    const inC: number[] = [];
    for (let count = 0; count < limits[size].openings; count++) {
      killed.push(await openOnce(directory, true, crew));
      // Opens what was killed, and closes it: the next one counts.
      await openOnce(directory, false, crew);
      closed.push(await openOnce(directory, true, crew));
      if (reference !== undefined) inC.push(Number(reference.run("open", directory)[0]));
    }
    const publisher = spreadOf(killed.map(({ publisherMs }) => publisherMs));
    return figure(bench, publisher.median, "ms", reference && spreadOf(inC).median, {
      min: publisher.min,
      max: publisher.max,
      closed: spreadOf(closed.map(({ publisherMs }) => publisherMs)).median,
      subscriber: spreadOf(killed.map(({ subscriberMs }) => subscriberMs)).median,
    });
  });
}

interface Opening {
  readonly publisherMs: number;
  readonly subscriberMs: number;
}

async function openOnce(directory: string, isKilled: boolean, crew: Crew): Promise<Opening> {
  await using member = crew.hire();
  const opening = await member.run("openQueue", { directory, isKilled });
  if (isKilled) await member.kill();
  return opening;
}

/** Opens both ends, and closes them, or leaves that to whoever kills this process. */
export async function openQueue(task: {
  readonly directory: string;
  readonly isKilled: boolean;
}): Promise<Opening> {
  const startMs = performance.now();
  const publisher = openPublisher(task.directory);
  const publisherMs = performance.now() - startMs;
  const againMs = performance.now();
  const subscriber = openSubscriber(task.directory, "end", { start: "latest" });
  const subscriberMs = performance.now() - againMs;
  if (!task.isKilled) {
    await subscriber.close();
    await publisher.close();
  }
  return { publisherMs, subscriberMs };
}
