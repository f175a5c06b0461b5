/** The examples that a reader of the documents is told to run. */
import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

const examples = path.resolve(import.meta.dirname, "../../examples");
const execute = promisify(execFile);

async function run(program: string, ...words: string[]): Promise<string> {
  const file = path.join(examples, "bus", program);
  const { stdout } = await execute(process.execPath, ["--conditions=source", file, ...words], {
    timeout: 30_000,
  });
  return stdout.trim();
}

test("the example of the bus carries trades and signals, one run after the other", async () => {
  for (let time = 0; time < 2; time++) {
    assert.equal(await run("1-market.ts", "1000"), "1000 trades published");
    const strategies = [run("2-strategy.ts", "arbitrage"), run("2-strategy.ts", "momentum")];
    assert.deepEqual(await Promise.all(strategies), [
      "arbitrage: 500 trades of spot.BTC",
      "momentum: 500 trades of spot.ETH",
    ]);
    const lines = (await run("3-executor.ts")).split("\n");
    assert.equal(lines.length, 4);
    assert.match(lines[0] ?? "", /^\d+ from (arbitrage|momentum): \1: sell, trade \d+$/);
    assert.equal(lines.at(-1), "143 signals");
  }
});

/** A program that is running, and what it has printed. */
class Running {
  readonly lines: string[] = [];
  private readonly program: string;
  private readonly child: ChildProcessByStdio<null, Readable, null>;
  private taken = 0;

  constructor(t: TestContext, program: string, ...words: string[]) {
    this.program = program;
    const file = path.join(examples, program);
    this.child = spawn(process.execPath, ["--conditions=source", file, ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    createInterface({ input: this.child.stdout }).on("line", (line) => this.lines.push(line));
    t.after(() => this.child.kill("SIGKILL"));
  }

  /** Waits for the next line that matches, and returns it. */
  async line(pattern: RegExp): Promise<string> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      while (this.taken < this.lines.length) {
        const line = this.lines[this.taken++] ?? "";
        if (pattern.test(line)) return line;
      }
      const isOver = this.child.exitCode !== null || performance.now() > deadline;
      if (isOver) assert.fail(`${this.program} printed no ${pattern.source}: ${this.lines.join()}`);
      await pause(5);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends it, and returns how it ended. */
  async end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    const exited = once(this.child, "exit");
    this.child.kill(signal);
    await exited;
    return this.child.exitCode ?? this.child.signalCode;
  }
}

test("the strategy of the example trades on a whole book of a living feed, and on no other", async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-example-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const strategy = new Running(t, "queue/strategy.ts", directory);
  const monitor = new Running(t, "queue/monitor.ts", directory);
  await strategy.line(/^WaitingForFeed/);
  await monitor.line(/^no writer yet$/);

  const first = new Running(t, "queue/feed.ts", directory);
  await strategy.line(/^Trading/);
  await monitor.line(/^writer open, epoch 1$/);
  assert.equal(await first.end("SIGKILL"), "SIGKILL");
  await strategy.line(/^WaitingForFeed/);
  await monitor.line(/^writer gone, epoch 1$/);

  // It goes on behind what it published last.
  const second = new Running(t, "queue/feed.ts", directory);
  await strategy.line(/^Trading/);
  await monitor.line(/^writer open, epoch 2$/);
  await second.end("SIGKILL");
  await strategy.line(/^WaitingForFeed/);
  await monitor.line(/^writer gone, epoch 2$/);

  // It goes on with what comes now.
  const third = new Running(t, "queue/feed.ts", directory, "missing");
  await strategy.line(/^Trading/);
  await monitor.line(/^writer open, epoch 3$/);
  await monitor.line(/^\d+ messages, \d+\/s, 1 segments, read by .*strategy \d+/);
  assert.equal(await third.end("SIGTERM"), 0);
  await strategy.line(/^WaitingForFeed/);
  await monitor.line(/^writer closed, epoch 3$/);
  assert.equal(await strategy.end("SIGINT"), 0);
  assert.equal(await monitor.end("SIGINT"), 0);

  const gone = ["all orders cancelled", "WaitingForFeed: writer-lock-lost"];
  const expected = [
    /^Initializing$/,
    /^WaitingForFeed: /,
    /^WaitingForSnapshot: the feed has epoch 1$/,
    /^Trading: on a snapshot/,
    ...gone,
    /^WaitingForSnapshot: the feed has epoch 2$/,
    /^Trading: on the book that it had$/,
    ...gone,
    /^WaitingForSnapshot: the feed has epoch 3$/,
    /^Trading: on a snapshot, [1-9]\d* deltas discarded$/,
    ...gone,
  ];
  assert.equal(strategy.lines.length, expected.length, strategy.lines.join("\n"));
  for (const [index, line] of strategy.lines.entries()) {
    const pattern = expected[index] ?? "";
    if (typeof pattern === "string") assert.equal(line, pattern);
    else assert.match(line, pattern);
  }
});

test("a leader of the example that was killed has what the other one has, once it is back", async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-examples-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const leader = (name: string): Running => new Running(t, "buffer/leader.ts", name, directory);
  const [east, west] = [leader("east"), leader("west")];
  await Promise.all([east.line(/^east: has 0 trades$/), west.line(/^west: has 0 trades$/)]);
  const market = new Running(t, "buffer/market.ts", directory);
  await Promise.all([east.line(/live at/), west.line(/live at/)]);
  await east.line(/^east: [1-9]\d* trades$/);
  assert.equal(await east.end("SIGKILL"), "SIGKILL");
  // More than the ring has room for.
  const before = countIn(await west.line(/^west: [1-9]\d* trades$/));
  while (countIn(await west.line(/^west: \d+ trades$/)) < before + 5000);
  const again = leader("east");
  await again.line(/^east: has [1-9]\d* trades$/);
  const filled = /, (\d+) from the other one$/.exec(await again.line(/live at/))?.[1];
  assert.ok(Number(filled) > 1000, filled);
  assert.equal(await market.end("SIGINT"), 0);
  const address = (name: string): string => `unix:${directory}/${name}.sock`;
  const words = ["buffer", "diff-peers", address("east"), address("west"), "--flow", "trades"];
  const command = path.join(examples, "../src/cli/gapless.ts");
  const { stdout } = await execute(process.execPath, ["--conditions=source", command, ...words]);
  assert.match(stdout, /^same {2}id 1 to \d+, which all have: [\d,]+ messages$/m);
  assert.equal(await again.end("SIGINT"), 0);
  assert.equal(await west.end("SIGTERM"), 0);
});

test("the market of the example ends at Ctrl-C, also while it waits for a leader", async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-examples-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const east = new Running(t, "buffer/leader.ts", "east", directory);
  await east.line(/^east: has 0 trades$/);
  east.signal("SIGSTOP");
  const market = new Running(t, "buffer/market.ts", directory);
  await market.line(/^market: behind trade 0$/);
  // The ring is full within half a second.
  await pause(1000);
  assert.equal(await market.end("SIGINT"), 0);
});

function countIn(line: string): number {
  return Number(/\d+/.exec(line)?.[0]);
}
