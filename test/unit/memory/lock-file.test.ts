import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { acquireLock, isHeld, readHolder, type LockHolder } from "../../../src/memory/lock-file.ts";
import { identifySelf } from "../../../src/memory/process-identity.ts";
import { makeDirectory } from "../../support/queue-records.ts";

// A process of another boot is dead, whatever runs under its id now.
const dead = { pid: process.pid, startTicks: 1, bootId: "0".repeat(32) };

test("a lock is held once, and free again when it was given back", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  const release = acquireLock(lock);
  assert.throws(() => acquireLock(lock), /ALREADY_OPEN|held by this process/);
  release();
  acquireLock(lock)();
  assert.deepEqual(fs.readdirSync(path.dirname(lock)), []);
});

test("a lock is taken over from the dead, also from one who died taking it over", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  fs.writeFileSync(lock, JSON.stringify(dead));
  fs.writeFileSync(`${lock}.${dead.pid}-1-${dead.bootId}`, JSON.stringify(dead));
  const release = acquireLock(lock);
  assert.partialDeepStrictEqual(readHolder(lock), identifySelf());
  assert.deepEqual(fs.readdirSync(path.dirname(lock)), ["lock"]);
  release();
});

test("nobody takes over while a live process does", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  fs.writeFileSync(lock, JSON.stringify(dead));
  fs.writeFileSync(`${lock}.${dead.pid}-1-${dead.bootId}`, JSON.stringify(identifySelf()));
  assert.throws(
    () => acquireLock(lock),
    (error) => isGaplessError(error, "ALREADY_OPEN"),
  );
  assert.deepEqual(JSON.parse(fs.readFileSync(lock, "utf8")), dead);
});

test("who still sees a dead holder after somebody else took over comes too late", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  fs.writeFileSync(lock, JSON.stringify(identifySelf()));
  const { readFileSync } = fs;
  let stale = true;
  t.mock.method(fs, "readFileSync", (...args: Parameters<typeof readFileSync>) => {
    if (args[0] !== lock || !stale) return readFileSync(...args);
    stale = false;
    return JSON.stringify(dead);
  });
  assert.throws(
    () => acquireLock(lock),
    (error) => isGaplessError(error, "ALREADY_OPEN"),
  );
  assert.deepEqual(fs.readdirSync(path.dirname(lock)), ["lock"]);
});

test("a lock that names nobody is for the operator to look at", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  for (const text of ["", "null", "{}", "[1]", '{"pid":1}']) {
    fs.writeFileSync(lock, text);
    assert.throws(
      () => acquireLock(lock),
      (error) => isGaplessError(error, "STORAGE_CORRUPT"),
    );
  }
});

test("who holds a lock is known, and whether it lives", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  assert.equal(readHolder(lock), undefined);
  assert.equal(isHeld(lock), false);
  fs.writeFileSync(lock, JSON.stringify(dead));
  assert.deepEqual(readHolder(lock), { ...dead, token: "" });
  assert.equal(isHeld(lock), false);
  const release = acquireLock(lock);
  assert.equal(isHeld(lock), true);
  release();
  assert.equal(isHeld(lock), false);
});

test("a live holder keeps its lock unless the one who wants it may replace it", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  const releaseFirst = acquireLock(lock);
  const first = readHolder(lock);
  const asked: LockHolder[] = [];
  const refuse = (holder: LockHolder): boolean => {
    asked.push(holder);
    return false;
  };
  assert.throws(
    () => acquireLock(lock, { mayReplace: refuse }),
    (error) => isGaplessError(error, "ALREADY_OPEN"),
  );
  assert.deepEqual(asked, [first]);
  const releaseSecond = acquireLock(lock, { mayReplace: () => true });
  const second = readHolder(lock);
  assert.notEqual(second?.token, first?.token);

  releaseFirst();
  assert.deepEqual(readHolder(lock), second, "the replaced holder has removed another's lock");
  releaseSecond();
  const releaseThird = acquireLock(lock);
  releaseSecond();
  assert.equal(isHeld(lock), true, "a lock was given back twice");
  releaseThird();
  assert.deepEqual(fs.readdirSync(path.dirname(lock)), []);
});

test("a lock that was removed with its directory is given back without more ado", (t) => {
  const directory = path.join(makeDirectory(t), "queue");
  fs.mkdirSync(directory);
  const release = acquireLock(path.join(directory, "lock"));
  fs.rmSync(directory, { recursive: true });
  release();
  assert.equal(fs.existsSync(directory), false);
});

test("a holder that is being replaced leaves its lock to whoever replaces it", (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  const release = acquireLock(lock);
  const { pid, startTicks, bootId } = identifySelf();
  const guard = `${lock}.${pid}-${startTicks}-${bootId}`;
  fs.writeFileSync(guard, JSON.stringify(identifySelf()));
  release();
  assert.equal(isHeld(lock), true);
});

test("of many who replace a holder that gives its lock back meanwhile, one at most gets it", async (t) => {
  const lock = path.join(makeDirectory(t), "lock");
  const racers = await Promise.all([1, 2, 3].map(() => startRacer(t, lock)));
  let wins = 0;
  for (let round = 0; round < 50; round++) {
    const release = acquireLock(lock);
    const token = readHolder(lock)?.token ?? "";
    const answers = racers.map((ask) => ask(token));
    // At another moment of what they do in each round.
    await new Promise((resolve) => setTimeout(resolve, (round % 10) / 4));
    release();
    const won = (await Promise.all(answers)).filter((answer) => answer === "won").length;
    // All can have come at the moment at which it was given back.
    assert.equal(isHeld(lock), won === 1, `round=${round} won=${won}`);
    wins += won;
    for (const ask of racers) assert.equal(await ask("release"), "released");
    assert.deepEqual(fs.readdirSync(path.dirname(lock)), [], `round=${round}`);
  }
  assert.ok(wins > 0);
});

type Ask = (line: string) => Promise<string>;

async function startRacer(context: TestContext, lock: string): Promise<Ask> {
  const args = [path.join(import.meta.dirname, "lock-racer.ts"), lock];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  const lines = readline.createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  assert.equal(await next(), "ready");
  return (line) => {
    child.stdin.write(`${line}\n`);
    return next();
  };
}
