// Drives the web console in headless Chromium: CHROMIUM URL DIRECTORY-FOR-SCREENSHOTS DELIVERY-ID. Exit status 1 if it
// finds a problem.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [chromium, base, pictures, story] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const people = { act: ["anna", "an-act-secret-0001"], read: ["ben", "a-read-secret-0002"] };
const FIRST_VIEW = 300;
mkdirSync(pictures, { recursive: true });
const problems = [];
const expect = (good, what) => { if (!good) { problems.push(what); console.log(`WRONG: ${what}`); } };

const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ["--no-sandbox", "--disable-gpu"] });

// Opens a page in its own browser context, so that pages share no sign-in.
async function open(role, { dark = false, phone = false, script = true } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const [username, password] = people[role];
  await page.authenticate({ username, password });
  await page.setJavaScriptEnabled(script);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  await page.setViewport(phone ? { width: 390, height: 844, isMobile: true, hasTouch: true } : { width: 1280, height: 800 });
  page.on("dialog", (dialog) => { problems.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("pageerror", (error) => problems.push(`an error in the page: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (404|503|400)/.test(message.text())) problems.push(`${page.url()}: ${message.text()}`);
  });
  return page;
}
const go = async (page, path) => {
  const begun = performance.now();
  const answer = await page.goto(base + path, { waitUntil: "load" });
  return { status: answer.status(), took: performance.now() - begun };
};

async function audit(page, name) {
  const title = await page.title();
  expect(!title.includes("owned"), `${name}: a script of a lead ran`);
  // A hostile lead would create such elements. Our pages have one script at most, and no images.
  const made = await page.evaluate("document.querySelectorAll('img, iframe, object, embed, script:not([src^=\"/live.js\"]), [onerror]').length");
  expect(made === 0, `${name}: ${made} elements were made of a lead's data`);
  // axe runs in an isolated world, which the page's content security policy does not affect.
  const session = await page.createCDPSession();
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
  const run = (expression) =>
    session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
  await run(axe);
  const said = await run("axe.run(document).then((r) => r.violations.map((v) => v.id + ': ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).join(' | ')))");
  expect(said.result.value !== undefined, `${name}: axe did not run: ${JSON.stringify(said.exceptionDetails ?? {})}`);
  for (const violation of said.result.value ?? []) expect(false, `${name}: axe ${violation}`);
  const wide = await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1");
  expect(!wide, `${name}: the page is wider than its window`);
  await session.detach();
}

// Measures first views: five times each, signed in, with an empty cache, from the click to the first paint.
const views = {};
for (const path of ["/", "/search", "/settings?campaign=ABC", "/failed", "/failed?page=2", `/deliveries/${story}`]) {
  const times = [];
  for (let n = 0; n < 5; n++) {
    const page = await open("read");
    await page.setExtraHTTPHeaders({ authorization: "Basic " + btoa(people.read.join(":")) });
    await go(page, path);
    times.push(Math.round(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? performance.now()")));
    await page.browserContext().close();
  }
  views[path] = times;
}
console.log("first paints, milliseconds:", JSON.stringify(views));
const median = views["/"].toSorted((a, b) => a - b)[2];
console.log(`the first view: ${median} ms (median of five, release build)`);
expect(median < FIRST_VIEW, `the first view took ${median} ms (median of five)`);

const scout = await open("act");
await go(scout, "/failed?page=100&fresh=1");
const last = await scout.$$eval("a.id", (links) => links.map((link) => link.getAttribute("href")));
await go(scout, "/failed");
const ids = await scout.$$eval("a.id", (links) => links.map((link) => link.getAttribute("href")));
await go(scout, "/failed?page=101");
const hostile = (await scout.$$eval("a.id", (links) => links.map((link) => link.getAttribute("href")))).at(-1) ?? last.at(-1);
await scout.browserContext().close();

const id = (path) => path.split("/").pop();
const pages = [
  ["overview", "/"], ["search-empty", "/search"], ["search", "/search?by=campaign&q=ABC"], ["search-wrong", "/search?q=x&since=never"],
  ["delivery", `/deliveries/${story}`], ["failed", "/failed"], ["failed-filtered", "/failed?reason=gone&campaign=ABC&page=2"],
  ["failed-none", "/failed?campaign=none"], ["job", ids[0]], ["job-hostile", hostile], ["missing", "/nowhere"], ["settings", "/settings?campaign=ABC"],
];
const previews = [
  ["preview-replay", "/failed/preview?action=replay&which=matching&reason=gone"],
  ["preview-discard", `/failed/preview?action=discard&which=chosen&id=${id(ids[1])}`],
];
const kept = new Set(["overview", "failed", "delivery"]);
let looked = 0;
for (const role of ["act", "read"]) {
  for (const [look, options] of [["light", {}], ["dark", { dark: true }], ["phone", { phone: true }], ["phone-dark", { phone: true, dark: true }]]) {
    const page = await open(role, options);
    for (const [name, path] of role === "act" ? [...pages, ...previews] : pages) {
      const { status } = await go(page, path);
      const wanted = { missing: 404, "search-wrong": 400 }[name] ?? 200;
      expect(status === wanted, `${role} ${look} ${name}: ${status}`);
      await audit(page, `${role} ${look} ${name}`);
      looked++;
      const shot = role === "act" && ((look === "light" && kept.has(name)) || (look === "dark" && name === "job") || (look === "phone" && name === "overview"));
      if (shot) await page.screenshot({ path: join(pictures, look === "light" ? `${name}.png` : `${name}-${look}.png`), optimizeForSpeed: false });
      if (process.env.ALL) await page.screenshot({ path: join(process.env.ALL, `${role}-${look}-${name}.png`), fullPage: true });
    }
    await page.browserContext().close();
  }
}
console.log(`${looked} pages looked at`);

// Reads the pages without scripts, then uses the keyboard.
{
  const page = await open("read", { script: false });
  for (const [name, path] of pages) expect([200, 400, 404].includes((await go(page, path)).status), `without scripts: ${name}`);
  await page.browserContext().close();
  const keys = await open("read");
  await go(keys, "/");
  await keys.keyboard.press("Tab");
  expect(await keys.evaluate("document.activeElement.className") === "skip", "the first Tab does not reach the skip link");
  await keys.keyboard.press("Enter");
  expect(await keys.evaluate("document.activeElement.id") === "content", "the skip link does not lead to the content");
  expect((await keys.$("button.live")) !== null, "live updates cannot be switched on");
  // A live page waits for a slow answer, and sends no other request meanwhile.
  let asked = 0;
  await keys.setRequestInterception(true);
  keys.on("request", (request) => { if (request.resourceType() === "fetch") asked++; else request.continue(); });
  await keys.click("button.live");
  await new Promise((r) => setTimeout(r, 11_000));
  expect(asked === 1, `a slow answer was asked for ${asked} times`);
  await keys.browserContext().close();
}

// Performs every action by clicking.
const page = await open("act");
const click = (selector) => Promise.all([page.waitForNavigation({ waitUntil: "load" }), page.click(selector)]);
const text = () => page.$eval("main", (main) => main.innerText);
const ended = async (what) => {
  for (let n = 0; n < 240 && (await page.$("[data-running]")); n++) { await new Promise((r) => setTimeout(r, 250)); await page.reload(); }
  return `${what}: ${await text()}`;
};
await go(page, hostile);
await click("form[action$='/reveal'] button");
expect((await text()).includes("</pre><script>alert(1)</script>"), "the revealed body is not shown as text");
expect((await text()).includes("<img src=x onerror=alert(1)>"), "hostile ids and answers are not shown as text");
await audit(page, "revealed");

await go(page, "/failed");
await page.click("tbody tr:nth-child(1) input[type=checkbox]");
await page.click("tbody tr:nth-child(2) input[type=checkbox]");
await click("button[value=replay]");
expect((await text()).includes("2 jobs would be replayed"), "the preview does not show two jobs");
await click("form[action='/failed/replay'] button");
await audit(page, "work");
let said = await ended("replay of two");
expect(said.includes("2 jobs replayed"), said);

await go(page, "/failed?reason=gone");
await page.click("input[value=matching]");
await click("button[value=discard]");
await page.type("#because", "browser test");
await click("form[action='/failed/discard'] button");
said = await ended("discard by filter");
expect(said.includes("2,500 messages discarded"), said);

await go(page, "/failed");
await page.click("input[value=matching]");
await click("button[value=replay]");
const begun = performance.now();
await click("form[action='/failed/replay'] button");
said = await ended("replay of all");
console.log(`replay of all took ${Math.round(performance.now() - begun)} ms`);
// The console reports nine of them as delivered meanwhile, because they have the ids of deliveries that succeeded.
expect(/7,49\d jobs replayed/.test(said) && said.includes("9 jobs left: delivered already"), said);
await audit(page, "work done");

await browser.close();
console.log(problems.length === 0 ? "nothing found" : `${problems.length} problems:\n${[...new Set(problems)].join("\n")}`);
process.exit(problems.length === 0 ? 0 : 1);
