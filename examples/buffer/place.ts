/** Where the market and its two leaders meet: everything of theirs is under one directory. */
import { openBus, type Bus } from "gapless/bus";

export const defaultDirectory = `${import.meta.dirname}/data`;

/** A leader that is down is not waited for: the other one has what it misses. */
export function openChannels(directory: string, service: string): Bus {
  const trades = {
    type: "SPMC",
    producer: "market",
    consumers: ["east", "west"],
    buffer_size: "256KB",
    message_size_max: "1KB",
    failed_consumer: "evict",
  } as const;
  return openBus({ directory: `${directory}/rings`, channels: { trades } }, { service });
}

/** Where a leader is asked for what it has. */
export function socketOf(directory: string, leader: string): string {
  return `${directory}/${leader}.sock`;
}
