import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { findHugePageMount, readHugePagePools } from "../../../src/memory/huge-pages.ts";
import { describePool, makeSystemTree } from "../../support/system-tree.ts";

const kibibyte = 1024;
const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

/** Directories take the place of mounts: their file systems have room for what is asked here. */
function makeMachine(
  context: TestContext,
  pageSizes: readonly string[],
  pools: readonly Record<string, string>[],
): { root: string; places: string[] } {
  const root = makeSystemTree(context, Object.assign({}, ...pools) as Record<string, string>);
  const places = pageSizes.map((size, index) => path.join(root, `huge pages ${index} ${size}`));
  for (const place of places) fs.mkdirSync(place);
  const lines = places.map((place, index) => {
    const escaped = place.replaceAll(" ", "\\040");
    return `none ${escaped} hugetlbfs rw,relatime,pagesize=${pageSizes[index]} 0 0`;
  });
  fs.mkdirSync(path.join(root, "proc"));
  fs.writeFileSync(path.join(root, "proc/mounts"), `none / ext4 rw 0 0\n${lines.join("\n")}\n`);
  return { root, places };
}

test("a file goes where its pages are free", (t) => {
  const { root, places } = makeMachine(t, ["2M"], [describePool(2048, { total: 40, free: 33 })]);
  const mount = { directory: places[0], pageBytes: 2 * mebibyte };
  assert.deepEqual(findHugePageMount(64 * mebibyte + 16 * kibibyte, root), mount);
  assert.equal(findHugePageMount(66 * mebibyte + 1, root), undefined);
  assert.deepEqual(findHugePageMount(20 * kibibyte, root), mount);
});

test("pages that somebody was promised are not free, and those that may be made are", (t) => {
  const promised = { total: 10, free: 10, reserved: 4, overcommit: 5, surplus: 3 };
  const { root } = makeMachine(t, [], [describePool(2048, promised)]);
  assert.deepEqual(readHugePagePools(root), [
    { pageBytes: 2 * mebibyte, pagesTotal: 10, pagesFree: 8 },
  ]);
});

test("larger pages are better, but not where most of one would be wasted", (t) => {
  const pools = [
    describePool(2048, { total: 8192, free: 8192 }),
    describePool(1048576, { total: 16, free: 16 }),
  ];
  const { root } = makeMachine(t, ["2M", "1024M"], pools);
  const pageBytesFor = (bytes: number): number | undefined =>
    findHugePageMount(bytes, root)?.pageBytes;
  assert.equal(pageBytesFor(64 * mebibyte), 2 * mebibyte);
  assert.equal(pageBytesFor(gibibyte), gibibyte);
  assert.equal(pageBytesFor(gibibyte + 16 * kibibyte), 2 * mebibyte);
});

test("a mount of other pages than are free, or that is not there, is no place", (t) => {
  const pools = [describePool(2048, { total: 64, free: 64 })];
  const { root, places } = makeMachine(t, ["1024M", "2M"], pools);
  assert.equal(findHugePageMount(mebibyte, root)?.directory, places[1]);
  fs.rmdirSync(places[1] ?? "");
  assert.equal(findHugePageMount(mebibyte, root), undefined);
});
