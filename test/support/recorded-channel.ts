/** A channel that is recorded, and messages whose every byte tells their number. */
import fs from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { openBus, type Bus, type ChannelTable } from "gapless/bus";

export type ChannelChanges = Partial<ChannelTable[string]>;
export type RecoveryChanges = NonNullable<ChannelChanges["recovery"]>;

/** A directory in memory that goes with the test. */
export function makeBusDirectory(context: Pick<TestContext, "after">): string {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function openRecorded(
  directory: string,
  service: string,
  changes: ChannelChanges = {},
  recovery: RecoveryChanges = {},
): Bus {
  const channels: ChannelTable = {
    orders: {
      type: "SPMC",
      producers: ["engine"],
      consumers: ["ledger"],
      buffer_size: "16KB",
      message_size_max: 512,
      ...changes,
      recovery: {
        enable_persistence: true,
        persistence_path: path.join(directory, "recorded"),
        enable_replay: true,
        ...recovery,
      },
    },
  };
  return openBus({ directory: path.join(directory, "shm"), channels }, { service });
}

export function numbered(number: number): Uint8Array {
  const bytes = new Uint8Array(16 + (number % 100)).fill(number & 0xff);
  new DataView(bytes.buffer).setFloat64(0, number, true);
  return bytes;
}

/** The number of a message, or NaN where any of its bytes is another one's. */
export function numberOf(bytes: Uint8Array): number {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
  return bytes.subarray(8).every((byte) => byte === (number & 0xff)) ? number : NaN;
}
