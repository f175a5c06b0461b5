/** What all subcommands share. */
import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import test from "node:test";
import { makeDirectory } from "../../support/bus-channel.ts";
import { gaplessInto, startGapless } from "../../support/bus-command.ts";

test("a reader that has seen enough ends a command quietly", async (t) => {
  const directory = makeDirectory(t);
  for (const flags of [["--json"], ["--json", "--watch"], []]) {
    const child = startGapless("bus", "stat", "--directory", directory, ...flags);
    t.after(() => child.kill("SIGKILL"));
    child.stdout?.destroy();
    assert.deepEqual(await once(child, "exit"), [0, null], flags.join(" "));
  }
});

test("an output that there is no room for is told in one line, with its code", () => {
  const full = fs.openSync("/dev/full", "w");
  try {
    const { status, stderr } = gaplessInto(full, "queue", "--help");
    assert.deepEqual([status, stderr.split("\n").length], [1, 2], stderr);
    assert.match(stderr, /^STORAGE_FULL: No room: the output cannot be written: ENOSPC/);
  } finally {
    fs.closeSync(full);
  }
});
