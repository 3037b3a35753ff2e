// SPDX-License-Identifier: Apache-2.0
// A person who uses the pages with a browser: what it sees, clicks and types, and all that the router ever answered it.
import path from 'node:path';

export const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 } };
const PATIENCE = 60000;
const PATIENCE_FOR_BODY = 10000;

export class Visitor {
	/** Answers of the router, for the hunt for secrets: [ where, address, body ]. Scripts and pictures are not among them. */
	answers = [];
	clicks = [];
	fields = [];
	where = 'login';
	/** Requests that uhttpd left without an answer, which it does now and then on a machine in a hurry. */
	unanswered = 0;
	#reading = new Set();

	/** `site` is what all visitors share: browser, url, pictures, fail(). */
	constructor(name, site, page) {
		Object.assign(this, { name, site, page });
	}

	static async login(site, user, password, language = '') {
		const context = await site.browser.createBrowserContext();
		const visitor = new Visitor(language ? `${user}-${language}` : user, site, await context.newPage());
		const { page } = visitor;

		if (language)
			await page.setExtraHTTPHeaders({ 'Accept-Language': language });

		page.setDefaultTimeout(PATIENCE);
		page.on('console', (message) => {
			if (message.type() == 'error' && visitor.where != 'login' && !visitor.#isUnanswered(message.location().url ?? '', message.text()))
				site.fail(`${visitor.at()}: console: ${message.text()}`);
		});
		page.on('pageerror', (error) => site.fail(`${visitor.at()}: ${error}`));
		page.on('response', (response) => {
			if (response.status() == 502)
				visitor.unanswered++;
			else if (response.status() >= 400 && visitor.where != 'login' && !visitor.#isUnanswered(response.url(), ''))
				site.fail(`${visitor.at()}: ${response.status()} for ${response.url()}`);

			if (response.url().includes('/luci-static/'))
				return;

			// What is sent away with the page has no body any more, or one that never comes.
			const never = new Promise((resolve) => { setTimeout(resolve, PATIENCE_FOR_BODY, '').unref(); });
			const reading = Promise.race([ response.text().catch(() => ''), never ]).then((body) => {
				visitor.answers.push([ visitor.where, response.url(), body ]);
				visitor.#reading.delete(reading);
			});

			visitor.#reading.add(reading);
		});

		// Not the status of the router, which asks for a hundred things. The theme may put a page of its own in place of the form.
		await page.goto(`${site.url}/cgi-bin/luci/admin/services/smtprelay`, { waitUntil: 'networkidle0' });
		await page.$eval('input[name=luci_username]', (field, value) => { field.value = value; }, user);
		await page.type('input[name=luci_password]', password);
		await Promise.all([ page.waitForNavigation({ waitUntil: 'load' }), page.keyboard.press('Enter') ]);

		if (await page.$('input[name=luci_password]'))
			throw new Error(`${user} could not log in`);

		return visitor;
	}

	/** The errors of a page that uhttpd did not give; it is asked again. */
	#isUnanswered(url, text) {
		return this.unanswered > 0 && (url.endsWith('/favicon.ico') || text.includes('status of 502'));
	}

	at() {
		return `${this.name}, ${this.where}`;
	}

	fail(what) {
		this.site.fail(`${this.at()}: ${what}`);
	}

	async open(tab, size = 'desktop') {
		this.where = `${tab} ${size}`;

		if (this.size != size) {
			// Another kind of screen loads the page again, which must not come between.
			await this.page.goto('about:blank');
			await this.page.setViewport(SIZES[size]);
			this.size = size;
		}

		// uhttpd leaves a request without an answer now and then: 502, or nothing at all.
		for (let tries = 3; ; tries--) {
			const before = this.unanswered;

			try {
				await this.page.goto(`${this.site.url}/cgi-bin/luci/admin/services/smtprelay/${tab}`, { waitUntil: 'domcontentloaded', timeout: PATIENCE / 3 });

				if (this.unanswered == before)
					return await this.settle();
			}
			catch (error) {
				if (tries <= 1)
					throw error;

				this.unanswered++;
			}

			if (tries <= 1)
				throw new Error(`${this.at()}: uhttpd does not answer`);
		}
	}

	/** Waits until the page has its content. */
	async settle() {
		await this.page.waitForFunction(() => document.querySelector('#view h2'), { timeout: PATIENCE / 3 });
	}

	/** A picture of the whole page, or of the window above it. */
	async look(name) {
		await this.page.waitForFunction(() => document.getAnimations().every((one) => one.effect.getComputedTiming().iterations == Infinity || one.playState != 'running'));

		const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

		if (wide > 1)
			this.fail(`the page is ${wide} pixels wider than the screen`);

		if (this.site.pictures) {
			const fullPage = await this.page.evaluate(() => !document.body.classList.contains('modal-overlay-active'));

			await this.page.screenshot({ path: path.join(this.site.pictures, `${this.name}-${name}.png`), fullPage });
		}
	}

	/** What could be pressed. */
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

	/** Presses something that may be replaced at any moment by a fresh copy of itself, or lie below a window. */
	async press(selector) {
		await this.page.waitForSelector(selector);
		await this.page.$eval(selector, (node) => node.click());
	}

	/** Puts a text in place of what is in a field. */
	async fill(selector, text) {
		await this.page.waitForSelector(selector);
		await this.page.$eval(selector, (field, value) => {
			field.value = value;

			for (const event of [ 'input', 'change', 'keyup', 'blur' ])
				field.dispatchEvent(new window.Event(event, { bubbles: true }));
		}, text);
	}

	async text(selector) {
		return this.page.$eval(selector, (node) => node.textContent);
	}

	/** Waits until the text of something holds these words. */
	async sees(selector, words) {
		await this.page.waitForFunction((where, what) => document.querySelector(where)?.textContent.includes(what), {}, selector, words)
			.catch(async () => { throw new Error(`${this.at()}: '${words}' never came; ${selector} is: ${await this.text(selector).catch(() => 'missing')}`); });
	}

	/** Waits until no window lies above the page. */
	async closed() {
		await this.page.waitForFunction(() => !document.body.classList.contains('modal-overlay-active'));
	}

	/** The answers that hold one of these secrets. */
	async leaks(secrets) {
		await Promise.all(this.#reading);

		return this.answers.flatMap(([ where, url, body ]) => secrets.filter((secret) => body.includes(secret)).map((secret) => `${this.name}, ${where}: ${url} holds '${secret}'`));
	}
}
