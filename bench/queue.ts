/**
 * How fast the durable queue takes and gives 100-byte messages, against plain writes of the same
 * bytes to a file of the same file system. Both are measured in turns, round by round: what else
 * the machine does then meets both.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { packMessages, type Message } from "../src/message.ts";
import { openQueue } from "../src/queue/queue.ts";
import type { Figure } from "./figure.ts";

const messageBytes = 100;
const batchMessages = 100;
const readMessages = 1000;
const chunkBytes = 64 * 1024;

export async function queue(size: "full" | "small"): Promise<Figure[]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-queue-"));
  try {
    const rounds = size === "full" ? 20 : 2;
    const roundMessages = size === "full" ? 100_000 : 10_000;
    return [
      await compare("queue.append.100", directory, { rounds, roundMessages, flushed: false }),
      await compare("queue.append.100.durable", directory, {
        rounds,
        roundMessages: roundMessages / 20,
        flushed: true,
      }),
      await measureRead(path.join(directory, "queue.append.100"), rounds * roundMessages),
    ];
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

interface Workload {
  readonly rounds: number;
  readonly roundMessages: number;
  /** Whether every batch is made durable before the next. */
  readonly flushed: boolean;
}

async function compare(bench: string, directory: string, workload: Workload): Promise<Figure> {
  const { rounds, roundMessages, flushed } = workload;
  const fd = fs.openSync(path.join(directory, `${bench}.plain`), "w");
  let queueMs = 0;
  let plainMs = 0;
  try {
    await using opened = await openQueue({ directory: path.join(directory, bench) });
    for (let round = 0; round < rounds; round += 1) {
      const messages = makeMessages(round * roundMessages, roundMessages);
      const packed = packMessages(messages);
      let start = performance.now();
      for (let at = 0; at < messages.length; at += batchMessages) {
        opened.append(messages.slice(at, at + batchMessages));
        if (flushed) await opened.flush();
      }
      queueMs += performance.now() - start;
      await opened.flush();

      const bytesMax = flushed ? (packed.length / roundMessages) * batchMessages : chunkBytes;
      start = performance.now();
      for (let at = 0; at < packed.length; at += bytesMax) {
        fs.writeSync(fd, packed, at, Math.min(bytesMax, packed.length - at));
        if (flushed) fs.fdatasyncSync(fd);
      }
      plainMs += performance.now() - start;
      fs.fdatasyncSync(fd);
    }
  } finally {
    fs.closeSync(fd);
  }
  const value = (rounds * roundMessages) / (queueMs * 1000);
  const reference = (rounds * roundMessages) / (plainMs * 1000);
  const durability = flushed ? "power loss" : "process";
  return { bench, value, unit: "M msg/s", reference, ratio: value / reference, durability };
}

/** Reads everything from the first message on, and looks at each. */
async function measureRead(directory: string, count: number): Promise<Figure> {
  await using opened = await openQueue({ directory });
  const start = performance.now();
  let intact = 0;
  for (let fromId = 1n; fromId <= opened.durableId;) {
    for (const { id, bytes } of await opened.read(fromId, readMessages)) {
      if (id === fromId && bytes[messageBytes - 1] === Number(id & 0xffn)) intact += 1;
      fromId = id + 1n;
    }
  }
  const value = count / ((performance.now() - start) * 1000);
  if (intact !== count) throw new Error(`Read ${intact} of ${count} messages.`);
  return { bench: "queue.read.100", value, unit: "M msg/s" };
}

const payloads = Array.from({ length: 256 }, (_, byte) => new Uint8Array(messageBytes).fill(byte));

function makeMessages(lastId: number, count: number): Message[] {
  return Array.from({ length: count }, (_, index) => {
    const id = lastId + index + 1;
    return {
      id: BigInt(id),
      prevId: BigInt(id - 1),
      timestampNs: 1_700_000_000_000_000_000n,
      bytes: payloads[id & 0xff] ?? new Uint8Array(messageBytes),
    };
  });
}
