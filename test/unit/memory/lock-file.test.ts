import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { identifySelf } from "../../../src/memory/process-identity.ts";
import { acquireLock } from "../../../src/memory/lock-file.ts";
import { makeDirectory } from "../queue/scratch.ts";

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
  assert.deepEqual(JSON.parse(fs.readFileSync(lock, "utf8")), identifySelf());
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
