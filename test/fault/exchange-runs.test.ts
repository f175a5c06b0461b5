/** Whole runs under trouble: killed supervisors, full disks, damaged stores, a person's Ctrl-C. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import {
  digestsOf,
  makeDataDirectory,
  runExchange,
  shmLeftovers,
  startExchange,
} from "../support/exchange.ts";
import { mountTinyDisk, tinyDiskRefused } from "../support/tiny-disk.ts";

const orders = ["--count", 6000];
/** Spread over seconds, so that there is a middle to interrupt. */
const slowly = [...orders, "--duration", 30];
const halfway = /feed [1-5],\d{3} /;

test("G5: a supervisor that is killed leaves a run that --resume brings to the same end", async (t) => {
  const data = makeDataDirectory(t);
  const calm = await runExchange(path.join(data, "calm"), orders);
  const killed = startExchange(path.join(data, "run"), slowly);
  await killed.printed(halfway);
  killed.child.kill("SIGKILL");
  await killed.outcome;
  const shm = readOwnerDirectory(killed.child.pid);
  assert.ok(shm !== undefined, "a killed supervisor cannot have cleaned up");
  // Whatever a killed run leaves in shared memory is of no consequence, half a channel too.
  fs.truncateSync(path.join(shm, "trades.ring"), 5000);

  const resumed = await runExchange(path.join(data, "run"), [...orders, "--resume"]);
  assert.equal(resumed.code, 0, resumed.output);
  assert.equal(digestsOf(resumed), digestsOf(calm));
  assert.equal(fs.existsSync(shm), false);
});

test("Ctrl-C drains: what came in is settled, and nothing is left in shared memory", async (t) => {
  const data = makeDataDirectory(t);
  const run = startExchange(data, slowly);
  await run.printed(halfway);
  const shm = readOwnerDirectory(run.child.pid);
  run.child.kill("SIGINT");
  const { code, output, audit } = await run.outcome;
  assert.equal(code, 0, output);
  assert.match(output, /SIGINT: draining/);
  assert.match(output, /audit holds/);
  assert.equal(audit.get("lost"), "0");
  assert.ok(Number.parseInt((audit.get("orders in") ?? "").replaceAll(",", "")) < 6000, output);
  assert.equal(fs.existsSync(shm ?? ""), false);
});

test("a lost journal is written again by the feed, and no trade is made twice", async (t) => {
  const data = makeDataDirectory(t);
  const many = ["--count", 21_000];
  const first = await runExchange(data, many);
  fs.rmSync(path.join(data, "matching-engine", "journal"), { recursive: true });
  const again = await runExchange(data, [...many, "--resume"]);
  assert.equal(again.code, 0, again.output);
  assert.equal(digestsOf(again), digestsOf(first));
});

test("a lost output is written again from the journal, and each trade is in it once", async (t) => {
  const data = makeDataDirectory(t);
  // Enough for a snapshot, which then is ahead of an output that begins anew.
  const many = ["--count", 21_000];
  const first = await runExchange(data, many);
  fs.rmSync(path.join(data, "matching-engine", "output"), { recursive: true });
  const again = await runExchange(data, [...many, "--resume"]);
  assert.equal(again.code, 0, again.output);
  assert.equal(again.audit.get("journalled"), first.audit.get("journalled"));
  assert.equal(digestsOf(again), digestsOf(first));
});

test("a directory that is somebody's is not emptied, and data of other input not gone on with", async (t) => {
  const data = makeDataDirectory(t);
  fs.writeFileSync(path.join(data, "diary.txt"), "dear");
  const foreign = await runExchange(data, orders);
  assert.equal(foreign.code, 2, foreign.output);
  assert.match(foreign.output, /holds what no run has put there: diary\.txt/);
  assert.ok(fs.existsSync(path.join(data, "diary.txt")));

  const run = path.join(data, "run");
  assert.equal((await runExchange(run, ["--count", 500])).code, 0);
  const other = await runExchange(run, ["--count", 500, "--seed", 2, "--resume"]);
  assert.equal(other.code, 2, other.output);
  assert.match(other.output, /run with other options: .*"seed":1.* now .*"seed":2/);
});

test("a second Ctrl-C ends at once, and --resume goes on from there", async (t) => {
  const data = makeDataDirectory(t);
  const calm = await runExchange(path.join(data, "calm"), orders);
  const run = startExchange(path.join(data, "run"), slowly);
  await run.printed(halfway);
  run.child.kill("SIGTERM");
  await run.printed(/draining/);
  run.child.kill("SIGTERM");
  const { code } = await run.outcome;
  assert.ok(code === 130 || code === 0, `code ${code ?? "none"}`);
  const resumed = await runExchange(path.join(data, "run"), [...orders, "--resume"]);
  assert.equal(resumed.code, 0, resumed.output);
  assert.equal(digestsOf(resumed), digestsOf(calm));
});

test("a damaged RocksDB ends the run with what to do, and the journal brings the trades back", async (t) => {
  const data = makeDataDirectory(t);
  // Enough for a snapshot, which then is ahead of a buffer that begins anew.
  const orders = ["--count", 21_000];
  const first = await runExchange(data, orders);
  assert.equal(first.code, 0, first.output);
  const trades = path.join(data, "matching-engine", "trades");
  for (const name of fs.readdirSync(trades, { recursive: true, encoding: "utf8" })) {
    if (path.basename(name).startsWith("MANIFEST")) fs.truncateSync(path.join(trades, name), 10);
  }
  const damaged = await runExchange(data, [...orders, "--resume"]);
  assert.equal(damaged.code, 1, damaged.output);
  assert.match(damaged.output, /STORAGE_CORRUPT/);
  assert.ok(damaged.output.includes(trades), damaged.output);

  // What the message says: move it away, and the stage before makes it anew.
  fs.renameSync(trades, `${trades}.damaged`);
  const repaired = await runExchange(data, [...orders, "--resume"]);
  assert.equal(repaired.code, 0, repaired.output);
  assert.equal(digestsOf(repaired), digestsOf(first));
});

test(
  "a full disk ends the run with what to do, and with room it goes on without loss",
  { skip: tinyDiskRefused },
  async (t) => {
    const calm = await runExchange(path.join(makeDataDirectory(t), "calm"), ["--count", 20_000]);
    const disk = mountTinyDisk(t, 64 * 2 ** 20);
    const ballast = path.join(disk, "ballast");
    const data = path.join(disk, "run");
    fs.writeFileSync(ballast, Buffer.alloc(51 * 2 ** 20));
    const full = await runExchange(data, ["--count", 20_000]);
    assert.equal(full.code, 1, full.output);
    assert.match(full.output, /STORAGE_FULL/);
    assert.match(full.output, /[Ff]ree space/);

    fs.rmSync(ballast);
    const resumed = await runExchange(data, ["--count", 20_000, "--resume"]);
    assert.equal(resumed.code, 0, resumed.output);
    assert.equal(digestsOf(resumed), digestsOf(calm));
  },
);

test("two runs cannot share a data directory", async (t) => {
  const data = makeDataDirectory(t);
  const run = startExchange(data, slowly);
  await run.printed(halfway);
  const second = await runExchange(data, orders);
  assert.equal(second.code, 1, second.output);
  assert.match(second.output, /ALREADY_OPEN.*pid=/);
  run.child.kill("SIGINT");
  const { code, output } = await run.outcome;
  assert.equal(code, 0, output);
});

/** The directory in shared memory whose owner is this process. */
function readOwnerDirectory(pid: number | undefined): string | undefined {
  return shmLeftovers()
    .map((name) => path.join("/dev/shm", name))
    .find((directory) => {
      try {
        const owner = fs.readFileSync(path.join(directory, "owner.json"), "utf8");
        return (JSON.parse(owner) as { pid: number }).pid === pid;
      } catch {
        return false;
      }
    });
}
