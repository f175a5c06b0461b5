/** What supervisor and service processes say to each other, by structured clone. */
import type { ErrorCode } from "../errors.ts";
import type { OptionValue } from "./topology.ts";

/** How far a service has come. Ids, so that the difference of two of them is a lag. */
export interface Progress {
  /** Newest id taken from its input, where it has one. */
  readonly consumed?: bigint;
  /** Newest id given to its output, where it has one. */
  readonly produced?: bigint;
  /** What it consumes and produces in the end, where that is known. */
  readonly total?: bigint;
  /** Gaps filled from an archive since its data began. */
  readonly gapsFilled?: bigint;
  /** Further counts worth a person's eye, by name. */
  readonly counts?: Readonly<Record<string, bigint>>;
}

/** What a service process is started with. */
export interface ServiceStart {
  readonly topologyFile: string;
  readonly service: string;
  readonly dataDirectory: string;
  readonly shmDirectory: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  /** Milliseconds to spread the input over; 0 for as fast as it goes. */
  readonly paceMs: number;
  /** When the service began for the first time in this run, in milliseconds since 1970. */
  readonly startedAtMs: number;
}

export type ToService =
  | { readonly type: "start"; readonly start: ServiceStart }
  /** Take no new input; finish what is under way. */
  | { readonly type: "drain" }
  /** Everybody is done: close and exit. */
  | { readonly type: "stop" };

export type FromService =
  | { readonly type: "ready" }
  | { readonly type: "progress"; readonly progress: Progress }
  | { readonly type: "log"; readonly text: string }
  /** The input has ended and everything is durable. The process goes on serving. */
  | { readonly type: "done"; readonly progress: Progress }
  | {
      readonly type: "failed";
      readonly message: string;
      readonly code: ErrorCode | undefined;
      /** Whether starting it again may help. */
      readonly mayRetry: boolean;
    };
