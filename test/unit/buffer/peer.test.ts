import assert from "node:assert/strict";
import fs from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { create, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { connectPeer, serveBuffers, type BufferArchive } from "../../../src/buffer/buffer.ts";
import {
  BufferFull,
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
  StorageError,
} from "../../../src/buffer/buffer-errors.ts";
import {
  DigestResponseSchema,
  FrameSchema,
  StatusResponseSchema,
} from "../../../src/buffer/proto/msg_sync_pb.ts";
import { GaplessError, isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { packMessages, type Message } from "../../../src/message.ts";
import {
  hasCode,
  makeMessage,
  makeMessages,
  nextLine,
  openIn,
  readAll,
  runProgram,
  temporaryDirectory,
  type Program,
} from "./fixture.ts";
import { archiveThat, connect, flow, ListArchive, serve, socketIn } from "./peer-fixture.ts";

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
  await using peer = connectPeer({ address: `unix:${socketPath}`, flow });
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
  await using connected = connectPeer({ address: `unix:${socketPath}`, flow, timeoutMs: 100 });
  await using connecting = connectPeer({ address: `unix:${socketPath}`, flow, timeoutMs: 100 });
  await using patient = connectPeer({ address: `unix:${socketPath}`, flow });
  await patient.bounds();
  await connected.bounds().catch(() => undefined);
  server.child.kill("SIGSTOP");
  for (const peer of [connected, connecting, connected]) {
    await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
  }
  server.child.kill("SIGCONT");
  assert.equal((await patient.read(1n, 5)).length, 5);
});

test("a follower notices that its peer hangs, and not that it has nothing to say", async (context) => {
  const directory = temporaryDirectory(context);
  const socketPath = path.join(directory, "peer.sock");
  const server = await startPeer(context, path.join(directory, "buffer"), socketPath);
  const peer = connect(context, `unix:${socketPath}`, { timeoutMs: 300 });
  const following = peer.follow(5000n);
  assert.deepEqual((await following.next()).value, makeMessages(4999n, 1));
  const next = following.next();
  const silence = new Promise((resolve) => setTimeout(resolve, 2000, "nothing"));
  assert.equal(await Promise.race([next, silence]), "nothing");
  server.child.kill("SIGSTOP");
  await assert.rejects(next, hasCode("PEER_UNAVAILABLE"));
});

test("errors cross as themselves with their ids, others are PEER_UNAVAILABLE", async (context) => {
  let thrown: Error = new DataTrimmed(5n, 9n);
  const server = await serve(context, [archiveThat(() => Promise.reject(thrown))]);
  const peer = connect(context, server.address);
  const top = 2n ** 64n - 1n;
  const crossing: GaplessError[] = [
    new DataTrimmed(top, top - 1n),
    new DataTrimmed(0n, 1n),
    new DataNotYetAvailable(7n, 0n),
    new DataCorrupted(3n, top, "A täle of ids"),
    new BufferFull("full: 100 %"),
    new InvalidOperation("beyond the maximum"),
    new StorageError("STORAGE_CORRUPT", "bytes"),
    new StorageError("STORAGE_FULL", "no room"),
    new StorageError("SYSTEM_CALL_FAILED", "EIO"),
    new GaplessError("DATA_TRIMMED", "without its ids"),
    new GaplessError("CONFIG_INVALID", "no such thing"),
  ];
  const fieldsOf = (error: GaplessError): unknown =>
    Object.entries(error).filter(([name]) => name !== "cause");
  for (const error of crossing) {
    thrown = error;
    const isSame = (received: unknown): boolean => {
      assert.ok(received instanceof GaplessError);
      assert.equal(received.constructor, error.constructor);
      assert.equal(received.message, error.message);
      assert.deepEqual(fieldsOf(received), fieldsOf(error));
      return true;
    };
    await assert.rejects(peer.read(1n, 1), isSame);
    await assert.rejects(peer.status(), isSame);
    await assert.rejects(peer.bounds(), isSame);
    await assert.rejects(peer.digest(1n, 2n), isSame);
    await assert.rejects(peer.follow(1n).next(), isSame);
  }
  const shorter = connect(context, server.address, { timeoutMs: 500 });
  for (const error of [new GaplessError("CLOSED", "closed here"), new Error("a bug")]) {
    thrown = error;
    const isExpected = (received: unknown): boolean =>
      isGaplessError(received, "PEER_UNAVAILABLE") && received.message.includes(error.message);
    await assert.rejects(shorter.read(1n, 1), isExpected);
    await assert.rejects(shorter.status(), isExpected);
    await assert.rejects(shorter.follow(1n).next(), isExpected);
  }
  thrown = new GaplessError("CONFIG_INVALID", "long ".repeat(100_000));
  await assert.rejects(peer.read(1n, 1), hasCode("CONFIG_INVALID"));
});

test("ids of 64 bits, empty bounds and large messages cross the wire whole", async (context) => {
  const top = 2n ** 64n - 1n;
  const messages = [
    { ...makeMessage(top - 1n, 0n, 0), timestampNs: top },
    { ...makeMessage(top, top - 1n, 16 * 1024 * 1024 - 32), timestampNs: 0n },
  ];
  const list = new ListArchive([]);
  const server = await serve(context, [list.archive]);
  const peer = connect(context, server.address);
  assert.equal(await peer.bounds(), null);
  const empty = { minId: undefined, maxId: undefined, logPosition: 0n };
  assert.deepEqual(await peer.status(), empty);
  list.messages.push(...messages);
  assert.deepEqual(await peer.bounds(), { minId: top - 1n, maxId: top });
  assert.deepEqual(await readAll(peer, 1n, Number.MAX_SAFE_INTEGER), messages);
  const first = await peer.follow(1n).next();
  assert.deepEqual(first.value, messages);
  list.trimmedThrough = top - 1n;
  assert.deepEqual(await peer.status(), { minId: top, maxId: top, logPosition: 0n });
  list.trimmedThrough = top;
  assert.deepEqual(await peer.status(), { ...empty, maxId: top });
});

test("a range of a buffer ends at the last id there can be", async (context) => {
  const top = 2n ** 64n - 1n;
  await using buffer = await openIn(temporaryDirectory(context));
  const messages = [makeMessage(5n, 0n), { ...makeMessage(top, 5n), timestampNs: 0n }];
  await buffer.append(messages);
  const server = await serve(context, [buffer.archive]);
  const peer = connect(context, server.address);
  assert.deepEqual(await peer.read(1n, 10), messages);
  assert.deepEqual(await peer.read(top, 10), messages.slice(1));
});

test("a reply is bounded, by bytes and by messages, whatever is asked for", async (context) => {
  const small = new ListArchive(makeMessages(0n, 20_000, 0), "small");
  const large = new ListArchive(makeMessages(0n, 100, 100_000), "large");
  const server = await serve(context, [small.archive, large.archive]);
  const peer = connect(context, server.address, { flow: "small" });
  assert.equal((await peer.read(1n, 1_000_000)).length, 16_384);
  const largePeer = connect(context, server.address, { flow: "large" });
  assert.equal((await largePeer.read(1n, 1_000_000)).length, 11);
  assert.equal((await largePeer.read(1n, 7)).length, 7);
  assert.deepEqual(await readAll(largePeer), large.messages);
  // Together more than Node lets a session hold unless it is told to.
  const together = Array.from({ length: 20 }, () => largePeer.read(1n, 100));
  for (const found of await Promise.all(together)) assert.equal(found.length, 11);
});

test("a flow is followed from the past into the present, without gap or duplicate", async (context) => {
  const list = new ListArchive(makeMessages(0n, 3000, 100, 2n));
  const server = await serve(context, [list.archive]);
  const peer = connect(context, server.address);
  const stopping = new AbortController();
  const seen: Message[] = [];
  let lastId = 6000n;
  for await (const batch of peer.follow(1001n, { signal: stopping.signal })) {
    seen.push(...batch);
    if (seen.at(-1)?.id !== lastId) continue;
    if (list.messages.length >= 3500) stopping.abort();
    else list.messages.push(...makeMessages(lastId, 100, 10, 2n));
    lastId = list.messages.at(-1)?.id ?? 0n;
  }
  assert.deepEqual(seen, list.messages.slice(500));
  assert.equal(lastId, 7000n);
});

test("a digest is the same on both ends, and another one for another range", async (context) => {
  const list = new ListArchive(makeMessages(0n, 20_000, 100, 3n));
  const server = await serve(context, [list.archive]);
  const peer = connect(context, server.address);
  const digest = await peer.digest(4n, 59_997n);
  assert.deepEqual(digest, await list.archive.digest(4n, 59_997n));
  assert.equal(digest.count, 19_998);
  assert.notDeepEqual(digest.sha256, (await peer.digest(4n, 59_994n)).sha256);
  await assert.rejects(peer.digest(1n, 60_001n), (error) => {
    assert.ok(error instanceof DataNotYetAvailable);
    assert.equal(error.currentMaxId, 60_000n);
    return true;
  });
});

test("closing a server ends connections and calls, and frees the path", async (context) => {
  const socketPath = socketIn(context);
  const listen = { path: socketPath };
  const never = archiveThat(() => new Promise(() => undefined));
  const server = await serveBuffers({ flows: [never], listen });
  const peer = connect(context, server.address);
  const idle = connect(context, server.address);
  const waiting = [peer.read(1n, 1), peer.bounds(), idle.bounds()];
  const rejected = Promise.all(
    waiting.map((call) => assert.rejects(call, hasCode("PEER_UNAVAILABLE"))),
  );
  await poll(() => connectionsOf(socketPath) >= 2);
  await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
  await rejected;
  assert.equal(fs.existsSync(socketPath), false);
  await serve(context, [new ListArchive(makeMessages(0n, 3)).archive], { listen });
  assert.equal((await peer.read(1n, 9)).length, 3);
});

test("a follower goes on where it was when its peer comes back, for a while", async (context) => {
  const listen = { path: socketIn(context) };
  const list = new ListArchive(makeMessages(0n, 10));
  const flows = [list.archive];
  let server = await serveBuffers({ flows, listen });
  const peer = connect(context, server.address, { timeoutMs: 3000 });
  const following = peer.follow(1n);
  assert.deepEqual((await following.next()).value, list.messages);
  await server[Symbol.asyncDispose]();
  list.messages.push(...makeMessages(10n, 5));
  const next = following.next();
  server = await serveBuffers({ flows, listen });
  assert.deepEqual((await next).value, makeMessages(10n, 5));

  const impatient = connect(context, server.address, { timeoutMs: 50 }).follow(1n);
  await impatient.next();
  await server[Symbol.asyncDispose]();
  await assert.rejects(impatient.next(), hasCode("PEER_UNAVAILABLE"));
});

test("closing a client rejects its calls, under way and to come: CLOSED", async (context) => {
  const server = await serve(context, [archiveThat(() => new Promise(() => undefined))]);
  const peer = connectPeer({ address: server.address, flow });
  const waiting = [peer.read(1n, 1), peer.follow(1n).next()].map((call) =>
    assert.rejects(call, hasCode("CLOSED")),
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  await peer[Symbol.asyncDispose]();
  await peer[Symbol.asyncDispose]();
  await Promise.all(waiting);
  await assert.rejects(peer.bounds(), hasCode("CLOSED"));
});

test("a client that is idle or closed keeps no process alive", async (context) => {
  const path = socketIn(context);
  await serve(context, [new ListArchive(makeMessages(0n, 10)).archive], { listen: { path } });
  for (const ending of ["close", "idle"]) {
    const program = runProgram(context, "caller.ts", path, ending);
    assert.equal(await nextLine(program), "10");
    assert.deepEqual(await program.exited, { code: 0, signal: null });
  }
});

test("a dead server's socket is replaced, a live one or a file is not", async (context) => {
  const directory = temporaryDirectory(context);
  const at = (name: string) => ({ listen: { path: path.join(directory, name) } });
  const flows = [new ListArchive(makeMessages(0n, 1)).archive];
  {
    await using first = await serveBuffers({ flows, ...at("first.sock") });
    // A second name, which stays when the server goes and takes its own along.
    fs.linkSync(path.join(directory, "first.sock"), path.join(directory, "peer.sock"));
    await assert.rejects(serveBuffers({ flows, ...at("peer.sock") }), hasCode("ALREADY_OPEN"));
    await first[Symbol.asyncDispose]();
  }
  assert.ok(fs.existsSync(path.join(directory, "peer.sock")));
  const server = await serve(context, flows, at("peer.sock"));
  const peer = connect(context, server.address);
  assert.deepEqual(await peer.bounds(), { minId: 1n, maxId: 1n });

  const file = path.join(directory, "file");
  fs.writeFileSync(file, "kept");
  await assert.rejects(serveBuffers({ flows, ...at("file") }), hasCode("CONFIG_INVALID"));
  assert.equal(fs.readFileSync(file, "utf8"), "kept");
});

test("what names no place, and options that make no sense, are CONFIG_INVALID", async (context) => {
  const directory = temporaryDirectory(context);
  const fitting = path.join(directory, "s".repeat(106 - directory.length));
  const flows = [new ListArchive(makeMessages(0n, 1)).archive];
  await serve(context, flows, { listen: { path: fitting } });
  const peer = connect(context, `unix:${fitting}`);
  assert.deepEqual(await peer.bounds(), { minId: 1n, maxId: 1n });
  const paths = [`${fitting}s`, "", "a\0b", "ü".repeat(54), path.join(directory, "missing", "s")];
  for (const socketPath of paths) {
    const serving = serveBuffers({ flows, listen: { path: socketPath } });
    await assert.rejects(serving, hasCode("CONFIG_INVALID"));
  }
  const addresses = paths.slice(0, 4).map((socketPath) => `unix:${socketPath}`);
  addresses.push("", "localhost", "localhost:", ":80", "localhost:0", "localhost:70000", "a:b:80");
  for (const address of addresses) {
    assert.throws(() => connectPeer({ address, flow }), hasCode("CONFIG_INVALID"), address);
  }
  const address = "[::1]:7400";
  for (const wrong of [
    { timeoutMs: 0 },
    { flow: "" },
    { bearerToken: "" },
    { bearerToken: "a b" },
  ]) {
    assert.throws(() => connectPeer({ address, flow, ...wrong }), hasCode("CONFIG_INVALID"));
  }
  const listen = { path: path.join(directory, "other.sock") };
  const limits = [
    { messageBytes: 0 },
    { rangeMessages: 2 ** 32 },
    { rangeMessages: 16_383 },
    { streams: 1.5 },
  ];
  const wrong = [
    { flows: [] },
    { flows: [{}] as unknown as BufferArchive[] },
    { flow: flows },
    { flows: [...flows, ...flows] },
    { listen: { host: "localhost", port: 65_536 } },
    { bearerToken: "line\nbreak" },
    ...limits.map((limit) => ({ limits: limit })),
  ];
  for (const options of wrong) {
    const serving = serveBuffers({ flows, listen, ...options });
    await assert.rejects(serving, hasCode("CONFIG_INVALID"));
  }
  const taken = await serve(context, flows, { listen: { host: "127.0.0.1", port: 0 } });
  const port = Number(taken.address.split(":")[1]);
  const again = serveBuffers({ flows, listen: { host: "127.0.0.1", port } });
  await assert.rejects(again, hasCode("ALREADY_OPEN"));
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
  const peer = connect(context, `unix:${socketPath}`);
  const impatient = connect(context, `unix:${socketPath}`, { timeoutMs: 50 });
  const answer = <Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): void => {
    reply = toBinary(schema, message);
  };
  const lie = (messages: Uint8Array): void =>
    answer(FrameSchema, create(FrameSchema, { messages }));
  const five = makeMessages(4n, 5);
  const lies: [Uint8Array, ErrorCode][] = [
    [packMessages(five).subarray(0, -1), "CHAIN_BROKEN"],
    [new Uint8Array(31), "CHAIN_BROKEN"],
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
    const isLie = (error: unknown): boolean =>
      isGaplessError(error, code) &&
      (code === "PEER_UNAVAILABLE" || error instanceof DataCorrupted);
    await assert.rejects(peer.read(5n, 10), isLie);
    // Of a follower's first frame only its end is open.
    if (unpackedCount(messages) <= 10) await assert.rejects(impatient.follow(5n).next(), isLie);
  }
  lie(packMessages(five));
  assert.deepEqual(await peer.read(5n, 10), five);
  assert.deepEqual((await peer.follow(5n).next()).value, five);
  reply = new Uint8Array([0xff, 0xff, 0xff]);
  await assert.rejects(peer.read(5n, 10), hasCode("PEER_UNAVAILABLE"));
  const statuses = [
    { minId: 7n, maxId: 5n, flow },
    { minId: 1n, flow },
    { minId: 0n, maxId: 0n, flow },
    { minId: 0n, maxId: 3n, flow },
    { minId: 1n, maxId: 3n, flow: "another one" },
  ];
  for (const status of statuses) {
    answer(StatusResponseSchema, create(StatusResponseSchema, status));
    await assert.rejects(peer.status(), hasCode("CHAIN_BROKEN"));
    await assert.rejects(peer.bounds(), hasCode("CHAIN_BROKEN"));
  }
  for (const digest of [{ count: 5n }, { count: 2n ** 60n, sha256: new Uint8Array(32) }]) {
    answer(DigestResponseSchema, create(DigestResponseSchema, digest));
    await assert.rejects(peer.digest(1n, 5n), hasCode("CHAIN_BROKEN"));
  }
});

test("G7: a client that sends garbage gets an error, others their messages", async (context) => {
  const socketPath = socketIn(context);
  const messages = makeMessages(0n, 10);
  await serve(context, [new ListArchive(messages).archive], { listen: { path: socketPath } });
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
      ":path": "/gapless.buffer.v1.MsgSync/Sync",
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
  await using peer = connectPeer({ address: `unix:${socketPath}`, flow });
  assert.deepEqual(await peer.read(1n, 10), messages);
});

function unpackedCount(packed: Uint8Array): number {
  return Math.floor(packed.length / 132);
}

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
