/** A Redis server for tests and benchmarks: the one that is named, or else one of our own. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

export interface RedisServer extends AsyncDisposable {
  readonly url: string;
}

const startMsMax = 10_000;

/**
 * Takes the server of GAPLESS_TEST_REDIS_URL where that is set, and leaves it running. Else starts
 * one that keeps nothing on disk and listens on a Unix socket alone, in a temporary folder.
 * Resolves to undefined where no redis-server is installed.
 */
export async function startRedis(): Promise<RedisServer | undefined> {
  const url = process.env["GAPLESS_TEST_REDIS_URL"];
  if (url !== undefined) return { url, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (spawnSync("redis-server", ["--version"]).status !== 0) return undefined;

  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-redis-"));
  const socketPath = path.join(directory, "redis.sock");
  const settings = ["--port", "0", "--unixsocket", socketPath, "--dir", directory, "--save", ""];
  // The kernel ends it with its parent, however that ends.
  const server = spawn("setpriv", ["--pdeathsig", "KILL", "redis-server", ...settings], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(server, "exit");
  const stop = async (): Promise<void> => {
    server.kill("SIGKILL");
    await exited;
    fs.rmSync(directory, { recursive: true });
  };
  const overdue = setTimeout(() => server.kill("SIGKILL"), startMsMax);
  const log: string[] = [];
  let isReady = false;
  for await (const line of createInterface({ input: server.stdout })) {
    log.push(line);
    isReady = line.includes("ready to accept connections");
    if (isReady) break;
  }
  clearTimeout(overdue);
  if (!isReady) {
    await stop();
    throw new Error(`redis-server does not start: ${log.join("\n")}`);
  }
  server.stdout.resume();
  return { url: `unix://${socketPath}`, [Symbol.asyncDispose]: stop };
}
