/** The channel of the failover tests, and messages whose every byte tells their number. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { parseChannels } from "gapless/bus";
import type { FailoverReport, FailoverTask } from "./failover-worker.ts";

export const producerTimeoutMs = 300;

export const failoverChannels = parseChannels(
  {
    orders: {
      type: "SPSC",
      producer: "first",
      backup_producer: "second",
      consumer: "ledger",
      buffer_size: "16KB",
      message_size_max: 512,
      producer_timeout_ms: producerTimeoutMs,
      failed_consumer: "wait",
    },
  },
  "test",
);

export function writeNumber(bytes: Uint8Array, offset: number, length: number, n: number): void {
  bytes.fill(n & 0xff, offset, offset + length);
  new DataView(bytes.buffer, bytes.byteOffset).setFloat64(offset, n, true);
}

/** The number of a message; fails where any of its bytes is another one's. */
export function numberIn(bytes: Uint8Array): number {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
  const isTorn = bytes.subarray(8).some((byte) => byte !== (number & 0xff));
  assert.ok(!isTorn, `message ${number} is torn`);
  return number;
}

export interface Standing {
  readonly child: ChildProcess;
  readonly reports: FailoverReport[];
  readonly gone: Promise<unknown>;
  /** Resolves when it has told of so many of these. */
  told(event: FailoverReport["event"], count?: number): Promise<void>;
}

const program = path.join(import.meta.dirname, "failover-worker.ts");

export function startStanding(
  context: Pick<TestContext, "after">,
  task: Partial<FailoverTask> & Pick<FailoverTask, "directory" | "service">,
): Standing {
  const whole: FailoverTask = { kind: "stand", claims: 0, batch: 4, ...task };
  const child = spawn(
    process.execPath,
    [
      "--conditions=source",
      "--disable-warning=ExperimentalWarning",
      program,
      JSON.stringify(whole),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  context.after(() => child.kill("SIGKILL"));
  const reports: FailoverReport[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    reports.push(JSON.parse(line) as FailoverReport);
  });
  return {
    child,
    reports,
    gone: once(child, "close"),
    async told(event, count = 1) {
      const seen = (): number => reports.filter((report) => report.event === event).length;
      await eventually(`${whole.service} tells that ${event}`, () => seen() >= count);
    },
  };
}

export async function eventually(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `never: ${what}`);
    await pause(10);
  }
}
