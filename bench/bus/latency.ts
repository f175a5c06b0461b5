/**
 * How long does a message take?
 *
 *   bus.rtt.64, .1024    there and back, each message published by itself
 *   bus.write.64         from before its claim to behind its commit
 *   bus.read.64          from before its poll to behind its release
 *   bus.end_to_end.64    from when it was due to be sent to its handler
 *
 * In µs; nothing is durable. The last three are of one run with 100,000 messages a second at a
 * steady pace, by ends that never sleep. A clock read, of which each figure has one, is included.
 */
import type { ChannelTable } from "gapless/bus";
import { figure, type Figure, type Size } from "../figure.ts";
import type { Crew, Post, Shift } from "./crew.ts";
import { backName } from "./latency-ends.ts";
import type { Reference } from "../reference/build.ts";
import { mediansOf, percentilesOf, type Percentiles } from "../samples.ts";
import { channelName } from "./throughput-ends.ts";

const ringBytes = 2 ** 20;
const payloadBytes = 64;
const intervalMs = 0.01;

const limits = {
  full: { rounds: 200_000, messages: 500_000 },
  small: { rounds: 200, messages: 500 },
} as const satisfies Record<Size, object>;

export async function latency(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { rounds, messages } = limits[size];
  return [
    await roundTrip(64, rounds, crew, reference),
    await roundTrip(1024, rounds, crew, reference),
    ...(await atSteadyPace(messages, crew, reference)),
  ];
}

async function roundTrip(
  payloadBytes: number,
  rounds: number,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure> {
  const post = { ...spinning, payloadBytes };
  await using shift = await crew.muster(channels, [
    { ...post, role: "ask", service: "near" },
    { ...post, role: "answer", service: "far" },
  ]);
  const [asked, answered] = await runBoth(shift, rounds);
  if (asked.sum !== answered.sum) throw new Error("the far end read something else");
  const inC = reference?.run("roundtrip", payloadBytes, rounds, ringBytes);
  const there = inC && percentilesOf(inC.map(Number));
  return latencyFigure(`bus.rtt.${payloadBytes}`, asked.latency?.["there"], there);
}

async function atSteadyPace(
  messages: number,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const pace = { passes: 1, messages, intervalMs };
  const { ours, inC } = await runPaced(pace, spinning, crew, reference);
  return [
    latencyFigure(`bus.write.${payloadBytes}`, ours.write, inC?.write),
    latencyFigure(`bus.read.${payloadBytes}`, ours.read, inC?.read),
    latencyFigure(`bus.end_to_end.${payloadBytes}`, ours.endToEnd, inC?.endToEnd),
  ];
}

/** So many messages a pass, sent at a steady pace. */
interface Pace {
  readonly passes: number;
  readonly messages: number;
  readonly intervalMs: number;
}

interface PacedLatency {
  readonly write: Percentiles;
  readonly read: Percentiles;
  readonly endToEnd: Percentiles;
}

/** Passes in turns with the reference: what else the machine does then meets both. */
export async function runPaced(
  { passes, messages, intervalMs }: Pace,
  post: Omit<Post, "role" | "service">,
  crew: Crew,
  reference: Reference | undefined,
): Promise<{ ours: PacedLatency; inC: PacedLatency | undefined }> {
  await using shift = await crew.muster(channels, [
    { ...post, intervalMs, role: "send", service: "near" },
    { ...post, intervalMs, role: "receive", service: "far" },
  ]);
  const parks = post.wait === "busy-spin" ? 0 : 1;
  const ours: PacedLatency[] = [];
  const inC: PacedLatency[] = [];
  for (let pass = 0; pass < passes; pass++) {
    const [sent, received] = await runBoth(shift, messages);
    const { write, read, endToEnd } = { ...sent.latency, ...received.latency };
    if (!write || !read || !endToEnd) throw new Error("an end has taken no time");
    ours.push({ write, read, endToEnd });
    const lines = reference
      ?.run("paced", payloadBytes, messages, intervalMs * 1e6, parks, ringBytes)
      .map((line) => line.split(" ").map(Number));
    if (lines === undefined) continue;
    const column = (index: number) => percentilesOf(lines.map((line) => line[index] ?? 0));
    inC.push({ write: column(0), read: column(1), endToEnd: column(2) });
  }
  return { ours: mediansOfAll(ours), inC: reference && mediansOfAll(inC) };
}

function mediansOfAll(passes: readonly PacedLatency[]): PacedLatency {
  return {
    write: mediansOf(passes.map(({ write }) => write)),
    read: mediansOf(passes.map(({ read }) => read)),
    endToEnd: mediansOf(passes.map(({ endToEnd }) => endToEnd)),
  };
}

async function runBoth({ members: [near, far] }: Shift, messages: number) {
  if (near === undefined || far === undefined) throw new Error("a channel has two ends");
  return Promise.all([near.pass(messages), far.pass(messages)]);
}

/** The median of both, and percentiles of ours. */
export function latencyFigure(
  bench: string,
  ours: Percentiles | undefined,
  reference: Percentiles | undefined,
): Figure {
  return figure(bench, ours?.p50 ?? NaN, "µs", reference?.p50, {
    ...ours,
    ...(reference && { referenceP99: reference.p99, referenceP999: reference.p999 }),
  });
}

const channel = {
  type: "SPSC",
  buffer_size: ringBytes,
  message_size_max: 4096,
  timestamps: "off",
  failed_consumer: "wait",
} as const;

const channels: ChannelTable = {
  [channelName]: { ...channel, producer: "near", consumer: "far" },
  [backName]: { ...channel, producer: "far", consumer: "near" },
};

const spinning = {
  payloadBytes,
  batch: 1,
  isCrowded: false,
  intervalMs,
  wait: "busy-spin",
  blocks: true,
} as const;
