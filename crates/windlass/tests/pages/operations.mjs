// An operation as a person runs it: from the catalogue to its form, whose fields fill each other, to its run and what that asks.
import { start } from "./browser.mjs";

const [, , modules, base, secret, shots] = process.argv;
const { page, wrong, look, succeeded, end } = await start({ modules, base, secret, shots });
const expect = (what, found, wanted) => { if (found !== wanted) wrong.push(`${what}: ${found}, not ${wanted}`); };
const press = (name) => page.getByRole("button", { name, exact: true }).click();

await page.goto(`${base}/`);
await page.keyboard.press("g");
await page.keyboard.press("o");
await page.waitForURL(/\/operations$/);
await page.getByRole("heading", { level: 1, name: "Operations" }).waitFor();
await look("operations");

// What is typed finds it; its form is filled by the server as one chooses.
await page.getByLabel("Name or description").fill("hello");
await page.getByText("1 of 4 operations").waitFor();
await page.getByRole("link", { name: "say-hello" }).click();
await page.getByRole("heading", { level: 1, name: "say-hello" }).waitFor();
await look("operation");
await page.getByLabel("cluster").selectOption("b");
await page.getByLabel("host").locator("option", { hasText: "b2" }).waitFor({ state: "attached" });
await page.getByLabel("host").selectOption("b2");
await page.getByLabel("count").fill("7");
await page.getByLabel("Why", { exact: true }).fill("OPS-1");
await press("Run");
await page.locator(".mistake").waitFor();
expect("what was chosen", await page.getByLabel("host").inputValue(), "b2");
await look("operation-mistake");
await page.getByLabel("count").fill("3");
await press("Run");
await page.waitForURL(/\/runs\//);
await page.getByText("It has begun; this page follows it.").waitFor();
await succeeded();
const actor = () => page.locator("#run-head dl.facts dd").first().innerText();
if (!(await actor()).includes("anna")) wrong.push(`the actor is ${await actor()}`);
await page.getByText("OPS-1").waitFor();
await look("run-of-operation");

// Once more, and what is different.
await page.getByRole("link", { name: "Run it again…" }).click();
await page.getByRole("heading", { name: "Run it again" }).waitFor();
expect("the same cluster", await page.getByLabel("cluster").inputValue(), "b");
await page.getByLabel("host").selectOption("b1");
await press("Run");
await page.waitForURL(/\/runs\/.*notice=begun/);
await succeeded();
await page.getByRole("link", { name: "compared" }).click();
await page.getByRole("heading", { level: 1, name: "Two runs compared" }).waitFor();
await page.getByRole("cell", { name: "b2" }).waitFor();
await look("compare");

// A question comes up on the page by itself, and is answered there.
await page.goto(`${base}/projects/shop/operations/ask-me`);
await press("Run");
await page.waitForURL(/\/runs\//);
await page.getByRole("button", { name: "left", exact: true }).waitFor();
await look("run-asks");
await page.goto(`${base}/`);
await page.getByRole("heading", { name: /Operations that ask you/ }).waitFor();
await look("home-asked");
await page.locator("section[aria-labelledby=home-asked] a").first().click();
await page.locator("#run-asks").getByLabel("Why").fill("it is shorter");
await press("left");
await page.getByText("Your answer is recorded.").waitFor();
await succeeded();

// What its steps left is saved, and not shown.
await page.goto(`${base}/projects/shop/operations/report`);
await press("Run");
await page.waitForURL(/\/runs\//);
await succeeded();
await page.locator("#run-artefacts").scrollIntoViewIfNeeded();
const [saved] = await Promise.all([
  page.waitForEvent("download"),
  page.locator("#run-artefacts").getByRole("link", { name: "out/report.csv" }).click(),
]);
expect("the name of the file", saved.suggestedFilename(), "report.csv");
await look("run-artefacts");

// What cannot be taken back.
await page.goto(`${base}/projects/shop/operations/wipe`);
await page.getByLabel("name").fill("db");
await press("Run");
await page.getByRole("heading", { level: 1, name: "Before it begins" }).waitFor();
await look("operation-confirm");
await page.getByLabel("password").fill("hunter2");
await page.getByLabel("Type wipe-db to confirm it").fill("wipe-db");
await press("Begin");
await page.waitForURL(/\/runs\//);
await succeeded();
if ((await page.content()).includes("hunter2")) wrong.push("the secret is on the page of the run");

await page.goto(`${base}/projects/shop/schedules`);
await page.getByRole("heading", { level: 1, name: /Schedules/ }).waitFor();
await look("schedules");
await end("done");
