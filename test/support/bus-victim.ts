/**
 * A producer that kills itself in the middle of a message. Its task is argv[2] as JSON; it says on
 * stdout what it has committed.
 *
 * It counts the atomic operations of its last claim and commit, and two places in the copying
 * between them, and dies before the one that its task names. Where there is none, it lives on.
 */
import fs from "node:fs";
import { openBus, type Publisher } from "gapless/bus";
import type { ChannelTable } from "../../src/bus/config-schema.ts";

export interface VictimTask {
  readonly directory: string;
  readonly channels: ChannelTable;
  readonly channel: string;
  readonly service: string;
  /** So many messages are committed before. */
  readonly committed: number;
  /** Which step it dies before, from 0. */
  readonly step: number;
  readonly bytes: number;
}

export type VictimReport =
  { readonly event: "committed"; readonly sequence: number } | { readonly event: "survived" };

const counted = ["load", "store", "add", "compareExchange"] as const;

function tell(report: VictimReport): void {
  fs.writeSync(1, `${JSON.stringify(report)}\n`);
}

/** Writes half of a message; all its bytes are those of its number. */
function writeHalf(
  { memory }: Publisher,
  offset: number,
  bytes: number,
  number: number,
  half: number,
): void {
  const from = offset + (half * bytes) / 2;
  memory.bytes.fill(number, from, from + bytes / 2);
}

function main(task: VictimTask): void {
  const bus = openBus(task, { service: task.service });
  const publisher = bus.publisher(task.channel);
  for (let number = 1; number <= task.committed; number++) {
    const sequence = publisher.offer(new Uint8Array(task.bytes).fill(number));
    tell({ event: "committed", sequence });
  }
  let left = task.step;
  const step = (): void => {
    if (left-- === 0) process.kill(process.pid, "SIGKILL");
  };
  for (const name of counted) {
    const operate = Reflect.get(Atomics, name) as (...values: unknown[]) => number;
    Reflect.set(Atomics, name, (...values: unknown[]) => {
      step();
      return operate(...values);
    });
  }
  const number = task.committed + 1;
  const offset = publisher.claim(task.bytes);
  step();
  writeHalf(publisher, offset, task.bytes, number, 0);
  step();
  writeHalf(publisher, offset, task.bytes, number, 1);
  const { sequence } = publisher;
  publisher.commit();
  left = -1;
  tell({ event: "committed", sequence });
  tell({ event: "survived" });
  process.exit();
}

const [, , text = ""] = process.argv;
main(JSON.parse(text) as VictimTask);
