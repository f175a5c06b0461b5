/** What a publisher can be told; checked once, then frozen. */
import { GaplessError } from "../errors.ts";
import { checkOptions, type OptionNames } from "../arguments.ts";
import { pageBytes, segmentBytesMax, segmentBytesMin, type ChecksumKind } from "./layout.ts";

/**
 *   process       an append survives the process: the page cache has it
 *   sync          each append is made durable at once, many by one sync: see `Publisher.publish`
 *   intervalMs    what was appended is made durable so often
 */
export type Durability = "process" | "sync" | { readonly intervalMs: number };

export interface PublisherOptions {
  /** Bytes of a segment file: 4 KiB to 1 GiB, rounded up to whole pages. Default 128 MiB. */
  readonly segmentBytes?: number;
  /** How new segments tell damage. Default `fast`. */
  readonly checksum?: ChecksumKind;
  /** Default `process`. */
  readonly durability?: Durability;
  /**
   * Bytes of all segments that may be there before appends are refused: two segments at least. No
   * limit by default.
   */
  readonly maxBytes?: number;
  /** The same in segments, two at least. */
  readonly maxSegments?: number;
  /** What an append does that a limit refuses. Default `fail`: it answers BACK_PRESSURED. */
  readonly whenFull?: "fail" | { readonly blockMs: number };
  /** Whether a worker thread makes the next segment ahead of time. Default true. */
  readonly preallocate?: boolean;
  /**
   * A live writer that was silent for so long loses the queue: a second at least. Default: none
   * ever does.
   */
  readonly takeOverAfterMs?: number;
  /** Told of a torn tail that a crash has left and that was cut off. */
  readonly onCut?: (what: string) => void;
}

export interface ResolvedOptions {
  readonly segmentBytes: number;
  readonly checksum: ChecksumKind;
  readonly durability: Durability;
  readonly maxBytes: number;
  readonly maxSegments: number;
  /** 0: fail at once. */
  readonly blockMs: number;
  readonly preallocate: boolean;
  /** Infinity: never. */
  readonly takeOverAfterMs: number;
  readonly onCut: ((what: string) => void) | undefined;
}

const segmentBytesDefault = 128 * 1024 * 1024;
/** A queue needs one segment to write in while another is read. */
const segmentsLeast = 2;
const names = {
  segmentBytes: true,
  checksum: true,
  durability: true,
  maxBytes: true,
  maxSegments: true,
  whenFull: true,
  preallocate: true,
  takeOverAfterMs: true,
  onCut: true,
} as const satisfies OptionNames<PublisherOptions>;
const kinds: readonly unknown[] = ["none", "fast", "crc32c"] satisfies ChecksumKind[];

/** @throws GaplessError CONFIG_INVALID naming the option and what was expected. */
export function resolveOptions(directory: string, options: PublisherOptions): ResolvedOptions {
  checkOptions("openPublisher", options, names);
  const wrong = (key: string, value: unknown, expected: string): GaplessError =>
    new GaplessError(
      "CONFIG_INVALID",
      `${key}=${JSON.stringify(value)} of the queue in ${directory}: expected ${expected}.`,
    );
  const count = (key: string, least: number, most: number, value: unknown) => {
    const isRight = Number.isSafeInteger(value) && Number(value) >= least && Number(value) <= most;
    if (!isRight) throw wrong(key, value, `a whole number from ${least} to ${most}`);
    return Number(value);
  };
  const bound = (key: "maxBytes" | "maxSegments", least: number): number =>
    options[key] === undefined
      ? Infinity
      : count(key, least, Number.MAX_SAFE_INTEGER, options[key]);

  const { checksum = "fast", durability = "process", whenFull = "fail" } = options;
  if (!kinds.includes(checksum)) throw wrong("checksum", checksum, "none, fast or crc32c");
  if (durability !== "process" && durability !== "sync") {
    if (typeof durability !== "object" || (durability as unknown) === null) {
      throw wrong("durability", durability, "process, sync or { intervalMs }");
    }
    count("durability.intervalMs", 1, 2 ** 31 - 1, durability.intervalMs);
  }
  if (whenFull !== "fail" && (typeof whenFull !== "object" || (whenFull as unknown) === null)) {
    throw wrong("whenFull", whenFull, "fail or { blockMs }");
  }
  const { preallocate = true, onCut } = options;
  if (typeof preallocate !== "boolean") throw wrong("preallocate", preallocate, "true or false");
  if (onCut !== undefined && typeof onCut !== "function") {
    throw wrong("onCut", String(onCut), "a function");
  }
  const asked = options.segmentBytes ?? segmentBytesDefault;
  const bytes = count("segmentBytes", segmentBytesMin, segmentBytesMax, asked);
  const segmentBytes = Math.ceil(bytes / pageBytes) * pageBytes;
  return Object.freeze({
    segmentBytes,
    checksum,
    durability,
    maxBytes: bound("maxBytes", segmentsLeast * segmentBytes),
    maxSegments: bound("maxSegments", segmentsLeast),
    blockMs: whenFull === "fail" ? 0 : count("whenFull.blockMs", 1, 2 ** 31 - 1, whenFull.blockMs),
    preallocate,
    takeOverAfterMs:
      options.takeOverAfterMs === undefined
        ? Infinity
        : count("takeOverAfterMs", 1000, 2 ** 31 - 1, options.takeOverAfterMs),
    onCut,
  });
}
