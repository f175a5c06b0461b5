/** Processes that the tests of the queue start, stop and kill. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import readline from "node:readline";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Step } from "../../src/steps.ts";

/** A child that plays a role of queue-role.ts. */
export interface Child {
  readonly process: ChildProcess;
  readonly pid: number;
  /** The next line that it says; undefined once it has ended. */
  readonly next: () => Promise<string | undefined>;
  readonly tell: (line: string) => void;
  /** Ends it with SIGKILL, and waits until it is gone. */
  readonly kill: () => Promise<void>;
  /** Its exit code, or the signal that has ended it. */
  readonly ended: Promise<number | string>;
}

/** When a child is to be killed: the nth time that one of its threads comes to the step. */
export interface KillAt {
  readonly step: Step;
  readonly nth: number;
}

export function startChild(
  context: TestContext,
  role: string,
  task: unknown,
  killAt?: KillAt,
): Child {
  const file = (name: string): string => path.join(import.meta.dirname, name);
  const preload = killAt === undefined ? [] : ["--import", file("kill-at.ts")];
  const program = [file("queue-role.ts"), role, JSON.stringify(task)];
  const child = spawn(process.execPath, ["--conditions=source", ...preload, ...program], {
    stdio: ["pipe", "pipe", "inherit"],
    env:
      killAt === undefined
        ? process.env
        : { ...process.env, GAPLESS_TEST_KILL_AT: `${killAt.step}:${killAt.nth}` },
  });
  context.after(() => child.kill("SIGKILL"));
  const ended = once(child, "close").then(([code, signal]) => (signal ?? code) as number | string);
  const lines = readline.createInterface(child.stdout)[Symbol.asyncIterator]();
  assert.ok(child.pid !== undefined);
  return {
    process: child,
    pid: child.pid,
    next: async () => (await lines.next()).value,
    tell: (line) => child.stdin.write(`${line}\n`),
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
    ended,
  };
}

/** Waits until `condition` holds. */
export async function until(what: string, condition: () => unknown): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while ((await condition()) !== true) {
    assert.ok(performance.now() < deadlineMs, `this takes too long: ${what}`);
    await pause(2);
  }
}
