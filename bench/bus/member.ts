/** A process at an end of a channel: takes a task, and runs passes of it until the next one. */
import { openBus, type Bus, type ChannelTable, type WaitStrategy } from "gapless/bus";
import { pinThread } from "../../src/memory/affinity.ts";
import { unpin } from "../peers/cores.ts";
import { answer, ask, receive, send } from "./latency-ends.ts";
import type { Percentiles } from "../samples.ts";
import { idle } from "./sleep-ends.ts";
import { consume, produce } from "./throughput-ends.ts";

export interface Task {
  readonly role: keyof typeof roles;
  readonly service: string;
  readonly directory: string;
  readonly channels: ChannelTable;
  /** undefined: any. */
  readonly core: number | undefined;
  readonly payloadBytes: number;
  /** Messages that are committed at once. */
  readonly batch: number;
  /** Whether it sleeps where it has to wait: there are more processes than cores. */
  readonly isCrowded: boolean;
  /** Between two messages of `send`. */
  readonly intervalMs: number;
  /** How `receive` and `idle` wait, and whether they block their thread meanwhile. */
  readonly wait: WaitStrategy;
  readonly blocks: boolean;
}

export interface Report {
  /** Nanoseconds since boot. */
  readonly startNs: number;
  readonly endNs: number;
  /** Of what was written, or read. */
  readonly sum: number;
  readonly latency?: Readonly<Record<string, Percentiles>>;
  /** Processor time, in percent of what one core has. */
  readonly cpuPercent?: number;
}

export type Message = { readonly task: Task } | { readonly messages: number };

/** Opens its ends of the channels, and returns what runs a pass of so many messages. */
export type Role = (bus: Bus, task: Task) => (messages: number) => Report | Promise<Report>;

const roles = { produce, consume, ask, answer, send, receive, idle } satisfies Record<string, Role>;

let bus: Bus | undefined;
let pass: ReturnType<Role> | undefined;

async function obey(message: Message): Promise<Report> {
  if ("messages" in message) {
    if (pass === undefined) throw new Error("a pass without a task");
    return pass(message.messages);
  }
  const { task } = message;
  bus?.close();
  bus = openBus(task, task);
  pass = roles[task.role](bus, task);
  // What the last task has pinned.
  if (task.core === undefined) unpin();
  else pinThread(task.core);
  return { startNs: 0, endNs: 0, sum: 0 };
}

/** Nobody is left to report to. */
function leaveOnError(error: Error | null): void {
  if (error !== null) process.exit(1);
}

if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  process.on("disconnect", () => process.exit(1));
  process.on("message", (message: Message) => {
    void obey(message).then((report) => process.send?.(report, leaveOnError));
  });
}
