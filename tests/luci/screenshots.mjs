// SPDX-License-Identifier: Apache-2.0
// Makes the screenshots of the README and of docs, docs/images/*.png, with a headless Chromium: real LuCI, sample data.
//
//	LUCI_SOURCE=~/src/luci scripts/screenshots.sh
//	LUCI_URL=http://192.168.1.1 LUCI_PASSWORD=… scripts/screenshots.sh
//
// LUCI_SOURCE	a checkout of LuCI (github.com/openwrt/luci, 23.05 or newer): no router is needed
// LUCI_URL	a router with LuCI and smtprelay; LUCI_USER (root) and LUCI_PASSWORD are the login
// CHROMIUM	the browser, if it is not in the path
//
// All data of smtprelay in the pictures is the sample data below, also with LUCI_URL: once logged in, calls for it are
// answered here and not sent to the router, and nothing on the router is changed. With LUCI_URL the pages are those
// installed on the router, with LUCI_SOURCE those of this tree.
import fs from 'node:fs';
import path from 'node:path';
import puppeteer from 'puppeteer-core';
import { browserProgram } from '../openwrt/luci/browser.mjs';
import { Visitor } from '../openwrt/luci/visitor.mjs';
import { withPalette } from './png.mjs';
import * as sample from './samples.mjs';
import { APP, RESOURCES, TREE } from './sources.mjs';

const { env } = process;
const FOLDER = path.join(TREE, 'docs/images');
/** Width of the pictures in pixels, and the most that one may weigh in bytes. */
const WIDTH = 1000;
const MOST = 80000;
/** Where the pages are when there is no router; nothing listens there. */
const NOWHERE = 'http://router.example';
const MENU = 'admin/services/smtprelay';

/* The sample data: a plant with three devices and a stranger. Tuesday, 24 November 2026, 09:30 UTC. */

const NOW = Date.UTC(2026, 10, 24, 9, 30) / 1000;
const TODAY = NOW - NOW % 86400;
const ALERTS = 'alerts@example.com';
const LAST = { time: NOW - 540, to: 'operations@example.com', account: 'office', tls: 'TLSv1.3', cipher: 'TLS13_AES_256_GCM_SHA384', verified: 'ca', expires: NOW + 61 * 86400 };
const DELIVERED = [ 6, 14, 11, 3, 2, 12, 17, 13, 15, 10, 4, 2, 13, 16 ];

const DEVICES = [
	{ client: '192.168.1.20', name: 'pump-house', mac: '00:00:5e:00:53:20', ago: 540, accepted: 96, outcome: 'delivered', to: 'operations@example.com' },
	{ client: '192.168.1.34', name: 'printer-office', mac: '00:00:5e:00:53:34', ago: 4980, accepted: 41, outcome: 'delivered', to: 'office@example.com' },
	{ client: '192.168.2.7', name: '', helo: 'boiler', mac: '', ago: 7260, accepted: 0, refused: 3, allowed: false }
].map((device) => sample.device({
	client: device.client, device: device.name, name: device.name, helo: device.helo ?? device.name, mac: device.mac, allowed: device.allowed ?? true,
	first_seen: NOW - 30 * 86400, last_seen: NOW - device.ago, accepted: device.accepted, delivered: device.accepted, refused: device.refused ?? 0,
	last_mail: device.to ? { id: '01SAMPLE', from: ALERTS, to: device.to, time: NOW - device.ago } : null,
	last_verdict: { outcome: device.outcome ?? 'refused', text: '', time: NOW - device.ago }
}));

const STATUS = sample.status({
	health: 'Relaying.', clock: { set: true, now: NOW }, last: LAST,
	settings: { file: '/etc/config/smtprelay', loaded: NOW - 86400, error: null, warnings: [] },
	accounts: [
		sample.account({ name: 'office', provider: 'gworkspace', from: ALERTS, username: ALERTS, last: LAST }),
		sample.account({ name: 'fallback', provider: 'mailboxorg', host: 'smtp.mailbox.org', from: 'alerts@example.org', username: 'alerts@example.org', last: null })
	],
	queue: { messages: 1, held: 0, bytes: 45056, limit: 33554432, recovering: false },
	safe_spool: { path: '/mnt/usb/smtprelay', files_written: 0, bytes_written: 0, bytes_programmed: null },
	power_cut: {
		messages: 1, bytes: 45056,
		meaning: 'a power cut loses undelivered mail of the last minute; mail that waits longer, and all mail at a reboot, is moved to /mnt/usb/smtprelay'
	},
	today: { accepted: 6, delivered: 6, failed: 0, refused: 3 },
	counters: {
		accepted: 137, delivered: 137, failed: 1, refused: 3, since: NOW - 14 * 86400,
		days: DELIVERED.map((delivered, ago) => ({ day: TODAY - ago * 86400, accepted: delivered, delivered, failed: (ago == 5) ? 1 : 0, refused: (ago == 0) ? 3 : 0 }))
	}
});

const CONFIG = [
	{ '.type': 'relay', '.name': 'main', enabled: '1', admin: 'operations@example.com', safe_spool: '/mnt/usb/smtprelay' },
	{ '.type': 'listener', '.name': 'lan', interface: [ 'lan' ], port: '25' },
	{ '.type': 'account', '.name': 'office', provider: 'gworkspace', username: ALERTS },
	{ '.type': 'account', '.name': 'fallback', provider: 'mailboxorg', username: 'alerts@example.org' },
	{ '.type': 'device', '.name': 'pump_house', name: 'Pump house', ip: [ '192.168.1.20' ], rate: '20/h' }
];

/** What is answered in place of the router: results by 'object method'. */
const ANSWERS = {
	...sample.answers(),
	'smtprelay status': () => STATUS,
	'smtprelay devices': () => ({ total: DEVICES.length, devices: DEVICES }),
	'uci get': ({ config }) => (config == 'smtprelay')
		? { values: Object.fromEntries(CONFIG.map((section, i) => [ section['.name'], { '.anonymous': false, '.index': i, ...section } ])) }
		: undefined
};

/* What a router does besides. */

const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.png': 'image/png' };
/** Folders of a checkout that a router has below /luci-static. */
const STATIC = (source) => [ path.dirname(RESOURCES), ...[ 'modules/luci-base', 'themes/luci-theme-bootstrap' ].map((part) => path.join(source, part, 'htdocs/luci-static')) ];

/** The menu of LuCI, with this app in it. */
function menu() {
	const ours = JSON.parse(fs.readFileSync(path.join(APP, 'root/usr/share/luci/menu.d/luci-app-smtprelay.json'), 'utf8'));
	const part = (title, order, children) => ({ title, order, satisfied: true, children });
	const tabs = Object.entries(ours).filter(([ name ]) => name != MENU).map(([ name, node ]) => [ path.basename(name), { ...node, satisfied: true } ]);
	const other = (title) => ({ other: part(title, 1, {}) });

	return part('', 0, {
		admin: part('Administration', 10, {
			status: part('Status', 20, other('Overview')), system: part('System', 30, other('System')),
			services: part('Services', 40, { smtprelay: { ...ours[MENU], satisfied: true, children: Object.fromEntries(tabs) } }),
			network: part('Network', 50, other('Interfaces'))
		})
	});
}

/** A page of LuCI, as its templates (header.ut, view.ut, footer.ut) make it. */
function page(tab) {
	const way = [ ...MENU.split('/'), tab ];
	const settings = {
		media: '/luci-static/bootstrap', resource: '/luci-static/resources', scriptname: '/cgi-bin/luci', pathinfo: `/${way.join('/')}`, documentroot: '/www',
		requestpath: way, dispatchpath: way, pollinterval: 5, ubuspath: '/ubus/', sessionid: '0'.repeat(32), token: '', nodespec: { satisfied: true }
	};

	return `<!DOCTYPE html><html lang="en" data-darkmode="false"><head><meta charset="utf-8"><title>LuCI</title>
		<link rel="stylesheet" href="/luci-static/bootstrap/cascade.css"><link rel="icon" href="data:,">
		<script src="/luci-static/resources/cbi.js"></script></head>
		<body class="lang_en" data-page="${way.join('-')}">
		<header><a class="brand" href="/">OpenWrt</a><ul class="nav" id="topmenu" style="display:none"></ul><div id="indicators" class="pull-right"></div></header>
		<div id="maincontent" class="container"><div id="tabmenu" style="display:none"></div>
		<script src="/luci-static/resources/promis.min.js"></script><script src="/luci-static/resources/luci.js"></script>
		<script>L = new LuCI(${JSON.stringify(settings)});</script>
		<div id="view"><script>L.require('ui').then((ui) => ui.instantiateView('smtprelay/${tab}'));</script></div></div>
		<footer><ul id="modemenu" style="display:none"></ul></footer><script>L.require('menu-bootstrap')</script></body></html>`;
}

/** Answers everything that is not a call on ubus, from the files of a checkout. */
function fromSource(source, request) {
	const name = new URL(request.url()).pathname;

	if (name.startsWith('/luci-static/')) {
		const file = STATIC(source).map((folder) => path.join(folder, path.normalize(name).slice('/luci-static/'.length))).find((one) => fs.existsSync(one));

		return file
			? request.respond({ contentType: TYPES[path.extname(file)] ?? 'application/octet-stream', body: fs.readFileSync(file) })
			: request.respond({ status: 404 });
	}

	if (name == '/cgi-bin/luci/admin/menu')
		return request.respond({ contentType: 'application/json', body: JSON.stringify(menu()) });

	return request.respond({ contentType: 'text/html', body: page(path.basename(name)) });
}

/** The result of a call on ubus from the sample data; undefined for what the router has to answer. */
async function result({ params: [ , object, method, args ] }) {
	const answer = await ANSWERS[`${object} ${method}`]?.(args);

	if (answer !== undefined)
		return [ 0, answer ];

	// Whatever else concerns smtprelay must not reach a router, and neither must what writes.
	return (object == 'smtprelay' || method == 'set' || method == 'commit') ? [ 3 ] : undefined;
}

/** Sends the calls of a request that the sample data does not answer to the router. */
async function forwarded(visitor, request, calls) {
	if (!calls.length)
		return [];

	// Without a router this user may change everything, and nothing else is there: UBUS_STATUS_NOT_FOUND.
	if (!visitor)
		return calls.map(({ id, params }) => ({ jsonrpc: '2.0', id, result: (params?.[1] == 'session') ? [ 0, { access: true } ] : [ 4 ] }));

	const cookies = await visitor.page.cookies();
	const reply = await fetch(request.url(), {
		method: 'POST', body: JSON.stringify(calls),
		headers: { 'Content-Type': 'application/json', Cookie: cookies.map(({ name, value }) => `${name}=${value}`).join('; ') }
	});

	return reply.json();
}

/** Answers the calls on ubus of a request, one or a batch of them. */
async function callUbus(visitor, request, body) {
	const calls = [].concat(body);
	const answers = await Promise.all(calls.map(async (call) => {
		const known = (call.method == 'call') ? await result(call) : undefined;

		return known ? { jsonrpc: '2.0', id: call.id, result: known } : null;
	}));
	const others = await forwarded(visitor, request, calls.filter((_, i) => !answers[i]));
	const all = answers.map((answer, i) => answer ?? others.find(({ id }) => id == calls[i].id));

	await request.respond({ contentType: 'application/json', body: JSON.stringify(Array.isArray(body) ? all : all[0]) });
}

/** The calls in a request; null if it is none on ubus. */
function calls(request) {
	try {
		const body = (request.method() == 'POST') ? JSON.parse(request.postData()) : null;

		return [].concat(body ?? []).some((call) => call.jsonrpc) ? body : null;
	}
	catch {
		return null;
	}
}

/** Opens a page, and the wizard for channels if that is wanted, and takes a picture from the top down to the end of its content. */
async function picture(tab) {
	// Pages in the background are not drawn.
	await tab.page.bringToFront();
	await tab.page.goto(`${tab.url}/cgi-bin/luci/${MENU}/${tab.name}`);
	await tab.page.waitForFunction(() => document.querySelector('#view h2') && document.querySelector('#topmenu li, #mainmenu li'));
	await tab.page.waitForFunction(() => document.getAnimations().every((one) => one.playState != 'running'));

	if (tab.wizard) {
		await tab.page.click('#smtprelay-add-channel');
		await tab.page.type('#smtprelay-channel-to', 'plant-alarms-5Gq2');
		await tab.page.type('#smtprelay-token', 'tk_sample');
		await tab.page.evaluate(() => window.scrollTo(0, 0));
	}

	// The name of the router, and signs of what it is doing.
	const height = await tab.page.evaluate((end) => {
		for (const brand of document.querySelectorAll('.brand'))
			brand.textContent = 'OpenWrt';

		document.querySelector('#indicators')?.replaceChildren();
		document.activeElement?.blur();

		return Math.ceil(document.querySelector(end).getBoundingClientRect().bottom + window.scrollY);
	}, tab.wizard ? '#smtprelay-channel-wizard' : '#view');
	const file = path.join(FOLDER, `${tab.wizard ? 'channel' : tab.name}.png`);
	const image = await withPalette(tab.blank, await tab.page.screenshot({ captureBeyondViewport: true, clip: { x: 0, y: 0, width: WIDTH, height: tab.wizard ? height : height + 12 } }));

	fs.writeFileSync(file, image);

	console.log(`${path.relative(process.cwd(), file)}: ${WIDTH} pixels wide, ${image.length} bytes`);

	if (image.length > MOST)
		throw new Error(`${file} has more than ${MOST} bytes`);
}

if (!env.LUCI_SOURCE && !env.LUCI_URL) {
	console.error('set LUCI_SOURCE to a checkout of LuCI (github.com/openwrt/luci), or LUCI_URL to the address of a router');
	process.exit(2);
}

const browser = await puppeteer.launch({ executablePath: browserProgram(), args: [ '--no-sandbox', '--disable-dev-shm-usage', '--disable-lcd-text', '--force-color-profile=srgb' ] });

try {
	const failures = [];
	const site = { browser, url: env.LUCI_SOURCE ? NOWHERE : env.LUCI_URL.replace(/\/+$/, ''), fail: (what) => failures.push(what) };
	const visitor = env.LUCI_SOURCE ? null : await Visitor.login(site, env.LUCI_USER || 'root', env.LUCI_PASSWORD ?? '', 'en');
	const opened = visitor?.page ?? await browser.newPage();

	// The page behind the login shows the router's own data; its errors do not concern the pictures.
	await opened.goto('about:blank');
	failures.length = 0;
	opened.on('pageerror', (error) => failures.push(`${error}`));
	await opened.setViewport({ width: WIDTH, height: 700 });
	await opened.emulateTimezone('UTC');
	await (await opened.createCDPSession()).send('Emulation.setLocaleOverride', { locale: 'en-GB' });
	await opened.emulateMediaFeatures([ { name: 'prefers-color-scheme', value: 'light' } ]);
	await opened.evaluateOnNewDocument((now) => {
		const Real = Date;

		window.Date = class extends Real {
			constructor(...args) { super(...(args.length ? args : [ now ])); }
			static now() { return now; }
		};
	}, NOW * 1000);
	await opened.setRequestInterception(true);
	opened.on('request', (request) => {
		const body = calls(request);
		const done = body ? callUbus(visitor, request, body) : visitor ? request.continue() : fromSource(env.LUCI_SOURCE, request);

		Promise.resolve(done).catch((error) => failures.push(`${request.url()}: ${error}`));
	});

	const blank = await browser.newPage();

	fs.mkdirSync(FOLDER, { recursive: true });

	for (const [ name, wizard ] of [ [ 'overview', false ], [ 'settings', false ], [ 'overview', true ] ])
		await picture({ page: opened, blank, url: site.url, name, wizard });

	if (failures.length)
		throw new Error(failures.join('\n'));
}
finally {
	await browser.close();
}
