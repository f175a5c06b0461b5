/** The exchange as a user runs it: generated and recorded orders, with and without chaos. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { digestsOf, makeDataDirectory, runExchange, startExchange } from "../support/exchange.ts";

const recorded = path.resolve(
  import.meta.dirname,
  "../../../shared/data/bitstamp-btcusd-2015-05-01.log.xz",
);
const noRecording = !fs.existsSync(recorded) && `no recorded orders at ${recorded}`;

/** Kills tell the time by the clock of the lines around them, which are of rounded seconds. */
function checkClock(output: string): void {
  const told = [...output.matchAll(/^ *(\d+) s {2}|chaos: kill .* at (\d+\.\d+) s$/gm)];
  let now = 0;
  for (const [line, seconds, killed] of told) {
    if (killed === undefined) now = Number(seconds);
    else assert.ok(Number(killed) >= now - 0.5, `${line} behind ${now} s\n${output}`);
  }
}

test("G5: with services killed at random, the digests are those of a calm run", async (t) => {
  const data = makeDataDirectory(t);
  const orders = ["--count", 30_000, "--seed", 3];
  const calm = await runExchange(path.join(data, "calm"), orders);
  assert.equal(calm.code, 0, calm.output);
  assert.equal(calm.audit.get("lost"), "0");
  assert.equal(calm.audit.get("duplicated"), "0");
  assert.match(calm.audit.get("gaps filled") ?? "", /^0:/);
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  t.diagnostic(`SEED=${seed}`);
  const chaos = await runExchange(path.join(data, "chaos"), [
    ...orders,
    ...["--chaos", 8, "--chaos-seed", seed],
  ]);
  assert.equal(chaos.code, 0, chaos.output);
  assert.equal([...chaos.output.matchAll(/chaos: kill \d/g)].length, 8, chaos.output);
  assert.equal([...chaos.output.matchAll(/: side (venue|clearing) \(/g)].length, 2, chaos.output);
  assert.equal(digestsOf(chaos), digestsOf(calm), chaos.output);
  checkClock(chaos.output);
});

test("a whole side that is killed fills its gaps from the other one, over gRPC", async (t) => {
  const data = makeDataDirectory(t);
  const orders = ["--count", 100_000, "--seed", 4];
  const calm = await runExchange(path.join(data, "calm"), orders);
  const chaos = await runExchange(path.join(data, "chaos"), [
    ...orders,
    // Who is killed: the feed, analytics twice, and then all that follow the trades.
    ...["--duration", 3, "--chaos", 4, "--chaos-seed", 4],
  ]);
  assert.equal(chaos.code, 0, chaos.output);
  assert.match(chaos.output, /chaos: kill 4: side clearing \(settlement, analytics\)/);
  // Settlement was killed by that alone.
  assert.match(chaos.audit.get("gaps filled") ?? "", /: settlement [1-9]\d* \(.*analytics [1-9]/);
  assert.equal(digestsOf(chaos), digestsOf(calm), chaos.output);
});

test("recorded orders end as they always did, killed or not", { skip: noRecording }, async (t) => {
  const data = makeDataDirectory(t);
  const calm = await runExchange(path.join(data, "calm"), ["--orders", recorded]);
  assert.equal(calm.code, 0, calm.output);
  assert.match(calm.audit.get("orders in") ?? "", /^50,414 \(other 5,586, gone 903\)$/);
  assert.equal(calm.audit.get("trades published"), "550");
  const chaos = await runExchange(path.join(data, "chaos"), [
    ...["--orders", recorded, "--chaos", 6, "--chaos-seed", 11],
  ]);
  assert.equal(chaos.code, 0, chaos.output);
  assert.equal(digestsOf(chaos), digestsOf(calm));
});

test("a bad line of standard input is named by its number, and left out", async (t) => {
  const line = (id: number, side: number): string =>
    "1430438404518 order_created " +
    `{"price": "5.00", "amount": "1.0", "id": ${id}, "order_type": ${side}}`;
  const input = [line(1, 0), "what is this", line(2, 1), line(2, 2), ""].join("\n");
  const { code, output, audit } = await runExchange(
    path.join(makeDataDirectory(t), "run"),
    ["--orders", "-"],
    { input },
  );
  assert.equal(code, 0, output);
  assert.match(
    output,
    /feed: line 2 is malformed and was left out: expected MILLISECONDS KIND JSON/,
  );
  assert.match(output, /feed: line 4 is malformed and was left out: expected order_type 0 or 1/);
  assert.equal(audit.get("orders in"), "2 (malformed 2)");
  assert.equal(audit.get("trades published"), "1");
});

test("an idle exchange uses no measurable CPU", async (t) => {
  // Two orders a minute apart: between them everybody sleeps.
  const run = startExchange(makeDataDirectory(t), ["--count", 512, "--duration", 60]);
  await run.printed(/feed 256 .*\n.*feed 256 /);
  const pids = childrenOf(run.child.pid);
  assert.equal(pids.length, 4);
  const before = pids.map(cpuSeconds);
  await run.printed(/(feed 256 .*\n[^]*){6}/);
  const used = pids.map((pid, index) => cpuSeconds(pid) - (before[index] ?? 0));
  run.child.kill("SIGINT");
  const { code, output } = await run.outcome;
  assert.equal(code, 0, output);
  // Four lines are three seconds and more; a service that polled would use all of them.
  for (const seconds of used) assert.ok(seconds < 0.3, `a service used ${seconds} s`);
});

test("what the command line gets wrong is said before anything starts", async (t) => {
  for (const [args, expected] of [
    [["--sead", 1], /--sead: unknown option[^]*--seed <integer>/],
    [["--seed", "one"], /--seed: expected a whole number of 0 or more, found "one"/],
    [["--seed"], /--seed: expected integer, found nothing/],
    [["--orders", "no/such/file"], /--orders: expected a file, found none at .*no\/such\/file/],
    [["--chaos", "-3"], /--chaos/],
  ] as const) {
    const data = path.join(makeDataDirectory(t), "run");
    const { code, output } = await runExchange(data, args);
    assert.equal(code, 2, output);
    assert.match(output, expected);
    assert.equal(fs.existsSync(data), false);
  }
});

function childrenOf(pid: number | undefined): number[] {
  return fs
    .readFileSync(`/proc/${pid ?? 0}/task/${pid ?? 0}/children`, "utf8")
    .trim()
    .split(" ")
    .map(Number);
}

/** User and system time of a process, from clock ticks of 10 ms. */
function cpuSeconds(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
