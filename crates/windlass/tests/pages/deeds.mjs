// What a person decides, with a browser: each form once, and what is seen of it afterwards. `ask` has the test make what is needed.
import { createInterface } from "node:readline";
import { start } from "./browser.mjs";

const [, , modules, base, secret, csrf, shots] = process.argv;
const { page, wrong, look, succeeded, end } = await start({ modules, base, secret, shots });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => {
  console.log(`? ${what}`);
  return (await lines.next()).value;
};
const expect = (what, found, wanted) => { if (found !== wanted) wrong.push(`${what}: ${found}, not ${wanted}`); };
const says = (text) => page.getByText(text).first().waitFor();
const press = (name) => page.getByRole("button", { name, exact: true }).click();
// The newest event of that kind is Anna's, with this reason.
const recorded = async (kind, reason) => {
  await page.goto(`${base}/events?kind=${kind}`);
  const cells = await page.locator("#results tbody tr").first().locator(":scope > td").allInnerTexts();
  if (!cells[2]?.includes("anna") || cells[4] !== reason) wrong.push(`${kind}: ${JSON.stringify(cells)}`);
};
// A review of these stacks, by the API: no page asks for several at once.
const review = async (stacks) => {
  const id = await page.evaluate(async ([stacks, csrf]) => {
    const answer = await fetch("/api/v1/projects/shop/reviews", {
      method: "POST", body: JSON.stringify({ stacks }), headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    });
    return (await answer.json()).run;
  }, [stacks, csrf]);
  await page.goto(`${base}/runs/${id}`);
  await succeeded();
  await page.goto(`${base}/reviews/${id}`);
  return id;
};
const reviewOf = async (stack) => {
  await page.goto(`${base}/stacks/shop/${stack}`);
  await press("Review it");
  await page.waitForURL(/\/runs\//);
  await succeeded();
  await page.getByRole("link", { name: "what it would do" }).click();
  await page.waitForURL(/\/reviews\//);
};
const headline = (text) => page.locator("#review-headline h1", { hasText: text }).waitFor();

await page.goto(`${base}/`);

// Waves: the canary's gate holds until somebody says that it is well. The page of the review follows all of it by itself.
const waves = await review(["w/first", "w/second"]);
await headline("Ready to apply");
await press("Apply");
await headline(/^(Applying|Waiting)/);
await says("1. canary");
await says("over"); // The soak.
await page.getByText("Somebody has to look and say how it ended").waitFor();
await headline("Waiting, with 1 of 2 instances applied");
expect("waves", (await page.locator(".waves h3").allInnerTexts()).join(), "1. canary at its gates,2. rest not begun");
expect("the gate", await page.locator(".waves .badge.wait", { hasText: "hold" }).count(), 1);
await look("review-waves");

// Nothing new begins, whatever the gate says.
await page.getByLabel("Begin nothing new, because").fill("it is lunch time");
await press("Halt");
await page.waitForURL(/\/runs\/.*notice=halted/);
await page.goto(`${base}/reviews/${waves}`);
expect("waves", (await page.locator(".waves h3").allInnerTexts()).join(), "1. canary at its gates,2. rest halted");
await look("review-halted");

// A lock that nobody holds any more.
const apply = (await page.getByRole("link", { name: "The whole run" }).getAttribute("href")).split("/").pop();
await ask(`lock ${apply}`);
await page.goto(`${base}/stacks/shop/w/second`);
await says("is held by");
await look("stack-locked");
await page.getByLabel("Why it is to be taken away").fill("its process is gone");
await press("Take the lock away");
await says("The lock is taken away.");
expect("locks", await page.getByRole("heading", { name: "Locks" }).count(), 0);
await recorded("lock.taken_away", "its process is gone");

await page.goto(`${base}/reviews/${waves}`);
await page.getByRole("link", { name: "settle it in the run" }).click();
await page.getByLabel("Done: what it was to do has happened").check();
await page.getByLabel("How you know").fill("I looked at the dashboard");
await look("run-unknown");
await ask("well");
await press("Settle it");
await says("What became of the step is recorded.");
await page.goto(`${base}/reviews/${waves}`);
await page.locator(".waves h3", { hasText: "1. canary done" }).waitFor();
expect("waves", (await page.locator(".waves h3").allInnerTexts()).join(), "1. canary done,2. rest halted");
await press("Resume");
await page.waitForURL(/\/runs\/.*notice=resumed/);
await page.goto(`${base}/reviews/${waves}`);
await headline("Applied: 2 instances");
expect("waves", (await page.locator(".waves h3").allInnerTexts()).join(), "1. canary done,2. rest done");
expect("gates", await page.locator(".waves .badge.ok", { hasText: "pass" }).count(), 2);
await look("review-applied");
await recorded("step.settled", "I looked at the dashboard");
await recorded("run.halted", "it is lunch time");
await recorded("run.resumed", "");

// Back to what was before.
await ask("change first");
const commit = await ask("commit");
await page.goto(`${base}/settings`);
await page.getByRole("button", { name: /^Fetch now/ }).click();
const followed = page.locator("#repository-list", { hasText: commit.slice(0, 12) });
for (let tries = 0; tries < 240 && await followed.count() === 0; tries += 1) {
  await page.waitForTimeout(250);
  await page.reload();
}
await reviewOf("w/first");
await headline("Ready to apply");
await press("Apply");
await headline("Applied: 1 instance");
expect("the value", await ask("value first"), '"two"');
await page.getByLabel("Apply what was before, because").fill("two was wrong");
await press("Roll back");
await page.waitForURL(/\/runs\//);
await succeeded();
await page.getByRole("link", { name: "what it would do" }).click();
await headline("Ready to apply");
await press("Apply");
await headline("Applied: 1 instance");
expect("the value", await ask("value first"), '"one"');
await recorded("run.rollback_asked", "two was wrong");

// No.
await reviewOf("other");
await page.getByText("Refuse…").click();
await page.getByLabel("Why, for its author").fill("not in business hours");
await press("Refuse");
await says("The review is refused; its author sees why.");
await says("not in business hours");
expect("the state", await page.locator("#review-state .badge").innerText(), "refused");
expect("forms", await page.getByRole("button", { name: "Apply", exact: true }).count(), 0);
await look("review-refused");
await recorded("review.refused", "not in business hours");

// Yes, all the same.
await reviewOf("named");
await headline("Denied by policy");
await page.getByText("Waive it…").click();
await page.getByLabel("Why, and when it will be mended").fill("renamed in OPS-1");
await look("review-denied");
await press("Waive it in my name");
await says("The finding is waived in your name.");
await headline("Ready to apply");
await recorded("waiver.given", "renamed in OPS-1");

// A terraform that is killed leaves a quarantine.
await reviewOf("slow");
await press("Apply");
await says("create of terraform_data.r2");
await ask("kill");
await headline("Stopped at slow, with 0 of 1 instance applied");
await page.locator(".bar .badge", { hasText: "quarantined" }).waitFor();
await look("review-stopped");
await page.goto(`${base}/`);
await page.getByRole("heading", { name: /Quarantined stacks/ }).waitFor();
await look("home-quarantined");
await page.locator("section[aria-labelledby=home-quarantines] a").first().click();
await page.getByLabel("What you found").fill("r2 is not there");
await look("stack-quarantined");
await press("End the quarantine");
await says("The quarantine is over.");
expect("quarantines", await page.getByRole("heading", { name: /quarantined/ }).count(), 0);
await recorded("stack.released", "r2 is not there");

// Nobody has the label.
await page.goto(`${base}/stacks/shop/gpu`);
await press("Review it");
await page.waitForURL(/\/runs\//);
await page.locator("#run-head .notice", { hasText: "no worker with the label `gpu` is alive; start one that has it: `windlass worker --label gpu`" }).waitFor();
await look("run-unserved");
await page.goto(`${base}/`);
await page.locator("section[aria-labelledby=home-waiting]", { hasText: "no worker with the label `gpu` is alive" }).waitFor();
await look("home-unserved");
await end("done");
// Nobody asks any more: without this the process would wait for answers.
process.stdin.destroy();
