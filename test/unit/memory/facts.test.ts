import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { readMachineFacts } from "../../../src/memory/facts.ts";
import { describePool, makeSystemTree } from "../../support/system-tree.ts";

const mounts = [
  "/dev/mapper/root / ext4 rw,relatime,errors=remount-ro 0 0",
  "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0",
  "tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=65536k,huge=advise 0 0",
  "hugetlbfs /dev/nowhere\\040at\\040all hugetlbfs rw,relatime,gid=36,mode=1770,pagesize=2M 0 0",
].join("\n");

test("a server with everything set is read as it is", (context) => {
  const root = makeSystemTree(context, {
    "proc/mounts": mounts,
    "proc/sys/kernel/osrelease": "6.1.0-18-amd64",
    "proc/swaps":
      "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
      "/dev/nvme0n1p3                          partition\t16777212\t0\t\t-2\n" +
      "/swap.img                               file\t\t4194300\t\t0\t\t-3",
    "proc/self/limits": [
      "Limit                     Soft Limit           Hard Limit           Units     ",
      "Max processes             127236               127236               processes ",
      "Max locked memory         8388608              unlimited            bytes     ",
    ].join("\n"),
    "sys/devices/system/cpu/online": "0-3,8-11",
    "sys/devices/system/cpu/isolated": "2-3,11",
    "sys/devices/system/cpu/nohz_full": "2-3",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor": "performance",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance",
    "sys/devices/system/node/online": "0-1",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled":
      "always within_size [advise] never deny force",
    ...describePool(2048, { total: 512, free: 500, reserved: 8 }),
    ...describePool(1048576, { total: 0, free: 0 }),
  });
  const { directory, ...facts } = readMachineFacts("/", root);
  assert.deepEqual(facts, {
    kernel: "6.1.0-18-amd64",
    cpus: [0, 1, 2, 3, 8, 9, 10, 11],
    isolatedCpus: [2, 3, 11],
    ticklessCpus: [2, 3],
    governors: ["powersave", "performance"],
    numaNodes: [0, 1],
    hugePagePools: [
      { pageBytes: 2 ** 30, pagesTotal: 0, pagesFree: 0 },
      { pageBytes: 2 ** 21, pagesTotal: 512, pagesFree: 492 },
    ],
    // There is one, but not for this process.
    hugePageMounts: [],
    sharedHugePages: "advise",
    groupId: process.getgid?.(),
    lockedBytesMax: 8388608,
    swaps: ["/dev/nvme0n1p3", "/swap.img"],
  });
  assert.equal(directory.type, "ext4");
  assert.deepEqual(directory.options, ["rw", "relatime", "errors=remount-ro"]);
});

test("a kernel that tells nothing has nothing", (context) => {
  const facts = readMachineFacts("/", makeSystemTree(context, {}));
  assert.deepEqual(
    { ...facts, directory: facts.directory.type },
    {
      kernel: "",
      cpus: [],
      isolatedCpus: [],
      ticklessCpus: [],
      governors: [],
      numaNodes: [],
      hugePagePools: [],
      hugePageMounts: [],
      sharedHugePages: undefined,
      directory: "unknown",
      groupId: process.getgid?.(),
      lockedBytesMax: undefined,
      swaps: [],
    },
  );
});

test("a word of the kernel where a list is expected is an empty list", (context) => {
  // This is what nohz_full reads as where it was never set.
  const files = { "sys/devices/system/cpu/nohz_full": "(null)", "proc/self/limits": "unlimited" };
  const facts = readMachineFacts("/", makeSystemTree(context, files));
  assert.deepEqual(facts.ticklessCpus, []);
  assert.equal(facts.lockedBytesMax, undefined);
});

test("a directory is in the innermost mount, and in the newest of several there", (context) => {
  const directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "gapless-facts-")));
  context.after(() => fs.rmSync(directory, { recursive: true }));
  const link = `${directory}-link`;
  fs.symlinkSync(directory, link);
  context.after(() => fs.rmSync(link));
  const root = makeSystemTree(context, {
    "proc/mounts": [
      "none / ext4 rw 0 0",
      `none ${directory} ramfs rw 0 0`,
      `none ${directory} tmpfs rw,size=1g 0 0`,
      `none ${directory}-not ext3 rw 0 0`,
      "none / overlay rw 0 0",
    ].join("\n"),
  });
  const found = readMachineFacts(link, root).directory;
  assert.equal(found.path, directory);
  assert.equal(found.mountedAt, directory);
  assert.equal(found.type, "tmpfs");
  assert.equal(readMachineFacts("/", root).directory.type, "overlay");
});

test("this machine is read without a word of parsing gone wrong", () => {
  const facts = readMachineFacts(os.tmpdir());
  assert.equal(facts.kernel, os.release());
  assert.ok(facts.cpus.length >= os.availableParallelism());
  assert.ok(facts.directory.bytesTotal >= facts.directory.bytesFree);
  assert.notEqual(facts.directory.type, "unknown");
  for (const { pageBytes, pagesTotal, pagesFree } of facts.hugePagePools) {
    assert.equal(Math.log2(pageBytes) % 1, 0);
    assert.ok(pagesTotal >= 0 && pagesFree >= 0);
  }
});
