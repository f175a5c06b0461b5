/** A leader that starts with Kafka as its live source: its buffer, its peers, a real broker. */
import assert from "node:assert/strict";
import path from "node:path";
import { after, test } from "node:test";
import { recoverLeader, type MsgBuffer } from "../../src/buffer/buffer.ts";
import type { Message } from "../../src/message.ts";
import { startKafka } from "../support/kafka/broker.ts";
import { messageOf, messagesOf, TestStream } from "../support/kafka/stream.ts";
import { openIn, readAll, temporaryDirectory } from "../unit/buffer/fixture.ts";
import { connect, ListArchive, serve } from "../unit/buffer/peer-fixture.ts";

const broker = await startKafka();
const skip = typeof broker === "string" ? broker : false;
after(() => (typeof broker === "string" ? undefined : broker[Symbol.asyncDispose]()));

const sorted = (messages: readonly Message[]): unknown[] =>
  messages.map(({ id, prevId, bytes }) => [id, prevId, Buffer.from(bytes).toString()]);

test(
  "a leader fills what Kafka has given up from a peer, goes on live, and there when started again",
  { skip },
  async (t) => {
    assert.ok(typeof broker !== "string");
    const stream = await TestStream.create(t, broker);
    const server = await serve(t, [new ListArchive(messagesOf(0, 80)).archive]);
    const peers = [connect(t, server.address)];
    const dbPath = path.join(temporaryDirectory(t), "buffer");

    /** Starts a leader, lets it come to the newest message, and ends it. */
    const lead = async (count: number): Promise<{ filled: number; buffer: MsgBuffer }> => {
      const buffer = await openIn(dbPath);
      const ending = new AbortController();
      const last = messageOf(count - 1).id;
      const source = stream.source(t, { whenTrimmed: "earliest", batchMax: 7 });
      let filled = 0;
      const end = await recoverLeader({
        buffer,
        live: source,
        peers,
        signal: AbortSignal.any([ending.signal, AbortSignal.timeout(60_000)]),
        onProgress: (position, repair) => {
          filled += repair.messages;
          if (position === last) ending.abort();
        },
      });
      assert.equal(end, last);
      await source[Symbol.asyncDispose]();
      return { filled, buffer };
    };

    await stream.produce(100);
    assert.equal(await stream.end(), 100);
    await stream.admin.deleteTopicRecords({
      topic: stream.topic,
      partitions: [{ partition: 0, offset: "60" }],
    });
    {
      const { filled, buffer } = await lead(100);
      assert.equal(filled, 60);
      assert.deepEqual(sorted(await readAll(buffer.archive)), sorted(messagesOf(0, 100)));
      assert.equal(await stream.committed(), 100);
      await buffer.close();
    }
    await stream.produce(30);
    {
      const { filled, buffer } = await lead(130);
      assert.equal(filled, 0);
      assert.deepEqual(sorted(await readAll(buffer.archive)), sorted(messagesOf(0, 130)));
      assert.equal(await stream.committed(), 130);
      await buffer.close();
    }
  },
);
