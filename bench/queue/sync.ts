/**
 * How many appends a second are durable before the next one of the same waiter?
 *
 *   queue.sync.1, .16, .256   with so many waiters, who share what is flushed
 *
 * The median of some passes. The reference is the device without a queue: a write and an fdatasync,
 * one after the other. `timesOne` is how many times the rate of one waiter it is.
 */
import os from "node:os";
import { openPublisher, type Publisher } from "gapless/queue";
import { recordHeaderBytes } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { makePayload, type } from "./payload.ts";
import { inScratch } from "./scratch.ts";

const payloadBytes = 256;
const waiterCounts = [1, 16, 256] as const;

const limits = {
  full: { passes: 5, rounds: 500 },
  small: { passes: 1, rounds: 3 },
} as const satisfies Record<Size, object>;

interface Load {
  readonly directory: string;
  readonly waiters: number;
  /** How often each waiter waits. */
  readonly rounds: number;
}

export async function sync(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { passes, rounds } = limits[size];
  const figures: Figure[] = [];
  let rateOfOne = NaN;
  for (const waiters of waiterCounts) {
    await using member = crew.hire();
    const ours: number[] = [];
    const raw: number[] = [];
    for (let pass = 0; pass < passes; pass++) {
      await inScratch(os.tmpdir(), async (directory) => {
        ours.push(await member.run("syncMessages", { directory, waiters, rounds }));
        const words = [recordHeaderBytes + payloadBytes, rounds, directory];
        if (reference !== undefined) raw.push(Number(reference.run("sync", ...words)[0]));
      });
    }
    const { median, ...fields } = spreadOf(ours);
    if (waiters === 1) rateOfOne = median;
    figures.push(
      figure(`queue.sync.${waiters}`, median, "/s", reference && spreadOf(raw).median, {
        ...fields,
        timesOne: Number((median / rateOfOne).toPrecision(3)),
        durability: "device",
      }),
    );
  }
  return figures;
}

/** Durable appends a second. */
export async function syncMessages({ directory, waiters, rounds }: Load): Promise<number> {
  await using publisher = openPublisher(directory, { durability: "sync" });
  const startMs = performance.now();
  await Promise.all(Array.from({ length: waiters }, () => publishAndWait(publisher, rounds)));
  return (waiters * rounds * 1000) / (performance.now() - startMs);
}

async function publishAndWait(publisher: Publisher, rounds: number): Promise<void> {
  const payload = makePayload(payloadBytes);
  for (let round = 0; round < rounds; round++) {
    const { level } = await publisher.publish(type, payload.bytes);
    if (level !== "device") throw new Error(`not durable: ${level}`);
  }
}
