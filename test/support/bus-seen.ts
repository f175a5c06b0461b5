/** Small channels for the tests of what is seen of a bus. */
import assert from "node:assert/strict";
import { openBus, type Bus, type BusSnapshot, type ChannelTable } from "gapless/bus";
import type { LaneSnapshot } from "../../src/bus/inspect.ts";

/** What a test changes of a channel. */
export type Changes = Partial<ChannelTable[string]>;

/** A channel `trades` from `engine` to `ledger`, but for what a test changes of it. */
export function tradesTable(changes: Changes = {}): ChannelTable {
  const { producers, consumers } = changes;
  return {
    trades: {
      type: "SPSC",
      ...(producers === undefined ? { producer: "engine" } : {}),
      ...(consumers === undefined ? { consumer: "ledger" } : {}),
      buffer_size: "4KB",
      message_size_max: 100,
      ...changes,
    },
  };
}

export function openTrades(directory: string, service: string, changes: Changes = {}): Bus {
  return openBus({ directory, channels: tradesTable(changes) }, { service });
}

/** The lane of the only channel. */
export function onlyLane(snapshot: BusSnapshot): LaneSnapshot {
  const lane = snapshot.channels[0]?.lanes[0];
  assert.ok(lane, JSON.stringify(snapshot));
  return lane;
}
