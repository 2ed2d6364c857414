// A walk through the pages as a person does it: wide and narrow, light and dark, with the accessibility rules of axe-core on each.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [, , modules, base, secret, shots] = process.argv;
const require = createRequire(`${modules}/node_modules/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: process.env.WINDLASS_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const wrong = [];
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
// What axe adds to the page is no script of ours.
await context.addCookies([{ name: "windlass", value: secret, url: base, httpOnly: true, sameSite: "Lax" }]);
const page = await context.newPage();
page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error}`));
page.on("console", (message) => {
  const text = message.text();
  // Streams belong to the API: where it is not there, pages say so and go on.
  if (message.type() === "error" && !/\/api\/v1\/|status of 404|EventSource/.test(`${text}${message.location().url}`)) wrong.push(`${page.url()}: ${text}`);
});
page.on("dialog", (dialog) => dialog.accept());

const looks = [[1280, "light"], [1280, "dark"], [360, "light"], [360, "dark"]];
const look = async (name) => {
  await page.waitForLoadState("load");
  for (const [width, colorScheme] of looks) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    if (shots) await page.screenshot({ path: `${shots}/${name}-${width}-${colorScheme}.png`, fullPage: true });
    const across = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (across > 0) wrong.push(`${name} at ${width}: ${across} px wider than the window`);
    // The policy of the page forbids scripts of others, so it is run by the debugger, as everything here.
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, help, nodes } of found.violations) {
      const where = nodes.slice(0, 3).map((n) => `${n.target.join(" ")}: ${n.failureSummary?.split("\n")[1]?.trim() ?? ""}`);
      wrong.push(`${name} at ${width}, ${colorScheme}: ${id} (${help}): ${where.join("; ")}`);
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
};
const succeeded = async (what) => {
  for (let tries = 0; tries < 120; tries += 1) {
    if ((await page.locator("main .head .badge").first().innerText()) === "succeeded") return;
    await page.waitForTimeout(250);
    await page.reload();
  }
  throw new Error(`${what} has not succeeded at ${page.url()}:\n${await page.locator("main").innerText()}`);
};
const step = (name) => console.log(name);

await page.goto(`${base}/`);
await look("home");
step("home");
await page.getByRole("link", { name: "Stacks", exact: true }).click();
await look("stacks");
await page.getByRole("link", { name: "Graph", exact: true }).click();
await look("graph");
step("stacks and graph");
await page.locator("svg a", { hasText: "net" }).first().click();
await page.getByRole("heading", { level: 1, name: "net" }).waitFor();
await look("stack");
await page.getByRole("button", { name: "Review it" }).click();
await page.waitForURL(/\/runs\//);
await succeeded("the review run");
await look("run-of-review");
await page.getByRole("link", { name: "what it would do" }).click();
await page.waitForURL(/\/reviews\//);
await look("review");
step("review");
await page.getByLabel("Remark").fill("looks right");
await page.getByRole("button", { name: "Approve", exact: true }).click();
await page.getByText("Your approval is recorded.").waitFor();
await page.getByRole("button", { name: "Apply", exact: true }).click();
await page.getByText("The apply has begun.").waitFor();
await look("review-applying");
step("apply");
await page.getByRole("link", { name: "The whole run" }).click();
await page.waitForURL(/\/runs\//);
await look("run-of-apply");
await succeeded("the apply run");
await page.getByRole("link", { name: "Log", exact: true }).last().click();
await page.waitForTimeout(500);
await look("run-of-apply-ended");
step("run");
for (const section of ["Reviews", "Runs", "Events", "Settings"]) {
  await page.getByRole("navigation", { name: "Sections" }).getByRole("link", { name: section, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: section }).waitFor();
  await look(section.toLowerCase());
}
step("lists");
await page.getByText("New token").click();
await page.getByLabel("What it is for").fill("nightly report");
await page.getByRole("button", { name: "Make the token" }).click();
await page.getByText("shown this once").waitFor();
await look("token");
await page.goto(`${base}/access?permission=review.apply&subject=shop`);
await look("access");
await page.goto(`${base}/drift?project=shop`);
await look("drift");
await page.goto(`${base}/nowhere`);
await look("not-found");
step("settings");
await browser.close();
if (wrong.length > 0) {
  console.error([...new Set(wrong)].join("\n"));
  process.exit(1);
}
console.log("walked");
