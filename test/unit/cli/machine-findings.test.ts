import assert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";
import { test } from "node:test";
import { formatFindings } from "../../../src/cli/doctor.ts";
import { examineMachine, type Finding } from "../../../src/cli/machine-findings.ts";
import type { MachineFacts } from "../../../src/memory/facts.ts";

const gibibyte = 2 ** 30;
const page = { pageBytes: 2 ** 21, pagesTotal: 512, pagesFree: 500 };

const good: MachineFacts = {
  kernel: "6.1.0-18-amd64",
  cpus: [0, 1, 2, 3, 4, 5, 6, 7],
  isolatedCpus: [2, 3, 5],
  ticklessCpus: [2, 3, 5],
  governors: ["performance"],
  numaNodes: [0],
  hugePagePools: [page],
  hugePageMounts: [{ directory: "/dev/hugepages", pageBytes: 2 ** 21 }],
  sharedHugePages: "never",
  directory: {
    path: "/dev/shm",
    mountedAt: "/dev/shm",
    type: "tmpfs",
    options: ["rw"],
    bytesTotal: 16 * gibibyte,
    bytesFree: 15 * gibibyte,
  },
  groupId: 1000,
  lockedBytesMax: undefined,
  swaps: [],
};

const bad: MachineFacts = {
  ...good,
  kernel: "5.10.0",
  isolatedCpus: [],
  ticklessCpus: [],
  governors: ["powersave", "performance"],
  numaNodes: [0, 1],
  hugePagePools: [{ ...page, pagesTotal: 0, pagesFree: 0 }],
  hugePageMounts: [],
  directory: { ...good.directory, bytesTotal: 2 ** 26, bytesFree: 2 ** 26 },
  swaps: ["/dev/nvme0n1p3"],
};

function find(facts: MachineFacts, subject: string): Finding {
  const finding = examineMachine(facts).find((one) => one.subject === subject);
  assert.ok(finding !== undefined, subject);
  return finding;
}

test("a machine that lacks nothing gets no advice", () => {
  const findings = examineMachine(good);
  assert.deepEqual(
    findings.filter(({ advice }) => advice !== undefined),
    [],
  );
  assert.equal(find(good, "isolated CPUs").found, "2-3,5 of 8; without timer interrupts: 2-3,5");
});

test("a machine that lacks everything gets advice on everything", () => {
  for (const { subject, advice } of examineMachine(bad)) {
    assert.ok((advice?.always.length ?? 0) > 0, subject);
  }
});

test("advice fits where it is read", () => {
  const cannotTell = { ...bad, hugePagePools: [], sharedHugePages: undefined };
  const denied = { ...bad, cpus: [0, 1], sharedHugePages: "deny" };
  const onDisk = { ...good, directory: { ...good.directory, path: "/var/lib/bus", type: "ext4" } };
  for (const facts of [good, bad, cannotTell, denied, onDisk]) {
    const lines = stripVTControlCharacters(formatFindings(examineMachine(facts))).split("\n");
    assert.deepEqual(
      lines.filter((line) => line.length > 100),
      [],
    );
    assert.equal(lines.filter((line) => /^(ok|advice) /.test(line)).length, 8);
  }
});

test("who has huge pages but no place for files of them is told of the place alone", () => {
  const { found, advice } = find({ ...good, hugePageMounts: [] }, "huge pages");
  assert.equal(found, "500 free of 512 of 2 MB; mounted nowhere that you may write");
  assert.deepEqual(advice, {
    now: [
      "mkdir -p /dev/hugepages",
      "mount -t hugetlbfs -o pagesize=2M,mode=0770,gid=1000 none /dev/hugepages",
    ],
    always: ["in /etc/fstab: none /dev/hugepages hugetlbfs pagesize=2M,mode=0770,gid=1000 0 0"],
  });
});

test("shared memory that is full is made larger than it is", () => {
  const full = { ...good.directory, bytesTotal: 16 * gibibyte, bytesFree: 0 };
  const { found, advice } = find({ ...good, directory: full }, "/dev/shm");
  assert.equal(found, "0 MB free of 16 GB, tmpfs");
  assert.deepEqual(advice?.now, ["mount -o remount,size=18G /dev/shm"]);
});

test("the later half of the CPUs is to be isolated, or those that are", () => {
  const parameters = (facts: MachineFacts): string =>
    find(facts, "isolated CPUs").advice?.always[1]?.trim() ?? "";
  assert.equal(parameters(bad), "isolcpus=domain,managed_irq,4-7 nohz_full=4-7 rcu_nocbs=4-7");
  assert.match(parameters({ ...good, ticklessCpus: [] }), / nohz_full=2-3,5 /);
});

test("an older kernel makes huge pages of shared memory only where it was mounted for them", () => {
  const older = { ...good, kernel: "5.15.0-91-generic" };
  const subject = "transparent huge pages";
  assert.deepEqual(find(older, subject).advice?.now, [
    "mount -o remount,huge=within_size /dev/shm",
  ]);
  const options = ["rw", "huge=within_size"];
  const mounted = { ...older, directory: { ...older.directory, options } };
  assert.equal(find(mounted, subject).advice, undefined);
});
