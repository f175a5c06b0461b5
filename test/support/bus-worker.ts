/**
 * A process at one end of a channel. Its task is argv[2] as JSON; what happens to it is a line of
 * JSON on stdout each. It lives until it is killed or its task is done.
 */
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { BACK_PRESSURED, type Publisher, type Subscriber } from "gapless/bus";
import { describeError, isGaplessError } from "../../src/errors.ts";
import { openAs, readNumbered, sizeOf, writeNumbered, type Settings } from "./bus-channel.ts";

interface TaskBase {
  readonly directory: string;
  readonly settings: Settings;
}

/** Publishes the messages that follow the newest one of the channel, through `last`. */
export interface ProduceTask extends TaskBase {
  readonly kind: "produce";
  readonly last: number;
  /** Messages published at once. */
  readonly batch: number;
  readonly waiting: "async" | "blocking";
  readonly finish: boolean;
}

/** Takes messages until the stream ends, and tells of each the number. */
export interface ConsumeTask extends TaskBase {
  readonly kind: "consume";
  readonly service: string;
  readonly waiting: "async" | "blocking";
  readonly limit: number;
  readonly pauseMs: number;
  /** Releases nothing beyond this number. */
  readonly releaseThrough: number;
}

/** Opens an end and stays there; or, at the consuming one, measures its sleep, or exits in it. */
export interface StayTask extends TaskBase {
  readonly kind: "stay" | "idle" | "exit";
  readonly service: string;
  readonly end: "publisher" | "subscriber";
}

/** Opens the channels of the directories in turn, each at its time, and tells what went wrong. */
export interface RaceTask extends TaskBase {
  readonly kind: "race";
  readonly service: string;
  readonly directories: readonly string[];
  readonly startMs: number;
  readonly intervalMs: number;
}

export type Task = ProduceTask | ConsumeTask | StayTask | RaceTask;

export type Report =
  | { readonly event: "open"; readonly hadFailed: boolean }
  | { readonly event: "message"; readonly number: number }
  | { readonly event: "loss"; readonly from: number; readonly to: number }
  | { readonly event: "ended"; readonly count: number }
  | { readonly event: "cpu"; readonly micros: number; readonly overMs: number }
  | { readonly event: "failed"; readonly code: string; readonly text: string };

/** Longer than any test: who is not woken is stuck. */
const forEverMs = 120_000;

function tell(report: Report): void {
  fs.writeSync(1, `${JSON.stringify(report)}\n`);
}

async function produce(task: ProduceTask, publisher: Publisher): Promise<void> {
  const { signal } = new AbortController();
  const newest = publisher.last();
  let number = newest === undefined ? 0 : new DataView(newest.buffer).getFloat64(0, true);
  let open = 0;
  const commit = (): void => {
    publisher.commit();
    open = 0;
  };
  while (number < task.last) {
    const length = sizeOf(number + 1, task.settings.messageSizeMax ?? 496);
    let offset = publisher.claim(length);
    while (offset === BACK_PRESSURED) {
      if (open > 0) commit();
      if (task.waiting === "async") await publisher.waitForRoom(length, signal);
      else publisher.waitForRoomBlocking(length, forEverMs);
      offset = publisher.claim(length);
    }
    number++;
    writeNumbered(publisher.memory, offset, length, number);
    if (++open >= task.batch) commit();
  }
  if (open > 0) commit();
  if (task.finish) publisher.finish();
  tell({ event: "ended", count: number });
}

async function consume(task: ConsumeTask, subscriber: Subscriber): Promise<void> {
  const { signal } = new AbortController();
  const sizeMax = task.settings.messageSizeMax ?? 496;
  let newest = 0;
  let count = 0;
  const poll = (): number => {
    try {
      return subscriber.poll((memory, offset, length) => {
        newest = readNumbered(memory, offset, length, sizeMax);
        tell({ event: "message", number: newest });
        count++;
      }, task.limit);
    } catch (error) {
      // It was stopped for so long that producers went on without it: it polls again.
      if (isGaplessError(error, "MESSAGES_LOST")) return 0;
      throw error;
    }
  };
  while (!subscriber.ended) {
    const taken = poll();
    if (taken > 0) {
      if (newest <= task.releaseThrough) subscriber.release();
      if (task.pauseMs > 0) await pause(task.pauseMs);
    } else if (task.waiting === "async") {
      await subscriber.wait(forEverMs, signal);
    } else {
      subscriber.waitBlocking(forEverMs);
    }
  }
  tell({ event: "ended", count });
}

/** Sleeps, and tells what that costs beyond the same process before it slept. */
async function idle(subscriber: Subscriber): Promise<void> {
  const { signal } = new AbortController();
  // What is left of starting up has to be over first.
  await pause(300);
  const awake = await cheapestSecond();
  const asleep = subscriber.wait(forEverMs, signal);
  const sleeping = await cheapestSecond();
  const micros = Math.max(0, sleeping.micros - awake.micros);
  tell({ event: "cpu", micros, overMs: sleeping.overMs });
  await asleep;
}

/** Of three seconds, the one that took the least processor time: others disturb it. */
async function cheapestSecond(): Promise<{ micros: number; overMs: number }> {
  let cheapest = { micros: Infinity, overMs: 0 };
  for (let second = 0; second < 3; second++) {
    const cpuBefore = process.cpuUsage();
    const before = performance.now();
    await pause(1000);
    const { user, system } = process.cpuUsage(cpuBefore);
    const micros = user + system;
    if (micros < cheapest.micros) cheapest = { micros, overMs: performance.now() - before };
  }
  return cheapest;
}

function race({ startMs, intervalMs, directories, service, settings }: RaceTask): void {
  for (const [index, directory] of directories.entries()) {
    while (Date.now() < startMs + index * intervalMs);
    openAs(directory, service, settings).subscriber("trades");
  }
  tell({ event: "ended", count: directories.length });
}

async function main(task: Task): Promise<void> {
  if (task.kind === "race") {
    race(task);
    return;
  }
  using bus = openAs(
    task.directory,
    task.kind === "produce" ? "engine" : task.service,
    task.settings,
  );
  if (task.kind === "produce" || (task.kind !== "consume" && task.end === "publisher")) {
    const publisher = bus.publisher("trades");
    tell({ event: "open", hadFailed: false });
    if (task.kind === "produce") await produce(task, publisher);
    else await pause(forEverMs);
    return;
  }
  const subscriber = bus.subscriber("trades", {
    onLoss: ({ from, to }) => tell({ event: "loss", from, to }),
  });
  tell({ event: "open", hadFailed: subscriber.hadFailed });
  if (task.kind === "consume") await consume(task, subscriber);
  if (task.kind === "idle") await idle(subscriber);
  if (task.kind === "stay") await pause(forEverMs);
  if (task.kind === "exit") {
    void subscriber.wait(forEverMs, new AbortController().signal);
    await pause(100);
    process.exit();
  }
}

const [, , text = ""] = process.argv;
try {
  await main(JSON.parse(text) as Task);
} catch (error) {
  const code = isGaplessError(error) ? error.code : "";
  tell({ event: "failed", code, text: describeError(error) });
}
