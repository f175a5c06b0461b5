/** A process that does one thing with a queue, as queue-children.ts tells it to. */
import readline from "node:readline";
import { cleanupSegments } from "../../src/queue/cleanup.ts";
import { watchQueues } from "../../src/queue/discovery.ts";
import { openPublisher, openSubscriber, type PublisherOptions } from "../../src/queue/queue.ts";
import { startRetention } from "../../src/queue/retain.ts";
import type { RetentionPolicy } from "../../src/queue/retention.ts";
import { payloadOf } from "./queue-records.ts";

/** What a publisher is to do: say each sequence once it was appended. */
export interface PublishTask {
  readonly directory: string;
  readonly options: PublisherOptions;
  readonly count: number;
  readonly size: number;
}

export interface HoldTask {
  readonly directory: string;
  readonly options: PublisherOptions;
}

export interface CleanTask {
  readonly directory: string;
  readonly policy: RetentionPolicy;
}

/** What a process is to do that writes and reads, and commits all but the last 5 it takes. */
export interface LiveTask {
  readonly directory: string;
  readonly options: PublisherOptions;
  readonly reader: string;
}

const [role = "", task = "{}"] = process.argv.slice(2);
const say = (line: string | number): void => void process.stdout.write(`${line}\n`);

const roles: Readonly<Record<string, (task: never) => Promise<void>>> = {
  /** Appends as fast as it can, and lets events come between segments. */
  async publish({ directory, options, count, size }: PublishTask): Promise<void> {
    const publisher = openPublisher(directory, options);
    for (let appended = 0; appended < count; appended++) {
      const sequence = publisher.append(1, payloadOf(publisher.lastSequence + 1, size));
      if (sequence % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
      say(sequence);
    }
    await publisher.close();
    say("closed");
  },

  /** Has a queue open, appends as it is told `append N`, closes at `close`, and goes on living. */
  async hold({ directory, options }: HoldTask): Promise<void> {
    const publisher = openPublisher(directory, options);
    say(publisher.epoch);
    for await (const line of readline.createInterface(process.stdin)) {
      const [command, count = "0"] = line.split(" ");
      for (let number = Number(count); number > 0; number--) {
        publisher.append(1, payloadOf(publisher.lastSequence + 1, 100));
      }
      if (command === "close") await publisher.close();
      say(command ?? "");
    }
  },

  /** Appends and reads until it is killed, and is at work at all times. */
  async live({ directory, options, reader }: LiveTask): Promise<void> {
    await using publisher = openPublisher(directory, options);
    await using subscriber = openSubscriber(directory, reader);
    for (let round = 1; ; round++) {
      for (let count = 0; count < 50; count++) {
        publisher.append(round % 3, payloadOf(publisher.lastSequence + 1));
      }
      subscriber.poll(() => undefined, 10);
      subscriber.commitThrough(subscriber.position - 6);
      if (round % 20 === 0) await publisher.flush();
      if (round === 20) say("ready");
      await new Promise((resolve) => setTimeout(resolve, round % 5));
    }
  },

  async clean({ directory, policy }: CleanTask): Promise<void> {
    say(JSON.stringify(cleanupSegments(directory, policy)));
  },

  /** Leaves a retention running, and comes to its end. */
  async retain({ directory, policy }: CleanTask): Promise<void> {
    startRetention(directory, policy);
    await new Promise((resolve) => setTimeout(resolve, 50));
  },

  async watch({ root }: { readonly root: string }): Promise<void> {
    watchQueues(root, {});
    await new Promise((resolve) => setTimeout(resolve, 50));
  },
};

await roles[role]?.(JSON.parse(task) as never);
