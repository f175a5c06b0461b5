import fs from "node:fs";
import { performance } from "node:perf_hooks";
import { openPublisher } from "gapless/queue";
import { pinThread } from "./src/memory/affinity.ts";
import { madvise } from "./src/memory/libc.ts";
const opt = process.argv[2] ?? "";
const kind = opt.includes("fast") ? "fast" : "none";
const given = opt.includes("given") ? 1_700_000_000_000_000_000n : undefined;
const size = Number(process.argv[3] ?? 256);
const passes = Number(process.argv[4] ?? 9);
pinThread(0);
const doubles=new Float64Array(size/8), payload=new Uint8Array(doubles.buffer);
const res:number[]=[];
for (let r=0;r<passes;r++){
  const dir=`/tmp/qb/tq${process.pid}`; fs.rmSync(dir,{recursive:true,force:true});
  const p=openPublisher(dir,{checksum:kind});
  p.append(1,payload,given);
  const m=(p as any).segment.mapping; madvise(m.address,128*2**20,23);
  const n=Math.floor((127*2**20)/(size+32));
  const chunk=10000;
  for(let i=0;i+chunk<=n;){ const t=performance.now(); const e=i+chunk; for(;i<e;i++){doubles[0]=i; p.append(1,payload,given);} if(r>1)res.push(((performance.now()-t)*1e6)/chunk); }
  // no close: it would flush
  fs.rmSync(dir,{recursive:true,force:true});
  m.unmap && opt.includes("unmap") && m.unmap();
}
res.sort((a,b)=>a-b); const at=(q:number)=>res[Math.floor(res.length*q)]!.toFixed(1); console.log((opt||"clock").padEnd(12), size, "ns/append p10",at(.1),"p25",at(.25),"p50",at(.5));
process.exit(0);
