/** A log on three servers, which are killed and stopped while commands go in and come out. */
import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { replicate } from "../../src/buffer/replicate.ts";
import { connectNatsLog, type NatsLog } from "../../src/connect/nats.ts";
import { seededRandom } from "../../src/random.ts";
import { FileReplica } from "../support/file-replica.ts";
import { digestOf, LogModel } from "../support/log-model.ts";
import { lacksNatsServer, startNats, type NatsCluster } from "../support/nats.ts";
import { makeFastDirectory } from "../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const stream = "COMMANDS";

function connectLog(nats: NatsCluster): Promise<NatsLog> {
  const { servers } = nats;
  return connectNatsLog({ servers, stream, subject: "commands.log", timeoutMs: 60_000 });
}

/**
 * Name of the server that leads the stream, once each copy of it is whole: with one of three gone
 * while another one is still fetching what it missed, there is no majority to go on with.
 */
async function leaderOf(nats: NatsCluster): Promise<string> {
  for (;;) {
    try {
      const connection = await connect({ servers: [...nats.servers], timeout: 1000 });
      try {
        const manager = await jetstreamManager(connection, { checkAPI: false, timeout: 1000 });
        const { leader = "", replicas = [] } = (await manager.streams.info(stream)).cluster ?? {};
        const isWhole = replicas.length === 2 && replicas.every(({ current }) => current);
        if (leader !== "" && isWhole) return leader;
      } finally {
        await connection.close();
      }
    } catch {
      // Nobody leads, or whom it has asked is gone: it asks again.
    }
    await pause(50);
  }
}

/** Two replicas that follow a log until `finish` is called. */
function startReplicas(context: TestContext, logs: readonly NatsLog[]) {
  const directory = makeFastDirectory(context);
  const abort = new AbortController();
  let end: bigint | undefined;
  const runs = logs.map(async (log, index) => {
    const replica = new FileReplica(path.join(directory, String(index)));
    context.after(() => replica[Symbol.dispose]());
    const own = new AbortController();
    const refused: bigint[] = [];
    const stopAtEnd = (): void => {
      if (end !== undefined && replica.logPosition >= end) own.abort();
    };
    abort.signal.addEventListener("abort", stopAtEnd);
    await replicate(replica, log, {
      signal: own.signal,
      onProgress: stopAtEnd,
      onRefused: ({ position }) => refused.push(position),
    });
    return { replica, refused };
  });
  return (position: bigint) => {
    end = position;
    abort.abort();
    return Promise.all(runs);
  };
}

test(
  "servers killed and stopped while they lead: nothing in the log is lost, twice or out of order",
  { skip: lacksNatsServer },
  async (context) => {
    context.diagnostic(`SEED=${seed}`);
    const model = new LogModel(seededRandom(seed));
    await using nats = await startNats(3);
    await using log = await connectLog(nats);
    await using second = await connectLog(nats);
    const finish = startReplicas(context, [log, second]);
    let position = 0n;
    let isOver = false;
    const proposing = (async () => {
      while (!isOver) {
        const command = model.next();
        model.apply(command);
        const given = await log.propose(command);
        // One proposer: what is lost or there twice would show in every position from then on.
        assert.equal(given, position + 1n);
        position = given;
      }
    })();
    const more = async (count: bigint): Promise<void> => {
      const enough = position + count;
      while (position < enough) await Promise.race([pause(5), proposing]);
    };

    await more(200n);
    for (const round of ["killed", "killed again"]) {
      const leader = await leaderOf(nats);
      await nats.kill(leader);
      const startedMs = performance.now();
      await more(200n);
      context.diagnostic(`${leader} ${round}: went on in ${sinceMs(startedMs)} ms`);
      nats.start(leader);
      await more(100n);
    }

    const stopped = await leaderOf(nats);
    nats.signal(stopped, "SIGSTOP");
    const stoppedMs = performance.now();
    await more(200n);
    context.diagnostic(`${stopped} stopped: went on in ${sinceMs(stoppedMs)} ms`);
    nats.signal(stopped, "SIGCONT");
    await more(200n);

    await Promise.all(nats.names.map((name) => nats.kill(name)));
    await pause(500);
    for (const name of nats.names) nats.start(name);
    const restartedMs = performance.now();
    await more(200n);
    context.diagnostic(`all killed: went on in ${sinceMs(restartedMs)} ms`);

    isOver = true;
    await proposing;
    for (const { replica, refused } of await finish(position)) {
      assert.equal(replica.logPosition, position);
      const positions = replica.applied.map((it) => it.position);
      assert.ok(positions.every((at, index) => index === 0 || at > (positions[index - 1] ?? 0n)));
      const duplicates = replica.applied.reduce((sum, it) => sum + it.duplicates, 0);
      assert.equal(duplicates, model.duplicates);
      assert.equal(refused.length, model.refused);
      const appended = replica.applied.flatMap((it) => it.messages);
      assert.equal(digestOf(appended), digestOf(model.appended));
      assert.equal(digestOf(replica.messages), digestOf(model.messages));
    }
    context.diagnostic(`${position} commands`);
  },
);

function sinceMs(startMs: number): number {
  return Math.round(performance.now() - startMs);
}
