// Walks through the pages of smtprelay in the LuCI of a router that runs, with a headless Chromium.
//
//	LUCI_URL=http://192.168.1.1 LUCI_PASSWORD=… SCREENSHOTS=/tmp/shots node tests/openwrt/luci.mjs
//
// LUCI_USER (root)                              the administrator
// LUCI_READONLY_USER, LUCI_READONLY_PASSWORD    somebody who may only look: no button, no secret
// LUCI_SETUP_ADDRESS, LUCI_SETUP_PASSWORD       with these the wizard is gone through first, and its clicks are counted
// LUCI_SETUP_PROVIDER, LUCI_SETUP_HOST, LUCI_SETUP_PORT   its preset, or `custom` with a server
// LUCI_CHANGE=1                                 saves the settings and sends a test mail from the page as well
// SCREENSHOTS                                   folder for the pictures
// CHROMIUM                                      the browser, if it is not in the path
//
// Fails on errors in the browser's console, failed requests, pages that are wider than a phone, and secrets that come
// back. Needs `npm ci` in tests/luci.
import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';

const URL_OF_ROUTER = process.env.LUCI_URL?.replace(/\/+$/, '');
const TABS = [ 'overview', 'settings', 'queue', 'test', 'log' ];
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 } };
/** Buttons that change nothing. */
const HARMLESS = [ 'Show', 'Show more', 'Older', 'Newer', 'Dismiss', 'Close', 'Logout', 'Log out' ];
const PATIENCE = 60000;

if (!URL_OF_ROUTER) {
	console.log('skipped: LUCI_URL names no router');
	process.exit(0);
}

const failures = [];
const pictures = process.env.SCREENSHOTS;
const fail = (what) => {
	failures.push(what);
	console.error(`FAILED: ${what}`);
};

function browserProgram() {
	for (const name of [ process.env.CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome' ].filter((one) => one)) {
		try {
			return execFileSync('/bin/sh', [ '-c', 'command -v "$1"', 'sh', name ], { encoding: 'utf8' }).trim();
		}
		catch {
			continue;
		}
	}

	console.error('there is no Chromium: install Debian\'s package chromium, or name one in CHROMIUM');
	process.exit(2);
}

const puppeteer = createRequire(new URL('../luci/package.json', import.meta.url))('puppeteer-core');
const browser = await puppeteer.launch({ executablePath: browserProgram(), args: [ '--no-sandbox', '--disable-dev-shm-usage' ] });

/** A person who is logged in. `secrets` must never come back from the router. */
class Visitor {
	constructor(name, page, context) {
		Object.assign(this, { name, page, context, where: 'login', clicks: [], fields: [] });
	}

	static async login(user, password, secrets = []) {
		const context = await browser.createBrowserContext();
		const page = await context.newPage();
		const visitor = new Visitor(user, page, context);

		page.setDefaultTimeout(PATIENCE);
		page.on('console', (message) => {
			if (message.type() == 'error' && visitor.where != 'login')
				fail(`${visitor.at()}: console: ${message.text()}`);
		});
		page.on('pageerror', (error) => fail(`${visitor.at()}: ${error}`));
		page.on('response', async (response) => {
			if (response.status() >= 400 && visitor.where != 'login')
				fail(`${visitor.at()}: ${response.status()} for ${response.url()}`);

			// What is sent away with the page has no body any more.
			const body = await response.text().catch(() => '');

			for (const secret of secrets)
				if (secret && body.includes(secret))
					fail(`${visitor.at()}: a secret is in the answer to ${response.url()}`);
		});

		// Not the status of the router, which asks for a hundred things. The theme may put a page of its own in place of the form.
		await page.goto(`${URL_OF_ROUTER}/cgi-bin/luci/admin/services/smtprelay`, { waitUntil: 'networkidle0' });
		await page.$eval('input[name=luci_username]', (field, value) => { field.value = value; }, user);
		await page.type('input[name=luci_password]', password);
		await Promise.all([ page.waitForNavigation({ waitUntil: 'load' }), page.keyboard.press('Enter') ]);

		if (await page.$('input[name=luci_password]'))
			throw new Error(`${user} could not log in`);

		return visitor;
	}

	at() {
		return `${this.name}, ${this.where}`;
	}

	async open(tab, size) {
		this.where = `${tab} ${size}`;

		if (this.size != size) {
			// Another kind of screen loads the page again, which must not come between.
			await this.page.goto('about:blank');
			await this.page.setViewport(SIZES[size]);
			this.size = size;
		}

		await this.page.goto(`${URL_OF_ROUTER}/cgi-bin/luci/admin/services/smtprelay/${tab}`);
		await this.settle();
	}

	/** Waits until the page has its content. */
	async settle() {
		await this.page.waitForFunction(() => document.querySelector('#view h2'));
	}

	async look(name) {
		await this.page.waitForFunction(() => document.getAnimations().every((one) => one.effect.getComputedTiming().iterations == Infinity || one.playState != 'running'));

		const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

		if (wide > 1)
			fail(`${this.at()}: the page is ${wide} pixels wider than the screen`);

		if (pictures)
			await this.page.screenshot({ path: path.join(pictures, `${this.name}-${name}.png`), fullPage: true });
	}

	async buttons() {
		return this.page.$$eval('#view button:not([disabled]), #view input[type=submit]', (found) => found.filter((one) => one.offsetParent).map((one) => one.textContent.trim()));
	}

	async click(what, selector) {
		this.clicks.push(what);
		await this.page.waitForSelector(selector, { visible: true });
		await this.page.click(selector);
	}

	async type(what, selector, text) {
		await this.click(`into ${what}`, selector);
		this.fields.push(what);
		await this.page.keyboard.type(text);
	}

	async text(selector) {
		return this.page.$eval(selector, (node) => node.textContent);
	}
}

/** From nothing to a delivered test mail. */
async function setUp(visitor) {
	const { LUCI_SETUP_ADDRESS: address, LUCI_SETUP_PASSWORD: password, LUCI_SETUP_PROVIDER: provider, LUCI_SETUP_HOST: host, LUCI_SETUP_PORT: port } = process.env;
	const { page } = visitor;

	await page.setViewport(SIZES.desktop);
	visitor.clicks.push('Services');
	await page.waitForSelector('a[href$="/admin/services/smtprelay"]');
	visitor.where = 'wizard';
	visitor.clicks.push('SMTP relay');
	await Promise.all([ page.waitForNavigation(), page.$eval('a[href$="/admin/services/smtprelay"]', (link) => link.click()) ]);
	await visitor.settle();
	await page.waitForSelector('#smtprelay-wizard');

	if (provider) {
		visitor.clicks.push('Provider', provider);
		await page.select('#smtprelay-provider', provider);
	}

	if (host)
		await visitor.type('Mail server', '#smtprelay-host', host);

	if (port)
		await visitor.type('Port', '#smtprelay-port', port);

	await visitor.type('Mail address', '#smtprelay-address', address);
	await visitor.look('wizard-desktop');
	await visitor.type('Password', '#smtprelay-password', password);
	await visitor.click('Save and send test mail', '#smtprelay-save');
	await page.waitForFunction(() => document.querySelector('#smtprelay-finished, #smtprelay-progress [data-level=bad]'));
	await visitor.look('wizard-done');

	if (!await page.$('#smtprelay-finished'))
		fail(`${visitor.at()}: ${await visitor.text('#smtprelay-progress')}`);

	console.log(`wizard: ${visitor.clicks.length} clicks (${visitor.clicks.join(', ')}), ${visitor.fields.length} fields (${visitor.fields.join(', ')})`);

	if (!host && (visitor.clicks.length > 8 || visitor.fields.length > 3))
		fail('the wizard takes more than 8 clicks and 3 fields');
}

/** The tabs of the settings and the window of the first section. */
async function settings(visitor, size) {
	const { page } = visitor;
	const tabs = await page.$$eval('.cbi-map-tabbed > .cbi-tabmenu a, #view .cbi-tabmenu:first-of-type li[data-tab] a', (links) => links.length);

	for (let i = 0; i < Math.min(tabs, 7); i++) {
		await page.evaluate((n) => document.querySelectorAll('#view .cbi-tabmenu')[0].querySelectorAll('a')[n].click(), i);
		await visitor.look(`settings-${size}-${i + 1}`);
	}

	await page.evaluate(() => document.querySelectorAll('#view .cbi-tabmenu')[0].querySelector('a').click());

	if (await page.$('#view .cbi-button-edit')) {
		await page.$eval('#view .cbi-button-edit', (button) => button.click());
		await page.waitForSelector('.modal .cbi-value');
		await visitor.look(`settings-${size}-edit`);
		await page.evaluate(() => Array.from(document.querySelectorAll('.modal button')).find((button) => /Dismiss|Close/.test(button.textContent))?.click());
	}
}

/** Windows that open above a page; they are looked at and closed again. */
async function dialogs(visitor, tab, size) {
	const { page } = visitor;
	const opener = { overview: '[data-allow]', queue: '#smtprelay-queue .cbi-button-neutral' }[tab];

	if (!opener || !await page.$(opener))
		return;

	await page.$eval(opener, (button) => button.click());
	await page.waitForFunction(() => document.body.classList.contains('modal-overlay-active'));
	await visitor.look(`${tab}-${size}-window`);
	// The first button of such a window closes it.
	await page.$eval('#modal_overlay .right button', (button) => button.click());
}

/** Saves the settings through the page. */
async function save(visitor) {
	const { page } = visitor;

	await visitor.open('settings', 'desktop');
	visitor.where = 'saving';
	await page.evaluate(() => Array.from(document.querySelectorAll('#view .cbi-tabmenu')[0].querySelectorAll('a')).at(-1).click());
	await page.waitForSelector('input[id$=".main.retry_for"], input[name$=".main.retry_for"]');
	await page.evaluate(() => {
		const field = document.querySelector('input[id$=".main.retry_for"], input[name$=".main.retry_for"]');

		field.value = '5d';
		field.dispatchEvent(new window.Event('input', { bubbles: true }));
		field.dispatchEvent(new window.Event('change', { bubbles: true }));
	});
	await page.$eval('.cbi-page-actions .cbi-button-apply', (button) => button.click());
	await page.waitForFunction(() => document.querySelector('#maincontent .alert-message, body > .alert-message'));
	await visitor.look('settings-saved');

	const said = await page.$$eval('.alert-message', (boxes) => boxes.map((box) => box.textContent).join(' '));

	if (!/saved and applied/.test(said))
		fail(`${visitor.at()}: ${said}`);
}

/** Sends a test mail from its page. */
async function testMail(visitor, size) {
	const { page } = visitor;

	await visitor.open('test', size);
	visitor.where = `test mail ${size}`;

	if (!await page.$eval('#smtprelay-to', (field) => field.value))
		await page.type('#smtprelay-to', process.env.LUCI_SETUP_ADDRESS || 'me@example.com');

	await page.click('#smtprelay-send');
	await page.waitForFunction(() => document.querySelector('[data-step] ~ *, [data-step]') && document.querySelector('#smtprelay-result [data-level]'));
	await visitor.look(`test-sent-${size}`);
}

try {
	if (pictures)
		fs.mkdirSync(pictures, { recursive: true });

	const secrets = [ process.env.LUCI_SETUP_PASSWORD ];
	const admin = await Visitor.login(process.env.LUCI_USER || 'root', process.env.LUCI_PASSWORD ?? '', secrets);

	if (process.env.LUCI_SETUP_ADDRESS)
		await setUp(admin);

	for (const size of Object.keys(SIZES)) {
		for (const tab of TABS) {
			await admin.open(tab, size);
			await admin.look(`${tab}-${size}`);

			await dialogs(admin, tab, size);

			if (tab == 'settings')
				await settings(admin, size);
		}

		if (process.env.LUCI_CHANGE)
			await testMail(admin, size);
	}

	if (process.env.LUCI_CHANGE)
		await save(admin);

	if (process.env.LUCI_READONLY_USER) {
		const viewer = await Visitor.login(process.env.LUCI_READONLY_USER, process.env.LUCI_READONLY_PASSWORD ?? '', secrets);

		for (const size of Object.keys(SIZES)) {
			for (const tab of TABS) {
				await viewer.open(tab, size);
				await viewer.look(`${tab}-${size}`);

				const bad = (await viewer.buttons()).filter((label) => !HARMLESS.some((fine) => label.includes(fine)));

				if (bad.length)
					fail(`${viewer.at()}: there are buttons: ${bad.join(', ')}`);
			}
		}
	}
	else {
		console.log('skipped: LUCI_READONLY_USER names nobody who may only look');
	}
}
catch (error) {
	for (const [ i, page ] of (await browser.pages()).entries())
		if (pictures)
			await page.screenshot({ path: path.join(pictures, `failed-${i}.png`) }).catch(() => {});

	fail(error.stack);
}
finally {
	await browser.close();
}

console.log(failures.length ? `${failures.length} failures` : 'LuCI: all pages are well');
process.exit(failures.length ? 1 : 0);
