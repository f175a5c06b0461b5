/**
 * The process, or the thread, at the far end of a way: reads every message, sums what it reads, and
 * answers each one where it is asked to.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { pinFarEnd } from "./cores.ts";
import { loadWay, type Address, type Link, type WayName } from "./way.ts";

export interface Task {
  readonly name: WayName;
  readonly address: Address;
}

export interface Order {
  readonly answers: boolean;
  /** A report is due as soon as so many messages are taken, from the first one on. */
  readonly reportAt: number;
}

export interface Report {
  readonly answers: boolean;
  /** Of all messages, from the first one on. */
  readonly taken: number;
  readonly sum: number;
}

/** Between the reports that nobody ordered. */
export const reportMessages = 2048;

/** Sums one double a cache line, of one line all eight: what the bus's consumer does. */
function sumOf(view: DataView, offset: number, length: number): number {
  const stepBytes = length > 64 ? 64 : 8;
  let part = 0;
  for (let at = offset; at < offset + length; at += stepBytes) part += view.getFloat64(at, true);
  return part;
}

async function serve(
  { name, address }: Task,
  post: (report: Report) => void,
): Promise<(order: Order) => void> {
  let answers = false;
  let reportAt = 0;
  let taken = 0;
  let sum = 0;
  const report = (): void => post({ answers, taken, sum });
  const way = await loadWay(name);
  const link: Link = await way.listen(address, (view, offset, length) => {
    sum += sumOf(view, offset, length);
    taken += 1;
    if (answers) {
      link.send(new Uint8Array(view.buffer, view.byteOffset + offset, length));
      void link.flush();
    }
    if (taken === reportAt || (!answers && taken % reportMessages === 0)) report();
  });
  pinFarEnd();
  report();
  return (order) => {
    ({ answers, reportAt } = order);
    if (taken >= reportAt) report();
  };
}

if (!isMainThread) {
  const carryOut = await serve(workerData as Task, (report) => parentPort?.postMessage(report));
  parentPort?.on("message", carryOut);
} else if (process.send !== undefined && process.argv[1] === import.meta.filename) {
  process.on("disconnect", () => process.exit(1));
  const task = JSON.parse(process.argv[2] ?? "") as Task;
  process.on("message", await serve(task, (report) => process.send?.(report)));
}
