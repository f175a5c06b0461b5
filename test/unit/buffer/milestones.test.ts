import assert from "node:assert/strict";
import test from "node:test";
import { Milestones } from "../../../src/buffer/milestones.ts";

const mebibyte = 1024 * 1024;

test("trims delete once for every 16 MiB appended, however small they are", () => {
  const milestones = new Milestones(0n, 0n);
  const deletedThrough: bigint[] = [];
  for (let id = 1n; id <= 1000n; id++) {
    milestones.appended(id, mebibyte);
    const milestone = milestones.pass(id - 1n);
    if (milestone !== undefined) deletedThrough.push(milestone);
  }
  assert.equal(deletedThrough.length, 62);
  assert.deepEqual(deletedThrough.slice(0, 3), [16n, 32n, 48n]);
});

test("a trim over several milestones deletes through the newest of them", () => {
  const milestones = new Milestones(0n, 0n);
  for (let id = 1n; id <= 100n; id++) milestones.appended(id, 4 * mebibyte);
  assert.equal(milestones.pass(3n), undefined);
  assert.equal(milestones.pass(11n), 8n);
  assert.equal(milestones.pass(11n), undefined);
  assert.equal(milestones.pass(100n), 100n);
});

test("what was there at opening is deleted in sixteen steps, few ids in fewer", () => {
  const milestones = new Milestones(100n, 1700n);
  const deletedThrough: bigint[] = [];
  for (let id = 101n; id <= 1700n; id++) {
    const milestone = milestones.pass(id);
    if (milestone !== undefined) deletedThrough.push(milestone);
  }
  assert.equal(deletedThrough.length, 16);
  assert.equal(deletedThrough.at(-1), 1700n);
  assert.equal(new Milestones(7n, 9n).pass(9n), 9n);
  assert.equal(new Milestones(7n, 7n).pass(7n), undefined);
});
