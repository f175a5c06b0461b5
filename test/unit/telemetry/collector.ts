/** The real SDK, which collects when it is told to. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Meter } from "@opentelemetry/api";
import { MeterProvider, MetricReader, type DataPoint } from "@opentelemetry/sdk-metrics";

class Collector extends MetricReader {
  protected override onShutdown = async (): Promise<void> => undefined;
  protected override onForceFlush = async (): Promise<void> => undefined;

  async points(): Promise<Map<string, readonly DataPoint<unknown>[]>> {
    const { resourceMetrics, errors } = await this.collect();
    assert.deepEqual(errors, []);
    return new Map(
      resourceMetrics.scopeMetrics
        .flatMap(({ metrics }) => metrics)
        .map(({ descriptor, dataPoints }) => [descriptor.name, dataPoints]),
    );
  }
}

/** A meter, and who collects what it is told, until the test is over. */
export function openMeter(t: TestContext): { meter: Meter; collector: Collector } {
  const collector = new Collector();
  const provider = new MeterProvider({ readers: [collector] });
  t.after(() => provider.shutdown());
  return { meter: provider.getMeter("test"), collector };
}
