/**
 * Producers that are killed with SIGKILL before each atomic operation of a claim and a commit, and
 * within the copying between them: real processes, each type of channel. The others go on within a
 * second; nothing committed is lost, nothing is torn, and what was only claimed is made nothing of.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { openBus, parseChannels, type Bus, type Loss, type Subscriber } from "gapless/bus";
import { openChannelFile } from "../../../src/bus/channel-file.ts";
import type { ChannelTable } from "../../../src/bus/config-schema.ts";
import { readLosses, type RecordedLoss } from "../../../src/bus/losses.ts";
import type { VictimReport, VictimTask } from "../../support/bus-victim.ts";

const program = path.resolve(import.meta.dirname, "../../support/bus-victim.ts");
const types = ["SPSC", "SPMC", "MPSC", "MPMC"] as const;
const channel = "trades";
const committed = 2;
const messageBytes = 400;
/** What the survivor publishes; together with the others it goes round the ring. */
const following = 12;
const goOnMs = 1000;
/** So many victims at a time. */
const atOnce = 3;

interface Received {
  readonly sequence: number;
  readonly number: number;
}

function tableOf(type: (typeof types)[number]): ChannelTable {
  const producers = type.startsWith("M") ? ["victim", "survivor"] : ["victim"];
  const consumers = type.endsWith("MC") ? ["ledger", "risk"] : ["ledger"];
  return {
    [channel]: { type, producers, consumers, buffer_size: "4KB", message_size_max: 496 },
  };
}

/** Runs a victim to its end, and returns what it has told. */
async function die(task: VictimTask): Promise<VictimReport[]> {
  const child = spawn(
    process.execPath,
    ["--conditions=source", "--disable-warning=ExperimentalWarning", program, JSON.stringify(task)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  assert.ok(signal === "SIGKILL" || code === 0, `code=${code ?? ""} signal=${signal ?? ""}`);
  return output
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as VictimReport);
}

/** One consumer, and what it has got. */
class Witness {
  readonly received: Received[] = [];
  readonly losses: Loss[] = [];
  private readonly subscriber: Subscriber;

  constructor(bus: Bus) {
    this.subscriber = bus.subscriber(channel, { onLoss: (loss) => this.losses.push(loss) });
  }

  take(): void {
    this.subscriber.poll(({ bytes }, offset, length) => {
      const [number = 0] = bytes.subarray(offset, offset + 1);
      assert.equal(length, messageBytes);
      const isWhole = bytes.subarray(offset, offset + length).every((byte) => byte === number);
      const { sequence } = this.subscriber.envelope;
      assert.ok(isWhole, `sequence ${sequence} is torn`);
      this.received.push({ sequence, number });
    }, 100);
    this.subscriber.release();
  }

  async wait(timeoutMs: number): Promise<void> {
    await this.subscriber.wait(timeoutMs);
  }
}

/** A victim that dies at a step, and what comes after. Returns whether it did. */
async function playDeath(
  context: TestContext,
  type: (typeof types)[number],
  step: number,
): Promise<boolean> {
  const directory = fs.mkdtempSync("/dev/shm/gapless-test-");
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const channels = tableOf(type);
  const isShared = type.startsWith("M");
  using ledger = openBus({ directory, channels }, { service: "ledger" });
  using risk = type.endsWith("MC")
    ? openBus({ directory, channels }, { service: "risk" })
    : undefined;
  const witnesses = [ledger, risk].flatMap((bus) => (bus === undefined ? [] : [new Witness(bus)]));

  const reports = await die({
    directory,
    channels,
    channel,
    service: "victim",
    committed,
    step,
    bytes: messageBytes,
  });
  const startMs = performance.now();
  const service = isShared ? "survivor" : "victim";
  using bus = openBus({ directory, channels }, { service });
  const publisher = bus.publisher(channel);
  const sent: Received[] = reports.flatMap((report, index) =>
    report.event === "committed" ? [{ sequence: report.sequence, number: index + 1 }] : [],
  );
  for (let number = 101; number <= 100 + following;) {
    const sequence = publisher.offer(new Uint8Array(messageBytes).fill(number));
    if (sequence > 0) sent.push({ sequence, number: number++ });
    for (const witness of witnesses) witness.take();
    // Whoever waits settles what the dead have claimed.
    if (sequence < 0) for (const witness of witnesses) await witness.wait(10);
    assert.ok(performance.now() - startMs < goOnMs, "the producer is held up");
  }
  const last = sent.at(-1)?.sequence ?? 0;
  for (const witness of witnesses) {
    while (witness.received.at(-1)?.sequence !== last) {
      const leftMs = goOnMs - (performance.now() - startMs);
      assert.ok(leftMs > 0, "a consumer is held up");
      await witness.wait(leftMs);
      witness.take();
    }
    checkReceived(witness, sent);
  }
  checkLosses(witnesses, lossesOf(directory, channels), isShared);
  return !reports.some(({ event }) => event === "survived");
}

/** Everything committed, in order; besides it at most what was under way at the death. */
function checkReceived({ received }: Witness, sent: readonly Received[]): void {
  const underWay = committed + 1;
  const isSent = ({ sequence }: Received): boolean => sent.some((one) => one.sequence === sequence);
  assert.deepEqual(received.filter(isSent), sent);
  for (const { number } of received.filter((one) => !isSent(one))) assert.equal(number, underWay);
  received.slice(1).forEach(({ sequence }, index) => {
    assert.ok(sequence > (received[index]?.sequence ?? 0));
  });
}

function lossesOf(directory: string, table: ChannelTable): RecordedLoss[] {
  const settings = parseChannels(table, "test").get(channel);
  assert.ok(settings);
  const file = openChannelFile(directory, settings);
  const losses = readLosses(file.lanes[0]);
  file.unmap();
  return losses;
}

/** Sequences that nobody gets were abandoned, and every consumer is told of them. */
function checkLosses(
  witnesses: readonly Witness[],
  recorded: readonly RecordedLoss[],
  isShared: boolean,
): void {
  const abandoned = recorded.filter(({ cause }) => cause === "abandoned").map(({ from }) => from);
  for (const { losses, received } of witnesses) {
    assert.deepEqual(
      losses.map(({ from, to }) => [from, to]),
      abandoned.map((sequence) => [sequence, sequence]),
    );
    const missing = (received.at(-1)?.sequence ?? 0) - received.length;
    assert.equal(missing, abandoned.length);
  }
  // What one producer claims is nobody's knowledge but its own.
  if (!isShared) assert.equal(abandoned.length, 0);
}

for (const type of types) {
  test(
    `${type}: a producer killed at any step of a message holds nobody up`,
    { timeout: 60_000 },
    async (t) => {
      let deaths = 0;
      for (let step = 0; ; step += atOnce) {
        const steps = Array.from({ length: atOnce }, (_unused, index) => step + index);
        const died = await Promise.all(steps.map((one) => playDeath(t, type, one)));
        deaths += died.filter(Boolean).length;
        if (died.includes(false)) break;
      }
      t.diagnostic(`${deaths} deaths`);
      // Copying alone has two steps, and the tail is stored.
      assert.ok(deaths >= 3);
    },
  );
}
