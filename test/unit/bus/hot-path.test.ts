/** What a message costs the collector of garbage: nothing. */
import path from "node:path";
import test from "node:test";
import { makeDirectory } from "../../support/bus-channel.ts";
import { assertNothingAllocated } from "../../support/hot-path.ts";

const program = path.join(import.meta.dirname, "../../support/bus-hot-path.ts");

const beginnings: [what: string, position: number, sequence: number][] = [
  ["in a new ring", 0, 0],
  ["once positions and sequences need all their 32 bits", 2 ** 31 - 500_000, 2 ** 32 - 300],
];

for (const [what, position, sequence] of beginnings) {
  test(`claim, commit, poll and release allocate nothing ${what}`, async (t) => {
    await assertNothingAllocated(program, [makeDirectory(t), position, sequence]);
  });
}
