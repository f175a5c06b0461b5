/** Does what the tests of sidecars ask for: answers, fails, dies, takes its time. */
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { GaplessError } from "../../../src/errors.ts";
import { serveSidecar } from "../../../src/sidecar/serve-sidecar.ts";

export type Task =
  | { readonly kind: "echo"; readonly number: number }
  /** Tells of the numbers below, and replies with this one. */
  | { readonly kind: "count"; readonly number: number }
  | { readonly kind: "note"; readonly file: string; readonly text: string }
  | { readonly kind: "wait"; readonly ms: number }
  /** Waits until the word is no longer 0. */
  | { readonly kind: "block"; readonly word: Int32Array }
  | { readonly kind: "fail"; readonly with: "disk" | "bug" }
  | { readonly kind: "die"; readonly by: "exit" | "throw" | "heap" }
  /** Leaves something behind that would keep a thread. */
  | { readonly kind: "linger" };

export interface Echo {
  readonly number: number;
  readonly data: unknown;
}

serveSidecar<Task, Echo | undefined>(
  async (task, data, tell) => {
    switch (task.kind) {
      case "echo":
        return { number: task.number, data };
      case "count":
        for (let number = 0; number < task.number; number++) tell({ number, data });
        return { number: task.number, data };
      case "note":
        fs.appendFileSync(task.file, task.text);
        return undefined;
      case "wait":
        await pause(task.ms);
        return undefined;
      case "block":
        Atomics.wait(task.word, 0, 0);
        return undefined;
      case "fail":
        if (task.with === "bug") throw new TypeError("out of luck");
        throw new GaplessError("STORAGE_FULL", "No room in /somewhere.");
      case "die":
        if (task.by === "exit") process.exit(3);
        if (task.by === "heap") fillHeap();
        process.nextTick(() => {
          throw new Error("out of luck");
        });
        return pause(60_000, undefined);
      case "linger":
        setInterval(() => undefined, 1000);
        return undefined;
      default:
        return task satisfies never;
    }
  },
  () => {
    const { SIDECAR_TEST_CLOSED: file } = process.env;
    if (file !== undefined) fs.appendFileSync(file, "closed");
  },
);

function fillHeap(): void {
  const kept: unknown[] = [];
  for (;;) kept.push(Array.from({ length: 1000 }, () => ({})));
}
