/**
 * Child of futex-any.test.ts and alarm.test.ts: says that it is about to sleep on the first words
 * of the files, and when it was woken.
 */
import fs from "node:fs";
import { Alarm } from "../../../src/memory/alarm.ts";
import { futexWaitAny, futexWaitAnyAsync } from "../../../src/memory/futex.ts";
import { mapFile } from "../../../src/memory/mapping.ts";

const [how = "", timeoutMs = "", ...filePaths] = process.argv.slice(2);
const words = filePaths.map((filePath) => {
  const { address, buffer } = mapFile(filePath, 8);
  return { words: new Int32Array(buffer), index: 0, address, expected: 0 };
});
fs.writeSync(1, "sleeping\n");
if (how === "blocking") futexWaitAny(words, Number(timeoutMs));
else if (how === "async") await futexWaitAnyAsync(words, Number(timeoutMs));
else {
  // Exits in the middle of it.
  setTimeout(() => process.exit(), 50);
  await new Alarm().sleep(words, Number(timeoutMs));
}
fs.writeSync(1, "awake\n");
