/** Who is let in: TLS both ways, with certificates made on the spot, and bearer tokens. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import test, { type TestContext } from "node:test";
import {
  connectPeer,
  serveBuffers,
  type PeerOptions,
  type ServeOptions,
} from "../../../src/buffer/buffer.ts";
import { hasCode, makeMessages, temporaryDirectory } from "./fixture.ts";
import { callsOf, connect, ListArchive, serve, socketIn } from "./peer-fixture.ts";

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;
const skip = hasOpenssl ? false : "needs openssl";

interface Identity {
  readonly key: Buffer;
  readonly cert: Buffer;
}

/** An authority in a folder that goes away, and what it signs. */
class Authority {
  readonly ca: Buffer;
  private readonly directory: string;

  constructor(context: TestContext) {
    this.directory = temporaryDirectory(context);
    this.ca = this.make("ca", []).cert;
  }

  sign(name: string, alternativeNames: string): Identity {
    const signed = ["-CA", this.at("ca.pem"), "-CAkey", this.at("ca.key")];
    return this.make(name, [...signed, "-addext", `subjectAltName=${alternativeNames}`]);
  }

  /** As `sign`, of what ended yesterday. */
  signExpired(name: string, alternativeNames: string): Identity {
    const { key } = this.sign(name, alternativeNames);
    const [csr, cert] = [this.at(`${name}.csr`), this.at(`${name}.pem`)];
    const asked = ["-key", this.at(`${name}.key`), "-subj", `/CN=${name}`, "-out", csr];
    const names = ["-addext", `subjectAltName=${alternativeNames}`];
    execFileSync("openssl", ["req", "-new", ...asked, ...names], { stdio: "pipe" });
    const signed = ["-CA", this.at("ca.pem"), "-CAkey", this.at("ca.key")];
    const ended = ["-days", "-1", "-copy_extensions", "copy", "-in", csr, "-out", cert];
    execFileSync("openssl", ["x509", "-req", ...signed, ...ended], { stdio: "pipe" });
    return { key, cert: fs.readFileSync(cert) };
  }

  private make(name: string, options: readonly string[]): Identity {
    const [key, cert] = [this.at(`${name}.key`), this.at(`${name}.pem`)];
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const files = ["-keyout", key, "-out", cert, "-days", "1", "-subj", `/CN=${name}`];
    execFileSync("openssl", ["req", "-x509", ...curve, ...files, ...options], { stdio: "pipe" });
    return { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };
  }

  private at(name: string): string {
    return path.join(this.directory, name);
  }
}

const messages = makeMessages(0n, 2000);
const tcp = { listen: { host: "127.0.0.1", port: 0 } };

test(
  "messages cross TLS to who trusts the server's authority, and only to them",
  { skip },
  async (context) => {
    const authority = new Authority(context);
    const identity = authority.sign("server", "DNS:localhost,IP:127.0.0.1");
    const flows = [new ListArchive(messages).archive];
    const server = await serve(context, flows, { ...tcp, tls: identity });
    const { ca } = authority;
    const trusting = connect(context, server.address, { tls: { ca } });
    assert.deepEqual(await trusting.read(1n, 2000), messages);
    const byName = server.address.replace("127.0.0.1", "localhost");
    assert.equal((await connect(context, byName, { tls: { ca } }).read(1n, 5)).length, 5);
    const named = connect(context, server.address, { tls: { ca, serverName: "localhost" } });
    assert.equal((await named.read(1n, 5)).length, 5);

    const refusing: PeerOptions["tls"][] = [
      {},
      { ca: new Authority(context).ca },
      { ca, serverName: "elsewhere.example" },
      undefined,
    ];
    for (const tls of refusing) {
      const peer = connect(context, server.address, {
        ...(tls === undefined ? {} : { tls }),
        timeoutMs: 1000,
      });
      await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
    }

    const listen = { path: socketIn(context) };
    const local = await serve(context, flows, { listen, tls: identity });
    const overSocket = connect(context, local.address, { tls: { ca } });
    assert.equal((await overSocket.read(1n, 5)).length, 5);
  },
);

test(
  "mutual TLS lets in who has a certificate of the clients' authority",
  { skip },
  async (context) => {
    const [servers, clients] = [new Authority(context), new Authority(context)];
    const identity = servers.sign("server", "IP:127.0.0.1");
    const flows = [new ListArchive(messages).archive];
    const tls = { ...identity, clientCa: clients.ca };
    const server = await serve(context, flows, { ...tcp, tls });
    const { ca } = servers;
    const member = connect(context, server.address, {
      tls: { ca, ...clients.sign("member", "DNS:member") },
    });
    assert.deepEqual(await member.read(1n, 2000), messages);
    for (const shown of [{}, servers.sign("stranger", "DNS:stranger")]) {
      const peer = connect(context, server.address, { tls: { ca, ...shown }, timeoutMs: 1000 });
      await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
    }
  },
);

test(
  "a handshake that is never answered is given up, and the next server there is found",
  { skip },
  async (context) => {
    const authority = new Authority(context);
    const identity = authority.sign("server", "IP:127.0.0.1");
    const sockets: net.Socket[] = [];
    const mute = net.createServer((socket) => sockets.push(socket.on("error", () => undefined)));
    context.after(() => sockets.forEach((socket) => socket.destroy()));
    const port = await new Promise<number>((resolve) => {
      mute.listen(0, "127.0.0.1", () => resolve((mute.address() as net.AddressInfo).port));
    });
    const { ca } = authority;
    const peer = connect(context, `127.0.0.1:${port}`, { tls: { ca }, timeoutMs: 500 });
    await assert.rejects(peer.read(1n, 1), hasCode("PEER_UNAVAILABLE"));
    await assert.rejects(peer.follow(1n).next(), hasCode("PEER_UNAVAILABLE"));
    mute.close();
    const flows = [new ListArchive(messages).archive];
    await serve(context, flows, { listen: { host: "127.0.0.1", port }, tls: identity });
    const received = await peer.read(1n, 5).catch(() => peer.read(1n, 5));
    assert.equal(received.length, 5);
  },
);

test("a server with a token answers who brings it, and tells the others why not", async (context) => {
  const flows = [new ListArchive(messages).archive];
  const bearerToken = "s3cret.of-the_exchange~+/=";
  const server = await serve(context, flows, { bearerToken });
  const right = connect(context, server.address, { bearerToken });
  assert.equal((await right.read(1n, 5)).length, 5);
  assert.equal((await right.status()).maxId, 2000n);
  const wrong = [{}, { bearerToken: "s3cret" }, { bearerToken: `${bearerToken}=` }];
  for (const options of wrong) {
    const peer = connect(context, server.address, options);
    for (const call of callsOf(peer)) {
      await assert.rejects(call(), (error) => {
        assert.match(String(error), /token is missing, or not this server's/);
        return hasCode("CONFIG_INVALID")(error);
      });
    }
  }
});

test(
  "keys and certificates that are none are refused at once, by name",
  { skip },
  async (context) => {
    const authority = new Authority(context);
    const { key, cert } = authority.sign("one", "IP:127.0.0.1");
    const other = authority.sign("other", "IP:127.0.0.1");
    const garbage = "garbage";
    const flows = [new ListArchive(messages).archive];
    const servers: readonly [NonNullable<ServeOptions["tls"]>, RegExp][] = [
      [{ key: garbage, cert }, /tls\.key/],
      [{ key, cert: garbage }, /tls\.cert/],
      [{ key: other.key, cert }, /tls\.key .* of another/],
      [{ key, cert, clientCa: garbage }, /tls\.clientCa/],
    ];
    for (const [tls, message] of servers) {
      await assert.rejects(serveBuffers({ flows, ...tcp, tls }), {
        code: "CONFIG_INVALID",
        message,
      });
    }
    const clients: readonly [NonNullable<PeerOptions["tls"]>, RegExp][] = [
      [{ ca: garbage }, /tls\.ca/],
      [{ key }, /tls\.key .*tls\.cert/],
      [{ cert }, /tls\.key .*tls\.cert/],
      [{ key: garbage, cert }, /tls\.key/],
    ];
    for (const [tls, message] of clients) {
      const options = { address: "127.0.0.1:7400", flow: "trades", tls };
      assert.throws(() => connectPeer(options), { code: "CONFIG_INVALID", message });
    }
  },
);

test(
  "what ends in a handshake is told in words that say which end is to be mended",
  { skip },
  async (context) => {
    const [authority, strangers] = [new Authority(context), new Authority(context)];
    const identity = authority.sign("server", "DNS:exchange");
    const serving = async (tls?: NonNullable<ServeOptions["tls"]>): Promise<string> => {
      const flows = [new ListArchive(messages).archive];
      return (await serve(context, flows, { ...tcp, ...(tls && { tls }) })).address;
    };
    const [plain, spoken] = [await serving(), await serving(identity)];
    const mutual = await serving({ ...identity, clientCa: authority.ca });
    const expired = await serving(authority.signExpired("old", "DNS:exchange"));
    const named = { ca: authority.ca, serverName: "exchange" };
    const cases: readonly [string, NonNullable<PeerOptions["tls"]> | undefined, RegExp][] = [
      [plain, named, /it speaks no TLS/],
      [spoken, undefined, /it may speak TLS: tls\)\.$/],
      [spoken, { ...named, ca: strangers.ca }, /its certificate is not believed, .*tls\.ca/],
      [spoken, { ca: authority.ca }, /its certificate is not believed, .*tls\.serverName/],
      [expired, named, /its certificate has expired, or begins later: .* clock/],
      [mutual, named, /it asks for a certificate of the client: tls\.key and tls\.cert/],
      [
        mutual,
        { ...named, ...strangers.sign("m", "DNS:m") },
        /not believe the certificate of the client/,
      ],
    ];
    for (const [address, tls, message] of cases) {
      const peer = connect(context, address, { timeoutMs: 1000, ...(tls && { tls }) });
      await assert.rejects(peer.read(1n, 1), { code: "PEER_UNAVAILABLE", message });
    }
  },
);
