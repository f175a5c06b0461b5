/**
 * What a buffer does, as OpenTelemetry metrics.
 *
 *     using _metrics = instrumentBuffer(buffer, metrics.getMeter("gapless"));
 *
 * A batch that is appended, and one that is read, costs a call of a histogram. How much is kept is
 * looked up when the SDK collects.
 *
 * Every metric has the attribute `component`, and `query.duration` also `storage`: hot, cold.
 */
import type { Attributes, BatchObservableResult, Meter } from "@opentelemetry/api";
import type { BufferArchive, BufferObserver, BufferStats } from "../buffer/buffer.ts";
import { GaplessError, isGaplessError } from "../errors.ts";
import { makeBufferInstruments } from "./buffer-instruments.ts";
import { lagBehind } from "./buffer-lag.ts";

/** What of a `MsgBuffer` is looked at, whatever its events are. */
export interface InstrumentedBuffer {
  readonly component: string;
  readonly lastId: bigint;
  stats(): Promise<BufferStats>;
  observe(observer: BufferObserver): Disposable;
}

export interface InstrumentBufferOptions {
  /**
   * Of a follower: how many messages it is behind; undefined leaves it at what it was. Called once
   * a collection, which waits for it.
   */
  readonly lag?: () => number | undefined | Promise<number | undefined>;
  /**
   * Instead: whom the buffer follows. The lag is then how far its newest id is behind the newest
   * one of theirs, which is more than there are messages where ids skip. Of a peer that does not
   * answer within a second, what it has said before counts.
   */
  readonly peers?: readonly Pick<BufferArchive, "status">[];
}

type Instruments = ReturnType<typeof makeBufferInstruments>;

const msPerSecond = 1000;

/**
 * Reports a buffer to `meter` until it is disposed. Of one that is closed or disposed, the SDK goes
 * on to export what was reported last.
 */
export function instrumentBuffer(
  buffer: InstrumentedBuffer,
  meter: Meter,
  options: InstrumentBufferOptions = {},
): Disposable {
  const instruments = makeBufferInstruments(meter);
  const attributes = { component: buffer.component };
  announce(instruments, attributes);
  const observed = buffer.observe(recorderOf(instruments, attributes));
  const { size, hotSize, hitRate, lag } = instruments;
  const sizes = [size, hotSize, hitRate];
  const observeSizes = (result: BatchObservableResult): Promise<void> =>
    reportSizes(buffer, instruments, attributes, result);
  // By itself: where a peer is slow to answer, the sizes are reported all the same.
  const lagOf = options.lag ?? lagBehind(buffer, options.peers ?? []);
  const observeLag = async (result: BatchObservableResult): Promise<void> => {
    const behind = await lagOf();
    if (behind !== undefined) result.observe(lag, behind, attributes);
  };
  meter.addBatchObservableCallback(observeSizes, sizes);
  meter.addBatchObservableCallback(observeLag, [lag]);
  return {
    [Symbol.dispose]() {
      observed[Symbol.dispose]();
      meter.removeBatchObservableCallback(observeSizes, sizes);
      meter.removeBatchObservableCallback(observeLag, [lag]);
    },
  };
}

/** A counter that is there from the beginning: else nobody sees its first step. */
function announce(instruments: Instruments, attributes: Attributes): void {
  const { appendErrors, queryErrors, trimmed, dataLoss } = instruments;
  for (const counter of [appendErrors, queryErrors, trimmed, dataLoss]) counter.add(0, attributes);
}

function recorderOf(instruments: Instruments, attributes: Attributes): BufferObserver {
  const { appendDuration, appendErrors, queryDuration, queryErrors } = instruments;
  const { trimDuration, trimmed } = instruments;
  const byTier = {
    hot: { ...attributes, storage: "hot" },
    cold: { ...attributes, storage: "cold" },
  };
  return {
    appended(durationMs, error) {
      if (error === undefined) {
        appendDuration.record(durationMs / msPerSecond, attributes);
        return;
      }
      appendErrors.add(1, attributes);
      // What a caller brought is no message: nothing that was kept is wrong.
      if (isGaplessError(error, "MESSAGE_MALFORMED")) return;
      countLoss(instruments, attributes, error);
    },
    queried(durationMs, tier, error) {
      if (error === undefined && tier !== undefined) {
        queryDuration.record(durationMs / msPerSecond, byTier[tier]);
        return;
      }
      // Whoever asks for what is not there yet has only come early.
      if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return;
      queryErrors.add(1, attributes);
      countLoss(instruments, attributes, error);
    },
    trimmed(durationMs, deleted, error) {
      if (error !== undefined) {
        countLoss(instruments, attributes, error);
        return;
      }
      trimDuration.record(durationMs / msPerSecond, attributes);
      trimmed.add(deleted, attributes);
    },
    lost: () => instruments.dataLoss.add(1, attributes),
  };
}

function countLoss({ dataLoss }: Instruments, attributes: Attributes, error: unknown): void {
  if (!(error instanceof GaplessError)) return;
  if (error.isDataLoss || error.isCorruption) dataLoss.add(1, attributes);
}

async function reportSizes(
  buffer: InstrumentedBuffer,
  instruments: Instruments,
  attributes: Attributes,
  result: BatchObservableResult,
): Promise<void> {
  let stats: BufferStats;
  try {
    stats = await buffer.stats();
  } catch (error) {
    countLoss(instruments, attributes, error);
    if (isGaplessError(error)) return;
    throw error;
  }
  result.observe(instruments.size, stats.total, attributes);
  result.observe(instruments.hotSize, stats.hot, attributes);
  result.observe(instruments.hitRate, stats.hitRate, attributes);
}
