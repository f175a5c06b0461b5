/**
 * A process for the tests of logging: logs argv[4] lines to the file of argv[2], numbered in
 * `number`, and ends as argv[3] says. The program of a thread it starts is this one too.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { joinLogging, openLogging, type LoggingHandle } from "../../../src/logging/logging.ts";

const [, , file = "", ending = "", lines = "0"] = process.argv;

if (isMainThread) await main();
else if (ending === "joined") openInThread();
else logFromThread(workerData as LoggingHandle);

async function main(): Promise<void> {
  const logging = openLogging({ file });
  const logger = logging.logger("test");
  const log = (): void => {
    for (let number = 0; number < Number(lines); number++) logger.info("line", { number });
  };
  switch (ending) {
    case "exit":
      log();
      return process.exit(7);
    case "throw":
      log();
      throw new Error("out of luck");
    case "reject":
      log();
      await Promise.reject(new Error("out of luck"));
      return;
    case "end":
      log();
      return;
    case "late":
      // What others do as the process ends is logged too.
      process.prependListener("exit", log);
      return;
    case "thread": {
      // Its lines are still in its ring when the process exits.
      const worker = new Worker(new URL(import.meta.url), {
        argv: process.argv.slice(2),
        workerData: logging.share(),
      });
      worker.once("message", () => process.exit(7));
      return;
    }
    case "joined": {
      // The logging is a thread's, which this one has joined.
      const worker = new Worker(new URL(import.meta.url), { argv: process.argv.slice(2) });
      worker.once("message", (handle: LoggingHandle) => {
        const joined = joinLogging(handle).logger("test");
        for (let number = 0; number < Number(lines); number++) joined.info("line", { number });
        process.exit(7);
      });
      return;
    }
    case "killed":
      for (let number = 0; ; number++) {
        logger.info("line", { number });
        if (number === Number(lines)) {
          await logging.flush();
          console.log("flushed");
        }
        if (number % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    default:
      throw new Error(`There is no ending ${ending}.`);
  }
}

function logFromThread(handle: LoggingHandle): void {
  const logger = joinLogging(handle).logger("test");
  for (let number = 0; number < Number(lines); number++) logger.info("line", { number });
  parentPort?.postMessage("logged");
  // Goes on until the process ends.
  setInterval(() => undefined, 1000);
}

function openInThread(): void {
  parentPort?.postMessage(openLogging({ file }).share());
  setInterval(() => undefined, 1000);
}
