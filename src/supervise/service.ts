/**
 * What a service is: a module whose default export is a function of its context.
 *
 *     const run: Service = async (context) => {
 *       const trades = context.bus.subscriber("trades");
 *       context.ready();
 *       await pump({ source: busSource(trades), sink, signal: context.signal });
 *       await context.done({ consumed: await sink.position() });
 *     };
 *     export default run;
 *
 * It may be killed at any instruction and is started again; whatever it must not forget is in a
 * sink, a queue or a buffer under `dataDirectory`.
 */
import type { Bus } from "../bus/bus.ts";
import type { Progress } from "./protocol.ts";
import type { OptionValue } from "./topology.ts";

/** What a service module exports by default. Returning before the run ends counts as a crash. */
export type Service = (context: ServiceContext) => Promise<void>;

export interface ServiceContext {
  readonly name: string;
  readonly bus: Bus;
  /** The service's own directory. Survives restarts. */
  readonly dataDirectory: string;
  /** Values of the topology's options. */
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly paceMs: number;
  readonly startedAtMs: number;
  /** Aborts when the service is to end at once; what is not acknowledged comes again. */
  readonly signal: AbortSignal;
  /** Aborts when a service that brings messages in is to bring no more. Others see the end. */
  readonly drain: AbortSignal;
  /** Where a service listens for those that read its past. */
  socketPath(service: string): string;
  /** Says that its inputs are attached, so that whoever feeds them may start. */
  ready(): void;
  /** Says how far it is. Cheap: sent on a timer, the newest only. */
  report(progress: Progress): void;
  log(text: string): void;
  /** Says that everything is done, and goes on serving until the run ends or `signal` aborts. */
  done(progress: Progress): Promise<void>;
}

/** What the module named under `[audit]` exports: the proof of a run, from the stores alone. */
export type Audit = (context: AuditContext) => Promise<AuditReport>;

export interface AuditContext {
  /** Directory of a service's data. */
  dataDirectory(service: string): string;
  /** What each service said when it was done. */
  readonly progress: ReadonlyMap<string, Progress>;
  readonly options: Readonly<Record<string, OptionValue>>;
}

/** What an audit found, for a person to read. */
export interface AuditReport {
  readonly holds: boolean;
  readonly lines: readonly AuditLine[];
}

export interface AuditLine {
  readonly label: string;
  readonly value: string;
  /** undefined where the line only informs. */
  readonly holds?: boolean;
}
