/** What a Kafka source can be told; checked once, then frozen. */
import type { ConnectionOptions } from "node:tls";
import { GaplessError } from "../errors.ts";
import { silenceMsDefault, type SilenceMs } from "../flow/live.ts";
import type { Message } from "../message.ts";
import { decodeMessage, type KafkaRecord } from "./kafka-records.ts";

/** How it proves who it is. Without `tls` the brokers are told in plain text. */
export interface KafkaSasl {
  readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512";
  readonly username: string;
  readonly password: string;
}

export interface KafkaSourceOptions {
  /** `host:port` of one broker or more: the others are learned from them. */
  readonly bootstrap: string | readonly string[];
  readonly topic: string;
  /** The one that the stream lives in: a chain has one order, and Kafka orders no further. 0. */
  readonly partition?: number;
  /** Whose committed offset this is. Its members are Gapless's alone; all others are refused. */
  readonly group: string;
  /** Makes a message of a record; what it throws is said to be the record's fault. */
  readonly decode?: (record: KafkaRecord) => Message;
  /** How the brokers call it in their logs. `gapless` if not given. */
  readonly clientId?: string;
  /** Messages in one batch, at most. 4,096 if not given. */
  readonly batchMax?: number;
  /** Asked of the broker at a time; a larger record comes all the same. 1 MiB if not given. */
  readonly fetchBytesMax?: number;
  /** First silence after which live() says so; doubled up to the second as it goes on. */
  readonly silenceMs?: SilenceMs;
  /** So long a member may be silent before the partition is another's. 10,000 if not given. */
  readonly sessionTimeoutMs?: number;
  /** So long an answer is waited for. 10,000 if not given. */
  readonly requestTimeoutMs?: number;
  /** Pause before the brokers are asked again; doubled up to the second as they stay away. */
  readonly retryDelayMs?: { readonly first: number; readonly most: number };
  /** So long a topic may be unknown: a broker that has just begun learns it. 10,000. */
  readonly topicWaitMs?: number;
  /**
   * Where the committed offset is older than all that Kafka still has: `fail` is DATA_TRIMMED,
   * `earliest` goes on with the oldest record there is. The chain then shows what is missing, and
   * `pump` fetches it from an archive or ends with GAP_NOT_FILLED.
   */
  readonly whenTrimmed?: "fail" | "earliest";
  readonly tls?: ConnectionOptions;
  readonly sasl?: KafkaSasl;
  /** Told of every failure that is tried again. */
  readonly onOutage?: (error: Error) => void;
}

export interface ResolvedKafkaOptions {
  readonly bootstrap: readonly string[];
  readonly topic: string;
  readonly partition: number;
  readonly group: string;
  readonly decode: (record: KafkaRecord) => Message;
  readonly clientId: string;
  readonly batchMax: number;
  readonly fetchBytesMax: number;
  readonly silenceMs: SilenceMs;
  readonly sessionTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly retryDelayMs: { readonly first: number; readonly most: number };
  readonly topicWaitMs: number;
  readonly whenTrimmed: "fail" | "earliest";
  readonly tls: ConnectionOptions | undefined;
  readonly sasl: KafkaSasl | undefined;
  readonly onOutage: ((error: Error) => void) | undefined;
}

const timerMsMax = 2 ** 31 - 1;
const fetchBytesMost = 2 ** 30;

/** @throws GaplessError CONFIG_INVALID naming the option and what was expected. */
export function resolveKafkaOptions(options: KafkaSourceOptions): ResolvedKafkaOptions {
  const wrong = (key: string, value: unknown, expected: string): GaplessError =>
    new GaplessError(
      "CONFIG_INVALID",
      `${key}=${JSON.stringify(value)} of a Kafka source: expected ${expected}.`,
    );
  const name = (key: string, value: unknown): string => {
    if (typeof value === "string" && /^\S+$/.test(value)) return value;
    throw wrong(key, value, "a name without spaces");
  };
  const count = (key: string, value: unknown, least: number, most: number): number => {
    const isRight = Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
    if (!isRight) throw wrong(key, value, `a whole number from ${least} to ${most}`);
    return Number(value);
  };
  const span = (key: string, value: { first: number; most: number }) => {
    const first = count(`${key}.first`, value.first, 1, timerMsMax);
    return Object.freeze({ first, most: count(`${key}.most`, value.most, first, timerMsMax) });
  };

  const { bootstrap, whenTrimmed = "fail", decode = decodeMessage, onOutage } = options;
  const brokers = typeof bootstrap === "string" ? [bootstrap] : [...bootstrap];
  if (brokers.length === 0 || !brokers.every((broker) => /^\S+:\d+$/.test(broker))) {
    throw wrong("bootstrap", bootstrap, "host:port, or a list of them");
  }
  if (typeof decode !== "function") throw wrong("decode", String(decode), "a function");
  if (!["fail", "earliest"].includes(whenTrimmed)) {
    throw wrong("whenTrimmed", whenTrimmed, "fail or earliest");
  }
  if (onOutage !== undefined && typeof onOutage !== "function") {
    throw wrong("onOutage", String(onOutage), "a function");
  }
  return Object.freeze({
    bootstrap: brokers,
    topic: name("topic", options.topic),
    partition: count("partition", options.partition ?? 0, 0, 2 ** 31 - 1),
    group: name("group", options.group),
    decode,
    clientId: name("clientId", options.clientId ?? "gapless"),
    batchMax: count("batchMax", options.batchMax ?? 4096, 1, 2 ** 31 - 1),
    fetchBytesMax: count("fetchBytesMax", options.fetchBytesMax ?? 2 ** 20, 1, fetchBytesMost),
    silenceMs: span("silenceMs", options.silenceMs ?? silenceMsDefault),
    sessionTimeoutMs: count(
      "sessionTimeoutMs",
      options.sessionTimeoutMs ?? 10_000,
      100,
      timerMsMax,
    ),
    requestTimeoutMs: count(
      "requestTimeoutMs",
      options.requestTimeoutMs ?? 10_000,
      100,
      timerMsMax,
    ),
    retryDelayMs: span("retryDelayMs", options.retryDelayMs ?? { first: 50, most: 2000 }),
    topicWaitMs: count("topicWaitMs", options.topicWaitMs ?? 10_000, 0, timerMsMax),
    whenTrimmed,
    tls: options.tls,
    sasl: options.sasl,
    onOutage,
  });
}
