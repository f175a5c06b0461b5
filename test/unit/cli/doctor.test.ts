import assert from "node:assert/strict";
import { spawnSync, type SpawnSyncReturns } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";

const program = path.join(import.meta.dirname, "../../../src/cli/gapless.ts");

function doctor(...args: string[]): SpawnSyncReturns<string> {
  const command = ["--conditions=source", program, "bus", "doctor", ...args];
  const env = { ...process.env };
  delete env["FORCE_COLOR"];
  return spawnSync(process.execPath, command, { encoding: "utf8", env });
}

test("the doctor has a line for each finding on this machine, and no colour in a pipe", () => {
  const { status, stdout, stderr } = doctor("--directory", os.tmpdir());
  assert.equal(status, 0, stderr);
  const lines = stdout.trimEnd().split("\n");
  for (const line of lines) assert.match(line, /^(ok {6}|advice {2}| {8}(why|now|always) )[ -~]+$/);
  assert.ok(lines.some((line) => line.includes(os.release())));
  assert.ok(lines.every((line) => line.length <= 100));
});

test("for programs the doctor gives facts and findings", () => {
  const { status, stdout } = doctor("--json");
  assert.equal(status, 0);
  const { facts, findings } = JSON.parse(stdout) as {
    facts: { kernel: string; directory: { path: string } };
    findings: { subject: string; found: string; why: string }[];
  };
  assert.equal(facts.kernel, os.release());
  assert.equal(facts.directory.path, "/dev/shm");
  assert.ok(findings.some(({ subject, why }) => subject === "/dev/shm" && why !== ""));
});

test("a directory that is not there, or an option that is not, is a wrong command line", () => {
  const missing = doctor("--directory", path.join(os.tmpdir(), "no", "such", "directory"));
  assert.equal(missing.status, 2);
  assert.match(missing.stderr, /CONFIG_INVALID: command line: --directory: expected a directory/);
  assert.equal(doctor("--nothing").status, 2);
});
