/** Worker of affinity.test.ts: pins itself, and reports where it may run. */
import fs from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { pinThread } from "../../../src/memory/affinity.ts";

pinThread(workerData as number);
const status = fs.readFileSync("/proc/thread-self/status", "utf8");
parentPort?.postMessage(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1]);
