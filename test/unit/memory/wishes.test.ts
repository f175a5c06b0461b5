import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { createMemoryFile } from "../../../src/memory/huge-page-file.ts";
import { mapFile, type Mapping } from "../../../src/memory/mapping.ts";
import { readHugeBytes, transparentPageBytes } from "../../../src/memory/transparent-pages.ts";
import { grantWishes, type MemoryWishes } from "../../../src/memory/wishes.ts";

const nothing: MemoryWishes = { hugePages: false, numaNode: undefined, prefault: false };
const sharedMemory = "/dev/shm";

function mapNew(context: TestContext, bytes: number, parent = sharedMemory): Mapping {
  const directory = fs.mkdtempSync(path.join(parent, "gapless-wishes-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const filePath = path.join(directory, "memory");
  createMemoryFile(filePath, bytes, () => undefined, nothing);
  const mapping = mapFile(filePath, bytes);
  context.after(() => mapping.unmap());
  return mapping;
}

function readSmaps(): string {
  return fs.readFileSync("/proc/self/smaps", "utf8");
}

function residentBytes({ address }: Mapping): number {
  const [, ofThis = ""] = readSmaps().split(`\n${address.toString(16)}-`);
  return Number(/^Rss: +(\d+) kB$/m.exec(ofThis)?.[1]) * 1024;
}

const [major = 0, minor = 0] = os.release().split(/[.-]/).map(Number);
const isNewerThan = (wantedMajor: number, wantedMinor: number): boolean =>
  major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
const policy = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const cannotCollapse =
  isNewerThan(6, 1) && fs.existsSync(policy) && !/\[deny\]/.test(fs.readFileSync(policy, "utf8"))
    ? false
    : "this kernel makes no transparent huge pages on demand";
const cannotPrefault = isNewerThan(5, 14) ? false : "this kernel cannot prefault a mapped file";

test("nothing wished, nothing touched", (context) => {
  const mapping = mapNew(context, 1024 * 1024);
  assert.deepEqual(grantWishes(mapping, nothing), []);
  assert.equal(residentBytes(mapping), 0);
});

test("what is prefaulted is there before it is touched", { skip: cannotPrefault }, (context) => {
  const bytes = 1024 * 1024;
  const mapping = mapNew(context, bytes);
  assert.deepEqual(grantWishes(mapping, { ...nothing, prefault: true }), []);
  assert.equal(residentBytes(mapping), bytes);
});

test(
  "an ordinary file in shared memory is put into huge pages, but for what is less than one",
  { skip: cannotCollapse },
  (context) => {
    const mapping = mapNew(context, 2 * transparentPageBytes + 16_384);
    assert.equal(mapping.address % BigInt(transparentPageBytes), 0n);
    assert.equal(mapping.pageBytes, 4096);
    new Uint8Array(mapping.buffer).fill(7);
    assert.deepEqual(grantWishes(mapping, { ...nothing, hugePages: true }), []);
    assert.equal(readHugeBytes(mapping.address, readSmaps()), 2 * transparentPageBytes);
    assert.ok(new Uint8Array(mapping.buffer).every((byte) => byte === 7));
  },
);

test("a file is in huge pages before anybody else can see it", { skip: cannotCollapse }, (t) => {
  const directory = fs.mkdtempSync(path.join(sharedMemory, "gapless-wishes-"));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const filePath = path.join(directory, "memory");
  const bytes = 2 * transparentPageBytes;
  createMemoryFile(filePath, bytes, () => undefined, { ...nothing, hugePages: true });
  const mapping = mapFile(filePath, bytes);
  new Uint8Array(mapping.buffer)[0] = 1;
  assert.ok(readHugeBytes(mapping.address, readSmaps()) >= transparentPageBytes);
  mapping.unmap();
});

test("a file smaller than a huge page says so", { skip: cannotPrefault }, (context) => {
  const [unmet, ...others] = grantWishes(mapNew(context, 65_536), { ...nothing, hugePages: true });
  assert.deepEqual(others, []);
  assert.equal(unmet?.wish, "huge_pages");
  assert.match(unmet.reason, /smaller than a huge page/);
});

test("what the kernel does not report as huge is not called so", (context) => {
  const mapping = mapNew(context, transparentPageBytes, os.tmpdir());
  const unmet = grantWishes(mapping, { ...nothing, hugePages: true });
  const isHuge = readHugeBytes(mapping.address, readSmaps()) === transparentPageBytes;
  assert.deepEqual(
    unmet.map(({ wish }) => wish),
    isHuge ? [] : ["huge_pages"],
  );
});

test("memory is bound to a node that there is", { skip: cannotPrefault }, (context) => {
  const online = fs.readFileSync("/sys/devices/system/node/online", "utf8");
  const numaNode = Number(/\d+$/.exec(online.trim())?.[0]);
  const bytes = transparentPageBytes + 16_384;
  const mapping = mapNew(context, bytes);
  const unmet = grantWishes(mapping, { hugePages: false, numaNode, prefault: true });
  if (unmet.length > 0) {
    assert.match(unmet[0]?.reason ?? "", /container|cpuset/);
    return;
  }
  const line = fs
    .readFileSync("/proc/self/numa_maps", "utf8")
    .split("\n")
    .find((one) => one.startsWith(mapping.address.toString(16)));
  assert.match(line ?? "", new RegExp(` bind:${numaNode} .* N${numaNode}=${bytes / 4096} `));
});

test("a node that there is not is named, and so are those that there are", (context) => {
  const online = fs.readFileSync("/sys/devices/system/node/online", "utf8").trim();
  for (const numaNode of [999, 1024, 5000]) {
    const [unmet, ...others] = grantWishes(mapNew(context, 4096), { ...nothing, numaNode });
    assert.deepEqual(others, []);
    assert.equal(unmet?.wish, "numa_node");
    assert.ok(unmet.reason.includes(`no node ${numaNode} on this machine, which has ${online}`));
  }
});

test("a mapping is found among others by its address", () => {
  const smaps = [
    "7f0000000000-7f0000200000 rw-s 00000000 00:1a 5 /dev/shm/other",
    "ShmemPmdMapped:     2048 kB",
    "VmFlags: rd wr sh",
    "7f0000400000-7f0000c00000 rw-s 00000000 00:1a 6 /dev/shm/this",
    "Rss:                8192 kB",
    "ShmemPmdMapped:     4096 kB",
    "FilePmdMapped:      2048 kB",
    "VmFlags: rd wr sh hg",
    "7f0000e00000-7f0001000000 rw-s 00000000 00:1a 5 /dev/shm/other",
    "ShmemPmdMapped:     2048 kB",
  ].join("\n");
  assert.equal(readHugeBytes(0x7f0000400000n, smaps), 6 * 1024 * 1024);
  assert.equal(readHugeBytes(0x7f0000500000n, smaps), 0);
  assert.equal(readHugeBytes(0x7f0000e00000n, smaps), 2 * 1024 * 1024);
});
