/** A consumer of Kafka that is killed or stopped, and a broker that is, in the middle of it all. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { sqliteSink } from "../../src/connect/sqlite.ts";
import { pump } from "../../src/flow/flow.ts";
import { seededRandom } from "../../src/random.ts";
import type { Step } from "../../src/steps.ts";
import { startKafka } from "../support/kafka/broker.ts";
import type { ConsumerTask } from "../support/kafka/consumer-process.ts";
import {
  assertRows,
  makeSinkPath,
  messageOf,
  seenTables,
  TestStream,
} from "../support/kafka/stream.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const hint = `SEED=${seed}`;
const sessionTimeoutMs = 1000;

const broker = await startKafka();
const skip = typeof broker === "string" ? broker : false;
const isForeign = typeof broker !== "string" && broker.kill === undefined;
const skipKill = skip || (isForeign && "the broker of GAPLESS_TEST_KAFKA_URL is not ours to kill");
after(() => (typeof broker === "string" ? undefined : broker[Symbol.asyncDispose]()));

async function makeStream(context: TestContext): Promise<TestStream> {
  assert.ok(typeof broker !== "string");
  return TestStream.create(context, broker);
}

interface Consumer {
  readonly child: ChildProcess;
  /** Id of the last message that it has committed. */
  position: bigint;
  /** What it ended with. */
  error: string | undefined;
  readonly ended: Promise<unknown>;
}

const support = path.join(import.meta.dirname, "../support");

function startConsumer(
  context: TestContext,
  stream: TestStream,
  filePath: string,
  killAt?: { step: Step; nth: number },
): Consumer {
  const task: ConsumerTask = {
    bootstrap: stream.broker.bootstrap,
    topic: stream.topic,
    group: stream.group,
    path: filePath,
    batchMax: 20,
    sessionTimeoutMs,
  };
  const preload = killAt === undefined ? [] : ["--import", path.join(support, "kill-at.ts")];
  const program = path.join(support, "kafka/consumer-process.ts");
  const child = spawn(
    process.execPath,
    ["--conditions=source", ...preload, program, JSON.stringify(task)],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env:
        killAt === undefined
          ? process.env
          : { ...process.env, GAPLESS_TEST_KILL_AT: `${killAt.step}:${killAt.nth}` },
    },
  );
  context.after(() => child.kill("SIGKILL"));
  const consumer: Consumer = {
    child,
    position: 0n,
    error: undefined,
    ended: once(child, "close"),
  };
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("at ")) consumer.position = BigInt(line.slice(3));
    else consumer.error = line;
  });
  return consumer;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 40_000;
  while (!holds()) {
    assert.ok(performance.now() < deadlineMs, `never: ${what}, ${hint}`);
    await pause(10);
  }
}

/** Lets it commit all that there is, and end in peace. */
async function finish(consumer: Consumer, stream: TestStream): Promise<void> {
  const last = messageOf(stream.produced - 1).id;
  await until("all is committed", () => consumer.position === last || consumer.error !== undefined);
  consumer.child.kill("SIGTERM");
  await consumer.ended;
  assert.equal(consumer.error, undefined);
  assert.equal(consumer.child.exitCode, 0);
}

const steps: readonly Step[] = ["sink.written", "flow.applied", "flow.acknowledged"];

test(
  "G5: a consumer of Kafka killed anywhere ends with the rows of a run without",
  { skip },
  async (t) => {
    t.diagnostic(hint);
    const random = seededRandom(seed);
    const stream = await makeStream(t);
    const filePath = makeSinkPath(t);
    const over = new AbortController();
    const producing = (async () => {
      while (!over.signal.aborted) {
        await stream.produce(1 + random.below(30));
        await pause(10);
      }
    })();
    // At two of the steps, and once at any moment.
    for (const step of [...steps.toSpliced(random.below(steps.length), 1), undefined]) {
      const killAt = step === undefined ? undefined : { step, nth: 1 + random.below(4) };
      const consumer = startConsumer(t, stream, filePath, killAt);
      if (step === undefined) {
        await until("it begins", () => consumer.position > 0n);
        await pause(random.below(300));
        consumer.child.kill("SIGKILL");
      }
      await consumer.ended;
      assert.equal(consumer.child.signalCode, "SIGKILL", `${consumer.error ?? ""} ${hint}`);
      // Nothing is committed that is not in the sink, and hardly less.
      await using sink = sqliteSink({ path: filePath, stream: "trades", tables: seenTables });
      const position = await sink.position();
      const committed = await stream.committed();
      const next = committed < 1 ? 0n : messageOf(committed - 1).id;
      assert.ok(next <= position, `committed ${next} over ${position}, ${hint}`);
      if (step === "flow.acknowledged") assert.equal(next, position, hint);
    }
    over.abort();
    await producing;
    await finish(startConsumer(t, stream, filePath), stream);
    assertRows(filePath, stream.produced, hint);
    assert.equal(await stream.committed(), stream.produced);
  },
);

test("a member that was stopped while another took over ends with FENCED", { skip }, async (t) => {
  const stream = await makeStream(t);
  const filePath = makeSinkPath(t);
  await stream.produce(50);
  const first = startConsumer(t, stream, filePath);
  await until("the first one begins", () => first.position === messageOf(49).id);
  const second = startConsumer(t, stream, filePath);
  first.child.kill("SIGSTOP");
  await stream.produce(50);
  await until("the second one takes over", () => second.position === messageOf(99).id);
  first.child.kill("SIGCONT");
  await stream.produce(50);
  await first.ended;
  assert.match(first.error ?? "", /^error FENCED .*partition 0 of topic/);
  assert.equal(first.child.exitCode, 1);
  await finish(second, stream);
  assertRows(filePath, 150, hint);
  assert.equal(await stream.committed(), 150);
});

test(
  "a broker killed in the middle is waited for, without a gap or a duplicate",
  { skip: skipKill },
  async (t) => {
    const stream = await makeStream(t);
    const filePath = makeSinkPath(t);
    await using sink = sqliteSink({ path: filePath, stream: "trades", tables: seenTables });
    const outages: string[] = [];
    await using source = stream.source(t, {
      sessionTimeoutMs,
      retryDelayMs: { first: 20, most: 200 },
      onOutage: ({ message }) => outages.push(message),
    });
    const ending = new AbortController();
    t.after(() => ending.abort());
    let position = 0n;
    const pumping = pump({
      source,
      sink,
      signal: ending.signal,
      onProgress: (reached) => (position = reached),
    });
    await stream.produce(100);
    await until("it begins", () => position >= messageOf(20).id);
    await stream.broker.kill?.();
    await pause(300);
    await stream.broker.start();
    // What kafkajs sends again may be there twice: the chain knows.
    await stream.produce(100);
    const last = messageOf(stream.produced - 1).id;
    await until("it goes on", () => position === last);
    ending.abort();
    assert.equal(await pumping, last);
    assert.ok(outages.length > 0);
    assertRows(filePath, 200, hint);
    assert.equal(await stream.committed(), await stream.end());
  },
);
