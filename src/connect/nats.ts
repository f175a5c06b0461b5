/**
 * A replicated log on NATS JetStream: its Raft gives the order and keeps a copy on several servers.
 *
 *   await using log = await connectNatsLog({
 *     servers: ["nats://a:4222", "nats://b:4222", "nats://c:4222"],
 *     stream: "TRADES",
 *     subject: "trades.log",
 *   });
 *   await log.propose({ kind: "append", messages });       // most of the servers have it
 *   await replicate(buffer, log, { signal });
 *
 * The position of a command is its sequence in the stream, which has one subject, and from whose
 * middle nothing can be deleted. A command names its place, so that one that is sent again for want
 * of an answer is taken once: see nats-place.ts. Servers write to their disks, and sync them when
 * they are told to (`sync_interval`): what is lost with the power of most of them at once is theirs
 * to say.
 */
import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import type { NatsConnection, NodeConnectionOptions } from "@nats-io/transport-node";
import { setTimeout as sleep } from "node:timers/promises";
import { GaplessError } from "../errors.ts";
import {
  encodeCommand,
  type LogCommand,
  type LogEntry,
  type ReplicatedLog,
} from "../flow/replicated-log.ts";
import { finalFailure, loadNatsClient, unavailable, type NatsClient } from "./nats-client.ts";
import { Proposer } from "./nats-place.ts";
import { readStream } from "./nats-reading.ts";
import { ensureStream, type StreamWish } from "./nats-stream.ts";

export interface NatsLogOptions {
  /** `host:port` or URLs; the client learns of the others of their cluster. */
  readonly servers: string | readonly string[];
  /** Made where there is none; CONFIG_INVALID where there is one that cannot be a log. */
  readonly stream: string;
  /** The only one of the stream: what is published to it is in the log. */
  readonly subject: string;
  /** Servers that keep a copy: 1, 3 or 5. Default 3. */
  readonly replicas?: number;
  /** How long a call is tried again before it gives up. Default 30 s. */
  readonly timeoutMs?: number;
  /** A server that is silent for twice as long is taken to be gone. At least 500; default 1000. */
  readonly heartbeatMs?: number;
  /** Older commands leave the log. Default: none does. Replicas behind them are DATA_TRIMMED. */
  readonly ageMs?: number;
  /** The oldest commands leave the log once it is larger. No limit by default. */
  readonly bytes?: number;
  /** For the client: TLS, user, token, and so on. */
  readonly connection?: Omit<NodeConnectionOptions, "servers">;
  /** Told of each thing that is tried again. */
  readonly onTrouble?: (trouble: GaplessError) => void;
}

/** Once it is closed, readings end. Closing is idempotent. */
export interface NatsLog extends ReplicatedLog {
  close(): Promise<void>;
}

interface ResolvedOptions extends StreamWish {
  readonly servers: string[];
  readonly timeoutMs: number;
  readonly heartbeatMs: number;
  readonly connection: Omit<NodeConnectionOptions, "servers">;
  readonly onTrouble: (trouble: GaplessError) => void;
}

const replicasDefault = 3;
const timeoutMsDefault = 30_000;
const heartbeatMsDefault = 1000;
/** The client has no shorter one. */
const heartbeatMsLeast = 500;
/** A try that is not answered for so long is given up, and made again. */
const attemptMs = 2000;
const pauseMs = { first: 50, most: 1000 } as const;
/** Of what a server takes at once, so much is left for the headers. */
const headersBytesMax = 1024;

/**
 * Connects to the servers, and makes the stream where there is none.
 *
 * @throws GaplessError CONFIG_INVALID, also where the client is not installed or the servers refuse
 *   it; PEER_UNAVAILABLE where they do not answer in time
 */
export async function connectNatsLog(options: NatsLogOptions): Promise<NatsLog> {
  const resolved = resolveOptions(options);
  const client = await loadNatsClient();
  const what = `Connecting to NATS at ${resolved.servers.join(", ")}`;
  const connection = await retry(client, what, resolved, () => connectOnce(client, resolved));
  try {
    const manager = await client.jetStream.jetstreamManager(connection, {
      checkAPI: false,
      timeout: attemptMs,
    });
    const making = `Opening the stream ${resolved.stream}`;
    const info = await retry(client, making, resolved, () =>
      ensureStream(client, manager, resolved),
    );
    return new JetStreamLog(client, connection, manager, info, resolved);
  } catch (error) {
    await connection.close();
    throw error;
  }
}

class JetStreamLog implements NatsLog {
  readonly isDense = true;

  private readonly client: NatsClient;
  private readonly connection: NatsConnection;
  private readonly manager: JetStreamManager;
  private readonly proposer: Proposer;
  private readonly changeLeader: () => Promise<void>;
  private readonly created: string;
  private readonly options: ResolvedOptions;
  private readonly closing = new AbortController();
  /** Settles with the proposal before: the next one is sent behind it. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    client: NatsClient,
    connection: NatsConnection,
    manager: JetStreamManager,
    { created, state }: StreamInfo,
    options: ResolvedOptions,
  ) {
    const { stream, subject } = options;
    this.client = client;
    this.connection = connection;
    this.manager = manager;
    this.changeLeader = async () => {
      const request = `$JS.API.STREAM.LEADER.STEPDOWN.${stream}`;
      // It may be nobody's to ask, or nobody leads: then nothing is lost by it.
      await connection.request(request, "", { timeout: attemptMs }).catch(() => undefined);
    };
    const { changeLeader } = this;
    const proposing = { client, manager, stream, subject, changeLeader };
    this.proposer = new Proposer(proposing, state.last_seq);
    this.created = created;
    this.options = options;
  }

  async propose(command: LogCommand): Promise<bigint> {
    this.checkOpen();
    const bytes = encodeCommand(command);
    this.checkSize(bytes.length);
    const mine = this.turn.then(() => this.publish(bytes));
    this.turn = mine.catch(() => undefined);
    return mine;
  }

  read(afterPosition: bigint, signal: AbortSignal): AsyncIterable<readonly LogEntry[]> {
    this.checkOpen();
    const { client, manager, created, changeLeader } = this;
    const { stream, heartbeatMs, timeoutMs: settleMs, onTrouble } = this.options;
    const ends = AbortSignal.any([signal, this.closing.signal]);
    const connected = { client, manager, created, changeLeader };
    const parts = { ...connected, stream, heartbeatMs, settleMs, onTrouble };
    return readStream(parts, afterPosition, ends);
  }

  async close(): Promise<void> {
    if (this.closing.signal.aborted) return;
    this.closing.abort();
    await this.turn;
    await this.connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private publish(bytes: Uint8Array): Promise<bigint> {
    const what = `Proposing to the stream ${this.options.stream} (which may have it, or not)`;
    const attempt = this.proposer.proposal(bytes, attemptMs);
    return retry(this.client, what, this.options, () => {
      this.checkOpen();
      return attempt();
    });
  }

  private checkSize(bytes: number): void {
    const most = this.connection.info?.max_payload ?? Infinity;
    if (bytes + headersBytesMax <= most) return;
    throw new GaplessError(
      "MESSAGE_TOO_LARGE",
      `A command is too large for the servers of the stream ${this.options.stream}: ` +
        `bytes=${bytes}, at most ${most - headersBytesMax}. Propose its messages in several ` +
        "commands, or raise their max_payload.",
    );
  }

  private checkOpen(): void {
    if (!this.closing.signal.aborted) return;
    throw new GaplessError("CLOSED", `The log in the stream ${this.options.stream} is closed.`);
  }
}

function connectOnce(client: NatsClient, options: ResolvedOptions): Promise<NatsConnection> {
  return client.transport.connect({
    name: "gapless",
    timeout: attemptMs,
    reconnectTimeWait: 250,
    // A server that is gone without a word is noticed by these.
    pingInterval: 2 * options.heartbeatMs,
    maxPingOut: 2,
    ...options.connection,
    servers: options.servers,
    maxReconnectAttempts: -1,
  });
}

/** @throws GaplessError what is final at once, PEER_UNAVAILABLE after `timeoutMs` of the rest. */
async function retry<Result>(
  client: NatsClient,
  what: string,
  { timeoutMs, onTrouble }: ResolvedOptions,
  attempt: () => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + timeoutMs;
  let waitMs: number = pauseMs.first;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const final = finalFailure(client, what, error);
      if (final !== undefined) throw final;
      const trouble = unavailable(what, timeoutMs, error);
      if (performance.now() + waitMs >= deadline) throw trouble;
      onTrouble(trouble);
    }
    await sleep(waitMs);
    waitMs = Math.min(waitMs * 2, pauseMs.most);
  }
}

/** @throws GaplessError CONFIG_INVALID naming the option and what was expected. */
function resolveOptions(options: NatsLogOptions): ResolvedOptions {
  const { stream, subject, connection = {}, onTrouble = () => undefined } = options;
  const wrong = (key: keyof NatsLogOptions, expected: string): GaplessError =>
    new GaplessError(
      "CONFIG_INVALID",
      `${key}=${JSON.stringify(options[key])} of a log on NATS: expected ${expected}.`,
    );
  const whole = (key: "timeoutMs" | "heartbeatMs" | "ageMs" | "bytes", least: number) => {
    const value = options[key];
    if (value === undefined) return undefined;
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw wrong(key, `a whole number, at least ${least}`);
  };
  const servers = [options.servers].flat();
  if (servers.length === 0 || servers.some((server) => server === "")) {
    throw wrong("servers", "at least one server");
  }
  if (!/^[\w-]+$/.test(stream)) throw wrong("stream", "letters, digits, - and _");
  if (!/^[^\s.*>]+(\.[^\s.*>]+)*$/.test(subject)) throw wrong("subject", "one without wildcards");
  const { replicas = replicasDefault } = options;
  if (![1, 3, 5].includes(replicas)) throw wrong("replicas", "1, 3 or 5");
  const timeoutMs = whole("timeoutMs", 1) ?? timeoutMsDefault;
  return Object.freeze({
    servers,
    stream,
    subject,
    replicas,
    timeoutMs,
    heartbeatMs: whole("heartbeatMs", heartbeatMsLeast) ?? heartbeatMsDefault,
    // A proposal that is tried again to the last moment is still recognised.
    duplicateWindowMs: Math.max(120_000, 2 * timeoutMs),
    ageMs: whole("ageMs", 1),
    bytes: whole("bytes", 1),
    connection,
    onTrouble,
  });
}
