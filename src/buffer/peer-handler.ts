/** The gRPC of the serving end. Loaded with the first server: most buffers have no peer. */
import { createHash, timingSafeEqual } from "node:crypto";
import http2 from "node:http2";
import {
  Code,
  ConnectError,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type ConnectRouter,
  type HandlerContext,
} from "@connectrpc/connect";
import {
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { GaplessError, isGaplessError } from "../errors.ts";
import { encodedBytes, lastIdOf, packMessages, type Batch } from "../message.ts";
import type { BufferArchive } from "./archive.ts";
import { InvalidOperation } from "./buffer-errors.ts";
import { idMax } from "./cold-layout.ts";
import { orAborted } from "./or-aborted.ts";
import { toWireError } from "./peer-errors.ts";
import { healthOf } from "./peer-health.ts";
import type { ResolvedServe, ServeLimits } from "./peer-options.ts";
import {
  countWithin,
  frameBytes,
  frameOverheadBytes,
  readMessagesMax,
  requestBytesMax,
} from "./peer-wire.ts";
import { Health } from "./proto/grpc/health/v1/health_pb.ts";
import { MsgSync, type SyncRequest } from "./proto/msg_sync_pb.ts";

type Handler = (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void;
interface Frame {
  readonly messages: Uint8Array<ArrayBuffer>;
}

const streamKey = createContextKey<http2.ServerHttp2Stream | undefined>(undefined);
/** What a call may still write after its deadline, before its stream is taken from it. */
const graceMs = 1000;

/** Answers the requests of msg_sync.proto from the archives, and those of health.proto. */
export function createHandler({ flows, bearerToken, limits }: ResolvedServe): Handler {
  const archives = new Map(flows.map((archive) => [archive.component, archive]));
  const isAllowed = tokenCheck(bearerToken);
  const find = (flow: string): BufferArchive => findFlow(archives, flow);
  let streams = 0;

  /** Frames as they are asked for: the transport asks when the client has read the last ones. */
  async function* stream(frames: AsyncIterable<Frame>, signal: AbortSignal): AsyncGenerator<Frame> {
    if (streams >= limits.streams) {
      throw new ConnectError(
        `streams=${streams} are under way, which is the limit: ask again later`,
        Code.ResourceExhausted,
      );
    }
    streams++;
    let isUnderWay = true;
    const leave = (): void => {
      if (isUnderWay) streams--;
      isUnderWay = false;
    };
    // For a client that is gone while a frame waits for it, nobody comes back here.
    signal.addEventListener("abort", leave, { once: true });
    try {
      yield* frames;
    } catch (error) {
      throw toWireError(error);
    } finally {
      leave();
    }
  }

  const router = createConnectRouter({
    grpc: true,
    grpcWeb: false,
    connect: false,
    acceptCompression: [],
    readMaxBytes: requestBytesMax,
    writeMaxBytes: frameBytes + limits.messageBytes + frameOverheadBytes,
    requestGate: (context) => {
      endAtDeadline(context);
      if (context.service.typeName === Health.typeName || isAllowed(context)) return;
      throw toWireError(
        new GaplessError("CONFIG_INVALID", "The bearer token is missing, or not this server's."),
        Code.Unauthenticated,
      );
    },
  });
  router.service(MsgSync, {
    sync: (request, { signal }) =>
      stream(syncFrames(find(request.flow), request, limits, signal), signal),
    follow: ({ flow, fromId }, { signal }) =>
      stream(followFrames(find(flow), fromId, limits, signal), signal),
    status: ({ flow }, { signal }) =>
      answer(signal, async () => {
        const archive = find(flow);
        const { minId, maxId, logPosition } = await archive.status();
        return {
          ...(minId === undefined ? {} : { minId }),
          ...(maxId === undefined ? {} : { maxId }),
          component: archive.component,
          flow,
          logPosition,
        };
      }),
    digest: ({ flow, fromId, throughId }, { signal }) =>
      answer(signal, async () => {
        const { count, sha256 } = await find(flow).digest(fromId, throughId);
        return { count: BigInt(count), sha256 };
      }),
  });
  router.service(Health, healthOf(archives));
  return onHttp2(router);
}

/** Between Node and the calls. The package's own adapter prints what goes wrong. */
function onHttp2({ handlers }: ConnectRouter): Handler {
  const byPath = new Map(handlers.map((handler) => [handler.requestPath, handler]));
  const respond: (...ends: Parameters<Handler>) => Promise<void> = async (request, response) => {
    const handler = byPath.get(request.url);
    if (handler === undefined) {
      // Which gRPC reads as UNIMPLEMENTED.
      response.writeHead(404).end();
      return;
    }
    const values = createContextValues().set(streamKey, request.stream);
    const call = universalRequestFromNodeRequest(request, response, undefined, values);
    const { status, header, body, trailer } = await handler(call);
    const answered = {
      status,
      ...(header === undefined ? {} : { header }),
      ...(body === undefined ? {} : { body }),
      // Read once the body is sent, which is when it is complete.
      get trailer() {
        return withReadableMessage(trailer);
      },
    };
    await universalResponseToNodeResponse(answered, response);
  };
  return (request, response) => {
    respond(request, response).catch(() => {
      // The client is gone, or sent no request at all: there is nobody to tell.
      request.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    });
  };
}

/** As the protocol has it: some clients show what is escaped beyond that as it came. */
function withReadableMessage(trailer: Headers = new Headers()): Headers {
  const message = trailer.get("grpc-message");
  if (message === null) return trailer;
  const escaped = decodeURIComponent(message).replace(
    /[^\x20-\x24\x26-\x7e]/gu,
    encodeURIComponent,
  );
  trailer.set("grpc-message", escaped);
  return trailer;
}

async function* syncFrames(
  archive: BufferArchive,
  { fromId, limit, bytesMax }: SyncRequest,
  limits: Required<ServeLimits>,
  signal: AbortSignal,
): AsyncGenerator<Frame> {
  if (limit < 1 || limit > limits.rangeMessages) {
    throw new InvalidOperation(
      `limit=${limit}: this peer answers 1 to ${limits.rangeMessages} messages in one call.`,
    );
  }
  let nextId = fromId;
  let messagesLeft = limit;
  let bytesLeft = bytesMax === 0 ? Infinity : bytesMax;
  while (messagesLeft > 0 && bytesLeft > 0) {
    let batch: Batch;
    try {
      const read = archive.read(nextId, Math.min(messagesLeft, readMessagesMax));
      batch = await orAborted(read, signal);
    } catch (error) {
      // The end of what there is, where it is not the answer itself.
      if (nextId > fromId && isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return;
      throw error;
    }
    messagesLeft -= batch.length;
    nextId = lastIdOf(batch) + 1n;
    for (const frame of framesOf(batch, limits, bytesLeft)) {
      bytesLeft -= frame.messages.length;
      yield frame;
    }
    if (nextId > idMax) return;
  }
}

async function* followFrames(
  archive: BufferArchive,
  fromId: bigint,
  limits: Required<ServeLimits>,
  signal: AbortSignal,
): AsyncGenerator<Frame> {
  const batches = archive.follow(fromId, { signal })[Symbol.asyncIterator]();
  // Of a client that is gone while a frame waits for it, nobody asks for the next one.
  const leave = (): void => void batches.return?.().catch(() => undefined);
  signal.addEventListener("abort", leave, { once: true });
  try {
    for (;;) {
      const next = await orAborted(batches.next(), signal);
      if (next.done === true) return;
      yield* framesOf(next.value, limits, Infinity);
    }
  } finally {
    signal.removeEventListener("abort", leave);
    leave();
  }
}

/** The messages of a batch, until they are `bytesMax` together. */
function* framesOf(
  batch: Batch,
  { messageBytes }: Required<ServeLimits>,
  bytesMax: number,
): Generator<Frame> {
  let bytesLeft = bytesMax;
  for (let begin = 0; begin < batch.length && bytesLeft > 0;) {
    const count = countWithin(batch, begin, Math.min(frameBytes, bytesLeft));
    const messages = batch.slice(begin, begin + count);
    for (const message of messages) {
      const bytes = encodedBytes(message);
      if (bytes <= messageBytes) continue;
      throw new GaplessError(
        "MESSAGE_TOO_LARGE",
        `Message id=${message.id} has bytes=${bytes}, and this peer sends up to ${messageBytes}.`,
      );
    }
    const frame = { messages: packMessages(messages) };
    yield frame;
    bytesLeft -= frame.messages.length;
    begin += count;
  }
}

/** @throws ConnectError with the error of the buffer. */
async function answer<Answer>(signal: AbortSignal, ask: () => Promise<Answer>): Promise<Answer> {
  try {
    return await orAborted(ask(), signal);
  } catch (error) {
    throw toWireError(error);
  }
}

function findFlow(archives: ReadonlyMap<string, BufferArchive>, flow: string): BufferArchive {
  const archive = archives.get(flow);
  if (archive !== undefined) return archive;
  const known = [...archives.keys()].join(", ");
  throw toWireError(
    new GaplessError("CONFIG_INVALID", `flow=${flow} is not served here. Served are: ${known}.`),
    Code.NotFound,
  );
}

/** Compares digests, which takes as long for any token as for the right one. */
function tokenCheck(bearerToken: string | undefined): (context: HandlerContext) => boolean {
  if (bearerToken === undefined) return () => true;
  const digestOf = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digestOf(`Bearer ${bearerToken}`);
  return ({ requestHeader }) =>
    timingSafeEqual(digestOf(requestHeader.get("authorization") ?? ""), expected);
}

/** A client that does not read does not see its deadline either: its stream ends all the same. */
function endAtDeadline({ signal, values }: HandlerContext): void {
  const onAbort = (): void => {
    const reason: unknown = signal.reason;
    if (!(reason instanceof ConnectError) || reason.code !== Code.DeadlineExceeded) return;
    const cancel = http2.constants.NGHTTP2_CANCEL;
    setTimeout(() => values.get(streamKey)?.close(cancel), graceMs).unref();
  };
  signal.addEventListener("abort", onAbort, { once: true });
}
