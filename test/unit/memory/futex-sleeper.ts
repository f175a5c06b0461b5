/** Child of futex.test.ts: says that it is about to sleep on the first word, and how it ended. */
import fs from "node:fs";
import { futexWait } from "../../../src/memory/futex.ts";
import { mapFile } from "../../../src/memory/mapping.ts";

const [filePath = "", timeoutMs = ""] = process.argv.slice(2);
const { address } = mapFile(filePath, 8);
fs.writeSync(1, "sleeping\n");
futexWait(address, 0, Number(timeoutMs));
fs.writeSync(1, "awake\n");
