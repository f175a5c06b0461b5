/**
 * Channels between processes of one machine, at the speed of memory and without loss.
 *
 *     const bus = openBus("exchange.toml", { service: "engine" });
 *     const orders = bus.subscriber("orders");
 *     const trades = bus.publisher("trades");
 */
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { GaplessError, isGaplessError } from "../errors.ts";
import { openChannelFile, type ChannelFile } from "./channel-file.ts";
import { Standby } from "./failover.ts";
import { parseChannels, type Channel, type Channels } from "./config.ts";
import type { ChannelTable } from "./config-schema.ts";
import { loadBusFile, type BusFile } from "./config-file.ts";
import { descriptionOf } from "./description.ts";
import { announceBusEvent } from "./events.ts";
import {
  defaultHealthThresholds,
  judgeHealth,
  type Health,
  type HealthThresholds,
} from "./health.ts";
import { inspectChannel, snapshotOf, type BusSnapshot } from "./inspect.ts";
import { noteUnmet } from "./unmet.ts";
import { removeLeftovers } from "./leftovers.ts";
import type { Lane } from "./lane.ts";
import {
  checkBusOptions,
  resolvePriority,
  resolveService,
  resolveSubscriberOptions,
  type PublisherOptions,
  type SubscriberOptions,
} from "./options.ts";
import { Publisher } from "./publisher.ts";
import { Subscriber } from "./subscriber.ts";

export { parseChannels, recorderService } from "./config.ts";
export { loadBusFile } from "./config-file.ts";
export { BACK_PRESSURED, CIRCUIT_OPEN, DROPPED, type CircuitState } from "./backpressure.ts";
export type { RingMemory } from "./lane.ts";
export type { Backpressure, Channel, Channels, Recovery } from "./config.ts";
export type { ChannelTable } from "./config-schema.ts";
export type { BusFile } from "./config-file.ts";
export type { Envelope } from "./envelope.ts";
export { busChannelName, type BusEvent } from "./events.ts";
export { judgeHealth, type Health, type HealthReason, type HealthThresholds } from "./health.ts";
export type {
  BusSnapshot,
  ChannelSnapshot,
  ConsumerSnapshot,
  LaneSnapshot,
  ProducerSnapshot,
} from "./inspect.ts";
export { GaplessError, isGaplessError, type Advice, type ErrorCode } from "../errors.ts";
export { openInspector, type BusInspector } from "./inspector.ts";
export type { Latency } from "./latency.ts";
export type { Loss, LossCause, RecordedLoss, SequenceRange } from "./losses.ts";
export type { PublisherOptions, SubscriberOptions } from "./options.ts";
export type { MessageHandler } from "./reader.ts";
export type { BusMessage, WaitStrategy } from "./subscriber.ts";
export type { Topic } from "./topics.ts";
export type { Publisher, Subscriber };

export interface BusOptions {
  /** Where the channel files are. On a memory file system: their contents need not outlive it. */
  readonly directory: string;
  /** A `[channels]` table, as `parseChannels` takes it, or what that has made of one. */
  readonly channels: Channels | ChannelTable;
  /** For `Bus.health`; what is left out has its default. */
  readonly health?: Partial<HealthThresholds>;
}

export interface Bus extends Disposable, AsyncDisposable {
  readonly service: string;
  /** All channels of the configuration. */
  readonly channels: Channels;
  /**
   * A number of the channel's memory, drawn when it was made, from 0 to 2^32 - 1: another one once
   * it was made anew, after a boot or by hand, and sequences began again.
   *
   * @throws GaplessError as `publisher`
   */
  identity(channel: string): number;
  /**
   * The producing end.
   *
   * @throws GaplessError CONFIG_INVALID, ALREADY_OPEN, STORAGE_FULL, STORAGE_CORRUPT, CLOSED, or
   *   FENCED where its backup has taken over: use `standby`
   */
  publisher(channel: string, options?: PublisherOptions): Publisher;
  /**
   * The producing end of a channel with a backup, as soon as it is this service's turn: at once for
   * the one that writes, else when that one is dead, or silent for `producer_timeout_ms`. Never,
   * while this waits, where that one has finished. Rejects with the signal's reason when it aborts.
   *
   *     const publisher = await bus.standby("orders", signal);
   *     const next = nextAfter(publisher.last()); // of either of the two
   *
   * Whoever gets FENCED closes its publisher and may ask for `standby` again. A predecessor that
   * lives, is silent, and was stopped inside a claim is killed: it could not be kept from writing.
   *
   * @throws GaplessError as `publisher`; CONFIG_INVALID also where the channel has no backup
   */
  standby(channel: string, signal: AbortSignal, options?: PublisherOptions): Promise<Publisher>;
  /** This service's consuming end. @throws GaplessError as `publisher`. */
  subscriber(channel: string, options?: SubscriberOptions): Subscriber;
  /** What the channels are doing that this bus has opened, all ends included. */
  inspect(): BusSnapshot;
  /** Whether they are well, and why not. */
  health(): Health;
  /**
   * Gives up every end and unmaps the channels. Idempotent. Whoever is asleep on an end wakes up;
   * an end that is used after that throws CLOSED, and so does who asks for one.
   */
  close(): void;
}

const standbyIntervalMs = 20;

/**
 * Opens the bus for one service; channels are made and mapped on first use.
 *
 * @param config Options, or the path of a TOML file with `directory` and `[channels]`.
 * @throws GaplessError CONFIG_INVALID, which says what was expected
 */
export function openBus(config: BusOptions | string, options: { service: string }): Bus {
  const service = resolveService(options);
  const { directory, channels, health } = resolve(config);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  removeLeftovers(directory);
  const files = new Map<string, ChannelFile>();
  /** Those that are open: whoever closes one by itself leaves nothing of it behind. */
  const ends = new Set<Publisher | Subscriber>();

  let isOpen = true;

  const find = (name: string): Channel => {
    if (!isOpen) throw new GaplessError("CLOSED", `The bus of ${service} is closed.`);
    const channel = channels.get(name);
    if (channel === undefined) throw notConfigured(`There is no channel ${name}`, channels);
    return channel;
  };
  const open = (channel: Channel): ChannelFile => {
    const known = files.get(channel.name);
    if (known !== undefined) return known;
    const file = openChannelFile(directory, channel);
    files.set(channel.name, file);
    for (const unmet of file.unmet) {
      announceBusEvent(() => ({ event: "wish unmet", channel: channel.name, ...unmet }));
    }
    return file;
  };
  const findProducer = (name: string): [Channel, number] => {
    const channel = find(name);
    const producer = channel.producers.indexOf(service);
    if (producer >= 0) return [channel, producer];
    throw notConfigured(`${service} is no producer of channel ${name}`, channels);
  };
  const findLane = (channel: Channel, options: PublisherOptions): Lane => {
    const priority = resolvePriority(options, `An end of channel ${channel.name}`);
    const lane = open(channel).lanes[priority];
    if (lane !== undefined) return lane;
    const expected = `a priority from 0 to ${channel.priorities - 1}`;
    throw notConfigured(`Channel ${channel.name} has ${expected}, not ${priority}`, channels);
  };
  const openPublisher = (lane: Lane, producer: number, takesOver: boolean): Publisher => {
    const end = new Publisher(lane, producer, takesOver, () => ends.delete(end));
    noteUnmet(lane, lane.producer(producer), open(lane.channel).unmet);
    ends.add(end);
    return end;
  };
  const inspect = (): BusSnapshot => {
    const seen = [...files.values()].map(({ channel, lanes, unmet }) =>
      inspectChannel(descriptionOf(channel), lanes, unmet),
    );
    return snapshotOf(seen, service);
  };
  const close = (): void => {
    isOpen = false;
    for (const end of ends) end.close();
    for (const file of files.values()) file.unmap();
    files.clear();
  };

  return {
    service,
    channels,
    identity: (name) => open(find(name)).identity,
    publisher(name, options = {}) {
      const [channel, producer] = findProducer(name);
      return openPublisher(findLane(channel, options), producer, false);
    },
    async standby(name, signal, options = {}) {
      const [channel, producer] = findProducer(name);
      if (!channel.hasBackup) {
        const expected = "expected a backup_producer, for `standby`: use `publisher`";
        throw new GaplessError("CONFIG_INVALID", `channels.${name}: ${expected}.`);
      }
      const lane = findLane(channel, options);
      const turn = new Standby(lane, producer);
      while (true) {
        signal.throwIfAborted();
        if (lane.words.length === 0) throw new GaplessError("CLOSED", "The bus is closed.");
        try {
          if (turn.isDue()) return openPublisher(lane, producer, true);
        } catch (error) {
          // Its predecessor was quicker to come back.
          if (!isGaplessError(error, "FENCED", "PEER_UNAVAILABLE")) throw error;
        }
        await pause(standbyIntervalMs, undefined, { signal }).catch(() => undefined);
      }
    },
    subscriber(name, options = {}) {
      const channel = find(name);
      const consumer = channel.consumers.indexOf(service);
      if (consumer < 0)
        throw notConfigured(`${service} is no consumer of channel ${name}`, channels);
      const resolved = resolveSubscriberOptions(options, `An end of channel ${name}`);
      const { lanes, unmet } = open(channel);
      const end = new Subscriber(lanes, consumer, resolved, () => ends.delete(end));
      for (const lane of lanes) noteUnmet(lane, lane.consumer(consumer), unmet);
      ends.add(end);
      return end;
    },
    inspect,
    health: () => judgeHealth(inspect(), health),
    close,
    [Symbol.dispose]: close,
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}

function resolve(config: BusOptions | string): BusFile {
  if (typeof config === "string") return loadBusFile(config);
  checkBusOptions(config);
  const { directory, channels } = config;
  const health = { ...defaultHealthThresholds, ...config.health };
  if (channels instanceof Map) return { directory, channels: channels as Channels, health };
  return { directory, channels: parseChannels(channels, "openBus"), health };
}

function notConfigured(problem: string, channels: Channels): GaplessError {
  const known = [...channels.values()]
    .map(({ name, producers, consumers }) => {
      return `${name} (${producers.join(", ")} → ${consumers.join(", ")})`;
    })
    .join("; ");
  return new GaplessError("CONFIG_INVALID", `${problem}. Configured are: ${known}.`);
}
