/** What the doors are given by who has no compiler: named, and not taken for less than it is. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  connectPeer,
  fillGap,
  recoverLeader,
  serveBuffers,
  startRetention,
} from "../../../src/buffer/buffer.ts";
import { openIn, temporaryDirectory } from "./fixture.ts";
import { ListArchive, socketIn } from "./peer-fixture.ts";

const { archive } = new ListArchive([]);

/** What is wrong, and what its error says. */
type Cases = readonly (readonly [unknown, RegExp])[];

async function refused(cases: Cases, door: (given: never) => unknown): Promise<void> {
  for (const [given, message] of cases) {
    const calling = async (): Promise<unknown> => door(given as never);
    await assert.rejects(calling, { code: "CONFIG_INVALID", message }, message.source);
  }
}

test("G7: a server is not told to speak TLS and does without, nor let in who shows nothing", async (t) => {
  const right = { flows: [archive], listen: { path: socketIn(t) } };
  const cases: Cases = [
    [{ ...right, tls: {} }, /tls\.key and tls\.cert/],
    [{ ...right, tls: { clientCA: "typo" } }, /tls of serveBuffers has no option clientCA/],
    [{ ...right, tls: null }, /tls of serveBuffers=null/],
    [{ ...right, tls: 5 }, /tls of serveBuffers=5/],
    [{ ...right, bearerToken: 5 }, /bearerToken/],
    [{ ...right, bearerToken: null }, /bearerToken/],
    [{ ...right, listen: undefined }, /listen=undefined/],
    [{ ...right, listen: { host: 5, port: 5 } }, /host=5/],
    [{ ...right, listen: { path: 5 } }, /path/],
    [{ ...right, flows: [null] }, /flows=null/],
    [{ ...right, flows: ["trades"] }, /flows="trades"/],
  ];
  await refused(cases, serveBuffers);
});

test("G7: a peer whose address, or trust, is none is refused by name", async () => {
  const right = { address: "127.0.0.1:7400", flow: "trades" };
  const cases: Cases = [
    [{ ...right, address: undefined }, /address=undefined/],
    [{ ...right, address: 7400 }, /address=7400/],
    [{ ...right, tls: { CA: "typo" } }, /tls of connectPeer has no option CA/],
    [{ ...right, tls: null }, /tls of connectPeer=null/],
    [{ ...right, tls: { serverName: 5 } }, /tls\.serverName=5/],
  ];
  await refused(cases, connectPeer);
});

test("G7: who fills a gap, or starts a leader, is told which option there is not", async (t) => {
  await using buffer = await openIn(temporaryDirectory(t));
  const fill = { peers: [archive], afterId: 0n, throughId: 1n, apply: () => Promise.resolve() };
  const fills: Cases = [
    [undefined, /options of fillGap=undefined/],
    [{ ...fill, timeoutMS: 5 }, /fillGap has no option timeoutMS/],
    [{ ...fill, apply: undefined }, /apply=undefined/],
    [{ ...fill, peers: [null] }, /peers=null/],
    [{ ...fill, peers: [{ status: () => undefined }] }, /peers=/],
    [{ ...fill, onLoss: "page" }, /onLoss="page"/],
  ];
  await refused(fills, fillGap);
  const leader = { buffer, live: {}, peers: [archive], signal: AbortSignal.abort() };
  const leaders: Cases = [
    [undefined, /options of recoverLeader=undefined/],
    [{ ...leader, ledger: buffer }, /recoverLeader has no option ledger/],
    [{ ...leader, onRecovered: true }, /onRecovered=true/],
  ];
  await refused(leaders, recoverLeader);
  const start = (given: never): unknown => startRetention(buffer, given);
  await refused([[{ count: 1, consumers: ["oms", 5] }, /consumers=5/]], start);
});
