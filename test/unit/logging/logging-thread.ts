/** A thread that joins the logging of its `workerData`, logs, and ends as that says. */
import { workerData } from "node:worker_threads";
import { joinLogging, type LoggingHandle } from "../../../src/logging/logging.ts";
import { seededRandom } from "../../../src/random.ts";

export interface LoggingTask {
  readonly handle: LoggingHandle;
  readonly name: string;
  readonly lines: number;
  readonly seed: number;
  readonly ending: "close" | "return" | "throw" | "exit";
}

const { handle, name, lines, seed, ending } = workerData as LoggingTask;
const random = seededRandom(seed);
const pillow = new Int32Array(new SharedArrayBuffer(4));
const logging = joinLogging(handle);
const logger = logging.logger(name);
for (let number = 0; number < lines; number++) {
  logger.info("x".repeat(random.below(100)), { number });
  // So that there are several passes.
  if (random.below(200) === 0) Atomics.wait(pillow, 0, 0, 1 + random.below(3));
}
switch (ending) {
  case "close":
    await logging.close();
    break;
  case "return":
    break;
  case "throw":
    throw new Error("out of luck");
  case "exit":
    process.exit(3);
}
