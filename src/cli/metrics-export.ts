/**
 * Where the metrics of a command go: a page that Prometheus scrapes, and a collector that OTLP
 * carries them to. The SDK is loaded for whoever asks for it alone.
 */
import { once } from "node:events";
import http from "node:http";
import { DiagLogLevel, diag, type Meter } from "@opentelemetry/api";
import type { IMetricReader } from "@opentelemetry/sdk-metrics";
import { invalidConfig } from "../config.ts";
import { assert, describeError } from "../errors.ts";

export interface ExportOptions {
  /** Serves http://HOST:PORT/metrics; port 0 takes one that is free. */
  readonly prometheus: { readonly host: string; readonly port: number } | undefined;
  /** Such as http://collector:4318/v1/metrics. */
  readonly otlp: { readonly url: string; readonly intervalMs: number } | undefined;
}

export interface MetricsExport extends AsyncDisposable {
  readonly meter: Meter;
  readonly prometheusUrl: string | undefined;
}

/** A collector that does not answer holds nothing up for longer. */
const timeoutMs = 5000;
const serviceName = "gapless-buffer";

/** @throws GaplessError CONFIG_INVALID where the port cannot be had */
export async function exportMetrics(options: ExportOptions): Promise<MetricsExport> {
  const { MeterProvider } = await import("@opentelemetry/sdk-metrics");
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } =
    await import("@opentelemetry/resources");
  tellProblems();
  const page = options.prometheus && (await servePage(options.prometheus));
  const pushed = options.otlp && (await makePush(options.otlp));
  const readers = [page?.reader, pushed].filter((reader) => reader !== undefined);
  // What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts most.
  const resource = defaultResource()
    .merge(resourceFromAttributes({ "service.name": serviceName }))
    .merge(detectResources({ detectors: [envDetector] }));
  const provider = new MeterProvider({ readers, resource });
  return {
    meter: provider.getMeter("gapless"),
    prometheusUrl: page?.url,
    async [Symbol.asyncDispose]() {
      await page?.close();
      // Sends what has come since the last time.
      await provider.shutdown({ timeoutMillis: timeoutMs }).catch((error: unknown) => {
        diag.warn(describeError(error));
      });
    },
  };
}

interface Page {
  readonly reader: IMetricReader;
  readonly url: string;
  close(): Promise<void>;
}

/** With a server of our own: that of the exporter takes no port 0, and ends no connection. */
async function servePage(place: { host: string; port: number }): Promise<Page> {
  const { PrometheusExporter } = await import("@opentelemetry/exporter-prometheus");
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const server = http.createServer((request, response) => {
    const [path] = (request.url ?? "").split("?");
    if (path === "/metrics" && (request.method === "GET" || request.method === "HEAD")) {
      exporter.getMetricsRequestHandler(request, response);
      return;
    }
    response.statusCode = path === "/metrics" ? 405 : 404;
    response.end();
  });
  try {
    server.listen(place.port, place.host);
    await once(server, "listening");
  } catch (error) {
    const problem = `cannot listen at ${place.host}:${place.port}: ${describeError(error)}`;
    throw invalidConfig("command line", [{ key: "--prometheus", problem }]);
  }
  const address = server.address();
  assert(address !== null && typeof address === "object", "a TCP server has no port");
  const host = place.host.includes(":") ? `[${place.host}]` : place.host;
  return {
    reader: exporter,
    url: `http://${host}:${address.port}/metrics`,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function makePush({ url, intervalMs }: NonNullable<ExportOptions["otlp"]>) {
  const { PeriodicExportingMetricReader } = await import("@opentelemetry/sdk-metrics");
  const { OTLPMetricExporter } = await import("@opentelemetry/exporter-metrics-otlp-http");
  const exportTimeoutMillis = Math.min(intervalMs, timeoutMs);
  return new PeriodicExportingMetricReader({
    // Gives up first, and so says why.
    exporter: new OTLPMetricExporter({ url, timeoutMillis: exportTimeoutMillis * 0.8 }),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis,
  });
}

/** What cannot be exported is said, once as long as it stays so, and else is nobody's trouble. */
function tellProblems(): void {
  let toldOf = "";
  const tell = (...texts: unknown[]): void => {
    const problem = texts.map((text) => summaryOf(describeError(text))).join(" ");
    if (problem === toldOf) return;
    toldOf = problem;
    process.stderr.write(`metrics: ${problem}\n`);
  };
  const ignore = (): void => undefined;
  const logger = { error: tell, warn: tell, info: ignore, debug: ignore, verbose: ignore };
  diag.setLogger(logger, DiagLogLevel.WARN);
}

/** The SDK hands on an error as JSON, with its stack. */
function summaryOf(text: string): string {
  try {
    const { message } = JSON.parse(text) as { readonly message?: unknown };
    return typeof message === "string" ? message : text;
  } catch {
    return text;
  }
}
