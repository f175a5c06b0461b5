/**
 * Channels between processes of one machine, at the speed of memory and without loss.
 *
 *     const bus = openBus({ directory: "/dev/shm/exchange", channels }, { service: "engine" });
 *     const orders = bus.subscriber("orders");
 *     const trades = bus.publisher("trades");
 */
import fs from "node:fs";
import { GaplessError } from "../errors.ts";
import { openChannelFile, type ChannelFile } from "./channel-file.ts";
import type { Channel, Channels } from "./config.ts";
import { Publisher } from "./publisher.ts";
import { Subscriber } from "./subscriber.ts";

export { parseChannels } from "./config.ts";
export { BACK_PRESSURED } from "./publisher.ts";
export type { RingMemory } from "./channel-file.ts";
export type { Channel, Channels, DeadConsumerPolicy } from "./config.ts";
export type { MessageHandler } from "./subscriber.ts";
export type { Publisher, Subscriber };

export interface BusOptions {
  /** Where the channel files are. On a memory file system: their contents need not outlive it. */
  readonly directory: string;
  readonly channels: Channels;
}

export interface Bus extends Disposable {
  /** The producing end. @throws GaplessError CONFIG_INVALID, ALREADY_OPEN, STORAGE_FULL … */
  publisher(channel: string): Publisher;
  /** This service's consuming end. @throws GaplessError as `publisher`. */
  subscriber(channel: string): Subscriber;
  /**
   * Gives up every end and unmaps the channels. Idempotent. Whoever is asleep on an end wakes up;
   * an end that is used after that throws CLOSED.
   */
  close(): void;
}

/** Opens the bus for one service; channels are made and mapped on first use. */
export function openBus(options: BusOptions, { service }: { service: string }): Bus {
  fs.mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  const files = new Map<string, ChannelFile>();
  const ends: (Publisher | Subscriber)[] = [];

  const find = (name: string): Channel => {
    const channel = options.channels.get(name);
    if (channel === undefined) throw notConfigured(`There is no channel ${name}`, options);
    return channel;
  };
  const open = (channel: Channel): ChannelFile => {
    const file = files.get(channel.name) ?? openChannelFile(options.directory, channel);
    files.set(channel.name, file);
    return file;
  };
  const close = (): void => {
    for (const end of ends.splice(0)) end.close();
    for (const file of files.values()) file.unmap();
    files.clear();
  };

  return {
    publisher(name) {
      const channel = find(name);
      if (channel.producer !== service) {
        throw notConfigured(`${service} is not the producer of channel ${name}`, options);
      }
      const publisher = new Publisher(open(channel));
      ends.push(publisher);
      return publisher;
    },
    subscriber(name) {
      const channel = find(name);
      const consumer = channel.consumers.indexOf(service);
      if (consumer < 0) {
        throw notConfigured(`${service} is no consumer of channel ${name}`, options);
      }
      const subscriber = new Subscriber(open(channel), consumer);
      ends.push(subscriber);
      return subscriber;
    },
    close,
    [Symbol.dispose]: close,
  };
}

function notConfigured(problem: string, { channels }: BusOptions): GaplessError {
  const known = [...channels.values()]
    .map(({ name, producer, consumers }) => `${name} (${producer} → ${consumers.join(", ")})`)
    .join("; ");
  return new GaplessError("CONFIG_INVALID", `${problem}. Configured are: ${known}.`);
}
