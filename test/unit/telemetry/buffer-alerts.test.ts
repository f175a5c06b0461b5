/** The alerts on buffers that ship, as Prometheus itself reads and evaluates them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import test from "node:test";

const rules = path.join(import.meta.dirname, "../../../docs/monitoring/msg-buffer.rules.yaml");
const expected = path.join(import.meta.dirname, "msg-buffer.alerts.yaml");

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0;
const skip = hasPromtool ? false : "needs promtool, which comes with Prometheus";

function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("promtool", args, { encoding: "utf8" });
  assert.equal(status, 0, `${stdout}${stderr}`);
  return stdout;
}

test("Prometheus takes the rules", { skip }, () => {
  assert.match(promtool("check", "rules", rules), /SUCCESS: 4 rules found/);
});

test(
  "a loss, a lag and failing calls are told, and what is as it should be is not",
  { skip },
  () => {
    assert.match(promtool("test", "rules", expected), /SUCCESS/);
  },
);
