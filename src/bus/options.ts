/** What is passed to the doors of a bus, checked there: a mistake is told where it is made. */
import { z } from "zod";
import { checkConfig } from "../config.ts";
import { oneOf, strict } from "./config-schema.ts";
import type { Loss, SequenceRange } from "./losses.ts";
import type { WaitOptions, WaitStrategy } from "./subscriber.ts";

export interface PublisherOptions {
  /** From 0, the default, to the channel's `priorities` less one: higher ones are read first. */
  readonly priority?: number;
}

export interface SubscriberOptions {
  /** Only messages whose topic begins with one of these; others never come to a handler. */
  readonly topics?: readonly string[];
  /** Told before the first message behind a gap; where it throws, that message is not taken. */
  readonly onLoss?: (loss: Loss) => void;
  /**
   * Told, in a channel of several producers, of sequences that one of them took back (`abort`),
   * before the message behind them. Nothing is missing: it is for whoever counts sequences.
   */
  readonly onWithdrawn?: (range: SequenceRange) => void;
  readonly wait?: WaitStrategy;
  /** How long `spin-then-park` spins. */
  readonly spinMicros?: number;
}

export interface ResolvedSubscriberOptions extends WaitOptions {
  readonly topics: readonly Uint8Array[];
  readonly onLoss: ((loss: Loss) => void) | undefined;
  readonly onWithdrawn: ((range: SequenceRange) => void) | undefined;
}

const defaultSpinMicros = 50;

const topicsExpected = { error: "expected a list of texts" };
const spinExpected = "expected a number of microseconds, 0 or more";
const folderExpected = "expected the path of a folder";
const serviceExpected = "expected the name of a service";

const busSchema = z.looseObject(
  {
    directory: z.string({ error: folderExpected }).min(1, folderExpected),
    channels: z.custom<object>(isObject, "expected a table of channels"),
  },
  { error: "expected the path of a file, or an object with directory and channels" },
);

const serviceSchema = z.looseObject(
  { service: z.string({ error: serviceExpected }).min(1, serviceExpected) },
  { error: 'expected { service: "NAME" }' },
);

const publisherSchema = strict({
  priority: z.custom<number>(isNumber, "expected a number").default(0),
});

const subscriberSchema = strict({
  topics: z.array(z.string(topicsExpected), topicsExpected).default([]),
  onLoss: z.custom<(loss: Loss) => void>(isFunction, "expected a function").optional(),
  onWithdrawn: z
    .custom<(range: SequenceRange) => void>(isFunction, "expected a function")
    .optional(),
  wait: oneOf("park", "spin-then-park", "busy-spin").default("park"),
  spinMicros: z.number({ error: spinExpected }).min(0, spinExpected).default(defaultSpinMicros),
});

/** @throws GaplessError CONFIG_INVALID where `openBus` cannot begin with it. */
export function checkBusOptions(config: unknown): void {
  checkConfig(busSchema, config, "openBus");
}

/** @throws GaplessError CONFIG_INVALID */
export function resolveService(options: unknown): string {
  return checkConfig(serviceSchema, options, "openBus").service;
}

/** @throws GaplessError CONFIG_INVALID */
export function resolvePriority(options: unknown, source: string): number {
  return checkConfig(publisherSchema, options, source).priority;
}

/** @throws GaplessError CONFIG_INVALID */
export function resolveSubscriberOptions(
  options: unknown,
  source: string,
): ResolvedSubscriberOptions {
  const checked = checkConfig(subscriberSchema, options, source);
  const encoder = new TextEncoder();
  return Object.freeze({
    topics: checked.topics.map((prefix) => encoder.encode(prefix)),
    onLoss: checked.onLoss,
    onWithdrawn: checked.onWithdrawn,
    strategy: checked.wait,
    spinMicros: checked.spinMicros,
  });
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function isFunction(value: unknown): boolean {
  return typeof value === "function";
}

function isNumber(value: unknown): boolean {
  return typeof value === "number";
}
