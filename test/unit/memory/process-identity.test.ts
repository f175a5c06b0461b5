import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import {
  identifySelf,
  isAlive,
  type ProcessIdentity,
} from "../../../src/memory/process-identity.ts";

const deadlineMs = 5000;

function startSleeper(context: TestContext, executable = "sleep"): ChildProcess {
  const child = spawn(executable, ["60"], { stdio: "ignore" });
  context.after(() => child.kill("SIGKILL"));
  return child;
}

/** State and start of a process, read apart from the code under test. */
function readStat(pid: number): { state: string; startTicks: number } {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(") ") + 2).split(" ");
  return { state: fields[0] ?? "", startTicks: Number(fields[19]) };
}

function identify(child: ChildProcess): ProcessIdentity {
  assert.ok(child.pid !== undefined);
  const { bootId } = identifySelf();
  return { pid: child.pid, startTicks: readStat(child.pid).startTicks, bootId };
}

test("this process is alive and names itself the same way every time", () => {
  const self = identifySelf();
  assert.ok(isAlive(self));
  assert.equal(self.pid, process.pid);
  assert.equal(self.startTicks, readStat(process.pid).startTicks);
  assert.match(self.bootId, /^[0-9a-f]{32}$/);
  assert.deepEqual(identifySelf(), self);
});

test("a killed child is dead, as a zombie and after", async (context) => {
  const child = startSleeper(context);
  await once(child, "spawn");
  const identity = identify(child);
  assert.ok(isAlive(identity));

  child.kill("SIGKILL");
  // Without a turn of the event loop nobody reaps it: it stays a zombie for as long as we look.
  const deadline = performance.now() + deadlineMs;
  while (readStat(identity.pid).state !== "Z") assert.ok(performance.now() < deadline);
  assert.equal(isAlive(identity), false);
  assert.equal(readStat(identity.pid).state, "Z");

  await once(child, "close");
  assert.equal(isAlive(identity), false);
});

test("a process that got the number of a dead one is not taken for it", () => {
  const self = identifySelf();
  assert.equal(isAlive({ ...self, startTicks: self.startTicks - 1 }), false);
  assert.equal(isAlive({ ...self, startTicks: self.startTicks + 1 }), false);
});

test("nothing that ran before this boot is alive", () => {
  assert.equal(isAlive({ ...identifySelf(), bootId: "0".repeat(32) }), false);
});

test("a number that no process has is dead", () => {
  // Above the largest that Linux can be set to give out.
  assert.equal(isAlive({ ...identifySelf(), pid: 2 ** 22 + 1 }), false);
});

test("a name with parentheses and blanks does not hide what a process is", async (context) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-identity-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const executable = path.join(directory, "a) Z 1 (b");
  fs.copyFileSync("/bin/sleep", executable);
  const child = startSleeper(context, executable);
  await once(child, "spawn");
  const identity = identify(child);
  assert.ok(isAlive(identity));
  assert.equal(isAlive({ ...identity, startTicks: identity.startTicks + 1 }), false);
  child.kill("SIGKILL");
  await once(child, "close");
  assert.equal(isAlive(identity), false);
});
