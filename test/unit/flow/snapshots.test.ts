import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { readSnapshot, writeSnapshot, type Snapshot } from "../../../src/flow/snapshots.ts";

function makeDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-snapshots-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** What is read, and what is said about others. */
function read(
  directory: string,
  isUsable: (snapshot: Snapshot) => boolean = () => true,
): { snapshot: Snapshot | undefined; warnings: string[] } {
  const warnings: string[] = [];
  const snapshot = readSnapshot(directory, isUsable, (text) => warnings.push(text));
  return { snapshot, warnings };
}

function fileOf(directory: string, lastId: bigint): string {
  return path.join(directory, `snapshot-${lastId.toString().padStart(20, "0")}`);
}

test("a state that is ahead of what is stored is passed over for the one before it", (t) => {
  const directory = makeDirectory(t);
  for (const lastId of [5n, 9n]) writeSnapshot(directory, { lastId, state: `state ${lastId}` });
  const { snapshot, warnings } = read(directory, ({ lastId }) => lastId <= 7n);
  assert.deepEqual(snapshot, { lastId: 5n, state: "state 5" });
  assert.match(warnings.join(), /snapshot-0*9 is ahead of what is stored/);
  assert.equal(read(directory, () => false).snapshot, undefined);
});

test("where nothing was kept nothing is read", (t) => {
  assert.deepEqual(read(makeDirectory(t)), { snapshot: undefined, warnings: [] });
});

test("the newest state is read back, by its id and not by its age, and two are kept", (t) => {
  const directory = makeDirectory(t);
  for (const lastId of [5n, 100n, 99n, 2n ** 64n - 1n, 101n]) {
    writeSnapshot(directory, { lastId, state: `state ${lastId} €` });
  }
  assert.deepEqual(read(directory), {
    snapshot: { lastId: 2n ** 64n - 1n, state: `state ${2n ** 64n - 1n} €` },
    warnings: [],
  });
  assert.deepEqual(
    fs.readdirSync(directory).sort(),
    [101n, 2n ** 64n - 1n].map((id) => path.basename(fileOf(directory, id))),
  );
});

test("any state comes back as it was", (t) => {
  const directory = makeDirectory(t);
  const states = fc.oneof(fc.string({ unit: "binary" }), fc.json(), fc.constant(""));
  fc.assert(
    fc.property(states, (state) => {
      writeSnapshot(directory, { lastId: 1n, state });
      assert.deepEqual(read(directory).snapshot, { lastId: 1n, state });
    }),
    { numRuns: 30 },
  );
});

test("a damaged snapshot is passed over for the one before it, and named", (t) => {
  const directory = makeDirectory(t);
  const newest = fileOf(directory, 2n);
  writeSnapshot(directory, { lastId: 1n, state: "one" });
  writeSnapshot(directory, { lastId: 2n, state: "two" });
  const whole = fs.readFileSync(newest);
  const damages = [
    ...Array.from({ length: whole.length }, (_unused, length) => whole.subarray(0, length)),
    ...Array.from(whole.keys(), (index) => {
      const flipped = Buffer.from(whole);
      flipped[index] = (flipped[index] ?? 0) ^ 4;
      return flipped;
    }),
    Buffer.concat([whole, Buffer.from("!")]),
    Buffer.alloc(whole.length),
    Buffer.alloc(40, 0xff),
  ];
  for (const damaged of damages) {
    fs.writeFileSync(newest, damaged);
    const { snapshot, warnings } = read(directory);
    assert.deepEqual(snapshot, { lastId: 1n, state: "one" }, damaged.toString("hex"));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /snapshot-00000000000000000002 is damaged/);
  }
  fs.writeFileSync(fileOf(directory, 1n), "");
  assert.equal(read(directory).snapshot, undefined);
  assert.equal(read(directory).warnings.length, 2);
});

test("files and directories of other names are nobody's snapshot, and are left alone", (t) => {
  const directory = makeDirectory(t);
  writeSnapshot(directory, { lastId: 7n, state: "seven" });
  const whole = fs.readFileSync(fileOf(directory, 7n));
  const others = ["snapshot-x", "snapshot-9", "snapshot-00000000000000000009.bak", "snapshots"];
  for (const name of others) fs.writeFileSync(path.join(directory, name), whole);
  fs.mkdirSync(path.join(directory, "snapshot-directory"));
  for (const lastId of [8n, 9n, 10n]) writeSnapshot(directory, { lastId, state: String(lastId) });
  assert.deepEqual(read(directory).snapshot, { lastId: 10n, state: "10" });
  assert.equal(fs.readdirSync(directory).length, 2 + others.length + 1);
});

for (const [step, newest] of [
  ["snapshot.written", 4n],
  ["snapshot.renamed", 5n],
] as const) {
  test(`G5: a process killed at ${step} leaves ${newest} of 5 as the newest snapshot`, (t) => {
    const directory = makeDirectory(t);
    const program = path.join(import.meta.dirname, "snapshot-writer.ts");
    const { signal } = spawnSync(
      process.execPath,
      ["--conditions=source", program, directory, step, "5"],
      { stdio: "inherit" },
    );
    assert.equal(signal, "SIGKILL");
    assert.deepEqual(read(directory), {
      snapshot: { lastId: newest, state: `state ${newest}` },
      warnings: [],
    });
    // And the next one puts what lies about in order.
    writeSnapshot(directory, { lastId: 6n, state: "six" });
    assert.deepEqual(
      fs.readdirSync(directory).sort(),
      [newest, 6n].map((id) => path.basename(fileOf(directory, id))),
    );
  });
}
