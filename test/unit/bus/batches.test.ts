/** Batches are views: what they show is what was published, however long they are looked at. */
import assert from "node:assert/strict";
import fs from "node:fs";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openBus, type Bus, type ChannelTable } from "gapless/bus";
import { isGaplessError } from "../../../src/errors.ts";

function openBoth(
  t: TestContext,
  changes: Partial<ChannelTable[string]>,
): { engine: Bus; ledger: Bus } {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  const channels: ChannelTable = {
    trades: {
      type: "SPSC",
      producer: "engine",
      consumer: "ledger",
      buffer_size: "64KB",
      message_size_max: 512,
      ...changes,
    },
  };
  const engine = openBus({ directory, channels }, { service: "engine" });
  const ledger = openBus({ directory, channels }, { service: "ledger" });
  t.after(() => {
    engine.close();
    ledger.close();
    fs.rmSync(directory, { recursive: true, force: true });
  });
  return { engine, ledger };
}

test("a batch of a channel that drops its oldest shows each message as it was", async (t) => {
  const { engine, ledger } = openBoth(t, { backpressure: { mode: "DropOldest" } });
  const publisher = engine.publisher("trades");
  for (let number = 1; number <= 100; number++) {
    publisher.offer(new Uint8Array(400).fill(number));
  }
  publisher.finish();
  let seen = 0;
  for await (const batch of ledger.subscriber("trades").batches()) {
    for (const { bytes, sequence } of batch) {
      assert.ok(
        bytes.every((byte) => byte === sequence),
        `message ${sequence} is another`,
      );
      seen++;
    }
  }
  assert.equal(seen, 100);
});

test("a batch that may have been overwritten while it was looked at is said to be", async (t) => {
  const { engine, ledger } = openBoth(t, { consumer_timeout_ms: 250 });
  const publisher = engine.publisher("trades");
  while (publisher.offer(new Uint8Array(400)) > 0);
  const batches = ledger.subscriber("trades").batches();
  assert.equal((await batches.next()).done, false);
  await pause(300);
  publisher.waitForRoomBlocking(400, 5000);
  assert.ok(publisher.offer(new Uint8Array(400)) > 0);
  await assert.rejects(batches.next(), (error) => isGaplessError(error, "MESSAGES_LOST"));
});
