import assert from "node:assert/strict";
import fs from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { connectBuffer, serveBuffer } from "../../../src/buffer/buffer.ts";
import {
  BoundsResponseSchema,
  ReadResponseSchema,
} from "../../../src/buffer/proto/gapless/buffer/v1/buffer_pb.ts";
import { GaplessError, isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import type { Archive } from "../../../src/flow/endpoints.ts";
import { isBatch, packMessages, type Message } from "../../../src/message.ts";
import {
  hasCode,
  makeMessage,
  makeMessages,
  nextLine,
  readAll,
  runProgram,
  temporaryDirectory,
  type Program,
} from "./fixture.ts";

function socketIn(context: TestContext): string {
  return path.join(temporaryDirectory(context), "peer.sock");
}

/** An archive over a list, which is enough for what the wire does. */
function archiveOf(messages: readonly Message[]): Archive {
  return {
    async bounds() {
      const maxId = messages.at(-1)?.id;
      return maxId === undefined ? null : { minId: messages[0]?.id ?? 0n, maxId };
    },
    async read(fromId, limit) {
      const found = messages.filter(({ id }) => id >= fromId).slice(0, limit);
      if (isBatch(found)) return found;
      throw new GaplessError("DATA_NOT_YET_AVAILABLE", "not there yet");
    },
  };
}

/** Until the test is over. */
async function serve(context: TestContext, archive: Archive, socketPath: string): Promise<void> {
  const server = await serveBuffer(archive, socketPath);
  context.after(() => server[Symbol.asyncDispose]());
}

async function startPeer(
  context: TestContext,
  directory: string,
  socketPath: string,
): Promise<Program> {
  const program = runProgram(context, "peer.ts", directory, socketPath);
  assert.equal(await nextLine(program), "ready");
  return program;
}

test("a process fills its gaps from another, also after a kill and restart", async (context) => {
  const directory = temporaryDirectory(context);
  const socketPath = path.join(directory, "peer.sock");
  const buffer = path.join(directory, "buffer");
  await using peer = connectBuffer(socketPath);
  await assert.rejects(peer.bounds(), hasCode("PEER_UNAVAILABLE"));

  let server = await startPeer(context, buffer, socketPath);
  assert.deepEqual(await peer.bounds(), { minId: 1n, maxId: 5000n });
  assert.deepEqual(await readAll(peer, 1n, 700), makeMessages(0n, 5000));
  await assert.rejects(peer.read(5001n, 1), hasCode("DATA_NOT_YET_AVAILABLE"));

  server.child.kill("SIGKILL");
  await server.exited;
  await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
  await assert.rejects(peer.bounds(), hasCode("PEER_UNAVAILABLE"));

  server = await startPeer(context, buffer, socketPath);
  assert.deepEqual(await readAll(peer, 4001n), makeMessages(4000n, 1000));
  server.child.stdin.end();
  assert.deepEqual(await server.exited, { code: 0, signal: null });
  assert.equal(fs.existsSync(socketPath), false);
});

test("a peer that hangs is PEER_UNAVAILABLE at the deadline", async (context) => {
  const directory = temporaryDirectory(context);
  const socketPath = path.join(directory, "peer.sock");
  const server = await startPeer(context, path.join(directory, "buffer"), socketPath);
  await using connected = connectBuffer(socketPath, { timeoutMs: 100 });
  await using connecting = connectBuffer(socketPath, { timeoutMs: 100 });
  await using patient = connectBuffer(socketPath);
  await patient.bounds();
  await connected.bounds().catch(() => undefined);
  server.child.kill("SIGSTOP");
  for (const peer of [connected, connecting, connected]) {
    await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
  }
  server.child.kill("SIGCONT");
  assert.equal((await patient.read(1n, 5)).length, 5);
});

test("the errors that decide cross the wire, others are PEER_UNAVAILABLE", async (context) => {
  const socketPath = socketIn(context);
  let code: ErrorCode = "DATA_TRIMMED";
  const refuse = async (): Promise<never> => {
    throw new GaplessError(code, `because of ${code}`);
  };
  await serve(context, { read: refuse, bounds: refuse }, socketPath);
  await using peer = connectBuffer(socketPath);
  const expected: [ErrorCode, ErrorCode][] = [
    ["DATA_TRIMMED", "DATA_TRIMMED"],
    ["DATA_NOT_YET_AVAILABLE", "DATA_NOT_YET_AVAILABLE"],
    ["STORAGE_CORRUPT", "STORAGE_CORRUPT"],
    ["CLOSED", "PEER_UNAVAILABLE"],
  ];
  for (const [thrown, received] of expected) {
    code = thrown;
    const isExpected = (error: unknown): boolean =>
      isGaplessError(error, received) && error.message.includes(`because of ${thrown}`);
    await assert.rejects(peer.read(1n, 1), isExpected);
    await assert.rejects(peer.bounds(), isExpected);
  }
});

test("ids of 64 bits, empty bounds and large messages cross the wire whole", async (context) => {
  const socketPath = socketIn(context);
  const top = 2n ** 64n - 1n;
  const messages = [
    { ...makeMessage(top - 1n, 0n, 0), timestampNs: top },
    { ...makeMessage(top, top - 1n, 16 * 1024 * 1024 - 32), timestampNs: 0n },
  ];
  let archive = archiveOf([]);
  const served: Archive = {
    read: (fromId, limit) => archive.read(fromId, limit),
    bounds: () => archive.bounds(),
  };
  await serve(context, served, socketPath);
  await using peer = connectBuffer(socketPath);
  assert.equal(await peer.bounds(), null);
  archive = archiveOf(messages);
  assert.deepEqual(await peer.bounds(), { minId: top - 1n, maxId: top });
  assert.deepEqual(await readAll(peer, 1n, Number.MAX_SAFE_INTEGER), messages);
});

test("a reply is bounded, by bytes and by messages, whatever is asked for", async (context) => {
  const socketPath = socketIn(context);
  const small = makeMessages(0n, 20_000, 0);
  const large = makeMessages(0n, 100, 100_000);
  let archive = archiveOf(small);
  const served: Archive = {
    read: (fromId, limit) => archive.read(fromId, limit),
    bounds: () => archive.bounds(),
  };
  await serve(context, served, socketPath);
  await using peer = connectBuffer(socketPath);
  assert.equal((await peer.read(1n, 1_000_000)).length, 16_384);
  archive = archiveOf(large);
  assert.equal((await peer.read(1n, 1_000_000)).length, 11);
  assert.deepEqual(await readAll(peer), large);
  // Together more than Node lets a session hold unless it is told to.
  const together = Array.from({ length: 20 }, () => peer.read(1n, 100));
  for (const found of await Promise.all(together)) assert.equal(found.length, 11);
});

test("closing a server ends connections and calls, and frees the path", async (context) => {
  const socketPath = socketIn(context);
  const never = (): Promise<never> => new Promise(() => undefined);
  const server = await serveBuffer({ read: never, bounds: never }, socketPath);
  await using peer = connectBuffer(socketPath);
  await using idle = connectBuffer(socketPath);
  const waiting = [peer.read(1n, 1), peer.bounds(), idle.bounds()];
  const rejected = Promise.all(
    waiting.map((call) => assert.rejects(call, hasCode("PEER_UNAVAILABLE"))),
  );
  await poll(() => connectionsOf(socketPath) >= 2);
  await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
  await rejected;
  assert.equal(fs.existsSync(socketPath), false);
  await serve(context, archiveOf(makeMessages(0n, 3)), socketPath);
  assert.equal((await peer.read(1n, 9)).length, 3);
});

test("closing a client rejects its calls, under way and to come: CLOSED", async (context) => {
  const socketPath = socketIn(context);
  const never = (): Promise<never> => new Promise(() => undefined);
  await serve(context, { read: never, bounds: never }, socketPath);
  const peer = connectBuffer(socketPath);
  const waiting = peer.read(1n, 1);
  await peer[Symbol.asyncDispose]();
  await peer[Symbol.asyncDispose]();
  await assert.rejects(waiting, hasCode("CLOSED"));
  await assert.rejects(peer.bounds(), hasCode("CLOSED"));
});

test("a client that is idle or closed keeps no process alive", async (context) => {
  const socketPath = socketIn(context);
  await serve(context, archiveOf(makeMessages(0n, 10)), socketPath);
  for (const ending of ["close", "idle"]) {
    const program = runProgram(context, "caller.ts", socketPath, ending);
    assert.equal(await nextLine(program), "10");
    assert.deepEqual(await program.exited, { code: 0, signal: null });
  }
});

test("a dead server's socket is replaced, a live one or a file is not", async (context) => {
  const directory = temporaryDirectory(context);
  const socketPath = path.join(directory, "peer.sock");
  const archive = archiveOf(makeMessages(0n, 1));
  {
    await using first = await serveBuffer(archive, path.join(directory, "first.sock"));
    // A second name, which stays when the server goes and takes its own along.
    fs.linkSync(path.join(directory, "first.sock"), socketPath);
    await assert.rejects(serveBuffer(archive, socketPath), hasCode("ALREADY_OPEN"));
    await first[Symbol.asyncDispose]();
  }
  assert.ok(fs.existsSync(socketPath));
  await serve(context, archive, socketPath);
  await using peer = connectBuffer(socketPath);
  assert.deepEqual(await peer.bounds(), { minId: 1n, maxId: 1n });

  const file = path.join(directory, "file");
  fs.writeFileSync(file, "kept");
  await assert.rejects(serveBuffer(archive, file), hasCode("CONFIG_INVALID"));
  assert.equal(fs.readFileSync(file, "utf8"), "kept");
});

test("a path that no socket can have is CONFIG_INVALID", async (context) => {
  const directory = temporaryDirectory(context);
  const fitting = path.join(directory, "s".repeat(106 - directory.length));
  const tooLong = `${fitting}s`;
  const archive = archiveOf(makeMessages(0n, 1));
  {
    await serve(context, archive, fitting);
    await using peer = connectBuffer(fitting);
    assert.deepEqual(await peer.bounds(), { minId: 1n, maxId: 1n });
  }
  for (const socketPath of [tooLong, "", "a\0b", "ü".repeat(54)]) {
    await assert.rejects(serveBuffer(archive, socketPath), hasCode("CONFIG_INVALID"));
    assert.throws(() => connectBuffer(socketPath), hasCode("CONFIG_INVALID"));
  }
  const nowhere = path.join(directory, "missing", "peer.sock");
  await assert.rejects(serveBuffer(archive, nowhere), hasCode("CONFIG_INVALID"));
  assert.throws(() => connectBuffer(fitting, { timeoutMs: 0 }), hasCode("CONFIG_INVALID"));
});

test("G7: what a lying peer sends is an error, never messages", async (context) => {
  const socketPath = socketIn(context);
  let reply = new Uint8Array(0);
  const server = http2.createServer({ maxSessionMemory: 100 }, (request, response) => {
    request.resume();
    request.on("end", () => {
      response.writeHead(200, { "content-type": "application/grpc+proto" });
      response.addTrailers({ "grpc-status": "0" });
      const envelope = new Uint8Array(5);
      new DataView(envelope.buffer).setUint32(1, reply.length);
      response.end(Buffer.concat([envelope, reply]));
    });
  });
  const sessions: http2.ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  context.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  await using peer = connectBuffer(socketPath);
  const lie = (messages: Uint8Array): void => {
    reply = toBinary(ReadResponseSchema, create(ReadResponseSchema, { messages }));
  };
  const five = makeMessages(4n, 5);
  const lies: [Uint8Array, ErrorCode][] = [
    [packMessages(five).subarray(0, -1), "MESSAGE_MALFORMED"],
    [new Uint8Array(31), "MESSAGE_MALFORMED"],
    [packMessages([]), "CHAIN_BROKEN"],
    [packMessages(five.toReversed()), "CHAIN_BROKEN"],
    [packMessages([...five.slice(0, 2), ...five.slice(3)]), "CHAIN_BROKEN"],
    [packMessages([...five.slice(0, 2), ...five.slice(1)]), "CHAIN_BROKEN"],
    // Below what was asked for, a hole before the first, and more than was asked for.
    [packMessages(makeMessages(3n, 5)), "CHAIN_BROKEN"],
    [packMessages(makeMessages(5n, 5)), "CHAIN_BROKEN"],
    [packMessages(makeMessages(4n, 11)), "CHAIN_BROKEN"],
    [packMessages([makeMessage(5n, 4n, 18 * 1024 * 1024)]), "PEER_UNAVAILABLE"],
  ];
  for (const [messages, code] of lies) {
    lie(messages);
    await assert.rejects(peer.read(5n, 10), hasCode(code));
  }
  lie(packMessages(five));
  assert.deepEqual(await peer.read(5n, 10), five);
  reply = new Uint8Array([0xff, 0xff, 0xff]);
  await assert.rejects(peer.read(5n, 10), hasCode("PEER_UNAVAILABLE"));
  for (const bounds of [{ minId: 7n, maxId: 5n }, { minId: 1n }, { minId: 0n, maxId: 0n }]) {
    reply = toBinary(BoundsResponseSchema, create(BoundsResponseSchema, bounds));
    await assert.rejects(peer.bounds(), hasCode("CHAIN_BROKEN"));
  }
});

test("G7: a client that sends garbage gets an error, others their messages", async (context) => {
  const socketPath = socketIn(context);
  const messages = makeMessages(0n, 10);
  await serve(context, archiveOf(messages), socketPath);
  for (const bytes of [Buffer.from("GET / HTTP/1.1\r\n\r\n"), Buffer.alloc(100_000, 0xff)]) {
    const socket = net.connect(socketPath);
    socket.on("error", () => undefined);
    const ended = new Promise((resolve) => socket.on("close", resolve));
    socket.resume();
    socket.end(bytes);
    await ended;
  }
  const session = http2.connect("http://gapless", {
    createConnection: () => net.connect(socketPath),
  });
  const statuses: unknown[] = [];
  for (const body of [Buffer.alloc(5_000, 1), Buffer.from([0, 0, 0, 0, 9, 1]), Buffer.alloc(0)]) {
    const call = session.request({
      ":method": "POST",
      ":path": "/gapless.buffer.v1.BufferService/Read",
      "content-type": "application/grpc+proto",
    });
    call.on("error", () => undefined);
    call.on("trailers", (trailers: http2.IncomingHttpHeaders) => {
      statuses.push(trailers["grpc-status"]);
    });
    const ended = new Promise((resolve) => call.on("close", resolve));
    call.resume();
    call.end(body);
    await ended;
  }
  session.destroy();
  assert.equal(statuses.length, 3);
  assert.ok(statuses.every((status) => status !== "0"));
  await using peer = connectBuffer(socketPath);
  assert.deepEqual(await peer.read(1n, 10), messages);
});

/** How many connections the kernel knows at the path, the listening socket not counted. */
function connectionsOf(socketPath: string): number {
  const lines = fs.readFileSync("/proc/net/unix", "utf8").split("\n");
  return lines.filter((line) => line.endsWith(socketPath)).length - 1;
}

async function poll(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, "the condition did not come");
    await new Promise((resolve) => setImmediate(resolve));
  }
}
