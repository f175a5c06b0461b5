/** The processes at the ends of the channels: starts them, gives them tasks, and ends them. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { ChannelTable } from "gapless/bus";
import type { Size } from "../figure.ts";
import { startWorker, type Worker } from "../worker.ts";
import type { Message, Report, Task } from "./member.ts";

const program = path.join(import.meta.dirname, "member.ts");
const coresOfMachine = os.cpus().length;

/** An end at work. */
export interface Member {
  /** Runs a pass of so many messages. */
  pass(messages: number): Promise<Report>;
}

/** A task, but for what all tasks of a figure have in common. */
export type Post = Omit<Task, "directory" | "channels" | "core">;

/** Ends of the channels of one figure: on a core each, as far as there are as many. */
export interface Shift extends AsyncDisposable {
  readonly members: readonly Member[];
}

export interface Crew extends AsyncDisposable {
  /** Resolves once all are at their posts: the channels are open. */
  muster(channels: ChannelTable, posts: readonly Post[]): Promise<Shift>;
}

/**
 * In a full run every figure has processes of its own: what V8 has made of the code for one is not
 * what it would make for another. A small run has no time for that.
 */
export function gatherCrew(size: Size): Crew {
  const idle: Worker[] = [];
  return {
    async muster(channels, posts) {
      const directory = fs.mkdtempSync("/dev/shm/gapless-bench-");
      const workers = posts.map(() => idle.pop() ?? startWorker(program));
      const leave = async (): Promise<void> => {
        fs.rmSync(directory, { recursive: true });
        if (size === "small") idle.push(...workers);
        else await Promise.all(workers.map((worker) => worker.stop()));
      };
      const takePost = (worker: Worker, index: number): Promise<Report> => {
        const post = posts[index];
        if (post === undefined) throw new Error("more workers than posts");
        const core = isCrowded(posts.length) ? undefined : index;
        return worker.ask({ task: { ...post, directory, channels, core } } satisfies Message);
      };
      try {
        await Promise.all(workers.map(takePost));
      } catch (error) {
        fs.rmSync(directory, { recursive: true });
        await Promise.all(workers.map((worker) => worker.stop()));
        throw error;
      }
      return {
        members: workers.map((worker) => ({
          pass: (messages) => worker.ask({ messages } satisfies Message),
        })),
        [Symbol.asyncDispose]: leave,
      };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(idle.map((worker) => worker.stop()));
    },
  };
}

/**
 * Whether ends have to sleep, so that the others get to run. Then the kernel says where they run:
 * what pinned ends have to wait for is on the same core more often.
 */
export function isCrowded(ends: number): boolean {
  return ends > coresOfMachine;
}
