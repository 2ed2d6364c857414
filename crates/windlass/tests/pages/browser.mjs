// What the walks have in common: a browser, and looking at each page wide and narrow, light and dark, with the rules of axe-core.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

export const looks = [[1280, "light"], [1280, "dark"], [360, "light"], [360, "dark"]];

export const start = async ({ modules, base, secret, shots }) => {
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
  await context.addCookies([{ name: "windlass", value: secret, url: base, httpOnly: true, sameSite: "Lax" }]);
  const page = await context.newPage();
  // The machine may have a lot to do besides.
  page.setDefaultTimeout(120_000);
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error}`));
  page.on("console", (message) => {
    const text = message.text();
    // A stream that is left with its page, and the page that is not there on purpose.
    if (message.type() === "error" && !/\/api\/v1\/|status of 40[04]|EventSource/.test(`${text}${message.location().url}`)) wrong.push(`${page.url()}: ${text}`);
  });
  process.once("uncaughtException", async (error) => {
    console.error(error, `at ${page.url()}:\n${await page.locator("main").innerText()}`);
    process.exit(1);
  });
  page.on("dialog", (dialog) => dialog.accept());

  // Whatever can be clicked can be reached with the tabulator, and is seen to have been.
  const keyboard = async (name) => {
    const all = await page.evaluate(() => {
      const groups = new Set();
      const found = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
        .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && element.tabIndex >= 0)
        // Of the choices of a group one is reached; arrows go on from there.
        .filter((element) => element.type !== "radio" || (!groups.has(element.name) && groups.add(element.name)));
      found.forEach((element, place) => { element.dataset.place = place; });
      document.activeElement?.blur();
      return found.map((element) => element.outerHTML.slice(0, 120));
    });
    const reached = new Set();
    for (let press = 0; press < 2 * all.length + 10 && reached.size < all.length; press += 1) {
      await page.keyboard.press("Tab");
      const [place, seen] = await page.evaluate(() => {
        const element = document.activeElement;
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        const seen = element === document.body || element.closest("svg") || (outlineStyle !== "none" && parseFloat(outlineWidth) > 0);
        return [element.dataset?.place, Boolean(seen)];
      });
      if (place === undefined) continue;
      reached.add(Number(place));
      if (!seen) wrong.push(`${name}: focus is not seen on ${all[place]}`);
    }
    // What was replaced meanwhile, since it is live, was there to be reached in another version.
    const there = new Set(await page.evaluate(() => [...document.querySelectorAll("[data-place]")].map((e) => Number(e.dataset.place))));
    all.forEach((html, place) => { if (there.has(place) && !reached.has(place)) wrong.push(`${name}: the keyboard does not reach ${html}`); });
    await page.evaluate(() => document.activeElement?.blur());
  };

  // Looks at the page as it is now. What axe adds to it is no script of ours: the policy of the page forbids scripts of others, so
  // it is run by the debugger, as everything here.
  const look = async (name) => {
    await page.waitForLoadState("load");
    for (const [width, colorScheme] of looks) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme });
      if (shots) await page.screenshot({ path: `${shots}/${name}-${width}-${colorScheme}.png`, fullPage: true });
      const across = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (across > 0) wrong.push(`${name} at ${width}: ${across} px wider than the window`);
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, help, nodes } of found.violations) {
        const where = nodes.slice(0, 3).map((n) => `${n.target.join(" ")}: ${n.failureSummary?.split("\n")[1]?.trim() ?? ""}`);
        wrong.push(`${name} at ${width}, ${colorScheme}: ${id} (${help}): ${where.join("; ")}`);
      }
    }
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.emulateMedia({ colorScheme: "light" });
    await keyboard(name);
  };
  // Waits until the run on this page, which tells by itself, has succeeded.
  const succeeded = () => page.locator("#run-head .badge", { hasText: "succeeded" }).waitFor();
  const end = async (word) => {
    await browser.close();
    if (wrong.length > 0) {
      console.error([...new Set(wrong)].join("\n"));
      process.exit(1);
    }
    console.log(word);
  };
  return { page, wrong, look, succeeded, end };
};
