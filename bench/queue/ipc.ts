/**
 * How long does a message take from one process to another?
 *
 *   queue.ipc.256   µs from when a message was due to be appended to its handler, with 100,000 a
 *                   second at a steady pace, by a reader that never sleeps
 *
 * A sender that is late counts against every message that it delays. `append` are percentiles of
 * the call alone. The files are in memory (/dev/shm), and all messages go into one segment: on two
 * cores, which both ends take whole, the worker that makes the next one would stand in their way.
 */
import fs from "node:fs";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { openPublisher, openSubscriber, type MessageHandler } from "gapless/queue";
import { bootNs } from "../../src/clock.ts";
import { leaveOrphaned } from "../bus/orphan.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { pinFarEnd, pinNearEnd, unpin } from "../peers/cores.ts";
import type { Reference } from "../reference/build.ts";
import { percentilesOf, type Percentiles } from "../samples.ts";
import type { Crew } from "./crew.ts";
import { kindInC, makePayload, type } from "./payload.ts";
import { waitUntil } from "./pace.ts";
import { inScratch } from "./scratch.ts";

const payloadBytes = 256;
const checksum = "fast";
const intervalNs = 10_000;
/** The writer's next segment is made by then, and its reader there. */
const headStartMs = 300;
/** What the first messages meet is code that is not compiled yet. */
const warmUpShare = 0.2;
const reader = "far";

const limits = {
  full: { messages: 400_000, segmentBytes: 128 * 2 ** 20 },
  small: { messages: 500, segmentBytes: 2 ** 20 },
} as const satisfies Record<Size, object>;

interface Traffic {
  readonly directory: string;
  readonly messages: number;
  readonly segmentBytes: number;
}

export async function ipc(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { messages, segmentBytes } = limits[size];
  await using near = crew.hire();
  await using far = crew.hire();
  const [append, endToEnd] = await inScratch("/dev/shm", async (directory) => {
    const traffic: Traffic = { directory, messages, segmentBytes };
    return Promise.all([near.run("sendMessages", traffic), far.run("receiveMessages", traffic)]);
  });
  const lines = await inScratch("/dev/shm", (directory) =>
    reference
      ?.run(
        ...["paced", payloadBytes, messages, intervalNs, kindInC[checksum], 1, segmentBytes],
        directory,
      )
      .slice(messages * warmUpShare)
      .map((line) => line.split(" ").map(Number)),
  );
  const inC = lines && percentilesOf(lines.map(([, ns]) => ns ?? NaN));
  return [
    figure(`queue.ipc.${payloadBytes}`, endToEnd.p50, "µs", inC?.p50, {
      ...endToEnd,
      ...(inC && { referenceP99: inC.p99, referenceP999: inC.p999 }),
      append: append.p50,
      appendP999: append.p999,
      checksum,
      durability: "process",
    }),
  ];
}

/** Appends when a message is due, or as soon after that as it can. */
export async function sendMessages({ directory, messages, segmentBytes }: Traffic) {
  await using publisher = openPublisher(directory, { checksum, segmentBytes });
  const payload = makePayload(payloadBytes);
  const times = new Float64Array(messages);
  while (!fs.existsSync(path.join(directory, "readers", `${reader}.reader`))) await pause(1);
  await pause(headStartMs);
  pinNearEnd();
  for (let message = 0, dueNs = bootNs(); message < messages; message++) {
    waitUntil(dueNs);
    const beforeNs = bootNs();
    payload.doubles[0] = dueNs;
    publisher.append(type, payload.bytes);
    times[message] = bootNs() - beforeNs;
    dueNs += intervalNs;
  }
  unpin();
  return percentilesOf(times.subarray(messages * warmUpShare));
}

/** Looks for messages without a rest. */
export async function receiveMessages({ directory, messages }: Traffic): Promise<Percentiles> {
  while (!fs.existsSync(path.join(directory, "queue.control"))) await pause(1);
  await using subscriber = openSubscriber(directory, reader);
  const times = new Float64Array(messages);
  const latency = new Float64Array(1);
  // Made once: a closure a poll would have the garbage collector stop the loop now and then.
  const handler: MessageHandler = ({ view }, offset) => {
    latency[0] = bootNs() - view.getFloat64(offset, true);
  };
  pinFarEnd();
  for (let taken = 0; taken < messages;) {
    if (subscriber.poll(handler, 1) === 0) {
      leaveOrphaned();
      continue;
    }
    times[taken++] = latency[0] ?? NaN;
    subscriber.commit();
  }
  unpin();
  return percentilesOf(times.subarray(messages * warmUpShare));
}
