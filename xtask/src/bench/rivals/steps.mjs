// Runs of three durable steps that do nothing, through Restate's server: one after the other, then 32 at a time.
// Arguments: port of this service, address of the ingress, address of the admin API, how many runs.
import * as restate from "@restatedev/restate-sdk";

const [port, ingress, admin, number] = process.argv.slice(2);
const runs = Number(number);

const service = restate.service({
  name: "bench",
  handlers: {
    run: async (ctx) => {
      for (const name of ["s0", "s1", "s2"]) await ctx.run(name, () => null);
      return "done";
    },
  },
});

await restate.serve({ services: [service], port: Number(port) });

const deadline = Date.now() + 60_000;
for (;;) {
  try {
    const answer = await fetch(`${admin}/deployments`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ uri: `http://127.0.0.1:${port}` }),
    });
    if (answer.ok) break;
  } catch {}
  if (Date.now() > deadline) throw new Error("the service could not be registered");
  await new Promise((resolve) => setTimeout(resolve, 100));
}

async function once() {
  const begin = performance.now();
  const answer = await fetch(`${ingress}/bench/run`, { method: "POST" });
  if ((await answer.text()) !== '"done"') throw new Error(`it answered ${answer.status}`);
  return performance.now() - begin;
}

// Whoever measures reads what both processes have used at each of these words.
const say = (word, value = {}) => process.stdout.write(`${JSON.stringify({ word, ...value })}\n`);
const heard = process.stdin[Symbol.asyncIterator]();

const first = Date.now() + 60_000;
for (let warm = 0; warm < 20; ) {
  try {
    await once();
    warm += 1;
  } catch (error) {
    if (Date.now() > first) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
say("begin");
await heard.next();
const latencies = [];
for (let n = 0; n < runs; n += 1) latencies.push(await once());
say("middle", { latencies });
await heard.next();
const each = Math.ceil(runs / 32) * 4;
const begin = performance.now();
await Promise.all(
  Array.from({ length: 32 }, async () => {
    for (let n = 0; n < each; n += 1) await once();
  }),
);
say("end", { together: each * 32, seconds: (performance.now() - begin) / 1000 });
await heard.next();
process.exit(0);
