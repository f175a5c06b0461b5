/** A buffer that is kept from growing, and nothing that somebody needs is taken from it. */
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import { startRetention, type BufferLoss, type MsgBuffer } from "../../../src/buffer/buffer.ts";
import { lossesFileName } from "../../../src/buffer/loss-ledger.ts";
import { GaplessError } from "../../../src/errors.ts";
import fs from "node:fs";
import { hasCode, makeMessages, openIn, temporaryDirectory } from "./fixture.ts";

/** Looked at by hand only. */
const never = { intervalMs: 1e9 };

async function appendTo(buffer: MsgBuffer, lastId: bigint): Promise<void> {
  await buffer.append(makeMessages(buffer.lastId, Number(lastId - buffer.lastId)));
}

test("G8: what a declared consumer has not acknowledged stays, through a restart too", async (context) => {
  const directory = temporaryDirectory(context);
  const rules = { count: 100, consumers: ["oms", "audit"], ...never };
  const held: (readonly string[])[] = [];
  {
    await using buffer = await openIn(directory);
    const onHeld = (consumers: readonly string[]): void => void held.push(consumers);
    await using retention = startRetention(buffer, { ...rules, onHeld });
    for (let lastId = 100n; lastId <= 1000n; lastId += 100n) {
      await appendTo(buffer, lastId);
      retention.acknowledge("oms", lastId);
      await retention.look();
    }
    assert.equal(await buffer.minId(), 1n);
    retention.acknowledge("audit", 450n);
    // What was acknowledged once is not taken back.
    retention.acknowledge("audit", 10n);
    await retention.look();
    assert.equal(await buffer.minId(), 451n);
    retention.acknowledge("audit", 1000n);
    await retention.look();
    assert.equal(await buffer.minId(), 900n);
    assert.deepEqual(held, [["audit"], []]);
  }
  await using buffer = await openIn(directory);
  await using retention = startRetention(buffer, rules);
  await retention.look();
  await appendTo(buffer, 1200n);
  retention.acknowledge("oms", 1200n);
  await retention.look();
  assert.equal(await buffer.minId(), 900n);
  retention.acknowledge("audit", 1200n);
  await retention.look();
  assert.equal(await buffer.minId(), 1000n);
  assert.deepEqual(buffer.losses(), { losses: [], unreadable: 0 });
});

test("a forced trim is recorded first, once, and told; what it took is named", async (context) => {
  const directory = temporaryDirectory(context);
  const told: BufferLoss[] = [];
  {
    await using buffer = await openIn(directory);
    using _observed = buffer.observe({ lost: (loss) => void told.push(loss) });
    const consumers = ["oms", "audit"];
    let fails = true;
    const trim = (beforeId: bigint): Promise<number> => {
      assert.equal(buffer.losses().losses.length, 1);
      if (!fails) return buffer.trim(beforeId);
      return Promise.reject(new GaplessError("PEER_UNAVAILABLE", "the log is down"));
    };
    await using retention = startRetention(buffer, { count: 100, consumers, trim, ...never });
    await appendTo(buffer, 500n);
    await retention.look();
    await appendTo(buffer, 1000n);
    retention.acknowledge("oms", 1000n);
    retention.acknowledge("audit", 200n);
    await assert.rejects(retention.force(), hasCode("PEER_UNAVAILABLE"));
    assert.equal(await buffer.minId(), 1n);
    fails = false;
    const { beforeId, passedOver } = await retention.force();
    assert.deepEqual(passedOver, [{ consumer: "audit", fromId: 201n, throughId: 499n }]);
    assert.equal(await buffer.minId(), beforeId);
  }
  await using buffer = await openIn(directory);
  const { losses } = buffer.losses();
  assert.deepEqual(losses, told);
  assert.partialDeepStrictEqual(losses, [
    { cause: "passed-over", consumer: "audit", fromId: 201n, throughId: 499n },
  ]);
  assert.equal(losses.length, 1);
  // What a crash has cut short says nothing, and takes nothing from what follows it.
  fs.appendFileSync(path.join(directory, lossesFileName), '{"cause":"missing","cons');
  const loss: BufferLoss = {
    cause: "missing",
    consumer: "trades",
    fromId: 2n ** 64n - 2n,
    throughId: 2n ** 64n - 1n,
    atMs: 1,
  };
  buffer.recordLoss(loss);
  assert.deepEqual(buffer.losses(), { losses: [...losses, loss], unreadable: 1 });
});

test("left alone, it trims by count and by age, and says when it cannot", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  const failures: GaplessError[] = [];
  const trims: bigint[] = [];
  const byCount = startRetention(buffer, {
    count: 1000,
    intervalMs: 2,
    onTrimmed: (beforeId) => void trims.push(beforeId),
    onFailure: (error) => void failures.push(error),
  });
  for (let lastId = 100n; lastId <= 10_000n; lastId += 100n) {
    await appendTo(buffer, lastId);
    assert.ok((await buffer.stats()).total >= Math.min(1000, Number(lastId)));
  }
  await until(async () => (await buffer.stats()).total < 2000);
  await byCount.close();
  assert.deepEqual(
    trims,
    trims.toSorted((left, right) => Number(left - right)),
  );
  assert.equal(trims.at(-1), await buffer.minId());
  {
    await using _byAge = startRetention(buffer, { ageMs: 50, intervalMs: 10 });
    // The newest one stays, however old it is.
    await until(async () => (await buffer.stats()).total === 1);
  }
  await using _closing = startRetention(buffer, {
    count: 1,
    intervalMs: 2,
    onFailure: (error) => void failures.push(error),
  });
  await buffer.close();
  await until(async () => failures.length > 0);
  assert.equal(failures[0]?.code, "CLOSED");
});

test("rules that make no sense, and consumers that were not declared, are refused", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  assert.throws(() => startRetention(buffer, {}), hasCode("CONFIG_INVALID"));
  assert.throws(
    () => startRetention(buffer, { count: 5, intervalMs: 0 }),
    hasCode("CONFIG_INVALID"),
  );
  await using retention = startRetention(buffer, { count: 5, consumers: ["oms"] });
  assert.throws(() => retention.acknowledge("osm", 5n), {
    code: "INVALID_OPERATION",
    message: "Retention of trades: consumer=osm is not declared, oms is.",
  });
  assert.throws(() => retention.acknowledge("oms", -1n), hasCode("INVALID_OPERATION"));
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadlineMs, "it does not come true");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
