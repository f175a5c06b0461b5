/** What a message of many sources costs the collector of garbage: nothing. */
import path from "node:path";
import test from "node:test";
import { assertNothingAllocated } from "../../support/hot-path.ts";

const program = path.join(import.meta.dirname, "fan-in-hot-path.ts");

for (const sources of [4, 64]) {
  test(`merging ${sources} sources allocates nothing`, async () => {
    await assertNothingAllocated(program, [sources, 1]);
  });
}
