/** Child of futex.test.ts: on input, changes the first word and wakes who sleeps on it. */
import fs from "node:fs";
import { futexWake } from "../../../src/memory/futex.ts";
import { mapFile } from "../../../src/memory/mapping.ts";

const [filePath = ""] = process.argv.slice(2);
const { address, buffer } = mapFile(filePath, 8);
fs.writeSync(1, "ready\n");
fs.readSync(0, new Uint8Array(1));
Atomics.store(new Int32Array(buffer), 0, 1);
futexWake(address);
