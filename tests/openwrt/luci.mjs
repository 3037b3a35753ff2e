// SPDX-License-Identifier: Apache-2.0
// Walks through the pages of smtprelay in the LuCI of a router that runs, with a headless Chromium.
//
//	LUCI_URL=http://192.168.1.1 LUCI_PASSWORD=… SCREENSHOTS=/tmp/shots node tests/openwrt/luci.mjs
//
// LUCI_USER (root)                              the administrator
// LUCI_READONLY_USER, LUCI_READONLY_PASSWORD    somebody who may only look: no button, no secret, no call that changes anything
// LUCI_SETUP_ADDRESS, LUCI_SETUP_PASSWORD       with these the wizard is gone through first, and its clicks are counted
// LUCI_SETUP_PROVIDER, LUCI_SETUP_HOST, LUCI_SETUP_PORT   its preset, or `custom` with a server
// LUCI_CHANGE=1                                 saves the settings and sends a test mail from the page as well
// LUCI_WALK=192.168.1.2                         does everything to its end, see below
// LUCI_LANGUAGE=de                              looks at the pages in another language as well, if LuCI has it
// SCREENSHOTS                                   folder for the pictures
// CHROMIUM                                      the browser, if it is not in the path
//
// LUCI_WALK is for a router that is there to be tried on, with smtprelay as it was shipped. It names the address of this
// machine in the router's LAN; OPENWRT_SH is the command that takes a line for the router's shell, such as
// `ssh root@192.168.1.1`; and this machine has to let us listen at the ports 443, 465 and 587 and add addresses for devices,
// so it needs root and `ip`. Google's and Microsoft's servers are played here: the router gets their names into /etc/hosts and
// our certificate among its authorities. In the end it has its former files again, unless LUCI_KEEP is set. It tries
// by English words, so LUCI_LANGUAGE only looks.
//
// Fails on errors in the browser's console, failed requests, pages that are wider than a phone, and secrets that come
// back. Needs `npm ci` in tests/luci, and openssl for LUCI_WALK.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { browserProgram } from './luci/browser.mjs';
import { change, lookAround, lookOnly, setUp, testMail } from './luci/pages.mjs';
import { CLIENT } from './luci/internet.mjs';
import { Router } from './luci/router.mjs';
import { SIZES, Visitor } from './luci/visitor.mjs';
import { Walk, callDirectly } from './luci/walk.mjs';

const { env } = process;

if (!env.LUCI_URL) {
	console.log('skipped: LUCI_URL is not set');
	process.exit(0);
}

if (env.LUCI_WALK && !env.OPENWRT_SH) {
	console.error('LUCI_WALK requires OPENWRT_SH, a shell on the router');
	process.exit(2);
}

const failures = [];
const site = {
	url: env.LUCI_URL.replace(/\/+$/, ''),
	pictures: env.SCREENSHOTS,
	fail(what) {
		failures.push(what);
		console.error(`FAILED: ${what}`);
	}
};

/** All that is tried, by an administrator and by somebody who may only look. */
async function visit(walk) {
	const admin = await Visitor.login(site, env.LUCI_USER || 'root', env.LUCI_PASSWORD ?? '');
	const visitors = [ admin ];
	const secrets = [ env.LUCI_SETUP_PASSWORD ].filter((secret) => secret);

	if (walk)
		await setUp(admin, { address: walk.internet.user, password: walk.internet.password });
	else if (env.LUCI_SETUP_ADDRESS)
		await setUp(admin, { address: env.LUCI_SETUP_ADDRESS, password: env.LUCI_SETUP_PASSWORD, provider: env.LUCI_SETUP_PROVIDER, host: env.LUCI_SETUP_HOST, port: env.LUCI_SETUP_PORT });

	if (walk) {
		const { warnings } = (await walk.router.call('status')).settings;

		if (warnings.length)
			site.fail(`the gateway warns of what the wizard has set: ${warnings}`);

		await walk.work();
	}

	await lookAround(admin);

	if (env.LUCI_CHANGE) {
		for (const size of Object.keys(SIZES))
			await testMail(admin, size);

		const said = await change(admin, { retry_for: '5d' });

		if (!/saved and applied/.test(said))
			admin.fail(said);
	}

	const language = env.LUCI_LANGUAGE;

	if (language) {
		visitors.push(await Visitor.login(site, env.LUCI_USER || 'root', env.LUCI_PASSWORD ?? '', language));
		await lookAround(visitors.at(-1));
	}

	let viewer = null;

	if (env.LUCI_READONLY_USER) {
		viewer = await Visitor.login(site, env.LUCI_READONLY_USER, env.LUCI_READONLY_PASSWORD ?? '');

		visitors.push(viewer);
		await lookOnly(viewer);

		const { problems, bodies } = await callDirectly(site.url, env.LUCI_READONLY_USER, env.LUCI_READONLY_PASSWORD ?? '');

		problems.forEach((problem) => site.fail(problem));
		bodies.forEach((body) => viewer.answers.push([ 'direct call', 'ubus', body ]));
	}
	else {
		console.log('skipped: LUCI_READONLY_USER is not set');
	}

	if (walk) {
		for (const step of [ 'allow', 'queue', 'settings', 'testPage', 'signIn' ]) {
			await walk[step](admin, site.browser);
			console.log(`${step}: done`);
		}

		secrets.push(...walk.internet.secrets);
		(await walk.hunt()).forEach((leak) => site.fail(leak));
	}

	for (const visitor of visitors) {
		// The form of the settings gets all that stands in them, like any form of LuCI; passwords and tokens stand elsewhere.
		const known = visitor == viewer ? [] : [ CLIENT.secret ];

		(await visitor.leaks(secrets.filter((secret) => !known.includes(secret)))).forEach((leak) => site.fail(leak));
		console.log(`${visitor.name}: ${visitor.answers.length} answers (${visitor.answers.filter(([ , , body ]) => !body).length} empty) with ${visitor.answers.reduce((sum, [ , , body ]) => sum + body.length, 0)} bytes, hunted for ${secrets.length} secrets; ${visitor.unanswered} requests without an answer`);
	}
}

if (site.pictures)
	fs.mkdirSync(site.pictures, { recursive: true });

const walk = env.LUCI_WALK ? await Walk.begin(new Router(env.OPENWRT_SH, new URL(site.url).hostname), env.LUCI_WALK) : null;
const puppeteer = createRequire(new URL('../luci/package.json', import.meta.url))('puppeteer-core');

try {
	site.browser = await puppeteer.launch({ executablePath: browserProgram(), args: [ '--no-sandbox', '--disable-dev-shm-usage', ...(walk?.internet.chromium() ?? []) ] });
	await visit(walk);
}
catch (error) {
	for (const [ i, page ] of (await site.browser?.pages() ?? []).entries())
		if (site.pictures)
			await page.screenshot({ path: path.join(site.pictures, `failed-${i}.png`) }).catch(() => {});

	site.fail(error.stack);
}
finally {
	await site.browser?.close();

	if (!env.LUCI_KEEP)
		await walk?.end();
}

console.log(failures.length ? `${failures.length} failures` : 'LuCI: all page checks passed');
process.exit(failures.length ? 1 : 0);
