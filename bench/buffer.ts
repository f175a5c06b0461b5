/**
 * The two-tier buffer, with messages of 100 bytes: what an append and a range take, what a message
 * costs, whether their number matters, and how fast a peer fills a gap.
 */
import path from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { connectPeer, fillGap, serveBuffers, type GapPeer } from "../src/buffer/buffer.ts";
import type { Batch } from "../src/message.ts";
import { append } from "./buffer/append.ts";
import { footprint } from "./buffer/footprint.ts";
import { query } from "./buffer/query.ts";
import { scale } from "./buffer/scale.ts";
import { fillTo, inScratch, openBench } from "./buffer/stage.ts";
import { figure, type Figure, type Size } from "./figure.ts";
import { spreadOf } from "./samples.ts";

const fillPasses = 4;

interface Peer {
  readonly directory: string;
  readonly socketPath: string;
}

export async function buffer(size: Size): Promise<Figure[]> {
  return [
    ...(await append(size)),
    ...(await query(size)),
    ...(await footprint(size)),
    ...(await fill(size === "full" ? 1_000_000 : 10_000)),
    ...(await scale(size)),
  ];
}

function fill(messages: number): Promise<Figure[]> {
  return inScratch(async (directory) => {
    const peer = {
      directory: path.join(directory, "buffer"),
      socketPath: path.join(directory, "peer.sock"),
    };
    {
      await using filled = await openBench(peer.directory, 0, { sync: false });
      await fillTo(filled, messages);
    }
    return [await measureFill(peer, messages)];
  });
}

async function measureFill(peer: Peer, messages: number): Promise<Figure> {
  const thread = new Worker(new URL(import.meta.url), { workerData: peer });
  try {
    await new Promise((resolve, reject) => thread.once("message", resolve).once("error", reject));
    await using connected = connectPeer({ address: `unix:${peer.socketPath}`, flow: "bench" });
    const rates: number[] = [];
    for (let pass = 0; pass < fillPasses; pass++) rates.push(await rateOf(connected, messages));
    // The first one has the connection to make, and code that never ran.
    const [first = 0, ...warm] = rates;
    const { median, ...spread } = spreadOf(warm);
    const fields = { first: Math.round(first), ...spread };
    return figure("buffer.sync.grpc", median, "msg/s", undefined, fields);
  } finally {
    const exited = new Promise((resolve) => thread.once("exit", resolve));
    thread.postMessage("close");
    await exited;
  }
}

/** Messages a second through a gap; they are summed up, so that nothing is optimised away. */
async function rateOf(peer: GapPeer, messages: number): Promise<number> {
  const count = BigInt(messages);
  const startMs = performance.now();
  let sum = 0n;
  const apply = async (batch: Batch): Promise<void> => {
    for (const { id, timestampNs } of batch) sum += id + timestampNs;
  };
  await fillGap({ peers: [peer], afterId: 0n, throughId: count, apply });
  const elapsedMs = performance.now() - startMs;
  if (sum !== count * (count + 1n)) throw new Error(`wrong messages: sum=${sum}`);
  return (messages / elapsedMs) * 1000;
}

/** The other end of the fill: a thread of its own, as it would be a process of its own. */
async function servePeer({ directory, socketPath }: Peer): Promise<void> {
  const opened = await openBench(directory, 0);
  const server = await serveBuffers({ flows: [opened.archive], listen: { path: socketPath } });
  parentPort?.once("message", () => {
    void server[Symbol.asyncDispose]().then(() => opened.close());
  });
  parentPort?.postMessage("serving");
}

if (!isMainThread && isPeer(workerData)) await servePeer(workerData);

function isPeer(data: unknown): data is Peer {
  return typeof data === "object" && data !== null && "socketPath" in data;
}
