/** That others understand what is served: a second implementation of gRPC, and a tool. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { BufferArchive } from "../../../src/buffer/archive.ts";
import { BufferErrorSchema, type BufferError } from "../../../src/buffer/proto/msg_sync_pb.ts";
import { GaplessError } from "../../../src/errors.ts";
import { unpackMessages, type Message } from "../../../src/message.ts";
import { makeMessages } from "./fixture.ts";
import { archiveThat, ListArchive, serve } from "./peer-fixture.ts";

const spec = path.join(import.meta.dirname, "../../../spec");
const files = ["msg_sync.proto", "grpc/health/v1/health.proto"];
const flow = "trades";

type Fields = Readonly<Record<string, unknown>>;
interface Caller {
  unary(method: string, request: Fields, options?: grpc.CallOptions): Promise<Fields>;
  stream(
    method: string,
    request: Fields,
    options?: grpc.CallOptions,
  ): grpc.ClientReadableStream<Fields>;
}

/** Calls a service with nothing but its .proto and the other implementation. */
function callerOf(context: TestContext, address: string, service: string): Caller {
  const definition = loadSync(files, { includeDirs: [spec], longs: String, enums: String });
  let found = grpc.loadPackageDefinition(definition) as grpc.GrpcObject | grpc.GrpcObject[string];
  for (const name of service.split(".")) found = (found as grpc.GrpcObject)[name] ?? {};
  const Client = found as grpc.ServiceClientConstructor;
  const client = new Client(address, grpc.credentials.createInsecure());
  context.after(() => client.close());
  const methods = client as unknown as Readonly<Record<string, (...args: unknown[]) => unknown>>;
  return {
    unary: (method, request, options = {}) =>
      new Promise((resolve, reject) => {
        methods[method]?.call(client, request, options, (error: Error | null, answer: Fields) => {
          if (error === null) resolve(answer);
          else reject(error);
        });
      }),
    stream: (method, request, options = {}) =>
      methods[method]?.call(client, request, options) as grpc.ClientReadableStream<Fields>,
  };
}

async function collect(stream: AsyncIterable<unknown>, count = Infinity): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const frame of stream) {
    messages.push(...unpackMessages((frame as { messages: Buffer }).messages));
    if (messages.length >= count) break;
  }
  return messages.map((message) => ({ ...message, bytes: new Uint8Array(message.bytes) }));
}

function bufferErrorOf(error: unknown): BufferError {
  const trailer = (error as grpc.ServiceError).metadata.get("gapless-error-bin")[0];
  assert.ok(trailer instanceof Buffer);
  return fromBinary(BufferErrorSchema, trailer);
}

test("grpc-js reads ranges, follows, asks for the status and compares digests", async (context) => {
  const list = new ListArchive(makeMessages(0n, 5000, 100, 2n), flow);
  const server = await serve(context, [list.archive, new ListArchive([], "orders").archive]);
  const caller = callerOf(context, server.address, "gapless.buffer.v1.MsgSync");

  const range = await collect(caller.stream("Sync", { flow, fromId: "1000", limit: 4000 }));
  assert.deepEqual(range, list.messages.slice(499, 4499));
  const all = await collect(caller.stream("Sync", { flow, fromId: "1", limit: 1_000_000 }));
  assert.deepEqual(all, list.messages);
  const short = await collect(
    caller.stream("Sync", { flow, fromId: "1", limit: 9, bytesMax: 300 }),
  );
  assert.deepEqual(short, list.messages.slice(0, 3));

  const following = caller.stream("Follow", { flow, fromId: "9999" });
  following.on("error", () => undefined);
  setTimeout(() => list.messages.push(...makeMessages(10_000n, 3, 10, 5n)), 50);
  assert.deepEqual(await collect(following, 4), list.messages.slice(-4));

  const status = await caller.unary("Status", { flow });
  const expected = { minId: "2", maxId: "10015", component: flow, flow, logPosition: "0" };
  for (const [field, value] of Object.entries(expected)) assert.equal(status[field] ?? "0", value);
  assert.equal((await caller.unary("Status", { flow: "orders" }))["maxId"], undefined);

  const digest = await caller.unary("Digest", { flow, fromId: "1", throughId: "10000" });
  const own = await list.archive.digest(1n, 10_000n);
  assert.equal(digest["count"], "5000");
  assert.deepEqual(new Uint8Array(digest["sha256"] as Buffer), own.sha256);
});

test("grpc-js gets statuses that it knows, and the error of the buffer with its ids", async (context) => {
  const list = new ListArchive(makeMessages(0n, 100), flow);
  list.trimmedThrough = 50n;
  const server = await serve(context, [list.archive]);
  const caller = callerOf(context, server.address, "gapless.buffer.v1.MsgSync");
  const failing = async (request: Fields, method = "Sync"): Promise<grpc.ServiceError> => {
    try {
      await collect(caller.stream(method, request));
    } catch (error) {
      return error as grpc.ServiceError;
    }
    assert.fail("no error");
  };
  const trimmed = await failing({ flow, fromId: "50", limit: 1 });
  assert.equal(trimmed.code, grpc.status.NOT_FOUND);
  const { code, requestedId, minAvailableId } = bufferErrorOf(trimmed);
  assert.deepEqual([code, requestedId, minAvailableId], ["DATA_TRIMMED", 50n, 51n]);
  assert.equal((await failing({ flow, fromId: "50" }, "Follow")).code, grpc.status.NOT_FOUND);

  const later = await failing({ flow, fromId: "101", limit: 1 });
  assert.equal(later.code, grpc.status.OUT_OF_RANGE);
  assert.equal(bufferErrorOf(later).currentMaxId, 100n);

  const unknown = await failing({ flow: "quotes", fromId: "1", limit: 1 });
  assert.equal(unknown.code, grpc.status.NOT_FOUND);
  assert.match(unknown.details, /Served are: trades/);
  const refused = await failing({ flow, fromId: "51", limit: 0 });
  assert.equal(refused.code, grpc.status.FAILED_PRECONDITION);

  const hung = await serve(context, [archiveThat(() => new Promise(() => undefined), flow)]);
  const waiting = callerOf(context, hung.address, "gapless.buffer.v1.MsgSync");
  await assert.rejects(
    waiting.unary("Status", { flow }, { deadline: Date.now() + 100 }),
    (error: grpc.ServiceError) => error.code === grpc.status.DEADLINE_EXCEEDED,
  );
});

test("health is that of the server, of its service, and of each flow", async (context) => {
  let isWell = true;
  const list = new ListArchive(makeMessages(0n, 1), flow);
  const ailing: BufferArchive = {
    ...new ListArchive([], "orders").archive,
    status: async () => {
      if (isWell) return { minId: undefined, maxId: undefined, logPosition: 0n };
      throw new GaplessError("CLOSED", "closed");
    },
  };
  const bearerToken = "not for probes";
  const flows = [list.archive, ailing];
  const server = await serve(context, flows, { bearerToken: bearerToken.replaceAll(" ", "-") });
  const caller = callerOf(context, server.address, "grpc.health.v1.Health");
  const check = async (service: string): Promise<unknown> =>
    (await caller.unary("Check", { service }))["status"];
  for (const service of ["", "gapless.buffer.v1.MsgSync", flow, "orders"]) {
    assert.equal(await check(service), "SERVING", service);
  }
  await assert.rejects(check("quotes"), (error: grpc.ServiceError) => {
    return error.code === grpc.status.NOT_FOUND;
  });

  const watched = caller.stream("Watch", { service: "orders" });
  watched.on("error", () => undefined);
  const states: unknown[] = [];
  for await (const answer of watched) {
    states.push((answer as Fields)["status"]);
    if (states.length === 3) break;
    isWell = !isWell;
    if (!isWell) assert.equal(await check("orders"), "NOT_SERVING");
  }
  assert.deepEqual(states, ["SERVING", "NOT_SERVING", "SERVING"]);
  assert.equal(await check(flow), "SERVING");
  const stranger = caller.stream("Watch", { service: "quotes" });
  stranger.on("error", () => undefined);
  for await (const answer of stranger) {
    assert.equal((answer as Fields)["status"], "SERVICE_UNKNOWN");
    break;
  }
});

const hasGrpcurl = spawnSync("grpcurl", ["-version"]).status === 0;

test(
  "grpcurl asks for status, range and health",
  { skip: hasGrpcurl ? false : "needs grpcurl" },
  async (context) => {
    const list = new ListArchive(makeMessages(0n, 10), flow);
    const listen = { host: "127.0.0.1", port: 0 };
    const server = await serve(context, [list.archive], { listen });
    const ask = async (method: string, request: Fields): Promise<Fields> => {
      const protos = files.flatMap((file) => ["-proto", file]);
      const options = [
        "-plaintext",
        "-import-path",
        spec,
        ...protos,
        "-d",
        JSON.stringify(request),
      ];
      const asked = await promisify(execFile)("grpcurl", [...options, server.address, method]);
      return JSON.parse(asked.stdout) as Fields;
    };
    const status = await ask("gapless.buffer.v1.MsgSync/Status", { flow });
    assert.equal(status["maxId"], "10");
    const frame = await ask("gapless.buffer.v1.MsgSync/Sync", { flow, fromId: "4", limit: 5 });
    const messages = unpackMessages(Buffer.from(String(frame["messages"]), "base64"));
    assert.deepEqual(
      messages.map(({ id }) => id),
      [4n, 5n, 6n, 7n, 8n],
    );
    const health = await ask("grpc.health.v1.Health/Check", { service: flow });
    assert.equal(health["status"], "SERVING");
  },
);
