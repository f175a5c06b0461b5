/** Child of mapping.test.ts: answers in the second word of the file what it finds in the first. */
import { mapFile } from "../../../src/memory/mapping.ts";

const [filePath = ""] = process.argv.slice(2);
const words = new Int32Array(mapFile(filePath, 8).buffer);
Atomics.store(words, 1, Atomics.load(words, 0) + 1);
