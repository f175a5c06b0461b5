/** A spoilt control block is an error or does no harm: it never crashes or hangs an end. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { makeDirectory, type Settings } from "../../support/bus-channel.ts";

const run = promisify(execFile);
const program = path.join(import.meta.dirname, "../../support/bus-damage.ts");

const channels: [what: string, settings: Settings][] = [
  ["one producer", { failedConsumer: "evict" }],
  ["one producer that drops its oldest", { keys: { backpressure: { mode: "DropOldest" } } }],
  ["several producers", { failedConsumer: "evict", producers: ["engine", "router"] }],
];

for (const [what, settings] of channels) {
  test(`any byte of the control block flipped is an error or does no harm: ${what}`, async (t) => {
    const directory = makeDirectory(t);
    const progress = path.join(directory, "progress");
    const args = ["--conditions=source", program, directory, progress, JSON.stringify(settings)];
    const { stdout } = await run(process.execPath, args, { timeout: 90_000 }).catch(
      (error: unknown) =>
        assert.fail(`${fs.readFileSync(progress, "utf8").trim()}: ${String(error)}`),
    );
    const lines = stdout.trim().split("\n");
    assert.match(lines.pop() ?? "", /^cases=\d{4,}$/);
    assert.deepEqual(lines.slice(0, 10), []);
  });
}
