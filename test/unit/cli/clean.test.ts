/** What `gapless clean` removes, and what it leaves. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { shmDirectoryOf } from "../../../src/supervise/run-directory.ts";
import { makeDirectory } from "../../support/bus-channel.ts";
import { gapless } from "../../support/bus-command.ts";
import { openTrades } from "../../support/bus-seen.ts";

function clean(directory: string, ...flags: string[]): string {
  const { status, stdout, stderr } = gapless("clean", "--directory", directory, ...flags);
  assert.equal(status, 0, stderr);
  return stdout;
}

/** Of a process that is gone. */
function deadPid(): number {
  return spawnSync("true").pid;
}

test("what is half made by the dead goes, by the living stays", (t) => {
  const directory = makeDirectory(t);
  const dead = `trades.ring.${deadPid()}-0.tmp`;
  const living = `trades.ring.${process.pid}-0.tmp`;
  for (const name of [dead, living]) fs.writeFileSync(path.join(directory, name), "");
  assert.match(clean(directory, "--dry-run"), new RegExp(`would remove  ${dead}: process`));
  assert.equal(fs.readdirSync(directory).length, 2);
  const said = clean(directory);
  assert.match(said, new RegExp(`^removed  ${dead}: process \\d+ died while it made it$`, "m"));
  assert.match(said, new RegExp(`^left     ${living}: process ${process.pid} is making it$`, "m"));
  assert.deepEqual(fs.readdirSync(directory), [living]);
});

test("a channel goes once nobody has it open and everything was read, and not before", (t) => {
  const directory = makeDirectory(t);
  const engine = openTrades(directory, "engine");
  const publisher = engine.publisher("trades");
  publisher.offer(new Uint8Array(8));
  publisher.close();
  // Without an end the process may still take one at any time.
  const inUse = new RegExp(`^left     trades.ring: process ${process.pid} opened it$`, "m");
  assert.match(clean(directory, "--force"), inUse);
  engine.close();
  assert.match(clean(directory), /^left {5}trades\.ring: ledger has still to read 1$/m);
  {
    using ledger = openTrades(directory, "ledger");
    const subscriber = ledger.subscriber("trades");
    subscriber.read();
    subscriber.release();
  }
  assert.match(
    clean(directory, "--dry-run"),
    /^would remove {2}trades\.ring: nobody has opened it/m,
  );
  assert.match(clean(directory), /^removed {2}trades\.ring/m);
  assert.deepEqual(fs.readdirSync(directory), []);
  assert.match(clean(directory), /^There is nothing to remove in /);
});

test("what is unread, or cannot be read, goes by force alone", (t) => {
  const directory = makeDirectory(t);
  {
    using engine = openTrades(directory, "engine");
    engine.publisher("trades").offer(new Uint8Array(8));
  }
  fs.writeFileSync(path.join(directory, "damaged.ring"), new Uint8Array(10_000));
  const said = clean(directory);
  assert.match(said, /^left {5}damaged\.ring: .* does not begin with GAPLRING/m);
  assert.match(said, /^left {5}trades\.ring: ledger has still to read 1$/m);
  clean(directory, "--force");
  assert.deepEqual(fs.readdirSync(directory), []);
});

test("a channel of a process that was killed is nobody's", async (t) => {
  const directory = makeDirectory(t);
  const program = `
    import { openTrades } from ${JSON.stringify(
      path.join(import.meta.dirname, "../../support/bus-seen.ts"),
    )};
    globalThis.bus = openTrades(process.argv[1], "engine");
    bus.publisher("trades");
    console.log("open");
    setInterval(() => undefined, 1000);`;
  const args = ["--conditions=source", "--input-type=module", "-e", program, directory];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  assert.match(clean(directory), new RegExp(`^left     trades.ring: process ${child.pid ?? 0} `));
  child.kill("SIGKILL");
  await once(child, "close");
  assert.match(clean(directory), /^removed {2}trades\.ring/);
});

test("a run that was killed leaves a directory, which goes whole", (t) => {
  const data = makeDirectory(t);
  const shm = shmDirectoryOf(data);
  fs.mkdirSync(shm);
  t.after(() => fs.rmSync(shm, { recursive: true, force: true }));
  const owner = { pid: deadPid(), startTicks: 1, bootId: "0" };
  fs.writeFileSync(path.join(shm, "owner.json"), JSON.stringify(owner));
  const { stdout } = gapless("clean", "--data", data);
  assert.equal(stdout, `removed  ${shm}: the run that it was of is dead\n`);
  assert.ok(!fs.existsSync(shm));
});
