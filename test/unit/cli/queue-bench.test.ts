/** What `gapless queue bench` measures, and that it leaves nothing. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import test from "node:test";
import { gapless, startGapless } from "../../support/bus-command.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

test("it appends, reads back and flushes, and removes what it has made", (t) => {
  const directory = makeFastDirectory(t);
  const args = ["queue", "bench", directory, "--seconds", "1", "--max-bytes", "16MB"];
  const text = gapless(...args);
  assert.equal(text.status, 0, text.stderr);
  const lines = text.stdout.trimEnd().split("\n");
  assert.match(lines[0] ?? "", /^payloads of 64 B, sums: fast, in .*gapless-bench-/);
  assert.match(lines[2] ?? "", /^append {3}SIGKILL +[\d.,]+( M)? +\S+ [KMG]B +\S+ [nµm]?s/);
  assert.match(lines[3] ?? "", /^read {5}- +[\d.,]+( M)? +\S+ [KMG]B +- +- +- +-$/);
  assert.match(lines[4] ?? "", /^flush {4}power loss +[\d.,]+( M)? /);
  assert.ok(lines.every((line) => line.length <= 100));
  const json = gapless(...args, "--json", "--size", "1000", "--checksum", "none");
  const figures = json.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { phase: string; messages: number; size: number });
  assert.deepEqual(
    figures.map(({ phase, size }) => [phase, size]),
    [
      ["append", 1000],
      ["read", 1000],
      ["flush", 1000],
    ],
  );
  assert.equal(figures[0]?.messages, figures[1]?.messages);
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("one that is stopped leaves nothing either", async (t) => {
  const directory = makeFastDirectory(t);
  const child = startGapless("queue", "bench", directory, "--seconds", "60", "--max-bytes", "16MB");
  t.after(() => child.kill("SIGKILL"));
  assert.ok(child.stdout);
  await once(child.stdout, "data");
  assert.equal(fs.readdirSync(directory).length, 1);
  child.kill("SIGINT");
  child.stdout.resume();
  assert.deepEqual(await once(child, "exit"), [130, null]);
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("what is no directory, size or kind of sum is a wrong command line", (t) => {
  const directory = makeFastDirectory(t);
  const wrong = [
    ["--seconds", "0"],
    ["--size", "x"],
    ["--max-bytes", "1KB"],
    ["--checksum", "md5"],
  ];
  for (const flags of wrong) {
    assert.equal(gapless("queue", "bench", directory, ...flags).status, 2, flags.join(" "));
  }
  assert.equal(gapless("queue", "bench", `${directory}/none`).status, 2);
});
