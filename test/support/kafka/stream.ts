/** A chained stream in a topic of its own, written and looked at by kafkajs. */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { TestContext } from "node:test";
import type { Admin, Producer } from "kafkajs";
import { kafkaSource, type KafkaSource } from "../../../src/connect/kafka.ts";
import type { KafkaSourceOptions } from "../../../src/connect/kafka-options.ts";
import type { SqliteTables } from "../../../src/connect/sqlite.ts";
import { packMessages, type Message } from "../../../src/message.ts";
import type { KafkaBroker } from "./broker.ts";

export const sessionTimeoutMs = 2000;

/** The nth message of the streams of these tests, from 0 on. Their ids skip. */
export function messageOf(index: number): Message {
  const idOf = (at: number): bigint => BigInt(at + 1 + Math.floor(at / 3));
  return {
    id: idOf(index),
    prevId: index === 0 ? 0n : idOf(index - 1),
    timestampNs: BigInt(index),
    bytes: Buffer.from(`message ${index}`),
  };
}

export function messagesOf(from: number, count: number): Message[] {
  return Array.from({ length: count }, (_, index) => messageOf(from + index));
}

/** Ids of the first `count` messages. */
export function idsOf(count: number): bigint[] {
  return messagesOf(0, count).map(({ id }) => id);
}

export class TestStream {
  readonly topic: string;
  readonly group: string;
  readonly broker: KafkaBroker;
  readonly admin: Admin;
  readonly producer: Producer;
  /** Messages that the broker has confirmed. */
  produced = 0;

  private constructor(broker: KafkaBroker, topic: string, admin: Admin, producer: Producer) {
    this.broker = broker;
    this.topic = topic;
    this.group = `group-of-${topic}`;
    this.admin = admin;
    this.producer = producer;
  }

  static async create(context: TestContext, broker: KafkaBroker): Promise<TestStream> {
    const topic = `trades-${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
    const admin = broker.client.admin();
    const producer = broker.client.producer();
    context.after(() => Promise.all([admin.disconnect(), producer.disconnect()]));
    await Promise.all([admin.connect(), producer.connect()]);
    await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] });
    return new TestStream(broker, topic, admin, producer);
  }

  /** A source of it that is closed after the test. */
  source(context: TestContext, changes: Partial<KafkaSourceOptions> = {}): KafkaSource {
    const source = kafkaSource({
      bootstrap: this.broker.bootstrap,
      topic: this.topic,
      group: this.group,
      sessionTimeoutMs,
      silenceMs: { first: 100, most: 400 },
      ...changes,
    });
    context.after(() => source[Symbol.asyncDispose]());
    return source;
  }

  async produce(count: number): Promise<void> {
    await this.send(messagesOf(this.produced, count).map((message) => packMessages([message])));
    this.produced += count;
  }

  /** Puts values into partition 0 as they are. */
  async send(values: readonly (Uint8Array | null)[]): Promise<void> {
    await this.producer.send({
      topic: this.topic,
      messages: values.map((value) => ({
        value: value === null ? null : Buffer.from(value),
        partition: 0,
      })),
    });
  }

  /** What kafkajs says that the group has committed; -1 for nothing. */
  async committed(): Promise<number> {
    const [topic] = await this.admin.fetchOffsets({ groupId: this.group, topics: [this.topic] });
    const partition = topic?.partitions.find((one) => one.partition === 0);
    return Number(partition?.offset ?? -1);
  }

  /** Where the next record goes. */
  async end(): Promise<number> {
    const offsets = await this.admin.fetchTopicOffsets(this.topic);
    return Number(offsets.find(({ partition }) => partition === 0)?.high);
  }
}

/** Keeps every row that it is given: a message that is applied twice is there twice. */
export const seenTables: SqliteTables = {
  schema: "CREATE TABLE IF NOT EXISTS seen (id INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT",
  prepare(database) {
    const insert = database.prepare("INSERT INTO seen VALUES (?, ?)");
    return (batch) => {
      for (const { id, bytes } of batch) insert.run(id, bytes);
    };
  },
};

/** A file for a sink, in a folder that is removed after the test. */
export function makeSinkPath(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-kafka-sink-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, "rows.sqlite");
}

/** Fails unless the sink has the first `count` messages, each of them once, in order. */
export function assertRows(filePath: string, count: number, hint: string): void {
  using database = new DatabaseSync(filePath, { readOnly: true, readBigInts: true });
  const rows = database.prepare("SELECT id, bytes FROM seen ORDER BY rowid").all();
  const wrong = rows.findIndex((row, index) => row["id"] !== messageOf(index).id);
  assert.equal(wrong, -1, `row ${wrong} is not message ${wrong}: ${hint}`);
  assert.equal(rows.length, count, hint);
  const last = rows.at(-1)?.["bytes"];
  assert.ok(last === undefined || last instanceof Uint8Array);
  if (last !== undefined) assert.equal(Buffer.from(last).toString(), `message ${count - 1}`);
}
