/** One service of a run: its process, and what happens when the process ends. */
import { fork, type ChildProcess } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { GaplessError } from "../errors.ts";
import type { FromService, Progress, ServiceStart, ToService } from "./protocol.ts";
import type { ServiceEntry } from "./topology.ts";

export type ServiceState = "starting" | "running" | "done" | "restarting" | "stopped" | "failed";

export interface ServiceEvents {
  /** A line for a person. */
  log(text: string): void;
  /** It has become ready, is done, or has stopped for good. */
  changed(): void;
  /** It will not be started again: its own words, or that it ended too often. */
  failed(error: GaplessError): void;
}

const stopTimeoutMs = 5000;

/** Not `service-process.ts` by a fixed name: the published build runs the compiled file. */
const processModule = new URL(
  import.meta.url.replace(/supervised-service(\.[jt]s)$/, "service-process$1"),
);

export class SupervisedService {
  readonly entry: ServiceEntry;
  /** Names of the services that feed it. */
  readonly inputs: readonly string[];
  state: ServiceState = "starting";
  progress: Progress = {};
  /** Times it was started again, kills of ours included. */
  restarts = 0;
  /** Whether the process that runs now has got anything done. */
  hasProgressed = false;

  private readonly start: Omit<ServiceStart, "startedAtMs">;
  private readonly events: ServiceEvents;
  private child: ChildProcess | undefined;
  private restartTimer: NodeJS.Timeout | undefined;
  private unplannedEndsMs: number[] = [];
  private beganAtMs: number | undefined;
  private killedByUs = false;
  private isStopping = false;
  private isDraining = false;
  private reason: GaplessError | undefined;

  constructor(
    entry: ServiceEntry,
    inputs: readonly string[],
    start: Omit<ServiceStart, "startedAtMs">,
    events: ServiceEvents,
  ) {
    this.entry = entry;
    this.inputs = inputs;
    this.start = start;
    this.events = events;
  }

  /** Starts the process. It loads the service's module, and waits for `begin`. */
  launch(): void {
    this.state = this.restarts === 0 ? "starting" : "restarting";
    this.hasProgressed = false;
    const child = fork(processModule, [this.entry.module], {
      serialization: "advanced",
      // In a session of its own: a terminal's Ctrl-C is the supervisor's alone to answer.
      detached: true,
      // A service that comes back loads what was compiled before: half the time.
      env: { NODE_COMPILE_CACHE: path.join(os.tmpdir(), "node-compile-cache"), ...process.env },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    this.child = child;
    for (const output of [child.stdout, child.stderr]) {
      output?.setEncoding("utf8").on("data", (text: string) => {
        for (const line of text.trimEnd().split("\n")) this.events.log(line);
      });
    }
    child.on("message", (message: FromService) => {
      if (child === this.child) this.receive(message);
    });
    child.on("error", (error) => {
      this.events.log(error.message);
      // A process that never was does not exit either.
      if (child.pid === undefined && child === this.child) this.ended(null, null);
    });
    child.on("exit", (code, signal) => {
      if (child === this.child) this.ended(code, signal);
    });
    if (this.beganAtMs !== undefined) this.begin();
  }

  /** Lets the service run, in this process and in those that follow it. */
  begin(): void {
    // The same in every process of the run: a pace goes on where it was.
    this.beganAtMs ??= Date.now();
    this.tell({ type: "start", start: { ...this.start, startedAtMs: this.beganAtMs } });
    if (this.isDraining) this.tell({ type: "drain" });
  }

  /** Ends it as a crash would. It is started again by its policy. */
  kill(): void {
    this.killedByUs = true;
    this.child?.kill("SIGKILL");
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Takes no new input, in this process and in those that follow it. */
  drain(): void {
    this.isDraining = true;
    this.tell({ type: "drain" });
  }

  /** Ends it for good: asks, and after a while insists. Resolves when the process is gone. */
  async stop(): Promise<void> {
    this.isStopping = true;
    clearTimeout(this.restartTimer);
    const child = this.child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      this.state = "stopped";
      return;
    }
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    this.tell({ type: "stop" });
    const insist = setTimeout(() => {
      this.events.log(`does not stop within ${stopTimeoutMs} ms: killed`);
      child.kill("SIGKILL");
    }, stopTimeoutMs);
    await exited;
    clearTimeout(insist);
  }

  private receive(message: FromService): void {
    switch (message.type) {
      case "ready":
        this.state = "running";
        this.events.changed();
        break;
      case "progress":
        this.progress = message.progress;
        this.hasProgressed = true;
        break;
      case "log":
        this.events.log(message.text);
        break;
      case "done":
        this.progress = message.progress;
        this.state = "done";
        this.events.changed();
        break;
      case "failed":
        this.events.log(message.message);
        if (!message.mayRetry) {
          this.reason = new GaplessError(
            message.code ?? "SYSTEM_CALL_FAILED",
            `${this.entry.name}: ${message.message}`,
          );
        }
        break;
    }
  }

  private ended(code: number | null, signal: NodeJS.Signals | null): void {
    this.child = undefined;
    if (this.isStopping) {
      this.state = "stopped";
      this.events.changed();
      return;
    }
    const how = signal ?? `code ${code ?? 0}`;
    if (this.reason !== undefined) {
      this.fail(this.reason);
    } else if (this.killedByUs) {
      this.killedByUs = false;
      this.scheduleRestart();
    } else if (this.endsTooOften()) {
      const { restartsMax, restartWindowMs } = this.entry;
      this.fail(
        new GaplessError(
          "SYSTEM_CALL_FAILED",
          `${this.entry.name} ended more than ${restartsMax} times within ${restartWindowMs} ms, ` +
            `the last time by ${how}. See its messages above.`,
        ),
      );
    } else if (this.mayRestart(code)) {
      this.events.log(`ended by ${how}; starting it again`);
      this.scheduleRestart();
    } else {
      this.fail(
        new GaplessError(
          "SYSTEM_CALL_FAILED",
          `${this.entry.name} ended by ${how}, and restart=${this.entry.restart}.`,
        ),
      );
    }
    this.events.changed();
  }

  private mayRestart(code: number | null): boolean {
    return this.entry.restart === "always" || (this.entry.restart === "on-failure" && code !== 0);
  }

  private endsTooOften(): boolean {
    const now = performance.now();
    this.unplannedEndsMs = this.unplannedEndsMs.filter(
      (ended) => now - ended < this.entry.restartWindowMs,
    );
    this.unplannedEndsMs.push(now);
    return this.unplannedEndsMs.length > this.entry.restartsMax;
  }

  private scheduleRestart(): void {
    this.state = "restarting";
    this.restartTimer = setTimeout(() => {
      this.restarts++;
      this.launch();
    }, this.entry.restartDelayMs);
  }

  private fail(error: GaplessError): void {
    this.state = "failed";
    this.events.failed(error);
  }

  /** A process that has just died takes no message; its successor is told all it needs. */
  private tell(message: ToService): void {
    if (this.child?.connected === true) this.child.send(message, () => undefined);
  }
}
