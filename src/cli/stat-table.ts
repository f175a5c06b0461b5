/** A bus as lines of at most 100 columns: pure, from two looks at it. */
import type { Health } from "../bus/health.ts";
import type { Latency } from "../bus/latency.ts";
import type { RecordedLoss } from "../bus/losses.ts";
import type {
  BusSnapshot,
  ChannelSnapshot,
  ConsumerSnapshot,
  LaneSnapshot,
  ProducerSnapshot,
} from "../bus/inspect.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNs,
  formatRate,
  formatRow,
  wrap,
} from "./table.ts";

const lossesShown = 3;
const widths = [-21, -8, 7, 6, 13, 10, 9, 9, 9] as const;

/**
 * @param before An earlier look, for the rates; undefined: there are none.
 * @param expected Names of the channels that there should be.
 */
export function formatBus(
  snapshot: BusSnapshot,
  before: BusSnapshot | undefined,
  health: Health,
  expected: readonly string[] = [],
): string[] {
  const known = new Set([...snapshot.channels, ...snapshot.unreadable].map(({ name }) => name));
  const missing = expected.filter((name) => !known.has(name));
  return [
    health.status,
    ...health.reasons.flatMap(({ text }) => wrap(text, "  ")),
    ...health.notes.flatMap((text) => wrap(`note: ${text}`, "  ")),
    ...snapshot.channels.flatMap((channel) =>
      channel.lanes.flatMap((lane) => ["", ...formatLane(channel, lane, snapshot, before)]),
    ),
    ...missing.flatMap((name) => ["", `${name}  not opened yet`]),
  ];
}

function formatLane(
  channel: ChannelSnapshot,
  lane: LaneSnapshot,
  snapshot: BusSnapshot,
  before: BusSnapshot | undefined,
): string[] {
  const former = before?.channels.find(({ name }) => name === channel.name)?.lanes[lane.priority];
  const seconds = (snapshot.atNs - (before?.atNs ?? 0)) / 1e9;
  const rateOf = (party: { name: string; messages: number }, parties: typeof lane.producers) =>
    formatRate(party.messages, parties.find(({ name }) => name === party.name)?.messages, seconds);
  const title = [
    channel.name,
    ...(channel.lanes.length > 1 ? [`priority ${lane.priority}`] : []),
    channel.type,
    channel.backpressure,
    `${formatBytes(channel.ringBytes)} ring`,
    `${(lane.utilisation * 100).toFixed(1)} % used`,
    `newest #${formatCount(lane.sequence)}`,
  ];
  const latencies = (what: string): string[] => [`${what} p50`, `${what} p99`];
  return [
    title.join("  "),
    formatRow(widths, [
      "  producer",
      "state",
      "pid",
      "silent",
      "messages",
      "msg/s",
      "bytes",
      ...latencies("write"),
    ]),
    ...lane.producers.flatMap((producer) =>
      formatProducer(producer, rateOf(producer, former?.producers ?? [])),
    ),
    formatRow(widths, [
      "  consumer",
      "state",
      "pid",
      "silent",
      "messages",
      "msg/s",
      "lag",
      ...latencies("e2e"),
    ]),
    ...lane.consumers.flatMap((consumer) => {
      const one = former?.consumers.find(({ name }) => name === consumer.name);
      return formatConsumer(consumer, formatRate(consumer.messages, one?.messages, seconds));
    }),
    ...newestOf(lane.losses).map((loss) => formatLoss(loss, lane, snapshot.atNs)),
  ];
}

function formatProducer(producer: ProducerSnapshot, rateText: string): string[] {
  const { dropped, rejected, pressured, errors } = producer;
  return [
    formatRow(widths, [
      ...partyCells(producer),
      rateText,
      formatBytes(producer.bytes),
      ...latencyCells(producer.writeLatency),
    ]),
    ...counts({ dropped, rejected, "backpressure events": pressured, errors }),
  ];
}

function formatConsumer(consumer: ConsumerSnapshot, rateText: string): string[] {
  const { lost, filtered, errors, lagBytes } = consumer;
  const behind = lagBytes === 0 ? [] : [`${formatBytes(lagBytes)} to read`];
  return [
    formatRow(widths, [
      ...partyCells(consumer),
      rateText,
      formatCount(consumer.lag),
      ...latencyCells(consumer.endToEndLatency),
    ]),
    ...counts({ lost, filtered, errors }, behind),
  ];
}

function partyCells(party: ProducerSnapshot | ConsumerSnapshot): string[] {
  const { name, state, pid, silenceMs, messages } = party;
  const shown = name.length > 19 ? `${name.slice(0, 18)}…` : name;
  const pidText = pid === undefined ? "-" : String(pid);
  return [`  ${shown}`, state, pidText, formatDuration(silenceMs), formatCount(messages)];
}

/** What is not nothing, on a line of its own. */
function counts(named: Readonly<Record<string, number>>, others: readonly string[] = []): string[] {
  const found = Object.entries(named)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${name} ${formatCount(count)}`);
  const all = [...others, ...found];
  return all.length === 0 ? [] : [`    ${all.join(", ")}`];
}

/** Those of rejected attempts, which may be many, besides the losses and not instead of them. */
function newestOf(losses: readonly RecordedLoss[]): RecordedLoss[] {
  const rejections = losses.filter(({ cause }) => cause === "rejected").slice(-lossesShown);
  const others = losses.filter(({ cause }) => cause !== "rejected").slice(-lossesShown);
  return [...others, ...rejections];
}

function formatLoss(loss: RecordedLoss, lane: LaneSnapshot, nowNs: number): string {
  const { cause, party, from, to, messages, atNs } = loss;
  const isOfConsumer = cause === "overwritten" || cause === "skipped" || cause === "failed";
  const name = (isOfConsumer ? lane.consumers : lane.producers)[party]?.name ?? String(party);
  const when = `${formatDuration((nowNs - atNs) / 1e6)} ago`;
  if (cause === "rejected") {
    // Nothing is lost: who was told so tries again, or gives up knowingly.
    const attempts = messages === 1 ? "1 attempt" : `${formatCount(messages)} attempts`;
    return `  rejected ${attempts} before #${formatCount(from)}, ${name}, ${when}`;
  }
  const range =
    from === to ? `#${formatCount(from)}` : `#${formatCount(from)} to #${formatCount(to)}`;
  const counted = messages === 1 ? "1 message" : `${formatCount(messages)} messages`;
  const what = cause === "failed" ? `from ${range} on` : `${range}, ${counted}`;
  return `  loss ${loss.number}: ${cause}, ${name}, ${what}, ${when}`;
}

function latencyCells({ count, p50Ns, p99Ns }: Latency): string[] {
  return count === 0 ? ["-", "-"] : [formatNs(p50Ns), formatNs(p99Ns)];
}
