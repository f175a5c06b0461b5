/**
 * The HTTP/2 connection of a client: made for the first call, and anew for the first one after it
 * was lost. It keeps the process alive while a call is under way, and only then.
 *
 * The session manager of the gRPC package is not used: where a connection fails twice, with an
 * error of the socket and a farewell of the peer, it lets the second one end the process.
 */
import http2 from "node:http2";
import type { Duplex } from "node:stream";

export interface SessionOptions {
  /** As of a URL: scheme, host and port. */
  readonly authority: string;
  /** Makes the socket; called for each connection. */
  readonly connect: () => Duplex;
  /** How long the peer may take to say that it is there. */
  readonly pingTimeoutMs: number;
}

/** What a peer may send ahead of what was read, of one call and of all: a range at a time. */
const streamWindowBytes = 2 * 1024 * 1024;
/** Node's own 64 KiB for all calls are a round trip for each of them. */
const connectionWindowBytes = 16 * 1024 * 1024;
/** With a question open and nothing coming, how soon the peer is asked whether it is there. */
const pingIntervalMsMax = 5000;

export class PeerSession {
  readonly authority: string;
  private readonly options: SessionOptions;
  private readonly pingIntervalMs: number;
  private session: http2.ClientHttp2Session | undefined;
  private connecting: Promise<http2.ClientHttp2Session> | undefined;
  private pinging: NodeJS.Timeout | undefined;
  /** Calls that are not over, those that wait for the connection included. */
  private calls = 0;
  private askedMs = 0;
  private answeredMs = 0;

  constructor(options: SessionOptions) {
    this.authority = options.authority;
    this.options = options;
    this.pingIntervalMs = Math.min(pingIntervalMsMax, options.pingTimeoutMs);
  }

  /** What the gRPC package calls for each call. */
  async request(
    method: string,
    path: string,
    headers: http2.OutgoingHttpHeaders,
    options: http2.ClientSessionRequestOptions,
  ): Promise<http2.ClientHttp2Stream> {
    this.calls++;
    try {
      const session = await this.connected();
      session.ref();
      this.askedMs = performance.now();
      const request = { ...headers, ":method": method, ":path": path };
      const stream = session.request(request, options);
      stream.once("close", () => this.leave(session));
      return stream;
    } catch (error) {
      this.leave(this.session);
      throw error;
    }
  }

  /** What the gRPC package calls for each piece of an answer. */
  notifyResponseByteRead(): void {
    this.answeredMs = performance.now();
  }

  /** Whether anything was ever answered. */
  get hasAnswered(): boolean {
    return this.answeredMs > 0;
  }

  /** Ends the calls under way. The next one would connect again. */
  close(): void {
    clearInterval(this.pinging);
    this.session?.destroy(new Error("the connection was closed here"));
    this.session = undefined;
  }

  private leave(session: http2.ClientHttp2Session | undefined): void {
    this.calls--;
    if (this.calls === 0 && session?.destroyed === false) session.unref();
  }

  private async connected(): Promise<http2.ClientHttp2Session> {
    const { session } = this;
    if (session !== undefined && !session.closed && !session.destroyed) {
      return this.connecting ?? session;
    }
    this.connecting = this.open();
    try {
      return await this.connecting;
    } finally {
      this.connecting = undefined;
    }
  }

  private open(): Promise<http2.ClientHttp2Session> {
    const session = http2.connect(this.authority, {
      createConnection: () => this.options.connect(),
      settings: { initialWindowSize: streamWindowBytes },
    });
    this.session = session;
    clearInterval(this.pinging);
    this.pinging = setInterval(() => this.checkAlive(session), this.pingIntervalMs).unref();
    // A machine that is gone in the middle of a handshake leaves a socket that waits for ever.
    const timer = setTimeout(() => {
      session.destroy(new Error("no connection comes about"));
    }, this.options.pingTimeoutMs).unref();
    return new Promise((resolve, reject) => {
      // Stays: what fails after the connection is there ends its calls, and is told by them.
      session.on("error", reject);
      session.on("close", () => {
        clearTimeout(timer);
        reject(new Error("the connection was closed"));
      });
      session.on("goaway", () => {
        // With calls under way it closes once they are over.
        if (this.calls === 0) session.destroy();
      });
      session.on("connect", () => {
        clearTimeout(timer);
        session.setLocalWindowSize(connectionWindowBytes);
        resolve(session);
      });
    });
  }

  /** A peer whose machine is gone says nothing, and the system would wait for it for minutes. */
  private checkAlive(session: http2.ClientHttp2Session): void {
    if (session.destroyed) {
      clearInterval(this.pinging);
      return;
    }
    const isAwaiting = this.calls > 0 || this.askedMs > this.answeredMs;
    const silentMs = performance.now() - Math.max(this.askedMs, this.answeredMs);
    if (session.connecting || !isAwaiting || silentMs < this.pingIntervalMs) return;
    const timer = setTimeout(() => {
      session.destroy(new Error("it does not answer a ping"));
    }, this.options.pingTimeoutMs).unref();
    try {
      session.ping(() => clearTimeout(timer));
    } catch {
      clearTimeout(timer);
    }
  }
}
