// node check.mjs CHROMIUM PAGE... : open each page as file in the browser at hand; prints one JSON object a page.
// What a page asked for, what it logged, by how much it is too wide at phone and laptop size, what axe-core found wrong,
// and how it prints. With SCREENSHOTS=DIR it also leaves pictures there, for people to look at.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [executablePath, ...pages] = process.argv.slice(2);
const pictures = process.env.SCREENSHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const sizes = { phone: { width: 360, height: 740 }, laptop: { width: 1280, height: 800 } };
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] }); // pages of our own, run as root in CI

for (const path of pages) {
  const url = pathToFileURL(path).href;
  const found = { page: basename(path), requests: [], console: [], overflow: {}, violations: [] };
  for (const [name, viewport] of Object.entries(sizes)) {
    // axe is put into the page from outside, past its content security policy
    const context = await browser.newContext({ viewport, bypassCSP: true });
    const page = await context.newPage();
    page.on('request', (request) => request.url() === url || found.requests.push(request.url()));
    page.on('console', (message) => found.console.push(message.text()));
    await page.goto(url);
    found.overflow[name] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (pictures) await page.screenshot({ path: `${pictures}/${basename(path, '.html')}-${name}.png`, fullPage: true });
    if (name === 'laptop') {
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
      for (const each of violations) found.violations.push(`${each.id}: ${each.nodes[0].html.slice(0, 200)}`);
    }
    await context.close();
  }
  const strict = await browser.newPage(); // with its policy in force
  strict.on('console', (message) => found.console.push(message.text()));
  await strict.goto(url);
  await strict.emulateMedia({ media: 'print' });
  await strict.setViewportSize({ width: 680, height: 1000 }); // A4 between margins of 15 mm
  const first = await strict.evaluate(() => {
    const section = document.querySelector('.first');
    return { breakAfter: getComputedStyle(section).breakAfter, bottom: section.getBoundingClientRect().bottom };
  });
  const pdf = await strict.pdf({ preferCSSPageSize: true });
  found.printed = { ...first, pages: pdf.toString('latin1').match(/\/Type\s*\/Page\b/g).length };
  await strict.close();
  console.log(JSON.stringify(found));
}
await browser.close();
