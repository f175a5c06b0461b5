/** NATS servers with JetStream for tests: those that are named, or else a cluster of our own. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const startMsMax = 10_000;

/** Servers that a test may kill and start again, by the names that NATS has for them. */
export interface NatsCluster extends AsyncDisposable {
  readonly servers: readonly string[];
  readonly names: readonly string[];
  /** Ends one with SIGKILL; resolves once it is gone. */
  kill(name: string): Promise<void>;
  /** Stops one as a debugger would, and lets it go on. */
  signal(name: string, signal: "SIGSTOP" | "SIGCONT"): void;
  /** Starts one that was killed, with the data that it had. */
  start(name: string): void;
}

/** Why a test that needs servers of its own does not run; false where it does. */
export const lacksNatsServer: string | false =
  spawnSync("nats-server", ["--version"]).status !== 0 &&
  "there is no nats-server (Debian: apt-get install nats-server)";

/** Why a test that needs any server does not run: GAPLESS_TEST_NATS_URL is not set either. */
export const lacksNats: string | false =
  process.env["GAPLESS_TEST_NATS_URL"] === undefined && lacksNatsServer;

/**
 * The servers of GAPLESS_TEST_NATS_URL (several: with commas between), left as they are; else one
 * of our own.
 */
export async function someNats(): Promise<AsyncDisposable & { readonly servers: string[] }> {
  const url = process.env["GAPLESS_TEST_NATS_URL"];
  if (url !== undefined) {
    return { servers: url.split(","), [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const cluster = await startNats(1);
  return {
    servers: [...cluster.servers],
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}

/**
 * Starts servers on free ports of the loopback interface, their data in a temporary folder. They
 * take connections when this resolves, and may still be looking for each other.
 */
export async function startNats(count: 1 | 3): Promise<NatsCluster> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-nats-"));
  const ports = await freePorts(2 * count);
  const nodes = Array.from({ length: count }, (_, index) => ({
    name: `node-${index + 1}`,
    port: ports[index] ?? 0,
    routePort: ports[count + index] ?? 0,
  }));
  const routes = nodes.map(({ routePort }) => `"nats://127.0.0.1:${routePort}"`).join(", ");
  const running = new Map<string, ChildProcess>();

  const configOf = (name: string): string => path.join(directory, `${name}.conf`);
  for (const { name, port, routePort } of nodes) {
    const cluster = `cluster { name: test, listen: "127.0.0.1:${routePort}", routes: [${routes}] }`;
    fs.writeFileSync(
      configOf(name),
      `server_name: ${name}\nlisten: "127.0.0.1:${port}"\n` +
        `log_file: ${JSON.stringify(path.join(directory, `${name}.log`))}\n` +
        `jetstream { store_dir: ${JSON.stringify(path.join(directory, name))} }\n` +
        (count > 1 ? cluster : ""),
    );
  }
  const start = (name: string): void => {
    // The kernel ends it with its parent, however that ends.
    const server = spawn("setpriv", ["--pdeathsig", "KILL", "nats-server", "-c", configOf(name)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    running.set(name, server);
  };
  const kill = async (name: string): Promise<void> => {
    const server = running.get(name);
    if (server === undefined) return;
    running.delete(name);
    if (server.exitCode !== null) return;
    const exited = once(server, "exit");
    server.kill("SIGKILL");
    await exited;
  };
  for (const { name } of nodes) start(name);
  await Promise.all(nodes.map(({ port }) => listening(port)));
  return {
    servers: nodes.map(({ port }) => `127.0.0.1:${port}`),
    names: nodes.map(({ name }) => name),
    kill,
    signal: (name, signal) => void running.get(name)?.kill(signal),
    start,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map(({ name }) => kill(name)));
      fs.rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Waits until somebody takes connections at the port. */
async function listening(port: number): Promise<void> {
  const deadlineMs = performance.now() + startMsMax;
  for (;;) {
    const socket = net.connect(port, "127.0.0.1");
    try {
      await once(socket, "connect");
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await pause(20);
    } finally {
      socket.destroy();
    }
  }
}

/** Free when they are looked for: all are held until the last is found. */
async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () => net.createServer().listen(0, "127.0.0.1"));
  await Promise.all(listeners.map((listener) => once(listener, "listening")));
  const ports = listeners.map((listener) => (listener.address() as net.AddressInfo).port);
  await Promise.all(listeners.map((listener) => once(listener.close(), "close")));
  return ports;
}
