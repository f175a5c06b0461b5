/** The instruments of a buffer, by the names that dashboards know them by. */
import type { Counter, Histogram, Meter, ObservableGauge } from "@opentelemetry/api";

/** In seconds: from a read of memory to a write that a disk holds up. */
const bounds = [
  ...[1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4],
  ...[1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 10],
];

export function makeBufferInstruments(meter: Meter) {
  const counter = (name: string, unit: string, description: string): Counter =>
    meter.createCounter(`msg_buffer.${name}`, { unit, description });
  const gauge = (name: string, unit: string, description: string): ObservableGauge =>
    meter.createObservableGauge(`msg_buffer.${name}`, { unit, description });
  const duration = (name: string, description: string): Histogram =>
    meter.createHistogram(`msg_buffer.${name}.duration`, {
      unit: "s",
      description,
      advice: { explicitBucketBoundaries: bounds },
    });
  const message = "{message}";
  return {
    appendDuration: duration("append", "Appends, from the call until they were durable."),
    queryDuration: duration("query", "Reads that have brought messages, by where they came from."),
    trimDuration: duration("trim", "Trims, from the call until they were durable."),
    appendErrors: counter("append.errors", "{error}", "Appends of which nothing was kept."),
    queryErrors: counter(
      "query.errors",
      "{error}",
      "Reads that failed; not those that came early.",
    ),
    trimmed: counter("trim.total", message, "Messages that were trimmed."),
    dataLoss: counter(
      "data_loss.detected",
      "{error}",
      "Errors that say that data is lost or wrong.",
    ),
    size: gauge("size", message, "Messages that are kept."),
    hotSize: gauge("hot_size", message, "Messages of those that are in memory."),
    hitRate: gauge("hit_rate", "1", "Share of the reads that memory has answered."),
    lag: gauge("sync.lag", message, "Messages that a follower is behind."),
  };
}
