/** A producer and its backup: killed, stopped, and woken up again. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openBus, type Bus, type Subscriber } from "gapless/bus";
import { openChannelFile } from "../../../src/bus/channel-file.ts";
import { lockedBy, producerParty } from "../../../src/bus/claim-lock.ts";
import { claimWord } from "../../../src/bus/layout.ts";
import { isGaplessError } from "../../../src/errors.ts";
import { seededRandom } from "../../../src/random.ts";
import {
  eventually,
  failoverChannels,
  numberIn,
  producerTimeoutMs,
  startStanding,
  type Standing,
} from "../../support/failover-channel.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const services = ["first", "second"] as const;

function makeDirectory(t: TestContext): string {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function openAs(directory: string, service: string): Bus {
  return openBus({ directory, channels: failoverChannels }, { service });
}

/** Takes what there is, and sees that each number follows the one before. */
class Ledger {
  newest = 0;
  private readonly subscriber: Subscriber;

  constructor(subscriber: Subscriber) {
    this.subscriber = subscriber;
  }

  take(): void {
    this.subscriber.poll(({ bytes }, offset, length) => {
      const number = numberIn(bytes.subarray(offset, offset + length));
      assert.equal(number, this.newest + 1, `SEED=${seed}`);
      this.newest = number;
    }, 1000);
    this.subscriber.release();
  }

  async through(number: number): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (this.newest < number) {
      assert.ok(performance.now() < deadline, `stuck at ${this.newest}, SEED=${seed}`);
      this.take();
      await this.subscriber.wait(20);
    }
  }
}

/** Who of the two told last that it writes. */
function findActive(standing: readonly Standing[]): number {
  return standing.findIndex(({ reports }) => reports.at(-1)?.event === "active");
}

test("killed at any moment, a producer is followed by its backup, and no message is lost or twice", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = makeDirectory(t);
  using bus = openAs(directory, "ledger");
  const ledger = new Ledger(bus.subscriber("orders"));
  const standing = services.map((service) => startStanding(t, { directory, service }));
  for (let life = 0; life < 6; life++) {
    await ledger.through(ledger.newest + 1 + random.below(3000));
    await eventually("one of them writes", () => findActive(standing) >= 0);
    const index = findActive(standing);
    const victim = standing[index];
    const service = services[index];
    assert.ok(victim && service);
    if (random.below(2) === 0) await pause(random.below(20));
    victim.child.kill("SIGKILL");
    await victim.gone;
    standing[index] = startStanding(t, { directory, service });
  }
  await ledger.through(ledger.newest + 2000);
});

test("stopped at any moment, a producer is followed by its backup, and is fenced when it wakes up", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed + 1);
  const directory = makeDirectory(t);
  using bus = openAs(directory, "ledger");
  const ledger = new Ledger(bus.subscriber("orders"));
  const standing = services.map((service) => startStanding(t, { directory, service }));
  let fenced = 0;
  for (let life = 0; life < 5; life++) {
    await ledger.through(ledger.newest + 1 + random.below(3000));
    await eventually("one of them writes", () => findActive(standing) >= 0);
    const index = findActive(standing);
    const victim = standing[index];
    const other = standing[1 - index];
    const service = services[index];
    assert.ok(victim && other && service);
    const before = other.reports.length;
    victim.child.kill("SIGSTOP");
    while (other.reports.length === before) {
      ledger.take();
      await pause(10);
    }
    // Several times around the ring: what the stopped one had claimed is behind every time.
    await ledger.through(ledger.newest + 1000);
    victim.child.kill("SIGCONT");
    // One that was stopped inside a claim has been killed.
    await eventually("it has been told", () => {
      ledger.take();
      return victim.reports.at(-1)?.event === "fenced" || victim.child.signalCode !== null;
    });
    await ledger.through(ledger.newest + 1000);
    if (victim.child.signalCode === null) fenced++;
    else standing[index] = startStanding(t, { directory, service });
  }
  t.diagnostic(`fenced ${fenced} of 5, the others were stopped inside a claim`);
});

for (const claims of [0, 1, 8]) {
  test(`with ${claims} claims open when it is stopped, what it writes late tears nothing`, async (t) => {
    const directory = makeDirectory(t);
    using bus = openAs(directory, "ledger");
    const ledger = new Ledger(bus.subscriber("orders"));
    const first = startStanding(t, { directory, service: "first", kind: "hold", claims });
    await first.told("holding");
    first.child.kill("SIGSTOP");
    const stoppedMs = performance.now();
    const second = startStanding(t, { directory, service: "second" });
    await second.told("active");
    assert.ok(performance.now() - stoppedMs >= producerTimeoutMs / 2);
    assert.deepEqual(second.reports[0], { event: "active", after: 1 });
    await ledger.through(3000);
    fs.writeFileSync(path.join(directory, "go"), "");
    first.child.kill("SIGCONT");
    await eventually("it has written late, and is told", () => {
      ledger.take();
      return first.reports.at(-1)?.event === "fenced";
    });
    const at = claims === 0 ? "claim" : "commit";
    assert.deepEqual(first.reports.at(-1), { event: "fenced", at });
    await ledger.through(ledger.newest + 3000);
  });
}

test("stopped inside a claim, a producer is killed before its backup takes over", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "ledger");
  const ledger = new Ledger(bus.subscriber("orders"));
  const first = startStanding(t, { directory, service: "first", kind: "nap" });
  await first.told("active");
  first.child.kill("SIGSTOP");
  const channel = failoverChannels.get("orders");
  assert.ok(channel);
  const file = openChannelFile(directory, channel);
  // As if it had been stopped with the lock, before it moved `claimed`.
  const [{ words }] = file.lanes;
  words[claimWord.claiming] = words[claimWord.claimed] ?? 0;
  Atomics.store(words, claimWord.lock, lockedBy(producerParty(0), first.child.pid));
  file.unmap();
  const second = startStanding(t, { directory, service: "second" });
  await second.told("active");
  await first.gone;
  assert.equal(first.child.signalCode, "SIGKILL");
  await ledger.through(1000);
});

test("a producer that has nothing to publish, or waits for room, is not silent", async (t) => {
  const directory = makeDirectory(t);
  const idle = startStanding(t, { directory, service: "first", kind: "nap" });
  await idle.told("active");
  const second = startStanding(t, { directory, service: "second" });
  await pause(producerTimeoutMs * 3);
  assert.deepEqual(second.reports, []);
  idle.child.kill("SIGKILL");
  await second.told("active");
  // Nobody reads, so it waits for room now.
  const third = startStanding(t, { directory, service: "first" });
  await pause(producerTimeoutMs * 3);
  assert.deepEqual(third.reports, []);
});

test("a producer that blocks its thread while it waits for room is not silent", async (t) => {
  const directory = makeDirectory(t);
  using bus = openAs(directory, "first");
  const publisher = bus.publisher("orders");
  while (publisher.offer(new Uint8Array(400)) > 0);
  const second = startStanding(t, { directory, service: "second" });
  publisher.waitForRoomBlocking(400, producerTimeoutMs * 4);
  await pause(100);
  assert.deepEqual(second.reports, []);
});

test("of two that ask at once, the one that the channel names first writes", async (t) => {
  const directory = makeDirectory(t);
  using first = openAs(directory, "first");
  using second = openAs(directory, "second");
  const over = new AbortController();
  const waiting = second.standby("orders", over.signal);
  const rejected = assert.rejects(waiting, { name: "AbortError" });
  await pause(50);
  const publisher = await first.standby("orders", over.signal);
  assert.equal(publisher.offer(new Uint8Array(8)), 1);
  assert.throws(
    () => second.publisher("orders"),
    (error) => isGaplessError(error, "FENCED"),
  );
  await pause(50);
  over.abort();
  await rejected;
});

test("a producer that has finished is not taken over, and one that left otherwise is", async (t) => {
  const directory = makeDirectory(t);
  using first = openAs(directory, "first");
  using second = openAs(directory, "second");
  const over = new AbortController();
  let hasTaken = false;
  const publisher = first.publisher("orders");
  publisher.offer(new Uint8Array(8));
  const waiting = second.standby("orders", over.signal).then((end) => {
    hasTaken = true;
    return end;
  });
  publisher.finish();
  publisher.close();
  await pause(100);
  assert.equal(hasTaken, false);
  // It comes back, so there is something to follow after all, and then it is gone.
  first.publisher("orders").close();
  assert.equal((await waiting).last()?.length, 8);
  over.abort();
});

test("a bus that is closed while it stands by says so", async (t) => {
  const directory = makeDirectory(t);
  using first = openAs(directory, "first");
  first.publisher("orders");
  const second = openAs(directory, "second");
  const waiting = second.standby("orders", new AbortController().signal);
  const rejected = assert.rejects(waiting, { code: "CLOSED" });
  await pause(30);
  second.close();
  await rejected;
});
