// A walk through the pages as a person does it: wide and narrow, light and dark, with the accessibility rules of axe-core on each.
import { start } from "./browser.mjs";

const [, , modules, base, secret, shots] = process.argv;
const { page, wrong, look, succeeded, end } = await start({ modules, base, secret, shots });
const step = (name) => console.log(name);

await page.goto(`${base}/`);
await look("home");
step("home");
await page.getByRole("link", { name: "Stacks", exact: true }).click();
await look("stacks");
// Keys: the list of them, the filter, the sections.
await page.keyboard.press("?");
await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
await page.keyboard.press("Escape");
await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor({ state: "hidden" });
// A dialog that closes gives the focus back in a frame of its own.
await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
await page.keyboard.press("/");
await page.getByLabel("Name contains").and(page.locator(":focus")).waitFor();
await page.keyboard.type("ne");
if (await page.getByLabel("Name contains").inputValue() !== "ne") wrong.push("`/` does not lead to the filter");
await page.keyboard.press("Escape");
await page.evaluate(() => document.activeElement.blur());
await page.keyboard.press("g");
await page.keyboard.press("r");
await page.waitForURL(/\/runs$/);
await page.goto(`${base}/stacks`);
// A theme that is chosen holds whatever the system has.
const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
const light = await background();
await page.getByRole("button", { name: "Theme: system" }).click();
await page.getByRole("button", { name: "Theme: light" }).click();
if (await background() === light) wrong.push("the dark theme is not dark");
await page.reload();
if (await background() === light) wrong.push("the chosen theme is forgotten");
await page.getByRole("button", { name: "Theme: dark" }).click();
await page.getByRole("link", { name: "Graph", exact: true }).click();
await look("graph");
step("stacks and graph");
await page.locator("svg a", { hasText: "net" }).first().click();
await page.getByRole("heading", { level: 1, name: "net" }).waitFor();
await look("stack");
await page.getByRole("button", { name: "Review it" }).click();
await page.waitForURL(/\/runs\//);
await succeeded();
await look("run-of-review");
await page.getByRole("link", { name: "what it would do" }).click();
await page.waitForURL(/\/reviews\//);
await look("review");
await page.goto(`${base}/changes`);
await look("changes");
await page.goBack();
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
await succeeded();
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
await end("walked");
