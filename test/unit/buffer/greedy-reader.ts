/**
 * Takes all that the server at the socket has, over several calls, with the largest windows there
 * are; says when the first bytes are there.
 */
import { callSync, connectRaw } from "./raw-call.ts";

const [socketPath = "", flow = "", calls = "1"] = process.argv.slice(2);
const session = connectRaw(socketPath, 2 ** 31 - 1);
let begun = 0;
session.on("connect", () => {
  for (let call = 0; call < Number(calls); call++) {
    const stream = callSync(session, flow);
    stream.once("data", () => {
      begun++;
      if (begun === Number(calls)) process.stdout.write("begun\n");
    });
  }
});
