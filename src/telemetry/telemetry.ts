/**
 * What a bus does, as OpenTelemetry metrics.
 *
 *     using _metrics = instrumentBus(bus, metrics.getMeter("gapless"));
 *
 * Everything is counted in shared memory anyway. So the instruments are observable ones, and what
 * they report is read when the SDK collects: a message costs nothing for it.
 *
 * OpenTelemetry has no observable histogram, and a recorded one would take a call a message. So of
 * each latency there are two: a gauge of its percentiles since the channel was made (attribute
 * `quantile`: 0.5, 0.99, 0.999, and 1 for the maximum), and a counter of its buckets as Prometheus
 * has them (attribute `le`: at most so many seconds, cumulative), from which a backend works out
 * the percentiles of any interval.
 */
import type { Attributes, BatchObservableResult, Meter } from "@opentelemetry/api";
import type { BusSnapshot } from "../bus/bus.ts";
import { makeInstruments } from "./instruments.ts";
import { cumulate, quantilesOf } from "./latency-series.ts";
import type { Latency } from "../bus/bus.ts";

export {
  instrumentBuffer,
  type InstrumentBufferOptions,
  type InstrumentedBuffer,
} from "./buffer-metrics.ts";

type Instruments = ReturnType<typeof makeInstruments>;
type Party = Record<"messages" | "bytes" | "errors", number> & { readonly name: string };

export interface InstrumentBusOptions {
  /**
   * Of which service the ends are reported; undefined: all of them. The default is whose bus it is,
   * so that what several services of a channel report adds up.
   */
  readonly service?: string | undefined;
}

/**
 * Reports a bus, or what an inspector sees of one, to `meter` until it is disposed.
 *
 * @param bus Each collection inspects it once. A bus that is closed reports nothing.
 */
export function instrumentBus(
  bus: { inspect(): BusSnapshot },
  meter: Meter,
  options: InstrumentBusOptions = {},
): Disposable {
  const instruments = makeInstruments(meter);
  const all = Object.values(instruments);
  const observe = (result: BatchObservableResult): void => {
    const snapshot = bus.inspect();
    const service = "service" in options ? options.service : snapshot.service;
    const isReported = ({ name }: Party): boolean => service === undefined || name === service;
    report(snapshot, isReported, instruments, result);
  };
  meter.addBatchObservableCallback(observe, all);
  return {
    [Symbol.dispose]: () => meter.removeBatchObservableCallback(observe, all),
  };
}

function report(
  snapshot: BusSnapshot,
  isReported: (party: Party) => boolean,
  instruments: Instruments,
  result: BatchObservableResult,
): void {
  for (const { name: channel, lanes } of snapshot.channels) {
    for (const lane of lanes) {
      const place = { channel, priority: lane.priority };
      result.observe(instruments.utilisation, lane.utilisation, place);
      for (const producer of lane.producers.filter(isReported)) {
        const attributes = { ...place, producer: producer.name };
        result.observe(instruments.messagesWritten, producer.messages, attributes);
        result.observe(instruments.bytesWritten, producer.bytes, attributes);
        result.observe(instruments.messagesDropped, producer.dropped, attributes);
        result.observe(instruments.messagesRejected, producer.rejected, attributes);
        result.observe(instruments.backpressureEvents, producer.pressured, attributes);
        result.observe(instruments.errors, producer.errors, attributes);
        const { writeLatency, writeLatencyBuckets } = instruments;
        observeLatency(
          result,
          writeLatency,
          writeLatencyBuckets,
          producer.writeLatency,
          attributes,
        );
      }
      for (const consumer of lane.consumers.filter(isReported)) {
        const attributes = { ...place, consumer: consumer.name };
        result.observe(instruments.messagesRead, consumer.messages, attributes);
        result.observe(instruments.bytesRead, consumer.bytes, attributes);
        result.observe(instruments.messagesLost, consumer.lost, attributes);
        result.observe(instruments.messagesFiltered, consumer.filtered, attributes);
        result.observe(instruments.lagMessages, consumer.lag, attributes);
        result.observe(instruments.lagBytes, consumer.lagBytes, attributes);
        result.observe(instruments.errors, consumer.errors, attributes);
        const { readLatency, readLatencyBuckets } = instruments;
        observeLatency(result, readLatency, readLatencyBuckets, consumer.readLatency, attributes);
        const { endToEndLatency, endToEndLatencyBuckets } = instruments;
        const { endToEndLatency: latency } = consumer;
        observeLatency(result, endToEndLatency, endToEndLatencyBuckets, latency, attributes);
      }
    }
  }
}

function observeLatency(
  result: BatchObservableResult,
  gauge: Instruments["writeLatency"],
  buckets: Instruments["writeLatencyBuckets"],
  latency: Latency,
  attributes: Attributes,
): void {
  if (latency.count === 0) return;
  for (const { quantile, seconds } of quantilesOf(latency)) {
    result.observe(gauge, seconds, { ...attributes, quantile });
  }
  for (const { le, count } of cumulate(latency)) {
    result.observe(buckets, count, { ...attributes, le });
  }
}
