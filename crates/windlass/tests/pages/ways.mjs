// An operation as a person starts it in a browser, and as one of another team is kept from it: what was seen is printed as JSON.
import { start } from "./browser.mjs";

const [, , modules, base, mine, other] = process.argv;
const form = `${base}/projects/shop/operations/restart`;
const wrong = [];

const own = await start({ modules, base, secret: mine });
await own.page.goto(form);
await own.page.getByLabel("host").selectOption("app2");
await own.page.getByLabel("count").fill("3");
await own.page.getByLabel("Why", { exact: true }).fill("OPS-1");
await own.page.getByRole("button", { name: "Run", exact: true }).click();
await own.page.waitForURL(/\/runs\//);
await own.succeeded();
const run = new URL(own.page.url()).pathname.split("/")[2];
const shown = await own.page.locator("main").innerText();
wrong.push(...own.wrong);
await own.page.context().browser().close();

const { page, look, wrong: more, end } = await start({ modules, base, secret: other });
await page.goto(form);
const told = await page.locator("#operation-told").innerText();
const button = page.getByRole("button", { name: "Run", exact: true });
const offered = await button.isEnabled();
// Whoever helps the button along is refused by the server.
await page.getByLabel("host").selectOption("app2");
await button.evaluate((element) => { element.disabled = false; });
const [answer] = await Promise.all([
  page.waitForResponse((response) => response.request().method() === "POST" && response.url() === form),
  button.click(),
]);
const status = answer.status();
await page.getByRole("heading", { level: 1 }).waitFor();
const refused = await page.locator("main").innerText();
await look("operation-refused");
// The browser tells of the refusal, too.
more.splice(0, more.length, ...more.filter((one) => !one.includes("status of 403")), ...wrong);
await end(JSON.stringify({ run, shown, told, offered, status, refused }));
