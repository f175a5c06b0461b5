/** Recorder and consumer of a channel, killed at random moments. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { recorderService, type Publisher } from "gapless/bus";
import { openJournal } from "gapless/flow";
import { decodeRecording, findRecorded } from "../../src/flow/recording.ts";
import { seededRandom } from "../../src/random.ts";
import {
  makeBusDirectory,
  numbered,
  numberOf,
  openRecorded,
  type ChannelChanges,
} from "../support/recorded-channel.ts";
import type { RecoveryReport, RecoveryTask } from "../support/recovery-worker.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const program = path.join(import.meta.dirname, "../support/recovery-worker.ts");

interface Life {
  readonly child: ChildProcess;
  readonly numbers: number[];
  replayed: number;
  live: number;
  kill(): Promise<void>;
}

function startLife(t: TestContext, task: RecoveryTask): Life {
  const child = spawn(
    process.execPath,
    ["--conditions=source", "--disable-warning=ExperimentalWarning", program, JSON.stringify(task)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => child.kill("SIGKILL"));
  const gone = once(child, "close");
  const life: Life = {
    child,
    numbers: [],
    replayed: 0,
    live: 0,
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
  };
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { numbers, replayed } = JSON.parse(line) as RecoveryReport;
    life.numbers.push(...numbers);
    life.replayed += replayed;
    life.live += numbers.length - replayed;
  });
  return life;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `never: ${what}, SEED=${seed}`);
    await pause(10);
  }
}

/** From 1 on, without gap and without duplicate. */
function assertWhole(numbers: readonly number[]): void {
  const wrong = numbers.findIndex((number, index) => number !== index + 1);
  assert.equal(wrong, -1, `${numbers[wrong]} after ${numbers[wrong - 1]}, SEED=${seed}`);
}

async function publishUntil(publisher: Publisher, over: AbortSignal): Promise<number> {
  let number = 0;
  while (!over.aborted) {
    await publisher.send(numbered(number + 1));
    number++;
    if (number % 32 === 0) await pause(1);
  }
  publisher.finish();
  return number;
}

for (const mode of ["Reject", "DropOldest"] as const) {
  const held = mode === "Reject";
  const what = held ? "a ring that waits" : "a ring that overwrites";
  test(`a consumer killed at any moment gets its whole window again, from ${what} and a recorder that is killed too`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    const random = seededRandom(seed);
    const directory = makeBusDirectory(t);
    // Where nothing is held, the ring covers the recorder's absence, and the consumer reads late.
    const changes: ChannelChanges = held
      ? { failed_consumer: "wait" }
      : { backpressure: { mode }, buffer_size: "64MB" };
    using engine = openRecorded(directory, "engine", changes);
    const over = new AbortController();
    const publishing = publishUntil(engine.publisher("orders"), over.signal);
    const start = (service: string): Life => startLife(t, { directory, service, changes });

    let recorder = start(recorderService);
    let newest = 0;
    for (let round = 0; round < 5; round++) {
      const consumer = start("ledger");
      const wanted = newest + 1 + random.below(600);
      if (random.below(2) === 0) {
        await until("it has begun", () => consumer.numbers.length > random.below(wanted));
        await recorder.kill();
        if (random.below(2) === 0) await pause(random.below(100));
        recorder = start(recorderService);
      }
      await until("it goes on", () => consumer.numbers.length >= wanted);
      await consumer.kill();
      assertWhole(consumer.numbers);
      newest = consumer.numbers.length;
    }
    over.abort();
    // Before what is under way is waited for: it may wait for room.
    const consumer = start("ledger");
    const last = await publishing;
    await until("the last one ends", () => consumer.child.exitCode !== null);
    assert.equal(consumer.child.exitCode, 0);
    await until("all is told", () => consumer.numbers.length >= last);
    assertWhole(consumer.numbers);
    assert.equal(consumer.numbers.length, last);
    await until("the recorder ends", () => recorder.child.exitCode !== null);

    // What the recorder has kept: every message once.
    await using journal = await openJournal({
      directory: findRecorded(engine, "orders").journalDirectory(0),
    });
    const recorded = (await journal.read(1n, last + 1)).map(({ bytes }) => decodeRecording(bytes));
    assertWhole(recorded.map(({ sequence }) => sequence));
    assertWhole(recorded.map(({ bytes }) => numberOf(bytes)));
    assert.equal(recorded.length, last);
  });
}
