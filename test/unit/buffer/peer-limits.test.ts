/** What a server allows, and what it keeps for those who do not take it. */
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import type { BufferArchive } from "../../../src/buffer/archive.ts";
import { InvalidOperation } from "../../../src/buffer/buffer-errors.ts";
import { openConnection } from "../../../src/buffer/peer-connection.ts";
import { resolvePeer } from "../../../src/buffer/peer-options.ts";
import { GaplessError } from "../../../src/errors.ts";
import type { Batch, Message } from "../../../src/message.ts";
import { hasCode, makeMessages, nextLine, runProgram } from "./fixture.ts";
import {
  archiveThat,
  callsOf,
  connect,
  flow,
  ListArchive,
  serve,
  socketIn,
} from "./peer-fixture.ts";
import { callSync, connectRaw } from "./raw-call.ts";

/** Everything is allowed to a call of Sync, so that it does not end by itself. */
const endless = { rangeMessages: 0xffff_ffff };

/** Has as many messages of a kilobyte as anybody can ask for, and counts what it gave. */
class EndlessArchive {
  givenBytes = 0;
  private readonly payload = new Uint8Array(1000);

  get archive(): BufferArchive {
    const never = archiveThat(() => Promise.reject(new GaplessError("CLOSED", "never asked")));
    return {
      ...never,
      status: async () => ({ minId: 1n, maxId: 2n ** 63n, logPosition: 0n }),
      read: async (fromId, limit) => {
        const count = Math.min(limit, 1000);
        this.givenBytes += count * this.payload.length;
        const message = (_: unknown, index: number): Message => ({
          id: fromId + BigInt(index),
          prevId: fromId + BigInt(index) - 1n,
          timestampNs: 1n,
          bytes: this.payload,
        });
        return Array.from({ length: count }, message) as unknown as Batch;
      },
    };
  }

  /** Resolves when nothing was asked for in a while. */
  async untilStill(): Promise<number> {
    for (;;) {
      const before = this.givenBytes;
      await pause(300);
      if (this.givenBytes === before) return before;
    }
  }
}

test("for clients that stop reading little is kept, and it goes on when they do", async (context) => {
  const calls = 20;
  const source = new EndlessArchive();
  const path = socketIn(context);
  await serve(context, [source.archive], { listen: { path }, limits: endless });
  const reader = runProgram(context, "greedy-reader.ts", path, flow, String(calls));
  assert.equal(await nextLine(reader), "begun");
  reader.child.kill("SIGSTOP");
  const beforeBytes = source.givenBytes;
  const heldBytes = process.memoryUsage().arrayBuffers;
  const stillBytes = await source.untilStill();
  // What was read for it and two frames, of each call; and what the kernel holds.
  assert.ok(stillBytes - beforeBytes < calls * 2_000_000, `given=${stillBytes - beforeBytes}`);
  const growthBytes = process.memoryUsage().arrayBuffers - heldBytes;
  assert.ok(growthBytes < calls * 1_000_000, `growth=${growthBytes}`);
  assert.equal(await source.untilStill(), stillBytes);
  reader.child.kill("SIGCONT");
  await until(() => source.givenBytes > stillBytes + calls * 10_000_000);
});

test("a call whose client does not read gives its place back at its deadline", async (context) => {
  const source = new EndlessArchive();
  const path = socketIn(context);
  const limits = { ...endless, streams: 1 };
  const server = await serve(context, [source.archive], { listen: { path }, limits });
  const peer = connect(context, server.address);
  const session = connectRaw(path, 65_535);
  context.after(() => session.destroy());
  const call = callSync(session, flow, { "grpc-timeout": "300m" });
  const closed = new Promise((resolve) => call.on("close", resolve));
  await source.untilStill();
  // Nobody has read a byte of it, so the client itself knows of no end.
  await untilResolves(() => peer.read(1n, 1));
  call.resume();
  await closed;
  assert.ok(source.givenBytes < 4_000_000, `given=${source.givenBytes}`);
});

test("a client that is gone in the middle of a call gives its place back", async (context) => {
  const source = new EndlessArchive();
  const list = new ListArchive(makeMessages(0n, 10), "followed");
  const path = socketIn(context);
  const server = await serve(context, [source.archive, list.archive], {
    listen: { path },
    limits: { ...endless, streams: 2 },
  });
  const session = connectRaw(path, 65_535);
  callSync(session, flow);
  const follower = connect(context, server.address, { flow: "followed" });
  const following = follower.follow(1n);
  await following.next();
  await until(() => source.givenBytes > 0);
  const peer = connect(context, server.address);
  await assert.rejects(peer.read(1n, 1), (error) => {
    assert.match(String(error), /streams=2 are under way/);
    return hasCode("PEER_UNAVAILABLE")(error);
  });
  session.destroy();
  await untilResolves(() => peer.read(1n, 1));
  await following.return(undefined);
  await untilResolves(() => Promise.all([peer.read(1n, 1), peer.read(1n, 1)]));
});

test("a client whose machine is gone is asked for by the system", async (context) => {
  const list = new ListArchive(makeMessages(0n, 10));
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await serve(context, [list.archive], { listen });
  const following = connect(context, server.address).follow(1n);
  await following.next();
  const port = Number(server.address.split(":").at(-1));
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // proc(5): of a connection that is idle, the timer is 2 where it is kept alive, else 0.
  const timers = (): string[] =>
    fs
      .readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, address, , state]) => address === local && state === "01")
      .map(([, , , , , timer = ""]) => timer.slice(0, 2));
  await until(() => timers().includes("02"));
  await following.return(undefined);
});

test("a deadline ends what an archive does not answer, on both ends", async (context) => {
  let left = 0;
  const hanging: BufferArchive = {
    ...archiveThat(() => new Promise(() => undefined)),
    async *follow(_, { signal } = {}) {
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      left++;
      yield* [];
    },
  };
  const server = await serve(context, [hanging], { limits: { streams: 1 } });
  const peer = connect(context, server.address, { timeoutMs: 100 });
  const startMs = performance.now();
  await assert.rejects(peer.status(), hasCode("PEER_UNAVAILABLE"));
  await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
  const stopping = new AbortController();
  const next = peer.follow(1n, { signal: stopping.signal }).next();
  await pause(100);
  stopping.abort();
  assert.equal((await next).done, true);
  await until(() => left === 1);
  assert.ok(performance.now() - startMs < 5000);
});

test("a call for more than a range holds is refused, not cut short", async (context) => {
  const list = new ListArchive(makeMessages(0n, 500));
  const server = await serve(context, [list.archive], { limits: { rangeMessages: 16_384 } });
  // Of this package, no client ever asks for more than the least that a server may allow.
  const peer = connect(context, server.address);
  assert.equal((await peer.read(1n, Number.MAX_SAFE_INTEGER)).length, 500);
  const raw = openConnection(resolvePeer({ address: server.address, flow }));
  context.after(() => raw.close());
  assert.equal((await raw.sync(1n, 16_384, 0).next()).done, false);
  await assert.rejects(raw.sync(1n, 16_385, 0).next(), (error) => {
    assert.ok(error instanceof InvalidOperation);
    assert.match(error.message, /limit=16385: this peer answers 1 to 16384/);
    return true;
  });
});

test("a message beyond the limit ends the call, and those before it came", async (context) => {
  const small = makeMessages(0n, 10, 900);
  const list = new ListArchive([...small, ...makeMessages(10n, 1, 1001)]);
  const server = await serve(context, [list.archive], { limits: { messageBytes: 1000 } });
  const peer = connect(context, server.address);
  assert.deepEqual(await peer.read(1n, 10), small);
  await assert.rejects(peer.read(1n, 11), hasCode("MESSAGE_TOO_LARGE"));
  await assert.rejects(peer.follow(11n).next(), hasCode("MESSAGE_TOO_LARGE"));
});

test("a flow that is not served is an error that names those that are", async (context) => {
  const flows = ["trades", "orders"].map((name) => new ListArchive([], name).archive);
  const server = await serve(context, flows);
  const peer = connect(context, server.address, { flow: "quotes" });
  for (const call of callsOf(peer)) {
    await assert.rejects(call(), (error) => {
      assert.match(String(error), /flow=quotes is not served here. Served are: trades, orders\./);
      return hasCode("CONFIG_INVALID")(error);
    });
  }
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, "the condition did not come");
    await pause(10);
  }
}

/** Within some seconds; until then it may reject. */
async function untilResolves(call: () => Promise<unknown>): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  for (;;) {
    try {
      await call();
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await pause(50);
    }
  }
}
