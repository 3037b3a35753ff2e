// SPDX-License-Identifier: Apache-2.0
// Every page and every window of it is looked at, at both sizes. Nothing is changed.
import { SIZES } from './visitor.mjs';

export const TABS = [ 'overview', 'settings', 'queue', 'test', 'log' ];
/** Buttons that change nothing. */
const HARMLESS = [ 'Show', 'Show more', 'Older', 'Newer', 'Dismiss', 'Close', 'Logout', 'Log out' ];

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
		await visitor.press('#view .cbi-button-edit');
		await page.waitForSelector('.modal .cbi-value');
		await visitor.look(`settings-${size}-edit`);
		await visitor.press('.modal .button-row button, .modal .right button');
	}
}

/** Windows that open above a page; they are looked at and closed again. */
async function windows(visitor, tab, size) {
	const opener = { overview: '[data-allow]', queue: '[data-change=show]' }[tab];

	if (!opener || !await visitor.page.$(opener))
		return;

	await visitor.press(opener);
	await visitor.page.waitForFunction(() => document.body.classList.contains('modal-overlay-active'));
	await visitor.look(`${tab}-${size}-window`);
	// The first button of such a window closes it.
	await visitor.press('#modal_overlay .right button');
	await visitor.closed();
}

/** All pages for somebody who may change things. */
export async function lookAround(visitor) {
	for (const size of Object.keys(SIZES)) {
		for (const tab of TABS) {
			await visitor.open(tab, size);
			await visitor.look(`${tab}-${size}`);
			await windows(visitor, tab, size);

			if (tab == 'settings')
				await settings(visitor, size);
		}
	}
}

/** All pages for somebody who may only look: there is nothing to press. */
export async function lookOnly(visitor) {
	for (const size of Object.keys(SIZES)) {
		for (const tab of TABS) {
			await visitor.open(tab, size);
			await visitor.look(`${tab}-${size}`);
			await windows(visitor, tab, size);

			const bad = (await visitor.buttons()).filter((label) => !HARMLESS.some((fine) => label.includes(fine)));

			if (bad.length)
				visitor.fail(`there are buttons: ${bad.join(', ')}`);
		}
	}
}

/** Sends a test mail from its page. */
export async function testMail(visitor, size, name = 'test-sent') {
	const { page } = visitor;

	await visitor.open('test', size);
	visitor.where = `test mail ${size}`;

	if (!await page.$eval('#smtprelay-to', (field) => field.value))
		await page.type('#smtprelay-to', process.env.LUCI_SETUP_ADDRESS || 'me@example.com');

	await page.click('#smtprelay-send');
	await page.waitForFunction(() => document.querySelector('#smtprelay-result [data-level]'));
	await visitor.look(`${name}-${size}`);

	return page.$$eval('#smtprelay-result [data-step]', (steps) => Object.fromEntries(steps.map((step) => [ step.dataset.step, step.dataset.state ])));
}

/** From nothing to a delivered test mail, with as few clicks as there are. */
export async function setUp(visitor, { address, password, provider, host, port }) {
	const { page } = visitor;

	await page.setViewport(SIZES.desktop);
	visitor.clicks.push('Services');
	await page.waitForSelector('a[href$="/admin/services/smtprelay"]');
	visitor.where = 'wizard';
	visitor.clicks.push('SMTP relay');
	await Promise.all([ page.waitForNavigation(), visitor.press('a[href$="/admin/services/smtprelay"]') ]);
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

	await visitor.type('Email address', '#smtprelay-address', address);
	await visitor.look('wizard-desktop');
	await visitor.type('Password', '#smtprelay-password', password);
	await visitor.click('Save and send test message', '#smtprelay-save');
	await page.waitForFunction(() => document.querySelector('#smtprelay-finished, #smtprelay-progress [data-level=bad]'));
	await visitor.look('wizard-done');

	if (!await page.$('#smtprelay-finished'))
		visitor.fail(await visitor.text('#smtprelay-progress'));

	console.log(`wizard: ${visitor.clicks.length} clicks (${visitor.clicks.join(', ')}), ${visitor.fields.length} fields (${visitor.fields.join(', ')})`);

	if (!host && (visitor.clicks.length > 8 || visitor.fields.length > 3))
		visitor.fail('the wizard takes more than 8 clicks and 3 fields');
}

/** Changes an option through the page: what the page says in the end. */
export async function change(visitor, changes) {
	const { page } = visitor;

	await visitor.open('settings');
	visitor.where = `saving ${Object.keys(changes).join(', ')}`;

	for (const [ name, value ] of Object.entries(changes))
		await visitor.fill(`input[id$=".main.${name}"], input[name$=".main.${name}"]`, value);

	return apply(visitor);
}

/** Presses "Save & Apply": what the page says in the end. */
export async function apply(visitor) {
	const { page } = visitor;
	const notes = () => page.$$eval('#maincontent .alert-message, body > .alert-message', (boxes) => boxes.map((box) => box.textContent).join(' '));
	const before = await notes();

	await visitor.press('.cbi-page-actions .cbi-button-apply');
	await page.waitForFunction((old) => Array.from(document.querySelectorAll('#maincontent .alert-message, body > .alert-message')).map((box) => box.textContent).join(' ') != old, {}, before);
	await visitor.closed();

	return notes();
}
