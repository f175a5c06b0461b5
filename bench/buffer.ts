/**
 * How fast the two-tier buffer takes, gives, and fills a peer's gap with 100-byte messages.
 * Appends are measured in turns with plain writes of the same bytes, each batch made durable
 * before the next: what else the device does then meets both. Nothing is read from the hot ring.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { connectPeer, openMsgBuffer, serveBuffers } from "../src/buffer/buffer.ts";
import type { Archive } from "../src/flow/endpoints.ts";
import { lastIdOf, packMessages, type Message } from "../src/message.ts";
import type { Figure } from "./figure.ts";

const messageBytes = 100;
const batchMessages = 1000;
const readMessages = 1000;
const fillMessages = 10_000;
const flow = "bench";

interface Peer {
  readonly directory: string;
  readonly socketPath: string;
}

export async function buffer(size: "full" | "small"): Promise<Figure[]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-buffer-"));
  const peer: Peer = {
    directory: path.join(directory, "buffer"),
    socketPath: path.join(directory, "peer.sock"),
  };
  try {
    const messages = size === "full" ? 1_000_000 : 10_000;
    return [
      await measureAppend(directory, peer.directory, messages),
      await measureColdRead(peer.directory, messages),
      await measureFill(peer, messages),
    ];
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

async function measureAppend(
  directory: string,
  bufferDirectory: string,
  messages: number,
): Promise<Figure> {
  const fd = fs.openSync(path.join(directory, "plain"), "w");
  let bufferMs = 0;
  let plainMs = 0;
  try {
    await using opened = await openMsgBuffer({
      component: "bench",
      storage: { dbPath: bufferDirectory },
    });
    for (let at = 0; at < messages; at += batchMessages) {
      const batch = makeMessages(at, batchMessages);
      const packed = packMessages(batch);
      let startMs = performance.now();
      await opened.append(batch);
      bufferMs += performance.now() - startMs;
      startMs = performance.now();
      fs.writeSync(fd, packed);
      fs.fdatasyncSync(fd);
      plainMs += performance.now() - startMs;
    }
  } finally {
    fs.closeSync(fd);
  }
  const value = perSecond(messages, bufferMs);
  const reference = perSecond(messages, plainMs);
  return {
    bench: "buffer.append.100",
    value,
    unit: "msg/s",
    reference,
    ratio: value / reference,
    durability: "power loss",
  };
}

async function measureColdRead(directory: string, messages: number): Promise<Figure> {
  await using opened = await openMsgBuffer({
    component: "bench",
    ringBuffer: { capacity: 0 },
    storage: { dbPath: directory },
  });
  const elapsedMs = await readThrough(opened.archive, messages, readMessages);
  return {
    bench: "buffer.read.cold.100",
    value: perSecond(messages, elapsedMs),
    unit: "msg/s",
    batch: readMessages,
  };
}

async function measureFill(peer: Peer, messages: number): Promise<Figure> {
  const thread = new Worker(new URL(import.meta.url), { workerData: peer });
  try {
    await new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject));
    await using connected = connectPeer({ address: `unix:${peer.socketPath}`, flow });
    await connected.bounds();
    const elapsedMs = await readThrough(connected, messages, fillMessages);
    return {
      bench: "buffer.fill.100",
      value: perSecond(messages, elapsedMs),
      unit: "msg/s",
      batch: fillMessages,
    };
  } finally {
    const exited = new Promise((resolve) => thread.once("exit", resolve));
    thread.postMessage("close");
    await exited;
  }
}

/** Reads everything and sums it up, so that nothing is optimised away. */
async function readThrough(archive: Archive, messages: number, limit: number): Promise<number> {
  const startMs = performance.now();
  let sum = 0n;
  let lastId = 0n;
  while (lastId < BigInt(messages)) {
    const batch = await archive.read(lastId + 1n, limit);
    for (const { id, bytes } of batch) sum += id + BigInt(bytes[messageBytes - 1] ?? 0);
    lastId = lastIdOf(batch);
  }
  const elapsedMs = performance.now() - startMs;
  const count = BigInt(messages);
  if (sum !== (count * (count + 1n)) / 2n + count) throw new Error(`wrong messages: sum=${sum}`);
  return elapsedMs;
}

function makeMessages(lastId: number, count: number): Message[] {
  const bytes = new Uint8Array(messageBytes).fill(1);
  return Array.from({ length: count }, (_, index) => ({
    id: BigInt(lastId + index + 1),
    prevId: BigInt(lastId + index),
    timestampNs: 1n,
    bytes,
  }));
}

function perSecond(count: number, elapsedMs: number): number {
  return Math.round((count / elapsedMs) * 1000);
}

/** The other end of the fill: a thread of its own, as it would be a process of its own. */
async function servePeer({ directory, socketPath }: Peer): Promise<void> {
  const opened = await openMsgBuffer({
    component: flow,
    ringBuffer: { capacity: 0 },
    storage: { dbPath: directory },
  });
  const flows = [opened.archive];
  const server = await serveBuffers({ flows, listen: { path: socketPath } });
  parentPort?.once("message", () => {
    void server[Symbol.asyncDispose]().then(() => opened.close());
  });
  parentPort?.postMessage("serving");
}

if (!isMainThread && isPeer(workerData)) await servePeer(workerData);

function isPeer(data: unknown): data is Peer {
  return typeof data === "object" && data !== null && "socketPath" in data;
}
