/**
 * What does a consumer that sleeps cost, and how soon is it awake?
 *
 *   bus.idle             percent of a core that a consumer takes for whom nothing comes
 *   bus.wake             µs from when a message was due, one a millisecond, to its handler
 *   *.blocking           the same of a consumer that blocks its thread; without, of one that leaves
 *                        the event loop free
 *
 * A wake-up is measured in five passes, in turns with the reference, and each percentile is the
 * median of theirs: a virtual machine that stands still for some ten milliseconds, as they do now
 * and then, spoils one pass of whichever it meets, and not the figure. `max` is that of all passes.
 */
import type { ChannelTable } from "gapless/bus";
import { figure, type Figure, type Size } from "../figure.ts";
import type { Crew } from "./crew.ts";
import { latencyFigure, runPaced } from "./latency.ts";
import type { Reference } from "../reference/build.ts";
import { channelName } from "./throughput-ends.ts";

const limits = {
  full: { idleMs: 2000, passes: 5, messages: 1000 },
  small: { idleMs: 50, passes: 3, messages: 15 },
} as const satisfies Record<Size, object>;

const intervalMs = 1;

export async function sleep(
  size: Size,
  crew: Crew,
  reference: Reference | undefined,
): Promise<Figure[]> {
  const { idleMs, passes, messages } = limits[size];
  const figures: Figure[] = [];
  for (const [blocks, suffix] of [
    [false, ""],
    [true, ".blocking"],
  ] as const) {
    figures.push(await measureIdle(`bus.idle${suffix}`, idleMs, blocks, crew));
    const post = { ...parked, blocks };
    const pace = { passes, messages, intervalMs };
    const { ours, inC } = await runPaced(pace, post, crew, reference);
    figures.push(latencyFigure(`bus.wake${suffix}`, ours.endToEnd, inC?.endToEnd));
  }
  return figures;
}

async function measureIdle(
  bench: string,
  idleMs: number,
  blocks: boolean,
  crew: Crew,
): Promise<Figure> {
  await using shift = await crew.muster(channels, [
    { ...parked, blocks, role: "idle", service: "far" },
  ]);
  const report = await shift.members[0]?.pass(idleMs);
  return figure(bench, report?.cpuPercent ?? NaN, "% of a core", undefined);
}

const channels: ChannelTable = {
  [channelName]: {
    type: "SPSC",
    producer: "near",
    consumer: "far",
    buffer_size: 2 ** 20,
    message_size_max: 4096,
  },
};

const parked = {
  payloadBytes: 64,
  batch: 1,
  isCrowded: false,
  intervalMs,
  wait: "park",
  blocks: true,
} as const;
