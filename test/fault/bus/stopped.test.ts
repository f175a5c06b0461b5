/** Processes that are stopped, not dead: they wake up, and others have gone on meanwhile. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  channelName,
  makeDirectory,
  openAs,
  sizeOf,
  until,
  writeNumbered,
  type Settings,
} from "../../support/bus-channel.ts";
import { consumeTask, startWorker } from "../../support/bus-processes.ts";

const sizeMax = 200;
const timeoutMs = 300;
const settings: Settings = {
  messageSizeMax: sizeMax,
  failedConsumer: "evict",
  keys: { consumer_timeout_ms: timeoutMs },
};

test("G6: a consumer that is stopped is gone on without, and told what it missed when it wakes up", async (t) => {
  const directory = makeDirectory(t);
  using engine = openAs(directory, "engine", settings);
  const publisher = engine.publisher(channelName);
  const worker = startWorker(t, consumeTask(directory, settings));
  await worker.told("open");
  const publish = (count: number): void => {
    for (let published = 0; published < count; published++) {
      const number = publisher.sequence + 1;
      const length = sizeOf(number, sizeMax);
      assert.ok(publisher.waitForRoomBlocking(sizeMax, 5000));
      const offset = publisher.claim(length);
      writeNumbered(publisher.memory, offset, length, number);
      publisher.commit();
    }
  };
  publish(20);
  await until("it has taken them", () => worker.numbers.length === 20);
  worker.child.kill("SIGSTOP");
  const before = performance.now();
  publish(500);
  // It is waited for as long as its timeout says, and for nothing after that.
  const waitedMs = performance.now() - before;
  assert.ok(waitedMs >= timeoutMs / 2 && waitedMs < timeoutMs + 2000, `${waitedMs} ms`);
  worker.child.kill("SIGCONT");
  publish(10);
  publisher.finish();
  await worker.told("ended");

  // All that there was is told of, as a message or as lost, in order and once. What a poll had
  // handed out when it was overtaken may come as lost once more.
  let next = 1;
  for (const report of worker.reports) {
    if (report.event === "message") {
      assert.equal(report.number, next);
      next++;
    } else if (report.event === "loss") {
      assert.ok(report.from <= next && report.to >= next, JSON.stringify(report));
      next = report.to + 1;
    }
  }
  assert.equal(next, 531);
  const { to } = await worker.told("loss");
  assert.ok(to > 20);
});
