/**
 * What a Node user has today, for the work of the bus benchmark, in the same run:
 *
 *   bus.peers.WAY.64, .1024   M msg/s; the reference is the bus
 *   bus.peers.WAY.rtt.64      there and back, µs, one message at a time
 *
 * The ways are a MessagePort to a worker thread, and a Unix socket, ZeroMQ over ipc and Redis
 * pub/sub to another process. What each does for its throughput is said in its own file.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { MessageChannel } from "node:worker_threads";
import { startRedis } from "../../test/support/redis.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { unpin } from "./cores.ts";
import { measure, roundTripBytes } from "./measure.ts";
import { wayNames, type Address, type WayName } from "./way.ts";

const payloads = [64, 1024];

/** @param bus M msg/s of the bus in this run, for each size of payload. */
export async function peers(size: Size, bus: ReadonlyMap<number, number>): Promise<Figure[]> {
  // The bus benchmark has pinned this thread.
  unpin();
  await using redis = await startRedis();
  if (redis === undefined)
    console.error("No redis-server: there are no figures of bus.peers.redis.");
  const figures: Figure[] = [];
  for (const name of wayNames) {
    if (name === "redis" && redis === undefined) continue;
    figures.push(...(await measureWay(name, redis?.url, size, bus)));
  }
  return figures;
}

async function measureWay(
  name: WayName,
  redisUrl: string | undefined,
  size: Size,
  bus: ReadonlyMap<number, number>,
): Promise<Figure[]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-"));
  const { port1, port2 } = name === "message-port" ? new MessageChannel() : noPorts;
  const near: Address = { directory, redisUrl, port: port1 };
  const far: Address = { directory, redisUrl, port: port2 };
  try {
    const { rates, roundTrip } = await measure(name, near, far, payloads, size);
    const rtt = `bus.peers.${name}.rtt.${roundTripBytes}`;
    return [
      ...Array.from(rates, ([payloadBytes, rate]) =>
        figure(`bus.peers.${name}.${payloadBytes}`, rate, "M msg/s", bus.get(payloadBytes)),
      ),
      figure(rtt, roundTrip.p50, "µs", undefined, { ...roundTrip }),
    ];
  } finally {
    unpin();
    fs.rmSync(directory, { recursive: true });
  }
}

const noPorts = { port1: undefined, port2: undefined };
