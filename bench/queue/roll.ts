/**
 * How long does an append take that goes over to the next segment?
 *
 *   queue.roll         µs, with segments of 4 MiB that the worker makes ahead of time
 *   queue.roll.alone   the same by a publisher that makes them itself
 *
 * Messages of 1 KB come every 2 µs, so that there is a roll every 8 ms. Only appends that roll are
 * counted; nothing is durable.
 */
import os from "node:os";
import { openPublisher } from "gapless/queue";
import { bootNs } from "../../src/clock.ts";
import { recordHeaderBytes, recordsStartOf, spaceOf } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { pinNearEnd, unpin } from "../peers/cores.ts";
import type { Reference } from "../reference/build.ts";
import { percentilesOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { kindInC, makePayload, type } from "./payload.ts";
import { waitUntil } from "./pace.ts";
import { abandon, inScratch } from "./scratch.ts";

const payloadBytes = 1024;
const checksum = "fast";
const intervalNs = 2000;

const limits = {
  full: { passes: 10, rolls: 110, segmentBytes: 4 * 2 ** 20 },
  small: { passes: 1, rolls: 3, segmentBytes: 2 ** 18 },
} as const satisfies Record<Size, object>;

interface Walk {
  readonly directory: string;
  readonly rolls: number;
  readonly segmentBytes: number;
  /** Whether there is no worker. */
  readonly isAlone: boolean;
}

export async function roll(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  return [
    await measure("queue.roll", false, size, crew, reference),
    await measure("queue.roll.alone", true, size, crew, reference),
  ];
}

async function measure(
  bench: string,
  isAlone: boolean,
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure> {
  const { passes, rolls, segmentBytes } = limits[size];
  const ours: number[] = [];
  const inC: number[] = [];
  await using member = crew.hire();
  for (let pass = 0; pass <= passes; pass++) {
    const times = await inScratch(os.tmpdir(), (directory) =>
      member.run("rollSegments", { directory, rolls, segmentBytes, isAlone }),
    );
    // In the first pass the code is not compiled yet.
    if (pass === 0) continue;
    ours.push(...times);
    if (reference === undefined) continue;
    const words = [payloadBytes, rolls, intervalNs, Number(isAlone), kindInC[checksum], 1];
    await inScratch(os.tmpdir(), (directory) => {
      inC.push(...reference.run("roll", ...words, segmentBytes, directory).map(Number));
    });
  }
  const found = percentilesOf(ours);
  const inCFound = reference && percentilesOf(inC);
  return figure(bench, found.p50, "µs", inCFound?.p50, {
    ...found,
    ...(inCFound && { referenceP99: inCFound.p99, referenceP999: inCFound.p999 }),
    rolls: ours.length,
    segmentBytes,
    durability: "process",
  });
}

/** Nanoseconds of each append that rolled. */
export async function rollSegments(walk: Walk): Promise<number[]> {
  const { directory, rolls, segmentBytes, isAlone } = walk;
  const preallocate = !isAlone;
  const publisher = openPublisher(directory, { checksum, segmentBytes, preallocate });
  const payload = makePayload(payloadBytes);
  const roomBytes = segmentBytes - recordsStartOf(segmentBytes);
  const segmentMessages = Math.floor(roomBytes / spaceOf(recordHeaderBytes + payloadBytes));
  const times: number[] = [];
  for (let message = 0, dueNs = bootNs(); times.length < rolls; message++) {
    waitUntil(dueNs);
    payload.doubles[0] = message;
    const beforeNs = bootNs();
    publisher.append(type, payload.bytes);
    const ns = bootNs() - beforeNs;
    dueNs += intervalNs;
    // Not before the worker has begun: threads run where the one that starts them may.
    if (message === segmentMessages >>> 1) pinNearEnd();
    if (message > 0 && message % segmentMessages === 0) times.push(ns);
  }
  unpin();
  await abandon(publisher);
  return times;
}
