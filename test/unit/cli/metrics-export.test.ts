/** Every metric of a buffer as Prometheus gets it, and what it makes of the alerts that ship. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import test from "node:test";
import { openMsgBuffer } from "gapless/buffer";
import { instrumentBuffer } from "gapless/telemetry";
import { exportMetrics } from "../../../src/cli/metrics-export.ts";
import { hasCode, makeMessages, temporaryDirectory } from "../buffer/fixture.ts";

const rulesFile = path.join(import.meta.dirname, "../../../docs/monitoring/msg-buffer.rules.yaml");

const hasPrometheus = spawnSync("prometheus", ["--version"]).status === 0;
const skip = hasPrometheus ? false : "needs prometheus";

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Alerts {
  readonly data: {
    readonly alerts: readonly {
      readonly state: string;
      readonly labels: Readonly<Record<string, string>>;
    }[];
  };
}

test(
  "what a scrape brings is what the alerts are for, and Prometheus tells the loss",
  { skip },
  async (context) => {
    const directory = temporaryDirectory(context);
    const dbPath = path.join(directory, "exchange");
    await using buffer = await openMsgBuffer({ component: "trades", storage: { dbPath } });
    const place = { host: "127.0.0.1", port: 0 };
    await using metrics = await exportMetrics({ prometheus: place, otlp: undefined });
    using _metrics = instrumentBuffer(buffer, metrics.meter, { lag: () => 12 });
    await buffer.append(makeMessages(0n, 100));
    await buffer.sync(1n, 100);
    await buffer.trim(51n);
    await assert.rejects(buffer.sync(1n, 1), hasCode("DATA_TRIMMED"));

    assert.ok(metrics.prometheusUrl !== undefined);
    const page = await (await fetch(metrics.prometheusUrl)).text();
    const series = new Set(page.match(/^msg_buffer_\w+/gm));
    const rules = fs.readFileSync(rulesFile, "utf8");
    const named = new Set(rules.replaceAll(/^#.*$/gm, "").match(/\bmsg_buffer_\w+/g));
    assert.equal(named.size, 6);
    assert.deepEqual(
      [...named].filter((name) => !series.has(name)),
      [],
    );
    const families = [...page.matchAll(/^# TYPE (msg_buffer_\w+) (\w+)$/gm)].map((match) =>
      match.slice(1),
    );
    assert.deepEqual(Object.fromEntries(families), {
      msg_buffer_append_duration: "histogram",
      msg_buffer_query_duration: "histogram",
      msg_buffer_trim_duration: "histogram",
      msg_buffer_append_errors_total: "counter",
      msg_buffer_query_errors_total: "counter",
      msg_buffer_trim_total: "counter",
      msg_buffer_data_loss_detected_total: "counter",
      msg_buffer_size: "gauge",
      msg_buffer_hot_size: "gauge",
      msg_buffer_hit_rate: "gauge",
      msg_buffer_sync_lag: "gauge",
    });

    const port = await freePort();
    const config = path.join(directory, "prometheus.yaml");
    fs.writeFileSync(
      config,
      [
        "global: { scrape_interval: 500ms, evaluation_interval: 500ms }",
        `rule_files: [${JSON.stringify(rulesFile)}]`,
        "scrape_configs:",
        "  - job_name: gapless",
        `    static_configs: [{ targets: ["${new URL(metrics.prometheusUrl).host}"] }]`,
      ].join("\n"),
    );
    const files = ["--config.file", config, "--storage.tsdb.path", path.join(directory, "tsdb")];
    const web = ["--web.listen-address", `127.0.0.1:${port}`, "--log.level", "error"];
    const prometheus = spawn("prometheus", [...files, ...web], { stdio: "inherit" });
    const exited = once(prometheus, "exit");
    context.after(async () => {
      prometheus.kill("SIGKILL");
      await exited;
    });
    const firing = new Set<string>();
    const deadlineMs = performance.now() + 60_000;
    // The lag of 12 is none to tell.
    while (firing.size < 2 && performance.now() < deadlineMs) {
      await pause(200);
      // Each time one more of a thousand and more fails.
      await assert.rejects(buffer.sync(1n, 1), hasCode("DATA_TRIMMED"));
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/alerts`).catch(() => undefined);
      if (answer?.ok !== true) continue;
      const { alerts } = ((await answer.json()) as Alerts).data;
      for (const { state, labels } of alerts) {
        assert.equal(labels["component"], "trades");
        if (state === "firing") firing.add(labels["alertname"] ?? "");
      }
    }
    assert.deepEqual([...firing].sort(), ["MsgBufferDataLoss", "MsgBufferQueryErrors"]);
  },
);
