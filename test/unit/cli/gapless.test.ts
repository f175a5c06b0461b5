/** What all subcommands share. */
import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { makeDirectory } from "../../support/bus-channel.ts";
import { startGapless } from "../../support/bus-command.ts";

test("a reader that has seen enough ends a command quietly", async (t) => {
  const directory = makeDirectory(t);
  for (const flags of [["--json"], ["--json", "--watch"], []]) {
    const child = startGapless("bus", "stat", "--directory", directory, ...flags);
    t.after(() => child.kill("SIGKILL"));
    child.stdout?.destroy();
    assert.deepEqual(await once(child, "exit"), [0, null], flags.join(" "));
  }
});
