/** Looking at the messages of a lane without being its consumer. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { observeFile } from "../../../src/bus/observed-file.ts";
import { Observer, type ObservedMessage } from "../../../src/bus/observer.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { makeDirectory, until } from "../../support/bus-channel.ts";
import { openTrades, type Changes } from "../../support/bus-seen.ts";

function observe(t: TestContext, directory: string, from: "start" | "next"): Observer {
  const file = observeFile(path.join(directory, "trades.ring"));
  t.after(() => file.unmap());
  const [lane] = file.lanes;
  assert.ok(lane);
  return new Observer(lane, from);
}

test("an observer sees what consumers see, topics and times too, and holds nobody back", (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine", { timestamps: "all" });
  using ledger = openTrades(directory, "ledger", { timestamps: "all" });
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  const topic = publisher.topic("orders.btc");
  publisher.offer(Buffer.from("early"));
  const fromStart = observe(t, directory, "start");
  const fromNext = observe(t, directory, "next");
  const file = path.join(directory, "trades.ring");
  const texts: string[] = [];
  const note = ({ memory, offset, length }: ObservedMessage): void => {
    texts.push(Buffer.from(memory.bytes.subarray(offset, offset + length)).toString());
  };
  publisher.offer(Buffer.from("late"), topic);
  const before = fs.readFileSync(file);
  assert.equal(fromStart.observe(note, 10), 2);
  assert.deepEqual(texts.splice(0), ["early", "late"]);
  let seen: ObservedMessage | undefined;
  assert.equal(
    fromNext.observe((message) => {
      seen = message;
      note(message);
    }, 10),
    1,
  );
  assert.deepEqual(texts, ["late"]);
  const { sequence, producer, topic: name, sentNs = 0 } = seen ?? {};
  assert.deepEqual([sequence, producer, name], [2, "engine", "orders.btc"]);
  assert.ok(sentNs > 0);
  assert.equal(fromNext.observe(note, 10), 0);
  assert.ok(fs.readFileSync(file).equals(before), "it has written something");
  assert.equal(subscriber.lag, 2);
});

test("one message at a time is seen as many at once are, also around the end of the ring", (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine");
  using ledger = openTrades(directory, "ledger");
  const subscriber = ledger.subscriber("trades");
  const publisher = engine.publisher("trades");
  const observer = observe(t, directory, "start");
  const sequences: number[] = [];
  for (let number = 1; number <= 500; number++) {
    assert.equal(publisher.offer(new Uint8Array((number * 13) % 100)), number);
    observer.observe(
      (message) => {
        assert.equal(message.length, (number * 13) % 100);
        sequences.push(message.sequence);
      },
      1 + (number % 2),
    );
    subscriber.read();
  }
  assert.deepEqual(
    sequences,
    Array.from({ length: 500 }, (_unused, index) => index + 1),
  );
});

for (const mode of ["DropOldest", "Reject"] as const) {
  test(`what a producer overwrites meanwhile is never shown (${mode})`, async (t) => {
    const directory = makeDirectory(t);
    const changes: Changes = {
      type: mode === "Reject" ? "SPMC" : "MPSC",
      ...(mode === "Reject" ? {} : { producers: ["engine", "auction"] }),
      backpressure: { mode },
      // Who has not come is not waited for.
      consumer_timeout_ms: 500,
    };
    using bus = openTrades(directory, "engine", changes);
    bus.publisher("trades").close();
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const observer = observe(t, directory, "start");
    const worker = new Worker(path.join(import.meta.dirname, "overwriter.ts"), {
      workerData: { directory, stop, changes },
      execArgv: ["--conditions=source"],
    });
    const exited = once(worker, "exit");
    t.after(() => Atomics.store(stop, 0, 1));
    let seen = 0;
    let missed = 0;
    let newest = 0;
    await until("it has seen much, and missed some", () => {
      observer.observe(({ sequence, memory, offset, length }) => {
        const number = memory.doubles[offset / 8] ?? NaN;
        if (mode === "DropOldest") assert.equal(number, sequence);
        assert.equal(length, 8 + ((number * 8) % 96), `message ${number}`);
        for (let at = 0; at < length; at += 8) {
          assert.equal(memory.doubles[(offset + at) / 8], number, "it is torn");
        }
        assert.ok(sequence > newest);
        if (newest > 0) missed += sequence - newest - 1;
        newest = sequence;
        seen++;
      }, 1000);
      return seen > 50_000 && missed > 0;
    });
    Atomics.store(stop, 0, 1);
    await exited;
  });
}

test("a damaged record is an error that names the channel", (t) => {
  const directory = makeDirectory(t);
  using engine = openTrades(directory, "engine");
  const publisher = engine.publisher("trades");
  const observer = observe(t, directory, "start");
  publisher.offer(new Uint8Array(8));
  const ring = publisher.memory.words.length - 4096 / 4;
  publisher.memory.words[ring] = -0x8000_0000;
  assert.throws(
    () => observer.observe(() => undefined, 1),
    (error) => isGaplessError(error, "STORAGE_CORRUPT") && error.message.includes("trades"),
  );
});
