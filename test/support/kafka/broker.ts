/** A Kafka broker for tests: the one that is named, or else one of our own, in KRaft mode. */
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Kafka, logLevel } from "kafkajs";
import { findClassPath, type ClassPath } from "./class-path.ts";

export interface KafkaBroker extends AsyncDisposable {
  /** `host:port` of it. */
  readonly bootstrap: string;
  /** Of kafkajs: the one that says what there is, beside the one that is tested. */
  readonly client: Kafka;
  /** Ends it with SIGKILL. Undefined where it is not ours. */
  readonly kill: (() => Promise<void>) | undefined;
  /** Starts it again, with its data and at its address; resolves when it answers. */
  readonly start: () => Promise<void>;
}

const startMsMax = 60_000;
const archiveMsMax = 60_000;
const archiveName = "broker.jsa";

/**
 * Takes the broker of GAPLESS_TEST_KAFKA_URL (`host:port`) where that is set, and leaves it
 * running. Else starts one that listens on the loopback alone and keeps its data in a temporary
 * folder. Resolves to the reason where there is none; with CI=true that is an error.
 */
export async function startKafka(): Promise<KafkaBroker | string> {
  const url = process.env["GAPLESS_TEST_KAFKA_URL"]?.replace(/^kafka:\/\//, "");
  if (url !== undefined) {
    return {
      bootstrap: url,
      client: openClient(url),
      kill: undefined,
      start: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
  const found = findClassPath();
  if ("missing" in found) {
    if (process.env["CI"] === "true") throw new Error(found.missing);
    return found.missing;
  }
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-kafka-"));
  const [port, controllerPort] = await freePorts();
  layOut(directory, port, controllerPort);
  const bootstrap = `127.0.0.1:${port}`;
  const client = openClient(bootstrap);

  let broker: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    const dying = broker;
    broker = undefined;
    if (dying === undefined || dying.exitCode !== null || dying.signalCode !== null) return;
    const exited = once(dying, "exit");
    dying.kill("SIGKILL");
    await exited;
  };
  const start = async (): Promise<void> => {
    broker ??= run(found, directory);
    await untilAnswering(client, bootstrap, broker, directory);
  };
  const dispose = async (): Promise<void> => {
    if (broker !== undefined && !fs.existsSync(found.archive)) await archive(broker);
    await kill();
    fs.rmSync(directory, { recursive: true, force: true });
  };
  /** Lets the first one end in peace, so that the others start sooner. */
  const archive = async (dying: ChildProcess): Promise<void> => {
    const overdue = setTimeout(() => dying.kill("SIGKILL"), archiveMsMax);
    const exited = once(dying, "exit");
    dying.kill("SIGTERM");
    await exited;
    clearTimeout(overdue);
    const written = path.join(directory, archiveName);
    // Beside it first: it may be on another file system.
    if (!fs.existsSync(written)) return;
    fs.copyFileSync(written, `${found.archive}.${process.pid}`);
    fs.renameSync(`${found.archive}.${process.pid}`, found.archive);
  };
  try {
    await start();
  } catch (error) {
    await dispose();
    throw error;
  }
  return { bootstrap, client, kill, start, [Symbol.asyncDispose]: dispose };
}

function openClient(bootstrap: string): Kafka {
  return new Kafka({
    brokers: [bootstrap],
    clientId: "test",
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, retries: 8 },
  });
}

async function freePorts(): Promise<[number, number]> {
  const servers = [net.createServer(), net.createServer()] as const;
  const ports = await Promise.all(
    servers.map(async (server) => {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      return (server.address() as net.AddressInfo).port;
    }),
  );
  for (const server of servers) server.close();
  return ports as [number, number];
}

/** One node that is broker and controller, formatted by hand: Kafka's own tool takes a second. */
function layOut(directory: string, port: number, controllerPort: number): void {
  const logs = path.join(directory, "logs");
  fs.mkdirSync(logs);
  const properties = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${port}`,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": logs,
    "auto.create.topics.enable": false,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    // Nobody waits for members that may come, and the dead are soon noticed.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 100,
    // Fenced for so long after a SIGKILL: the controller thinks that the old one is still there.
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 200,
    "log.cleaner.enable": false,
    "num.network.threads": 2,
    "num.io.threads": 2,
  };
  const format = {
    version: 1,
    "cluster.id": randomBytes(16).toString("base64url"),
    "node.id": 1,
    "directory.id": randomBytes(16).toString("base64url"),
  };
  const write = (file: string, entries: object): void =>
    fs.writeFileSync(
      file,
      Object.entries(entries)
        .map(([key, value]) => `${key}=${String(value)}\n`)
        .join(""),
    );
  write(path.join(directory, "server.properties"), properties);
  write(path.join(logs, "meta.properties"), format);
}

function run({ classPath, archive }: ClassPath, directory: string): ChildProcess {
  const settings = [
    "-Xms64m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    fs.existsSync(archive)
      ? `-XX:SharedArchiveFile=${archive}`
      : `-XX:ArchiveClassesAtExit=${path.join(directory, archiveName)}`,
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  ];
  const log = fs.openSync(path.join(directory, "broker.log"), "a");
  const program = ["java", ...settings, "-cp", classPath, "kafka.Kafka"];
  // The kernel ends it with its parent, however that ends.
  const broker = spawn(
    "setpriv",
    ["--pdeathsig", "KILL", ...program, path.join(directory, "server.properties")],
    { stdio: ["ignore", log, log] },
  );
  fs.closeSync(log);
  return broker;
}

async function isListening(bootstrap: string): Promise<boolean> {
  const [host, port] = bootstrap.split(":");
  const socket = net.connect(Number(port), host);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function untilAnswering(
  client: Kafka,
  bootstrap: string,
  broker: ChildProcess,
  directory: string,
): Promise<void> {
  const deadlineMs = performance.now() + startMsMax;
  for (;;) {
    // Only then by kafkajs, whose pauses between its tries grow.
    while (broker.exitCode === null && !(await isListening(bootstrap))) await pause(20);
    const admin = client.admin({ retry: { retries: 0 } });
    try {
      await admin.connect();
      const { brokers } = await admin.describeCluster();
      if (brokers.length > 0) return;
    } catch (error) {
      if (broker.exitCode !== null || performance.now() > deadlineMs) {
        const log = fs.readFileSync(path.join(directory, "broker.log"), "utf8");
        throw new Error(`Kafka does not start:\n${log.slice(-4000)}`, { cause: error });
      }
    } finally {
      await admin.disconnect();
    }
    await pause(50);
  }
}
