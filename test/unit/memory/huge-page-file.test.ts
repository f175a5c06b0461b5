import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import {
  createHugePageFile,
  createMemoryFile,
  removeAbandonedFiles,
  removeHugePageFiles,
} from "../../../src/memory/huge-page-file.ts";
import { findHugePageMount } from "../../../src/memory/huge-pages.ts";
import { mapFile } from "../../../src/memory/mapping.ts";
import { grantWishes } from "../../../src/memory/wishes.ts";
import {
  hugePageBytes,
  hugePagesRefused,
  mountHugePages,
  readPool,
} from "../../support/huge-page-mount.ts";

const skip = hugePagesRefused;
const wishes = { hugePages: true, numaNode: undefined, prefault: true };
const fill = (buffer: ArrayBuffer): void => void new Uint8Array(buffer).fill(7);

function makeDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-huge-page-file-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test(
  "a file of huge pages is whole, shared, and under the name it was asked for",
  { skip },
  (t) => {
    const directory = mountHugePages(t, 4);
    const mount = { directory, pageBytes: hugePageBytes };
    const filePath = path.join(makeDirectory(t), "ring");
    assert.ok(createHugePageFile(filePath, hugePageBytes + 16_384, fill, mount));
    const mapping = mapFile(filePath, 8);
    assert.equal(mapping.pageBytes, hugePageBytes);
    assert.equal(mapping.buffer.byteLength, 2 * hugePageBytes);
    assert.deepEqual(grantWishes(mapping, { ...wishes, numaNode: 0 }), []);
    assert.ok(new Uint8Array(mapping.buffer).every((byte) => byte === 7));

    const words = new Int32Array(mapping.buffer);
    Atomics.store(words, 0, 41);
    const peer = path.join(import.meta.dirname, "mapping-peer.ts");
    assert.equal(spawnSync(process.execPath, [peer, filePath]).status, 0);
    assert.equal(Atomics.load(words, 1), 42);

    assert.equal(createHugePageFile(filePath, hugePageBytes, fill, mount), false);
    assert.equal(Atomics.load(words, 1), 42);
    assert.equal(fs.readdirSync(directory).length, 1);
    mapping.unmap();
    removeHugePageFiles(path.dirname(filePath));
    assert.deepEqual(fs.readdirSync(directory), []);
    assert.throws(
      () => mapFile(filePath, 8),
      (error) => isGaplessError(error, "STORAGE_CORRUPT") && error.message.includes(directory),
    );
  },
);

test("too few huge pages are an error, and give back what they took", { skip }, (t) => {
  const directory = mountHugePages(t, 2);
  const mount = { directory, pageBytes: hugePageBytes };
  const filePath = path.join(makeDirectory(t), "ring");
  const free = readPool("free_hugepages");
  assert.throws(
    () => createHugePageFile(filePath, 3 * hugePageBytes, fill, mount),
    (error) => isGaplessError(error, "STORAGE_FULL"),
  );
  assert.deepEqual(fs.readdirSync(directory), []);
  assert.deepEqual(fs.readdirSync(path.dirname(filePath)), []);
  assert.equal(readPool("free_hugepages"), free);
});

test("who wishes for huge pages gets them, or else ordinary ones", { skip }, (t) => {
  const directory = mountHugePages(t, 4);
  const busDirectory = makeDirectory(t);
  const find = (pages: number): string | undefined =>
    findHugePageMount(pages * hugePageBytes)?.directory;
  // The machine may have others mounted, and one of those serves as well.
  const isOnlyOne = find(4) === directory && find(5) === undefined;
  const small = path.join(busDirectory, "small");
  const large = path.join(busDirectory, "large");
  assert.ok(createMemoryFile(small, 3 * hugePageBytes, fill, wishes));
  assert.ok(createMemoryFile(large, 3 * hugePageBytes, fill, wishes));
  assert.equal(fs.statSync(small).size, 3 * hugePageBytes);
  assert.equal(fs.statSync(large).size, 3 * hugePageBytes);
  assert.ok(fs.lstatSync(small).isSymbolicLink());
  if (isOnlyOne) assert.ok(fs.lstatSync(large).isFile());
  removeHugePageFiles(busDirectory);
  assert.ok(!fs.existsSync(small));
});

test("what is not linked any more is removed, but not what may still be", { skip }, (t) => {
  const directory = mountHugePages(t, 4);
  const mount = { directory, pageBytes: hugePageBytes };
  const busDirectory = makeDirectory(t);
  const listed = (): string[] => fs.readdirSync(directory).sort();
  assert.ok(createHugePageFile(path.join(busDirectory, "ring"), hugePageBytes, fill, mount));
  const [own = ""] = listed();
  assert.ok(own.includes("ring."));
  const variant = (changes: Record<string, string>): string =>
    Object.entries(changes).reduce((name, [from, to]) => name.replace(from, to), own);
  const suffix = own.slice(own.lastIndexOf(".") + 1);
  // No process is as old as tick 1, and init is alive.
  const dead = { [suffix]: `${process.pid}-1-0` };
  const initTicks = fs.readFileSync("/proc/1/stat", "latin1").split(") ")[1]?.split(" ")[19];
  const abandoned = [variant(dead), variant({ ...dead, "ring.": "gone%2Fring." })];
  const kept = [
    own,
    variant({ [suffix]: `1-${initTicks ?? ""}-0` }),
    variant({ ...dead, "gapless-": "gapless-1" }),
    "gapless-but-of-somebody-else",
  ].sort();
  for (const name of [...abandoned, ...kept.filter((one) => one !== own)]) {
    fs.writeFileSync(path.join(directory, name), "");
  }
  removeAbandonedFiles(mount);
  assert.deepEqual(listed(), kept);

  // Whoever removes the directory alone keeps the pages only until then.
  fs.rmSync(busDirectory, { recursive: true });
  removeAbandonedFiles(mount);
  assert.deepEqual(
    listed(),
    kept.filter((one) => one !== own),
  );
});
