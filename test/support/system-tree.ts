/** A tree of files such as the kernel has in /proc and /sys, as text: parsing without a machine. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

export function makeSystemTree(
  context: TestContext,
  files: Readonly<Record<string, string>>,
): string {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-system-tree-"));
  context.after(() => fs.rmSync(root, { recursive: true, force: true }));
  for (const [file, text] of Object.entries(files)) {
    fs.mkdirSync(path.join(root, path.dirname(file)), { recursive: true });
    fs.writeFileSync(path.join(root, file), `${text}\n`);
  }
  return root;
}

/** The files of one pool of huge pages. */
export function describePool(
  kibibytes: number,
  counts: { total: number; free: number; reserved?: number; overcommit?: number; surplus?: number },
): Record<string, string> {
  const folder = `sys/kernel/mm/hugepages/hugepages-${kibibytes}kB`;
  return {
    [`${folder}/nr_hugepages`]: String(counts.total),
    [`${folder}/free_hugepages`]: String(counts.free),
    [`${folder}/resv_hugepages`]: String(counts.reserved ?? 0),
    [`${folder}/nr_overcommit_hugepages`]: String(counts.overcommit ?? 0),
    [`${folder}/surplus_hugepages`]: String(counts.surplus ?? 0),
  };
}
