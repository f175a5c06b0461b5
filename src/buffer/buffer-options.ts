/** The options of a buffer, checked. */
import path from "node:path";
import { checkOptions, checkWhole, wrong, type OptionNames } from "../arguments.ts";
import type { Link } from "../chain.ts";
import type { Message } from "../message.ts";
import { bytesCodec, type Codec } from "./codec.ts";
import type { ColdOptions } from "./cold-protocol.ts";
import type { HotLimits } from "./hot-ring.ts";

export interface MsgBufferOptions<Event extends Link = Message> {
  /** Whose messages they are, in errors, metrics, and to peers: letters, digits, `_`, `.`, `-`. */
  readonly component: string;
  readonly ringBuffer?: RingBufferOptions;
  readonly storage: StorageOptions;
  /** How events become bytes. Without one, they are messages. */
  readonly codec?: Codec<Event>;
}

export interface RingBufferOptions {
  /** Messages in memory. Default 10,000. 0 reads everything from RocksDB, if it may overwrite. */
  readonly capacity?: number;
  /** Encoded bytes of those, whatever the capacity. Default 64 MiB. */
  readonly bytesMax?: number;
  /**
   * Whether a message that does not fit pushes the oldest out of memory (it stays in RocksDB).
   * Otherwise an append of more than the capacity has room for, with all that is not trimmed yet,
   * is refused with BUFFER_FULL. Default true.
   */
  readonly overwriteOnFull?: boolean;
}

export interface StorageOptions {
  /** Created where it is missing. */
  readonly dbPath: string;
  /**
   * The family of messages under `dbPath`, a folder of its own, so that several buffers can share
   * a path: one process at a time has a family open. Default "messages".
   */
  readonly cfName?: string;
  /** Whether messages are stored compressed (zstd). Default true. */
  readonly useCompression?: boolean;
  /** Bytes that RocksDB takes into memory before it writes a table. Default 64 MiB. */
  readonly writeBufferSize?: number;
  /**
   * Whether an append that has resolved survives power loss, or only the death of the process.
   * Default true.
   */
  readonly sync?: boolean;
}

export interface ResolvedBufferOptions<Event extends Link> {
  readonly component: string;
  readonly codec: Codec<Event>;
  readonly hot: HotLimits;
  /** Messages that may be kept at all. */
  readonly totalMax: number;
  readonly cold: ColdOptions;
}

const mebibyte = 1024 * 1024;

const optionNames = {
  component: true,
  ringBuffer: true,
  storage: true,
  codec: true,
} as const satisfies OptionNames<MsgBufferOptions>;
const ringNames = {
  capacity: true,
  bytesMax: true,
  overwriteOnFull: true,
} as const satisfies OptionNames<RingBufferOptions>;
const storageNames = {
  dbPath: true,
  cfName: true,
  useCompression: true,
  writeBufferSize: true,
  sync: true,
} as const satisfies OptionNames<StorageOptions>;

/** @throws GaplessError CONFIG_INVALID */
export function resolveBufferOptions<Event extends Link>(
  options: MsgBufferOptions<Event>,
): ResolvedBufferOptions<Event> {
  checkOptions<object>("openMsgBuffer", options, optionNames);
  const { component, ringBuffer = {}, storage } = options;
  checkOptions("ringBuffer", ringBuffer, ringNames);
  checkOptions("storage", storage, storageNames);
  const codec = options.codec ?? (bytesCodec as Codec<Link> as Codec<Event>);
  const { capacity = 10_000, bytesMax = 64 * mebibyte, overwriteOnFull = true } = ringBuffer;
  const { dbPath, cfName = "messages", useCompression = true, sync = true } = storage;
  const { writeBufferSize = 64 * mebibyte } = storage;
  checkName("component", component);
  if (typeof dbPath !== "string" || dbPath === "") {
    throw wrong("storage.dbPath", dbPath, "a directory");
  }
  checkName("storage.cfName", cfName);
  checkFlag("ringBuffer.overwriteOnFull", overwriteOnFull);
  const capacityLeast = overwriteOnFull ? 0 : 1;
  checkWhole("ringBuffer.capacity", capacity, capacityLeast, Number.MAX_SAFE_INTEGER);
  checkWhole("ringBuffer.bytesMax", bytesMax, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("storage.writeBufferSize", writeBufferSize, mebibyte, Number.MAX_SAFE_INTEGER);
  checkFlag("storage.useCompression", useCompression);
  checkFlag("storage.sync", sync);
  checkCodec(codec);
  return {
    component,
    codec,
    hot: { capacity, bytesMax },
    totalMax: overwriteOnFull ? Infinity : capacity,
    cold: {
      directory: path.resolve(dbPath, cfName),
      isCompressed: useCompression,
      isSynced: sync,
      writeBufferBytes: writeBufferSize,
    },
  };
}

function checkName(name: string, value: unknown): void {
  if (typeof value === "string" && /^[\w-][\w.-]*$/.test(value)) return;
  throw wrong(name, value, "letters, digits, _, . and -, not beginning with a dot");
}

function checkFlag(name: string, value: unknown): void {
  if (typeof value !== "boolean") throw wrong(name, value, "true or false");
}

function checkCodec(codec: object): void {
  for (const name of ["encode", "decode"]) {
    const found: unknown = Reflect.get(Object(codec), name);
    if (typeof found !== "function") throw wrong(`codec.${name}`, found, "a function");
  }
}
