/**
 * How many messages a second go through a channel?
 *
 *   bus.spsc.64, .256, .1024   one producer, one consumer: messages of so many bytes
 *   bus.spmc2.1024             one producer, two consumers that read everything each
 *   bus.mpsc3.1024             three producers, one consumer
 *   bus.mpmc22.1024            two producers, two consumers
 *   bus.spsc.64.timestamps     every message stamped, and both ends keeping histograms; `sampled`
 *                              is the channel as it is by default, `off` that of bus.spsc.64
 *
 * A pass ends when the last consumer has read the last message; what each has read is summed and
 * checked. The figure is the median of some passes, because single ones swing with the machine.
 */
import type { ChannelTable } from "gapless/bus";
import { figure, type Figure, type Size } from "../figure.ts";
import { isCrowded, type Crew, type Member, type Post, type Shift } from "./crew.ts";
import type { Report } from "./member.ts";
import type { Reference } from "../reference/build.ts";
import { spreadOf } from "../samples.ts";
import { channelName } from "./throughput-ends.ts";

type Timestamps = "all" | "sampled" | "off";

interface Load {
  readonly type: "SPSC" | "SPMC" | "MPSC" | "MPMC";
  readonly producers: number;
  readonly consumers: number;
  readonly payloadBytes: number;
  /** Of a pass, all producers together. */
  readonly messages: number;
  readonly timestamps: Timestamps;
}

const ringBytes = 4 * 2 ** 20;
const one = { type: "SPSC", producers: 1, consumers: 1, timestamps: "off" } as const;

const loads: Readonly<Record<string, Load>> = {
  "bus.spsc.64": { ...one, payloadBytes: 64, messages: 8_000_000 },
  "bus.spsc.256": { ...one, payloadBytes: 256, messages: 4_000_000 },
  "bus.spsc.1024": { ...one, payloadBytes: 1024, messages: 2_000_000 },
  "bus.spmc2.1024": { ...one, type: "SPMC", consumers: 2, payloadBytes: 1024, messages: 1_000_000 },
  "bus.mpsc3.1024": { ...one, type: "MPSC", producers: 3, payloadBytes: 1024, messages: 600_000 },
  "bus.mpmc22.1024": {
    ...one,
    type: "MPMC",
    producers: 2,
    consumers: 2,
    payloadBytes: 1024,
    messages: 400_000,
  },
};

const limits = {
  full: { passes: 5, share: 1 },
  small: { passes: 1, share: 1000 },
} as const satisfies Record<Size, object>;

export async function throughput(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [bench, load] of Object.entries(loads)) {
    const { ours, inC } = await measure(load, size, crew, reference);
    const { median, ...fields } = spreadOf(ours);
    figures.push(
      figure(bench, median, "M msg/s", inC && spreadOf(inC).median, {
        ...fields,
        ...(inC && { referenceMin: spreadOf(inC).min, referenceMax: spreadOf(inC).max }),
        gigabytesPerSecond: Number(((median * load.payloadBytes) / 1000).toPrecision(3)),
        batch: batchOf(load),
      }),
    );
  }
  figures.push(await compareTimestamps(size, crew, reference));
  return figures;
}

async function compareTimestamps(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure> {
  const load: Load = { ...one, payloadBytes: 64, messages: 4_000_000 };
  const all = await measure({ ...load, timestamps: "all" }, size, crew, reference);
  const sampled = await measure({ ...load, timestamps: "sampled" }, size, crew, reference);
  const off = await measure({ ...load, timestamps: "off" }, size, crew, undefined);
  const { median, min, max } = spreadOf(all.ours);
  const inC = all.inC && spreadOf(all.inC).median;
  return figure("bus.spsc.64.timestamps", median, "M msg/s", inC, {
    min,
    max,
    sampled: spreadOf(sampled.ours).median,
    ...(sampled.inC && { sampledReference: spreadOf(sampled.inC).median }),
    off: spreadOf(off.ours).median,
  });
}

/** M msg/s of each pass. */
interface Rates {
  readonly ours: readonly number[];
  readonly inC: readonly number[] | undefined;
}

async function measure(
  load: Load,
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Rates> {
  const { passes, share } = limits[size];
  const each = Math.ceil(load.messages / load.producers / share);
  await using shift = await muster(load, crew);
  const ours: number[] = [];
  const inC: number[] = [];
  // In the first pass the code is not compiled yet.
  await runPass(shift, load, each);
  for (let pass = 0; pass < passes; pass++) {
    ours.push(await runPass(shift, load, each));
    if (reference !== undefined) inC.push(runReference(reference, load, each));
  }
  return { ours, inC: reference && inC };
}

function muster(load: Load, crew: Crew): Promise<Shift> {
  const producers = Array.from({ length: load.producers }, (_end, index) => `producer-${index}`);
  const consumers = Array.from({ length: load.consumers }, (_end, index) => `consumer-${index}`);
  const channels: ChannelTable = {
    [channelName]: {
      type: load.type,
      producers,
      consumers,
      buffer_size: ringBytes,
      message_size_max: 4096,
      timestamps: load.timestamps,
      ...(load.timestamps === "off" && { failed_consumer: "wait" }),
    },
  };
  const post = {
    payloadBytes: load.payloadBytes,
    batch: batchOf(load),
    isCrowded: isCrowded(load.producers + load.consumers),
    intervalMs: 0,
    wait: "park",
    blocks: true,
  } as const;
  const posts: Post[] = [
    ...producers.map((service) => ({ ...post, role: "produce", service }) as const),
    ...consumers.map((service) => ({ ...post, role: "consume", service }) as const),
  ];
  return crew.muster(channels, posts);
}

async function runPass(shift: Shift, load: Load, each: number): Promise<number> {
  const run = (members: readonly Member[], messages: number): Promise<Report[]> =>
    Promise.all(members.map((member) => member.pass(messages)));
  const total = each * load.producers;
  const [read, written] = await Promise.all([
    run(shift.members.slice(load.producers), total),
    run(shift.members.slice(0, load.producers), each),
  ]);
  const expected = written.reduce((sum, report) => sum + report.sum, 0);
  if (read.some(({ sum }) => sum !== expected)) throw new Error("a consumer read something else");
  const startNs = Math.min(...written.map((report) => report.startNs));
  const endNs = Math.max(...read.map((report) => report.endNs));
  return (total / (endNs - startNs)) * 1000;
}

function runReference(reference: Reference, load: Load, each: number): number {
  const { producers, consumers, payloadBytes, timestamps } = load;
  const stampPeriod = { all: 1, sampled: 64, off: 0 }[timestamps];
  const [rate] = reference.run(
    ...["throughput", producers, consumers, payloadBytes, each, batchOf(load)],
    ...[stampPeriod, ringBytes],
  );
  return Number(rate);
}

function batchOf({ payloadBytes }: Load): number {
  return payloadBytes > 256 ? 16 : 64;
}
