/** The metrics of buffers that a command serves, and how far those are behind whom they follow. */
import type { MsgBuffer, Peer } from "../buffer/buffer.ts";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { connectTo, type PeerFlags } from "./buffer-peer.ts";
import type { ExportOptions } from "./metrics-export.ts";

/** Whom the buffers follow, and what those ask for. */
export interface FollowedPeers extends Omit<PeerFlags, "timeout"> {
  readonly addresses: readonly string[];
}

/** Only the status is asked for. */
const timeoutSeconds = 1;

/** Exports what the buffers do, until `opened` is disposed; resolves to where Prometheus asks. */
export async function measureBuffers(
  buffers: readonly MsgBuffer[],
  { addresses, ...flags }: FollowedPeers,
  options: ExportOptions,
  opened: AsyncDisposableStack,
): Promise<string | undefined> {
  const { exportMetrics } = await import("./metrics-export.ts");
  const { instrumentBuffer } = await import("../telemetry/telemetry.ts");
  const { meter, prometheusUrl } = opened.use(await exportMetrics(options));
  for (const buffer of buffers) {
    const peers: Pick<Peer, "status">[] = [];
    for (const address of addresses) {
      const peerFlags = { ...flags, timeout: timeoutSeconds };
      peers.push(complaining(opened.use(await connectTo(address, buffer.component, peerFlags))));
    }
    opened.use(instrumentBuffer(buffer, meter, { peers }));
  }
  return prometheusUrl;
}

/**
 * Says why a peer does not tell how far it is, once as long as it stays so: without its answer
 * there is no lag, and no alert.
 */
function complaining(peer: Peer): Pick<Peer, "status"> {
  let toldOf = "";
  return {
    async status() {
      try {
        const status = await peer.status();
        toldOf = "";
        return status;
      } catch (error) {
        const code = error instanceof GaplessError ? `${error.code}: ` : "";
        const problem = `${code}${describeError(error)}`;
        // Closed are those that this command has no more use of.
        if (problem !== toldOf && !isGaplessError(error, "CLOSED")) {
          process.stderr.write(`sync.lag: ${peer.address}: ${problem}\n`);
        }
        toldOf = problem;
        throw error;
      }
    },
  };
}
