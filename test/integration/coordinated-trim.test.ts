/**
 * An order management system that trims the buffer of a matching engine: the replicas of the one
 * are keyed by trade id, the buffer of the other by match id, and NATS has the log between them.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import path from "node:path";
import test from "node:test";
import { CoordinatedTrim, openMsgBuffer, replicate, type MsgBuffer } from "gapless/buffer";
import { connectNatsLog } from "gapless/connect/nats";
import type { Message } from "../../src/message.ts";
import { lacksNats, someNats } from "../support/nats.ts";
import { makeMessages, temporaryDirectory } from "../unit/buffer/fixture.ts";

const trades = 3000n;
const retained = 500n;
const step = 100n;

/** What the order management system makes of a result: its ids skip, its bytes say which trade. */
function matchOf({ id, timestampNs }: Message): Message {
  return {
    id: 3n * id,
    prevId: 3n * (id - 1n),
    timestampNs,
    bytes: new TextEncoder().encode(`trade ${id}`),
  };
}

/** Follows the engine into its own buffer, and proposes trims, until it has come so far. */
async function manage(
  engine: MsgBuffer,
  orders: MsgBuffer,
  trim: CoordinatedTrim,
  throughTradeId: bigint,
): Promise<void> {
  const done = ((await orders.maxId()) ?? 0n) / 3n;
  for await (const results of engine.follow(done + 1n)) {
    await orders.append(results.map(matchOf));
    for (const { id } of results) await trim.processed(id);
    if ((results.at(-1)?.id ?? 0n) >= throughTradeId) return;
  }
}

test(
  "replicas of an engine are trimmed alike as its results are dealt with, but for what is retained",
  { skip: lacksNats },
  async (context) => {
    const directory = temporaryDirectory(context);
    await using nats = await someNats();
    const name = `gapless-${randomUUID()}`;
    const { servers } = nats;
    const options = { servers, stream: name, subject: `${name}.log`, replicas: 1 };
    await using log = await connectNatsLog(options);
    await using ordersLog = await connectNatsLog(options);
    const open = (component: string): Promise<MsgBuffer> =>
      openMsgBuffer({ component, storage: { dbPath: path.join(directory, component) } });
    await using one = await open("engine-1");
    await using other = await open("engine-2");
    await using orders = await open("orders");

    const over = new AbortController();
    const onRefused = (): never => assert.fail("a command was refused");
    const replicas = [one, other].map((buffer) =>
      replicate(buffer, log, { signal: over.signal, onRefused }),
    );
    const all = makeMessages(0n, Number(trades));
    const proposing = (async () => {
      for (let at = 0; at < all.length; at += 60) {
        await log.propose({ kind: "append", messages: all.slice(at, at + 60) });
      }
    })();
    // Halfway it is started anew, and knows nothing of the trims that it has proposed.
    for (const throughTradeId of [trades / 2n, trades]) {
      const trim = new CoordinatedTrim({ log: ordersLog, retained, step });
      await manage(one, orders, trim, throughTradeId);
    }
    await proposing;

    const end = await log.propose({ kind: "trim", beforeId: 0n });
    while (one.logPosition < end || other.logPosition < end) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    over.abort();
    await Promise.all(replicas);
    const minId = (await one.minId()) ?? 0n;
    assert.ok(minId <= trades - retained && minId > trades - retained - step, `minId=${minId}`);
    assert.equal(await other.minId(), minId);
    const digests = [one, other].map(({ archive }) => archive.digest(minId, trades));
    assert.deepEqual(await digests[0], await digests[1]);
    assert.deepEqual(await orders.sync(1n, all.length + 1), all.map(matchOf));
  },
);
