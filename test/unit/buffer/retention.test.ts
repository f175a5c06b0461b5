/** A buffer that is kept from growing, and nothing that somebody needs is taken from it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { startRetention, type BufferLoss, type MsgBuffer } from "../../../src/buffer/buffer.ts";
import type { ExcessRules } from "../../../src/buffer/buffer-stats.ts";
import { lossesFileName } from "../../../src/buffer/loss-ledger.ts";
import { GaplessError, isGaplessError } from "../../../src/errors.ts";
import type { Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { hasCode, makeMessages, openIn, temporaryDirectory } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
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
    // Each append has a row of its own.
    assert.equal(await buffer.minId(), 901n);
    assert.deepEqual(held, [["audit"], []]);
  }
  await using buffer = await openIn(directory);
  await using retention = startRetention(buffer, rules);
  await appendTo(buffer, 1200n);
  retention.acknowledge("oms", 1200n);
  await retention.look();
  assert.equal(await buffer.minId(), 901n);
  retention.acknowledge("audit", 1200n);
  await retention.look();
  assert.equal(await buffer.minId(), 1001n);
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
    await appendTo(buffer, 1000n);
    retention.acknowledge("oms", 1000n);
    retention.acknowledge("audit", 200n);
    await assert.rejects(retention.force(), hasCode("PEER_UNAVAILABLE"));
    assert.equal(await buffer.minId(), 1n);
    fails = false;
    const { beforeId, passedOver } = await retention.force();
    assert.deepEqual(passedOver, [{ consumer: "audit", fromId: 201n, throughId: 500n }]);
    assert.equal(await buffer.minId(), beforeId);
  }
  await using buffer = await openIn(directory);
  const { losses } = buffer.losses();
  assert.deepEqual(losses, told);
  assert.partialDeepStrictEqual(losses, [
    { cause: "passed-over", consumer: "audit", fromId: 201n, throughId: 500n },
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

test("left alone, it trims, and says when it cannot", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  const failures: unknown[] = [];
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
  await using _closing = startRetention(buffer, {
    count: 1,
    intervalMs: 2,
    onFailure: (error) => void failures.push(error),
  });
  await buffer.close();
  await until(async () => failures.length > 0);
  assert.ok(isGaplessError(failures[0], "CLOSED"));
});

test("a trim of the application's that throws is told, and tried again", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  await appendTo(buffer, 100n);
  await appendTo(buffer, 200n);
  const failures: unknown[] = [];
  let tries = 0;
  await using _retention = startRetention(buffer, {
    count: 100,
    intervalMs: 2,
    trim: async (beforeId) => {
      if (++tries < 3) throw new Error("no log");
      await buffer.trim(beforeId);
    },
    onFailure: (error) => void failures.push(error),
  });
  await until(async () => (await buffer.minId()) === 101n);
  assert.deepEqual(failures.map(String), ["Error: no log", "Error: no log"]);
});

test("a trim that goes through a log is proposed once, and anew where it failed or goes further", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  const proposed: bigint[] = [];
  let isDown = true;
  // The replica has yet to come to it.
  const trim = async (beforeId: bigint): Promise<void> => {
    proposed.push(beforeId);
    if (isDown) throw new GaplessError("PEER_UNAVAILABLE", "the log is down");
  };
  const told: bigint[] = [];
  const onTrimmed = (beforeId: bigint): void => void told.push(beforeId);
  const rules = { count: 100, consumers: ["oms"], trim, onTrimmed, ...never };
  await using retention = startRetention(buffer, rules);
  await appendTo(buffer, 500n);
  await appendTo(buffer, 1000n);
  await appendTo(buffer, 1200n);
  retention.acknowledge("oms", 300n);
  await assert.rejects(retention.look(), hasCode("PEER_UNAVAILABLE"));
  isDown = false;
  for (let look = 0; look < 3; look++) await retention.look();
  retention.acknowledge("oms", 400n);
  for (let look = 0; look < 3; look++) await retention.look();
  await retention.force();
  await retention.force();
  assert.deepEqual(proposed, [301n, 301n, 401n, 1001n]);
  assert.deepEqual(told, [301n, 401n, 1001n]);
});

test("a trim that takes longer than an interval is not followed by all that were due", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  let looks = 0;
  const looking = {
    component: "trades",
    recordLoss: (loss: BufferLoss) => buffer.recordLoss(loss),
    minId: () => buffer.minId(),
    trim: (beforeId: bigint) => buffer.trim(beforeId),
    excess: (rules: ExcessRules) => {
      looks++;
      return buffer.excess(rules);
    },
  };
  let isDown = true;
  const trim = async (beforeId: bigint): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (isDown) throw new GaplessError("PEER_UNAVAILABLE", "the log is down");
    await buffer.trim(beforeId);
  };
  const onFailure = (error: unknown): void => assert.ok(hasCode("PEER_UNAVAILABLE")(error));
  const options = { count: 100, intervalMs: 2, trim, onFailure };
  await appendTo(buffer, 500n);
  await appendTo(buffer, 1000n);
  await using retention = startRetention(looking, options);
  await until(async () => looks === 2);
  isDown = false;
  await until(async () => (await buffer.minId()) === 501n);
  assert.ok(looks <= 3, `looks=${looks}`);
  const startMs = performance.now();
  await retention.close();
  assert.ok(performance.now() - startMs < 1000);
});

test("what is too much is told by rows, exactly, after a restart too", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  for (let round = 0; round < 4; round++) {
    const directory = temporaryDirectory(t);
    const nowMs = Date.now();
    /** Of each append, which is a row: its last id, how many there are, and their time. */
    const rows: { lastId: bigint; count: number; timeMs: number }[] = [];
    const bytes = new Uint8Array(10);
    let lastId = 0n;
    for (let opening = 0; opening < 3; opening++) {
      await using buffer = await openIn(directory);
      for (let append = 0; append < 8; append++) {
        const count = 1 + random.below(40);
        // Times rise, an hour from end to end.
        const timeMs = nowMs - 3_600_000 + (rows.length + 1) * 100_000;
        const messages: Message[] = [];
        for (let index = 0; index < count; index++) {
          const id = lastId + BigInt(1 + random.below(3));
          messages.push({ id, prevId: lastId, timestampNs: BigInt(timeMs) * 1_000_000n, bytes });
          lastId = id;
        }
        await buffer.append(messages);
        rows.push({ lastId, count, timeMs });
      }
      if (random.below(2) === 0) {
        await buffer.trim(rows[random.below(rows.length)]?.lastId ?? 0n);
      }
      const minId = await buffer.minId();
      for (let look = 0; look < 20; look++) {
        const stay = 1 + random.below(400);
        const ageMs = 50_000 + 100_000 * random.below(36);
        const rules = [{ count: stay }, { ageMs }, { count: stay, ageMs }][look % 3] ?? {};
        const isTooMuch = (index: number): boolean => {
          const behind = rows.slice(index + 1).reduce((sum, { count }) => sum + count, 0);
          const isOld = nowMs - (rows[index]?.timeMs ?? 0) > (rules.ageMs ?? Infinity);
          return index < rows.length - 1 && (behind >= (rules.count ?? Infinity) || isOld);
        };
        const last = rows.findLast((_, index) => isTooMuch(index))?.lastId;
        const expected = last !== undefined && last >= (minId ?? 0n) ? last + 1n : undefined;
        assert.equal(await buffer.excess(rules), expected, JSON.stringify(rules));
      }
    }
  }
});

test("messages that have no time are of no age", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  for (let id = 1n; id <= 3n; id++) {
    const bytes = new Uint8Array(1);
    await buffer.append([{ id, prevId: id - 1n, timestampNs: 0n, bytes }]);
  }
  assert.equal(await buffer.excess({ ageMs: 1 }), undefined);
  assert.equal(await buffer.excess({ ageMs: 1, count: 2 }), 2n);
});

test("G7: what is too much by rules that make no sense is not told", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  await appendTo(buffer, 5n);
  await appendTo(buffer, 9n);
  const wrong: ExcessRules[] = [{ count: -1 }, { count: 1.5 }, { ageMs: 0.5 }, { ageMs: NaN }];
  for (const rules of wrong) {
    await assert.rejects(buffer.excess(rules), hasCode("CONFIG_INVALID"), JSON.stringify(rules));
  }
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

test("G2: a loss that is found again by another process is told again, and recorded once", async (context) => {
  const directory = temporaryDirectory(context);
  const loss: BufferLoss = {
    cause: "missing",
    consumer: "trades",
    fromId: 5n,
    throughId: 9n,
    atMs: 1,
  };
  for (let opening = 0; opening < 2; opening++) {
    await using buffer = await openIn(directory);
    const told: BufferLoss[] = [];
    using _observed = buffer.observe({ lost: (one) => void told.push(one) });
    // The one before may have died before anybody looked at its metrics.
    for (let time = 0; time < 3; time++) buffer.recordLoss(loss);
    assert.deepEqual(told, [loss]);
    assert.equal(buffer.losses().losses.length, 1);
  }
});

test("G2: what could not be read from the ledger again is refused, and not recorded", async (context) => {
  const directory = temporaryDirectory(context);
  await using buffer = await openIn(directory);
  const loss: BufferLoss = {
    cause: "missing",
    consumer: "trades",
    fromId: 5n,
    throughId: 9n,
    atMs: 1,
  };
  const wrong: object[] = [
    { atMs: 1.5 },
    { atMs: NaN },
    { cause: "lost" },
    { consumer: 7 },
    { fromId: -1n },
    { fromId: 10n },
    { throughId: undefined },
  ];
  for (const fields of wrong) {
    const recording = (): void => buffer.recordLoss({ ...loss, ...fields });
    assert.throws(recording, hasCode("INVALID_OPERATION"), JSON.stringify(Object.keys(fields)));
  }
  assert.equal(fs.existsSync(path.join(directory, lossesFileName)), false);
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadlineMs, "it does not come true");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
