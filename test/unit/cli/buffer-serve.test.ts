/** `gapless buffer serve` and those that ask it: peers, Prometheus, collectors, diff-peers. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { json, text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { connectPeer, openMsgBuffer, serveBuffers, type PeerOptions } from "gapless/buffer";
import type { Message } from "../../../src/message.ts";
import { runGapless, startGapless, startHeardGapless } from "../../support/bus-command.ts";
import { refusalOf } from "./buffer-refusal.ts";
import { ListArchive, serve as serveArchives } from "../buffer/peer-fixture.ts";
import { hasCode, makeMessages, temporaryDirectory } from "../buffer/fixture.ts";

async function write(dbPath: string, cfName: string, messages: readonly Message[]): Promise<void> {
  await using buffer = await openMsgBuffer({ component: "test", storage: { dbPath, cfName } });
  await buffer.append(messages);
}

interface Serving {
  readonly child: ChildProcess;
  readonly address: string;
  readonly prometheus?: string;
  readonly flows: readonly { readonly flow: string }[];
}

/** Resolves once it serves. */
async function serve(context: TestContext, ...args: string[]): Promise<Serving> {
  const child = startGapless("buffer", "serve", ...args, "--json");
  context.after(() => child.kill("SIGKILL"));
  assert.ok(child.stdout);
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, ...(JSON.parse(line) as Omit<Serving, "child">) };
  }
  throw new Error("it ended");
}

async function stop({ child }: Serving): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  assert.deepEqual(await exited, [0, null]);
}

interface Otlp {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: readonly { key: string; value: object }[] };
    readonly scopeMetrics: readonly {
      readonly metrics: readonly ({ readonly name: string; readonly unit: string } & object)[];
    }[];
  }[];
}

/** A collector that takes OTLP as JSON. */
async function collect(context: TestContext): Promise<{ url: string; bodies: Otlp[] }> {
  const bodies: Otlp[] = [];
  const server = http.createServer((request, response) => {
    const isRight = request.method === "POST" && request.url === "/v1/metrics";
    assert.equal(request.headers["content-type"], "application/json");
    void json(request).then((body) => {
      if (isRight) bodies.push(body as Otlp);
      response.writeHead(isRight ? 200 : 404, { "content-type": "application/json" }).end("{}");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close().closeAllConnections());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, bodies };
}

test("families are served to peers, scraped, and sent to a collector, with how far they are behind", async (context) => {
  const directory = temporaryDirectory(context);
  const dbPath = path.join(directory, "exchange");
  const messages = makeMessages(0n, 300);
  await write(dbPath, "trades", messages);
  await write(dbPath, "orders", messages.slice(0, 10));
  {
    const storage = { dbPath, cfName: "trades" };
    await using buffer = await openMsgBuffer({ component: "test", storage });
    await buffer.trim(101n);
  }
  const leaderStorage = { dbPath: path.join(directory, "leader") };
  await using leader = await openMsgBuffer({ component: "trades", storage: leaderStorage });
  await leader.append(makeMessages(0n, 1542));
  const listen = { path: path.join(directory, "leader.sock") };
  await using leading = await serveBuffers({ flows: [leader.archive], listen });
  const collector = await collect(context);

  const at = ["--listen", `unix:${directory}/peers.sock`, "--prometheus", "0"];
  const push = ["--otlp", collector.url, "--otlp-interval", "0.5"];
  const serving = await serve(context, dbPath, ...at, ...push, "--peer", leading.address);
  assert.deepEqual(
    serving.flows.map(({ flow }) => flow),
    ["orders", "trades"],
  );
  assert.equal(serving.address, `unix:${directory}/peers.sock`);

  await using peer = connectPeer({ address: serving.address, flow: "trades" });
  assert.deepEqual(await peer.read(101n, 200), messages.slice(100));
  await assert.rejects(peer.read(100n, 1), hasCode("DATA_TRIMMED"));
  await assert.rejects(peer.read(301n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));

  assert.ok(serving.prometheus !== undefined);
  let page = "";
  // A peer that is slow to answer is left out of a scrape.
  while (!page.includes("msg_buffer_sync_lag{")) {
    page = await (await fetch(serving.prometheus)).text();
  }
  const valueOf = (series: string): number | undefined => {
    const line = page.split("\n").find((one) => one.startsWith(series.replace("}", ",")));
    return line === undefined ? undefined : Number(line.split(" ").at(-1));
  };
  const trades = '{component="trades"}';
  assert.equal(valueOf(`msg_buffer_size${trades}`), 200);
  assert.equal(valueOf('msg_buffer_size{component="orders"}'), 10);
  assert.equal(valueOf(`msg_buffer_sync_lag${trades}`), 1242);
  assert.equal(valueOf('msg_buffer_sync_lag{component="orders"}'), undefined);
  assert.equal(valueOf(`msg_buffer_query_errors_total${trades}`), 1);
  assert.equal(valueOf(`msg_buffer_data_loss_detected_total${trades}`), 1);
  assert.equal(valueOf(`msg_buffer_append_errors_total${trades}`), 0);
  const timed = 'msg_buffer_query_duration_count{component="trades",storage="cold"}';
  assert.ok((valueOf(timed) ?? 0) >= 1, page);
  assert.equal((await fetch(new URL("/", serving.prometheus))).status, 404);
  if (spawnSync("promtool", ["--version"]).status === 0) {
    const checked = spawnSync("promtool", ["check", "metrics"], { input: page, encoding: "utf8" });
    assert.doesNotMatch(checked.stderr, /error while/);
  }

  while (collector.bodies.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  await stop(serving);
  // What it sends when it ends is all that it has counted.
  const [sent] = collector.bodies.at(-1)?.resourceMetrics ?? [];
  const service = sent?.resource.attributes.find(({ key }) => key === "service.name");
  assert.deepEqual(service?.value, { stringValue: "gapless-buffer" });
  const metrics = sent?.scopeMetrics.flatMap((scope) => scope.metrics) ?? [];
  const lost = metrics.find(({ name }) => name === "msg_buffer.data_loss.detected");
  const expected = {
    unit: "{error}",
    sum: { isMonotonic: true, dataPoints: [{ asDouble: 0 }, { asDouble: 1 }] },
  };
  assert.partialDeepStrictEqual(lost, expected, JSON.stringify(lost));
  const query = metrics.find(({ name }) => name === "msg_buffer.query.duration");
  const attributes = [
    { key: "component", value: { stringValue: "trades" } },
    { key: "storage", value: { stringValue: "cold" } },
  ];
  const timing = { unit: "s", histogram: { dataPoints: [{ attributes }] } };
  assert.partialDeepStrictEqual(query, timing, JSON.stringify(query));
});

test("stat, get and verify ask who serves a flow, and diff-peers tells the first id that differs", async (context) => {
  const directory = temporaryDirectory(context);
  const messages = makeMessages(0n, 2000);
  const changed = messages.with(1233, { ...(messages[1233] as Message), bytes: Buffer.from("?") });
  await write(path.join(directory, "left"), "messages", messages);
  await write(path.join(directory, "right"), "messages", messages.slice(0, 1900));
  await write(path.join(directory, "wrong"), "messages", changed);
  await write(path.join(directory, "empty"), "messages", []);
  await using opened = new AsyncDisposableStack();
  for (const name of ["left", "right", "wrong", "empty"]) {
    const storage = { dbPath: path.join(directory, name) };
    const buffer = opened.use(await openMsgBuffer({ component: "trades", storage }));
    const listen = { path: path.join(directory, `${name}.sock`) };
    opened.use(await serveBuffers({ flows: [buffer.archive], listen }));
  }
  const at = (...names: string[]): string[] =>
    names.map((name) => `unix:${path.join(directory, `${name}.sock`)}`);
  const left = ["--peer", ...at("left"), "--flow", "trades"];
  const empty = ["--peer", ...at("empty"), "--flow", "trades"];
  const [stat, nothing, get, verify, same, wrong, down] = await Promise.all([
    runGapless("buffer", "stat", ...left, "--json"),
    runGapless("buffer", "stat", ...empty, "--json"),
    runGapless("buffer", "get", ...left, "1999", "--count", "5", "--json"),
    runGapless("buffer", "verify", ...left),
    runGapless("buffer", "diff-peers", ...at("left", "right"), "--flow", "trades"),
    runGapless("buffer", "diff-peers", ...at("right", "wrong"), "--flow", "trades", "--json"),
    runGapless("buffer", "diff-peers", ...at("left"), `unix:${directory}/x`, "--flow", "trades"),
  ]);
  const [address] = at("left");
  const ids = { minId: "1", maxId: "2000" };
  const logPosition = "0";
  assert.deepEqual(JSON.parse(stat.stdout), { address, flow: "trades", ...ids, logPosition });
  assert.partialDeepStrictEqual(JSON.parse(nothing.stdout), { minId: null, maxId: null });
  const got = get.stdout
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { id: string }).id);
  assert.deepEqual([got, get.stderr], [["1999", "2000"], "These are all: 2 messages.\n"]);
  assert.match(verify.stdout, /^2,000 messages, 258 KB, id 1 to 2000: nothing is wrong\.$/m);
  assert.equal(same.status, 0, same.stderr);
  assert.match(same.stdout, /^same {2}id 1 to 1900, which all have: 1,900 messages$/m);
  assert.equal(wrong.status, 1, wrong.stderr);
  const { difference } = JSON.parse(wrong.stdout) as { difference: unknown };
  assert.partialDeepStrictEqual(difference, {
    id: "1234",
    found: [{ message: { id: "1234", bytes: 100 } }, { message: { id: "1234", bytes: 1 } }],
  });
  assert.deepEqual([down.status, down.stdout], [1, ""]);
  assert.match(down.stderr, /^PEER_UNAVAILABLE: unix:.*\/x: /);
});

test("get and verify that are stopped before their end say so by their exit code", async (context) => {
  const messages = makeMessages(0n, 3000);
  for (const args of [["get", "1", "--count", "3000"], ["verify"]]) {
    const list = new ListArchive(messages).archive;
    const asked = Promise.withResolvers<undefined>();
    const stopped = Promise.withResolvers<undefined>();
    const slow = {
      ...list,
      async read(fromId: bigint, limit: number) {
        if (fromId > 1n) asked.resolve(undefined);
        if (fromId > 1n) await stopped.promise;
        return list.read(fromId, limit);
      },
    };
    const { address } = await serveArchives(context, [slow]);
    const child = startGapless("buffer", ...args, "--peer", address, "--flow", "trades");
    context.after(() => child.kill("SIGKILL"));
    child.stdout?.resume();
    const exited = once(child, "exit");
    await asked.promise;
    child.kill("SIGINT");
    await pause(200);
    stopped.resolve(undefined);
    assert.deepEqual(await exited, [130, null], args.join(" "));
  }
});

test("get --follow goes on with what comes, until it is stopped or nobody reads on", async (context) => {
  const directory = temporaryDirectory(context);
  const storage = { dbPath: path.join(directory, "exchange") };
  await using buffer = await openMsgBuffer({ component: "trades", storage });
  const messages = makeMessages(0n, 12);
  await buffer.append(messages.slice(0, 4));
  const listen = { path: path.join(directory, "peers.sock") };
  await using server = await serveBuffers({ flows: [buffer.archive], listen });
  const follow = (...args: string[]) => {
    const place = ["--peer", server.address, "--flow", "trades"];
    const child = startHeardGapless("buffer", "get", ...place, "--follow", "--json", ...args);
    context.after(() => child.kill("SIGKILL"));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const nextId = async (): Promise<string> => {
      const { value } = await lines.next();
      return (JSON.parse(value ?? "{}") as { id: string }).id;
    };
    return { child, nextId, ended: once(child, "close"), complaints: text(child.stderr) };
  };
  const [stopped, unread, counted] = [follow("3"), follow("4"), follow("1", "--count", "6")];
  assert.deepEqual([await stopped.nextId(), await stopped.nextId()], ["3", "4"]);
  assert.equal(await unread.nextId(), "4");
  unread.child.stdout.destroy();
  for (let index = 4; index < messages.length; index++) {
    await buffer.append(messages.slice(index, index + 1));
    assert.equal(await stopped.nextId(), String(index + 1));
  }
  for (let id = 1; id <= 6; id++) assert.equal(await counted.nextId(), String(id));
  stopped.child.kill("SIGINT");
  for (const { ended, complaints } of [stopped, unread, counted]) {
    assert.deepEqual([await ended, await complaints], [[0, null], ""]);
  }
});

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
const skip = hasOpenssl ? false : "needs openssl";

test(
  "over TLS, only who has a certificate and the token is answered",
  { skip },
  async (context) => {
    const directory = temporaryDirectory(context);
    await write(path.join(directory, "db"), "trades", makeMessages(0n, 10));
    const [key, cert, token] = ["key", "cert", "token"].map((name) => path.join(directory, name));
    assert.ok(key !== undefined && cert !== undefined && token !== undefined);
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const names = ["-subj", "/CN=gapless", "-addext", "subjectAltName=IP:127.0.0.1"];
    const files = ["-keyout", key, "-out", cert, "-days", "1"];
    execFileSync("openssl", ["req", "-x509", ...curve, ...files, ...names], { stdio: "pipe" });
    fs.writeFileSync(token, "secret\n");
    const identity = ["--tls-key", key, "--tls-cert", cert];
    const asking = [...identity, "--tls-client-ca", cert, "--token-file", token];
    const place = [path.join(directory, "db"), "--listen", "127.0.0.1:0"];
    const { address } = await serve(context, ...place, ...asking);
    await write(path.join(directory, "behind"), "trades", makeMessages(0n, 3));
    const follower = [path.join(directory, "behind"), "--listen", "127.0.0.1:0", ...identity];
    const peer = ["--peer", address, "--peer-tls-ca", cert, "--peer-token-file", token];
    const { prometheus = "" } = await serve(context, ...follower, ...peer, "--prometheus", "0");
    const lag = /^msg_buffer_sync_lag\{component="trades".*\} 7$/m;
    while (!lag.test(await (await fetch(prometheus)).text())) {
      // A peer that is slow to answer is left out of a scrape.
    }
    const right = await runGapless(
      ...["buffer", "stat", "--peer", address, "--flow", "trades"],
      ...["--tls-ca", cert, ...identity, "--token-file", token],
    );
    assert.match(right.stdout, /^ {2}kept {5}id 1 to 10$/m, right.stderr);
    // TLS is for the port alone.
    await write(path.join(directory, "beside"), "trades", makeMessages(0n, 10));
    const socket = `unix:${path.join(directory, "beside.sock")}`;
    await serve(context, path.join(directory, "beside"), "--listen", socket);
    const compared = await runGapless(
      ...["buffer", "diff-peers", address, socket, "--flow", "trades"],
      ...["--tls-ca", cert, ...identity, "--token-file", token],
    );
    assert.match(compared.stdout, /^same {2}id 1 to 10, which all have/m, compared.stderr);
    const ca = fs.readFileSync(cert);
    const own = { key: fs.readFileSync(key), cert: ca };
    const bearerToken = "secret";
    const status = async (options: Partial<PeerOptions>): Promise<unknown> => {
      await using peer = connectPeer({ address, flow: "trades", timeoutMs: 5000, ...options });
      return await peer.status();
    };
    await assert.rejects(status({ tls: { ca, ...own } }), hasCode("CONFIG_INVALID"));
    await assert.rejects(status({ tls: { ca }, bearerToken }), hasCode("PEER_UNAVAILABLE"));
    await assert.rejects(status({ bearerToken }), hasCode("PEER_UNAVAILABLE"));
  },
);

test("a peer that does not say how far it is, is named, once for each reason", async (context) => {
  const directory = temporaryDirectory(context);
  await write(directory, "trades", makeMessages(0n, 3));
  await write(directory, "orders", makeMessages(0n, 3));
  const of = [directory, "--family", "orders", "--listen", "127.0.0.1:0"];
  const { address } = await serve(context, ...of);
  const child = startHeardGapless(
    ...["buffer", "serve", directory, "--family", "trades", "--listen", "127.0.0.1:0", "--json"],
    ...["--prometheus", "0", "--peer", address, `unix:${directory}/none`],
  );
  context.after(() => child.kill("SIGKILL"));
  const told = text(child.stderr);
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const { prometheus } = JSON.parse(line) as { readonly prometheus: string };
  for (let scrape = 1; scrape <= 3; scrape++) await (await fetch(prometheus)).text();
  child.kill("SIGTERM");
  const lines = (await told).trimEnd().split("\n").toSorted();
  assert.equal(lines.length, 2, lines.join("\n"));
  assert.match(lines[0] ?? "", /^sync\.lag: 127\..*: CONFIG_INVALID: flow=trades is not served/);
  assert.match(lines[1] ?? "", /^sync\.lag: unix:.*none: PEER_UNAVAILABLE: .*ENOENT/);
});

test("what serve is told wrongly is said before anything is opened", async (context) => {
  const directory = temporaryDirectory(context);
  await write(directory, "trades", makeMessages(0n, 1));
  await write(directory, "orders", makeMessages(0n, 1));
  const cases: readonly [readonly string[], RegExp][] = [
    [["--listen", "nowhere"], /address=nowhere/],
    [["--prometheus", "99999"], /--prometheus: expected PORT or HOST:PORT, found "99999"/],
    [["--prometheus", "192.0.2.1:9"], /--prometheus: cannot listen at 192\.0\.2\.1:9/],
    [["--otlp", "collector"], /--otlp: expected an URL, found "collector"/],
    [["--otlp", "ftp://collector"], /--otlp: expected http: or https:/],
    [["--tls-key", "key.pem"], /--tls-key: goes with --tls-cert/],
    [["--tls-client-ca", "ca.pem"], /--tls-client-ca: expected --tls-key and --tls-cert/],
    [["--token-file", `${directory}/none`], /--token-file: .*none cannot be read: ENOENT/],
    [["--peer", "unix:/x"], /--peer: is for the metrics/],
    [["--peer-tls-ca", "ca.pem"], /--peer-tls-ca: expected --peer with it/],
    [["--peer-token-file", "token"], /--peer-token-file: expected --peer with it/],
  ];
  for (const [args, expected] of cases) {
    const refusal = await refusalOf("serve", directory, ...args);
    assert.match(refusal, expected);
    assert.match(refusal, /^CONFIG_INVALID: /);
  }
  const several = await refusalOf("serve", `all=${directory}`);
  assert.match(several, /has several \(orders, trades\): expected --family/);
});
