/** The instruments, by the names that dashboards know them by. */
import type { Meter, ObservableCounter, ObservableGauge } from "@opentelemetry/api";

export function makeInstruments(meter: Meter) {
  const counter = (name: string, unit: string, description: string): ObservableCounter =>
    meter.createObservableCounter(`gapless.bus.${name}`, { unit, description });
  const gauge = (name: string, unit: string, description: string): ObservableGauge =>
    meter.createObservableGauge(`gapless.bus.${name}`, { unit, description });
  const latency = (name: string, what: string) =>
    [
      gauge(`${name}.latency`, "s", `Percentiles of ${what}.`),
      counter(`${name}.latency.buckets`, "{message}", `Timed messages, by ${what}.`),
    ] as const;

  const [writeLatency, writeLatencyBuckets] = latency("write", "the time from claim to commit");
  const [readLatency, readLatencyBuckets] = latency("read", "the time in the handler");
  const [endToEndLatency, endToEndLatencyBuckets] = latency(
    "end_to_end",
    "the time from the claim to the handler",
  );
  const messages = "{message}";
  return {
    messagesWritten: counter("messages.written", messages, "Messages committed by a producer."),
    bytesWritten: counter("bytes.written", "By", "Bytes of those messages."),
    messagesDropped: counter("messages.dropped", messages, "Not written (DropNewest)."),
    messagesRejected: counter("messages.rejected", messages, "Refused attempts of a producer."),
    backpressureEvents: counter("backpressure.events", "{event}", "High-water mark met."),
    messagesRead: counter("messages.read", messages, "Messages released by a consumer."),
    bytesRead: counter("bytes.read", "By", "Bytes of those messages."),
    messagesLost: counter("messages.lost", messages, "Sequences that a consumer has missed."),
    messagesFiltered: counter("messages.filtered", messages, "Of topics not wanted."),
    errors: counter("errors", "{error}", "Calls of a producer or consumer that failed."),
    utilisation: gauge("utilisation", "1", "Share of the ring that is used."),
    lagMessages: gauge("lag.messages", messages, "Messages that a consumer has to read."),
    lagBytes: gauge("lag.bytes", "By", "Bytes of the ring that a consumer has to read."),
    writeLatency,
    writeLatencyBuckets,
    readLatency,
    readLatencyBuckets,
    endToEndLatency,
    endToEndLatencyBuckets,
  };
}
