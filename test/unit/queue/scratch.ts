/** Places and messages that the tests of the queue share. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import type { Message } from "../../../src/message.ts";
import type { Queue } from "../../../src/queue/queue.ts";

/** A directory that goes with the test. */
export function makeDirectory(context: TestContext, parent = os.tmpdir()): string {
  const directory = fs.mkdtempSync(path.join(parent, "gapless-queue-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const memoryFileSystem = "/dev/shm";

/**
 * The same for tests that open hundreds of queues and look at what the files hold, not at what a
 * disk does: in a file system without a disk that others may keep busy.
 */
export function makeFastDirectory(context: TestContext): string {
  return makeDirectory(context, fs.existsSync(memoryFileSystem) ? memoryFileSystem : os.tmpdir());
}

/** `count` messages behind `lastId`. What a message holds follows from its id alone. */
export function makeMessages(lastId: bigint, count: number): Message[] {
  return Array.from({ length: count }, (_, index) => {
    const id = lastId + BigInt(index) + 1n;
    return makeMessage(id, id - 1n, Number(id % 90n));
  });
}

/** Filled with bytes above zero, so that none of them can be missing unseen. */
export function makeMessage(id: bigint, prevId: bigint, size: number): Message {
  const bytes = new Uint8Array(size).fill(Number(id % 255n) + 1);
  return { id, prevId, timestampNs: id - 1n, bytes };
}

export async function readAll(queue: Queue): Promise<Message[]> {
  const messages: Message[] = [];
  let fromId = 1n;
  while (fromId <= queue.durableId) {
    for (const message of await queue.read(fromId, 1000)) {
      messages.push(message);
      fromId = message.id + 1n;
    }
  }
  return messages;
}

/**
 * What a SIGKILL at this moment leaves: the files as they are in the page cache. The lock stays
 * behind, because its holder, this process, is alive.
 */
export function copyAsKilled(directory: string, copy: string): void {
  fs.mkdirSync(copy, { recursive: true });
  for (const name of segmentNames(directory)) {
    fs.copyFileSync(path.join(directory, name), path.join(copy, name));
  }
}

export function segmentNames(directory: string): string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => name.endsWith(".log"))
    .sort();
}
