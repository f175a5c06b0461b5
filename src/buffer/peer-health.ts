/** The standard health service: the server as a whole, its service, and each flow by its name. */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { setTimeout as sleep } from "node:timers/promises";
import type { BufferArchive } from "./archive.ts";
import { orAborted } from "./or-aborted.ts";
import { Health, HealthCheckResponse_ServingStatus } from "./proto/grpc/health/v1/health_pb.ts";
import { MsgSync } from "./proto/msg_sync_pb.ts";

/** How often a watched flow is asked. */
const watchIntervalMs = 500;
/** A flow that takes longer to say what it has is not serving. */
const statusTimeoutMs = 2000;

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

/** A flow serves as long as it says which ids it has; the rest as long as it answers at all. */
export function healthOf(archives: ReadonlyMap<string, BufferArchive>): ServiceImpl<typeof Health> {
  const statusOf = async (service: string): Promise<HealthCheckResponse_ServingStatus> => {
    if (service === "" || service === MsgSync.typeName) return SERVING;
    const archive = archives.get(service);
    if (archive === undefined) return SERVICE_UNKNOWN;
    try {
      await orAborted(archive.status(), AbortSignal.timeout(statusTimeoutMs));
      return SERVING;
    } catch {
      return NOT_SERVING;
    }
  };
  return {
    async check({ service }) {
      const status = await statusOf(service);
      if (status !== SERVICE_UNKNOWN) return { status };
      throw new ConnectError(`service=${service} is not served here`, Code.NotFound);
    },
    async *watch({ service }, { signal }) {
      let told: HealthCheckResponse_ServingStatus | undefined;
      while (!signal.aborted) {
        const status = await statusOf(service);
        if (status !== told) yield { status };
        told = status;
        // An abort ends the pause; the loop looks at the signal.
        await sleep(watchIntervalMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
    },
  };
}
