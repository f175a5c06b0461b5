/**
 * How many messages a second does one process append?
 *
 *   queue.append.64, .256, .1024   messages of so many bytes
 *   *.none, *.fast                 without a checksum, and with the one that is the default
 *
 * In M msg/s, the median of some passes. The value is of a burst that finds the next segment made,
 * and is as large as one. `sustained` goes on for as much as two more: segments are then used up as
 * fast as the worker makes them, and what counts is how fast the kernel hands out memory. The
 * publisher reads the clock for each message; `ownTime` is a burst of messages that have their time
 * already, and `batched` one of which it takes sixteen at a time.
 */
import os from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { openPublisher, type Publisher } from "gapless/queue";
import { bootNs } from "../../src/clock.ts";
import { recordHeaderBytes } from "../../src/queue/layout.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { pinNearEnd, unpin } from "../peers/cores.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import type { Crew } from "./crew.ts";
import {
  fillPayload,
  kindInC,
  makePayload,
  payloadSizes,
  type,
  type Kind,
  type Payload,
} from "./payload.ts";
import { abandon, inScratch } from "./scratch.ts";

interface Load {
  readonly payloadBytes: number;
  readonly checksum: Kind;
  readonly segmentBytes: number;
  /** How many messages come before the burst, in it, and behind it. */
  readonly head: number;
  readonly burst: number;
  readonly rest: number;
  /** Whether each message takes the time of the clock. */
  readonly hasClock: boolean;
  /** How many are appended at a time. */
  readonly batch: number;
}

/** M msg/s. */
interface Rates {
  readonly burst: number;
  readonly sustained: number;
}

const limits = {
  full: { passes: 5, segmentBytes: 128 * 2 ** 20 },
  small: { passes: 1, segmentBytes: 2 ** 18 },
} as const satisfies Record<Size, object>;

/** In segments. With so much written, the next one is being made. */
const head = 0.2;
const burst = 1;
const rest = 2;
const batchMessages = 16;
/** It is made by then: the C program rests as long. */
const restMs = 300;

export async function append(
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
  const { segmentBytes, passes } = limits[size];
  const segmentMessages = segmentBytes / (payloadBytes + recordHeaderBytes);
  const load: Load = {
    payloadBytes,
    checksum,
    segmentBytes,
    head: Math.floor(segmentMessages * head),
    burst: Math.floor(segmentMessages * burst),
    rest: Math.floor(segmentMessages * rest),
    hasClock: true,
    batch: 1,
  };
  const ours: Rates[] = [];
  const inC: Rates[] = [];
  await using member = crew.hire();
  const pass = (load: Load): Promise<Rates> =>
    inScratch(os.tmpdir(), (directory) => member.run("appendMessages", { ...load, directory }));
  // In the first pass the code is not compiled yet.
  await pass(load);
  const ownTime: number[] = [];
  const batched: number[] = [];
  for (let count = 0; count < passes; count++) {
    ours.push(await pass(load));
    ownTime.push((await pass({ ...load, hasClock: false, rest: 0 })).burst);
    batched.push((await pass({ ...load, batch: batchMessages, rest: 0 })).burst);
    if (reference !== undefined) inC.push(await runReference(load, reference));
  }
  const { median, min, max } = spreadOf(ours.map(({ burst }) => burst));
  const burstInC = spreadOf(inC.map(({ burst }) => burst)).median;
  const sustainedInC = spreadOf(inC.map(({ sustained }) => sustained)).median;
  return figure(
    `queue.append.${payloadBytes}.${checksum}`,
    median,
    "M msg/s",
    reference && burstInC,
    {
      min,
      max,
      ownTime: spreadOf(ownTime).median,
      batched: spreadOf(batched).median,
      sustained: spreadOf(ours.map(({ sustained }) => sustained)).median,
      ...(reference && { sustainedReference: sustainedInC }),
      gigabytesPerSecond: Number(((median * payloadBytes) / 1000).toPrecision(3)),
      durability: "process",
    },
  );
}

function runReference(load: Load, reference: Reference): Promise<Rates> {
  return inScratch(os.tmpdir(), (directory) => {
    const { payloadBytes, head, burst, rest, checksum, segmentBytes } = load;
    const words = [payloadBytes, head, burst, rest, kindInC[checksum], 1, segmentBytes];
    const [first, all] = reference.run("append", ...words, directory);
    return { burst: Number(first), sustained: Number(all) };
  });
}

/** One pass: the publisher is new, and so is its queue. */
export async function appendMessages(task: Load & { directory: string }): Promise<Rates> {
  const { directory, payloadBytes, checksum, segmentBytes, hasClock } = task;
  const publisher = openPublisher(directory, { checksum, segmentBytes });
  const payload = makePayload(payloadBytes);
  const timestampNs = hasClock ? undefined : 1_700_000_000_000_000_000n;
  const append = (messages: number): void => {
    if (task.batch > 1) appendBatches(publisher, payloadBytes, messages, task.batch);
    else appendEach(publisher, payload, messages, timestampNs);
  };
  append(task.head);
  await pause(restMs);
  // Not before the worker has begun: threads run where the one that starts them may.
  pinNearEnd();
  const startNs = bootNs();
  append(task.burst);
  const burstNs = bootNs();
  append(task.rest);
  const endNs = bootNs();
  unpin();
  await abandon(publisher);
  return {
    burst: (task.burst / (burstNs - startNs)) * 1000,
    sustained: ((task.burst + task.rest) / (endNs - startNs)) * 1000,
  };
}

function appendEach(
  publisher: Publisher,
  payload: Payload,
  messages: number,
  timestampNs: bigint | undefined,
): void {
  for (let count = 0; count < messages; count++) {
    fillPayload(payload, publisher.lastSequence);
    publisher.append(type, payload.bytes, timestampNs);
  }
}

function appendBatches(
  publisher: Publisher,
  payloadBytes: number,
  messages: number,
  batch: number,
): void {
  const payloads = Array.from({ length: batch }, () => makePayload(payloadBytes));
  const entries = payloads.map(({ bytes }) => ({ type, payload: bytes }));
  for (let count = 0; count < messages; count += batch) {
    let { lastSequence } = publisher;
    for (const payload of payloads) fillPayload(payload, lastSequence++);
    publisher.appendMany(entries);
  }
}
