/** Whether a bus is well: pure, from what was seen of it. */
import type {
  BusSnapshot,
  ChannelSnapshot,
  ConsumerSnapshot,
  LaneSnapshot,
  ProducerSnapshot,
} from "./inspect.ts";

export interface HealthThresholds {
  /** Share of what may be used of a ring, up to its high-water mark: above it, Degraded. */
  readonly utilisation: number;
  /** Messages that a consumer has still to read: above it, Degraded. */
  readonly lag: number;
  /** Silence of a consumer: from here on, Unhealthy. */
  readonly silentMs: number;
}

export const defaultHealthThresholds: HealthThresholds = Object.freeze({
  utilisation: 0.9,
  lag: 10_000,
  silentMs: 60_000,
});

export type HealthStatus = "Healthy" | "Degraded" | "Unhealthy";

/**
 *   utilisation   a ring is fuller than it should be: producers wait, or soon will
 *   lag           a consumer has more to read than it should
 *   dead          the process of a consumer is gone, and there is something for it to read
 *   silent        a consumer has done nothing for too long: dead, away, or stuck with work to do
 *   failed        producers go on without a consumer, and it misses messages
 *   unreadable    a file is no channel of this version and boot
 */
export type HealthCause = "utilisation" | "lag" | "dead" | "silent" | "failed" | "unreadable";

export interface HealthReason {
  readonly status: Exclude<HealthStatus, "Healthy">;
  readonly cause: HealthCause;
  readonly channel: string;
  /** What is the matter, in a sentence. */
  readonly text: string;
}

export interface Health {
  /** The worst of the reasons. */
  readonly status: HealthStatus;
  /** The worst first. */
  readonly reasons: readonly HealthReason[];
  /**
   * What is worth knowing and makes nothing worse: wishes about memory that were not met, and
   * producers that are dead, which their consumers cannot do anything about.
   */
  readonly notes: readonly string[];
}

/** Judges what `Bus.inspect` or `BusInspector.inspect` has seen. */
export function judgeHealth(
  snapshot: Pick<BusSnapshot, "channels" | "unreadable">,
  thresholds: Partial<HealthThresholds> = {},
): Health {
  const limits = { ...defaultHealthThresholds, ...thresholds };
  const found = [
    ...snapshot.unreadable.map(({ name, reason }) =>
      reasonOf("Unhealthy", "unreadable", name, reason),
    ),
    ...snapshot.channels.flatMap((channel) =>
      channel.lanes.flatMap((lane) => judgeLane(channel, lane, limits)),
    ),
  ];
  const unhealthy = found.filter(({ status }) => status === "Unhealthy");
  const degraded = found.filter(({ status }) => status === "Degraded");
  return {
    status: unhealthy.length > 0 ? "Unhealthy" : degraded.length > 0 ? "Degraded" : "Healthy",
    reasons: [...unhealthy, ...degraded],
    notes: [...new Set(snapshot.channels.flatMap(notesOf))],
  };
}

function judgeLane(
  channel: ChannelSnapshot,
  lane: LaneSnapshot,
  limits: HealthThresholds,
): HealthReason[] {
  const place = placeOf(channel, lane);
  const reasons = lane.consumers.flatMap((consumer) =>
    judgeConsumer(channel, place, consumer, limits),
  );
  return [...reasons, ...judgeUtilisation(channel, place, lane, limits)];
}

/** A ring whose producers are held at its high-water mark never gets any fuller. */
function judgeUtilisation(
  { name, highWater }: ChannelSnapshot,
  place: string,
  { utilisation }: LaneSnapshot,
  limits: HealthThresholds,
): HealthReason[] {
  const utilisationMax = limits.utilisation * highWater;
  if (utilisation <= utilisationMax) return [];
  const share = percent(limits.utilisation);
  const expected =
    highWater < 1
      ? `${percent(utilisationMax)}: ${share} of its high-water mark, ${percent(highWater)}`
      : share;
  const text = `${place} is ${percent(utilisation)} full, above ${expected}`;
  return [reasonOf("Degraded", "utilisation", name, text)];
}

function judgeConsumer(
  { name }: ChannelSnapshot,
  place: string,
  consumer: ConsumerSnapshot,
  limits: HealthThresholds,
): HealthReason[] {
  const who = `consumer ${consumer.name} of ${place}`;
  if (consumer.state === "ended") return [];
  if (consumer.state === "failed") {
    const text = `${who} has failed: producers go on without it`;
    return [reasonOf("Unhealthy", "failed", name, text)];
  }
  const reasons: HealthReason[] = [];
  if (consumer.silenceMs >= limits.silentMs) {
    const text = `${who} ${describeSilence(consumer)}, for ${seconds(consumer.silenceMs)}`;
    reasons.push(reasonOf("Unhealthy", "silent", name, text));
  } else if (consumer.state === "dead" && consumer.lagBytes > 0) {
    const what = `${describeSilence(consumer)} and has ${consumer.lagBytes} bytes to read`;
    reasons.push(reasonOf("Degraded", "dead", name, `${who} ${what}`));
  }
  if (consumer.lag > limits.lag) {
    const text = `${who} is ${consumer.lag} messages behind, above ${limits.lag}`;
    reasons.push(reasonOf("Degraded", "lag", name, text));
  }
  return reasons;
}

function describeSilence({ state, pid }: ConsumerSnapshot): string {
  switch (state) {
    case "absent":
      return "has never come";
    case "left":
      return "has left";
    case "dead":
      return `is dead (process ${pid ?? 0})`;
    case "reading":
    case "joining":
    case "failed":
    case "ended":
      return `has work to do and is silent (process ${pid ?? 0})`;
  }
}

function notesOf(channel: ChannelSnapshot): string[] {
  const known = channel.unmet.map(
    ({ wish, reason }) => `channel ${channel.name} is without ${wish}: ${reason}`,
  );
  const named = channel.unmet.map(({ wish }) => wish);
  const seen = channel.lanes
    .flatMap(({ producers, consumers }) => [...producers, ...consumers])
    .flatMap(({ name, unmet }) => unmet.map((wish) => ({ name, wish })))
    .filter(({ wish }) => !named.includes(wish))
    .map(({ name, wish }) => `channel ${channel.name} is without ${wish} for ${name}`);
  const dead = channel.lanes.flatMap((lane) =>
    lane.producers.filter(isDead).map(({ name, pid }) => {
      const place = placeOf(channel, lane);
      return `producer ${name} of ${place} is dead (process ${pid ?? 0})`;
    }),
  );
  return [...known, ...seen, ...dead];
}

function isDead({ state }: ProducerSnapshot): boolean {
  return state === "dead";
}

function placeOf({ name, lanes }: ChannelSnapshot, { priority }: LaneSnapshot): string {
  return lanes.length > 1 ? `channel ${name}, priority ${priority}` : `channel ${name}`;
}

function reasonOf(
  status: HealthReason["status"],
  cause: HealthCause,
  channel: string,
  text: string,
): HealthReason {
  return { status, cause, channel, text };
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(1))} %`;
}

function seconds(milliseconds: number): string {
  return `${Math.floor(milliseconds / 1000)} s`;
}
