/** One of two producers of a channel, in a process of its own: what it does is its argument. */
import fs from "node:fs";
import path from "node:path";
import { openBus, type Bus, type Publisher } from "gapless/bus";
import { isGaplessError } from "../../src/errors.ts";
import { failoverChannels, numberIn, writeNumber } from "./failover-channel.ts";

export interface FailoverTask {
  readonly directory: string;
  readonly service: "first" | "second";
  /**
   *   stand     publishes numbers on end, as soon as it is its turn; fenced, it stands by again
   *   hold      claims `claims` records, waits for a file `go`, writes all over them, and commits
   *   nap       publishes one number, then only lets its event loop turn
   */
  readonly kind: "stand" | "hold" | "nap";
  readonly claims: number;
  /** Messages of a commit, at most. */
  readonly batch: number;
}

export type FailoverReport =
  | { readonly event: "active"; readonly after: number }
  | { readonly event: "holding" }
  | { readonly event: "fenced"; readonly at: "claim" | "commit" };

const task = JSON.parse(process.argv[2] ?? "") as FailoverTask;
const never = new AbortController().signal;
const pillow = new Int32Array(new SharedArrayBuffer(4));

function tell(report: FailoverReport): void {
  fs.writeSync(1, `${JSON.stringify(report)}\n`);
}

function lastNumber(publisher: Publisher): number {
  const last = publisher.last();
  return last === undefined ? 0 : numberIn(last);
}

/** Returns once it is fenced. */
async function publish(publisher: Publisher): Promise<void> {
  let number = lastNumber(publisher);
  tell({ event: "active", after: number });
  for (let turn = 1; ; turn++) {
    let at: "claim" | "commit" = "claim";
    try {
      let claimed = 0;
      const wanted = 1 + (turn % task.batch);
      while (claimed < wanted) {
        const length = 16 + ((number + claimed) % 180);
        const offset = publisher.claim(length);
        if (offset < 0) break;
        claimed++;
        writeNumber(publisher.memory.bytes, offset, length, number + claimed);
      }
      at = "commit";
      publisher.commit();
      number += claimed;
      if (claimed < wanted) await publisher.waitForRoom(200, never);
    } catch (error) {
      if (!isGaplessError(error, "FENCED")) throw error;
      tell({ event: "fenced", at });
      return;
    }
  }
}

async function stand(bus: Bus): Promise<void> {
  while (true) {
    const publisher = await bus.standby("orders", never);
    await publish(publisher);
    publisher.close();
  }
}

function hold(publisher: Publisher): void {
  const offsets: number[] = [];
  for (let claim = 0; claim < task.claims; claim++) offsets.push(publisher.claim(200));
  tell({ event: "holding" });
  const go = path.join(task.directory, "go");
  while (!fs.existsSync(go)) Atomics.wait(pillow, 0, 0, 20);
  for (const offset of offsets) publisher.memory.bytes.fill(0xff, offset, offset + 200);
  let at: "claim" | "commit" = "claim";
  try {
    if (task.claims === 0) publisher.claim(200);
    at = "commit";
    publisher.commit();
  } catch (error) {
    if (!isGaplessError(error, "FENCED")) throw error;
    tell({ event: "fenced", at });
  }
}

const bus = openBus(
  { directory: task.directory, channels: failoverChannels },
  { service: task.service },
);
if (task.kind === "stand") {
  await stand(bus);
} else {
  const publisher = await bus.standby("orders", never);
  const number = lastNumber(publisher) + 1;
  const length = 64;
  const offset = publisher.claim(length);
  writeNumber(publisher.memory.bytes, offset, length, number);
  publisher.commit();
  tell({ event: "active", after: 1 });
  if (task.kind === "hold") hold(publisher);
  // It stays, so that it is not taken for dead.
  setInterval(() => undefined, 1000);
}
