// SPDX-License-Identifier: Apache-2.0
// What an owner does with a gateway that works, each thing to its end: the gateway is asked whether it did what the page says.
import os from 'node:os';
import { execFileSync } from 'node:child_process';
import { CLIENT, Internet, NAMES } from './internet.mjs';
import { apply, change, testMail } from './pages.mjs';
import { until } from './router.mjs';

const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';
const STRANGER = '10.77.0.5';

export class Walk {
	/** `own` is this machine's address in the router's LAN. */
	static async begin(router, own) {
		const walk = new Walk();
		const [ card ] = Object.entries(os.networkInterfaces()).find(([ , all ]) => all.some((one) => one.address == own)) || [];

		if (!card)
			throw new Error(`LUCI_WALK: this machine has no address ${own}`);

		const base = own.replace(/\d+$/, '');

		Object.assign(walk, { router, own, card, devices: [ `${base}221`, `${base}222`, `${base}223` ], internet: await Internet.open(own) });
		walk.internet.password = 'abcd efgh ijkl mnop'.replaceAll(' ', '');
		walk.internet.secrets.add(walk.internet.password).add(CLIENT.secret);

		for (const address of walk.devices.concat(STRANGER))
			execFileSync('ip', [ 'addr', 'replace', `${address}/32`, 'dev', card ]);

		// The gateway reads these when it starts.
		await router.sh(`
			[ -e /tmp/walk-kept ] || { mkdir /tmp/walk-kept; cp -p /etc/config/smtprelay /etc/hosts /tmp/walk-kept; [ ! -e ${AUTHORITIES} ] || cp ${AUTHORITIES} /tmp/walk-kept/authorities; }
			mkdir -p "$(dirname ${AUTHORITIES})"; cat >>${AUTHORITIES}
			for name in ${NAMES.join(' ')}; do echo "${own} $name" >>/etc/hosts; done
			ip route replace ${STRANGER}/32 dev "$(ip route get ${own} | sed -n 's/.* dev \\([^ ]*\\) .*/\\1/p')"
			/etc/init.d/smtprelay restart`, walk.internet.certificate);

		return walk;
	}

	/** The router and this machine as they were. */
	async end() {
		this.internet.close();

		for (const address of this.devices.concat(STRANGER))
			execFileSync('ip', [ 'addr', 'del', `${address}/32`, 'dev', this.card ]);

		await this.router.sh(`
			/etc/init.d/smtprelay stop; ip route del ${STRANGER}/32
			cp -p /tmp/walk-kept/smtprelay /etc/config/smtprelay; cp /tmp/walk-kept/hosts /etc/hosts; rm -f ${AUTHORITIES}
			[ ! -e /tmp/walk-kept/authorities ] || mv /tmp/walk-kept/authorities ${AUTHORITIES}
			rm -r /tmp/walk-kept; /etc/init.d/smtprelay start`);
	}

	/** Sends a mail from a device that must be taken. */
	async send(device, subject, to = 'ops@example.com', from = 'plc@plant.local') {
		const replies = await this.router.device(device, { from, to, subject, helo: `device-${device.split('.').at(-1)}` });

		if (!replies.some((line) => /^221/.test(line)))
			throw new Error(`${device}: ${replies.at(-1)}`);
	}

	async arrived(subject) {
		return until(`${subject} arrives`, () => this.internet.got(`Subject: ${subject}`)[0]);
	}

	/** Some days' work: mail that was delivered, waits, failed; devices that were refused. */
	async work() {
		const { devices: [ plc, camera, printer ], internet, router } = this;

		for (const who of [ 'later', 'held', 'unwanted', 'slow' ])
			internet.later.add(`${who}@example.com`);
		internet.unknown.add('nobody@example.com');

		await this.send(plc, 'Pump 1 started');
		await this.send(plc, 'Pump 1: pressure low');
		await this.send(camera, 'Motion at the gate', 'staff@example.com', 'camera@plant.local');
		await this.send(printer, 'Scan 0001', 'scans@example.com', 'printer@plant.local');
		await this.send(camera, 'Nobody wants this', 'nobody@example.com', 'camera@plant.local');

		for (const who of internet.later)
			await this.send(plc, `For ${who}`, who);

		for (let i = 0; i < 3; i++)
			if (!/^5/.test((await router.device(STRANGER, { from: 'boiler@plant.local', to: 'ops@example.com', subject: 'Boiler', helo: 'boiler' })).at(-1)))
				throw new Error('a device of another network was not refused');

		await router.device(printer, { from: 'printer@plant.local', to: 'not an address', subject: 'x', helo: 'printer' });
		await this.arrived('Scan 0001');
		await until('four messages were put off', async () => (await router.call('queue', { limit: 200 })).messages.filter((message) => message.attempts > 0).length >= 4);

		const denied = (await router.call('devices')).devices.filter((device) => !device.allowed).map((device) => device.client);

		if (denied.join() != STRANGER)
			throw new Error(`the gateway says that these may not send: ${denied}`);

		await until('a message failed', async () => (await router.call('status')).today.failed > 0);
	}

	/** A refused device is let in with two clicks. */
	async allow(visitor) {
		const { page } = visitor;
		const device = async () => (await this.router.call('devices')).devices.find((one) => one.client == STRANGER);

		await visitor.open('overview');
		visitor.where = 'allowing a device';

		if ((await device()).allowed)
			visitor.fail('the gateway says already that the device may send');

		await visitor.press(`[data-allow="${STRANGER}"]`);
		await visitor.page.waitForSelector('#smtprelay-allow');
		await visitor.look('allow-window');
		await visitor.press('#smtprelay-allow');
		await visitor.closed();
		await until('the gateway lets the device in', async () => (await device()).allowed);
		await page.waitForFunction((who) => !document.querySelector(`[data-allow="${who}"]`), {}, STRANGER);
		await this.send(STRANGER, 'Boiler is warm', 'ops@example.com', 'boiler@plant.local');
		await this.arrived('Boiler is warm');
		await this.send(this.devices[0], 'Those of before may still send');
		await this.arrived('Those of before may still send');
		await page.waitForFunction((who) => Array.from(document.querySelectorAll('#smtprelay-devices tr')).some((row) => row.textContent.includes(who) && /[1-9] delivered/.test(row.textContent)), {}, STRANGER);
		await visitor.look('allowed');
		console.log(`allow: ${await this.router.sh('uci get smtprelay.lan.allow')}`.trim());
	}

	/** Each button of the queue. */
	async queue(visitor) {
		const { internet, router } = this;
		const { page } = visitor;
		const button = (what, message) => `[data-change=${what}][data-message="${message.id}"]`;
		const gone = (message) => page.waitForFunction((id) => !document.querySelector(`[data-message="${id}"]`), {}, message.id);

		await visitor.open('queue');
		visitor.where = 'queue';

		const [ later, held, unwanted ] = await Promise.all([ 'later', 'held', 'unwanted' ].map((who) => router.waiting(`${who}@example.com`)));

		await visitor.press(button('show', later));
		await visitor.sees('#modal_overlay .modal', 'Subject: For later@example.com');
		await visitor.sees('#modal_overlay .modal', '450 4.2.1 The user you are trying to contact');
		await visitor.press('#modal_overlay .right button');
		await visitor.closed();

		await visitor.press(button('hold', held));
		await page.waitForSelector(button('release', held));

		if (!(await router.waiting('held@example.com')).held)
			visitor.fail('the gateway does not hold the message');

		await visitor.look('queue-held');

		// What is held stays when the provider takes it, what is tried again leaves.
		for (const who of [ 'later', 'held', 'unwanted' ])
			internet.later.delete(`${who}@example.com`);

		await visitor.press(button('retry', later));
		await gone(later);
		await this.arrived('For later@example.com');

		if (internet.got('For held@example.com').length)
			visitor.fail('the message that is held has left');

		await visitor.press(button('delete', unwanted));
		await page.waitForSelector('#smtprelay-delete');
		await visitor.look('queue-delete');
		await visitor.press('#modal_overlay .right button');
		await visitor.closed();

		if (!await router.waiting('unwanted@example.com'))
			visitor.fail('the message was deleted though it was not meant');

		await visitor.press(button('delete', unwanted));
		await visitor.press('#smtprelay-delete');
		await gone(unwanted);

		if (await router.waiting('unwanted@example.com'))
			visitor.fail('the gateway still has the message');

		await visitor.press(button('release', held));
		await gone(held);
		await this.arrived('For held@example.com');

		// The gateway tries what was put off of its own accord when the provider takes other mail: refused until now.
		internet.later.clear();
		await visitor.press('[data-change=retry][data-message=all]');
		await visitor.sees('#smtprelay-queue', 'The queue is empty.');
		await this.arrived('For slow@example.com');
		await visitor.look('queue-empty');

		if (internet.got('For unwanted@example.com').length)
			visitor.fail('the deleted message has left');
	}

	/** Settings come into force, or do not and the page says why. */
	async settings(visitor) {
		const { internet, router } = this;
		const { page } = visitor;
		let before = await router.call('status');
		let said = await change(visitor, { hostname: 'walked.example', retry_for: '5d' });

		await visitor.look('settings-saved');

		if (!/saved and applied/.test(said))
			visitor.fail(said);

		await router.changed(before);

		const [ greeting ] = await router.device(this.devices[0], { from: '', to: '', subject: '' });

		if (!greeting.includes('walked.example'))
			visitor.fail(`the gateway greets with its former name: ${greeting}`);

		// The page itself knows that this is no duration.
		await visitor.open('settings');
		visitor.where = 'a value that the page refuses';
		await visitor.fill('input[id$=".main.retry_for"], input[name$=".main.retry_for"]', 'for ever');
		await visitor.press('.cbi-page-actions .cbi-button-apply');
		await visitor.sees('.alert-message', 'Expecting a duration with the suffix s, m, h, d or w');
		await visitor.look('settings-refused-by-page');

		if ((await router.sh('uci get smtprelay.main.retry_for')).trim() != '5d')
			visitor.fail('the value was saved');

		// Only the gateway knows that these two do not go together.
		said = await change(visitor, { retry_min: '2h', retry_max: '1h' });
		await visitor.look('settings-refused');

		if (!/rejected/.test(said) || !/retry_max must not be shorter than retry_min/.test(said))
			visitor.fail(`the page does not say why the gateway refuses the settings: ${said}`);

		await visitor.open('overview');
		await visitor.sees('#smtprelay-health', 'retry_max must not be shorter than retry_min');
		await visitor.look('overview-refused');
		await this.send(this.devices[0], 'The former settings go on');
		await this.arrived('The former settings go on');

		said = await change(visitor, { retry_min: '', retry_max: '' });

		if (!/saved and applied/.test(said))
			visitor.fail(said);

		await visitor.open('overview');

		if (/rejected/.test(await visitor.text('#smtprelay-health')))
			visitor.fail('the overview still complains');

		// Another password, which the provider wants from now on.
		internet.password = 'qrstuvwxyzabcdef';
		internet.secrets.add(internet.password);
		await visitor.open('settings');
		visitor.where = 'another password';
		await page.evaluate(() => Array.from(document.querySelectorAll('#view .cbi-tabmenu')[0].querySelectorAll('li')).find((tab) => tab.dataset.tab == 'account').querySelector('a').click());
		await visitor.press('[data-sid=gmail] .cbi-button-edit');
		await visitor.fill('.modal input[id$=".gmail.password"]', internet.password);
		await visitor.look('settings-password');
		await visitor.press('.modal .cbi-button-positive');
		await visitor.closed();
		said = await apply(visitor);

		if (!/saved and applied/.test(said))
			visitor.fail(said);
	}

	/** The test mail when all is well, and when the provider refuses the login. */
	async testPage(visitor) {
		const { internet } = this;
		const right = internet.password;
		const all = Object.entries(await testMail(visitor, 'desktop'));

		if (all.length != 7 || all.some(([ , state ]) => state != 'ok'))
			visitor.fail(`not all steps are well: ${JSON.stringify(all)}`);

		if (!/AUTH PLAIN/.test(await visitor.text('#smtprelay-transcript')))
			visitor.fail('there is no transcript');

		internet.password = 'another one';

		const { tls, login, accepted } = await testMail(visitor, 'phone', 'test-failed');

		if (tls != 'ok' || login != 'failed' || accepted == 'ok')
			visitor.fail(`the login was refused, and the steps say: tls ${tls}, login ${login}, accepted ${accepted}`);

		// Mail of a device waits for the right password.
		await this.send(this.devices[0], 'Waits for the password');
		await visitor.open('overview');
		visitor.where = 'paused';
		await visitor.page.waitForFunction(() => document.querySelector('#smtprelay-health [data-level=bad]'));
		await visitor.sees('#smtprelay-accounts', 'Username and Password not accepted');
		await visitor.look('overview-paused');
		await visitor.open('overview', 'phone');
		await visitor.look('overview-paused-phone');
		internet.password = right;
		await visitor.open('queue');

		// The gateway tries what was put off of its own accord when the provider takes other mail: refused until now.
		internet.later.clear();
		await visitor.press('[data-change=retry][data-message=all]');
		await this.arrived('Waits for the password');
		await testMail(visitor, 'phone');
	}

	/** Signs in at Microsoft with a code, at Google by an address that is copied back. */
	async signIn(visitor, browser) {
		const { internet, router } = this;
		const { page } = visitor;
		const context = await browser.createBrowserContext();
		const begin = async (provider, address) => {
			await visitor.open('overview');
			visitor.where = `sign-in ${provider}`;
			await visitor.press('#smtprelay-add');
			await page.waitForSelector('#smtprelay-wizard');
			await page.select('#smtprelay-provider', provider);
			await visitor.fill('#smtprelay-address', address);
		};
		const elsewhere = async (url) => {
			const tab = await context.newPage();

			await tab.goto(url);

			return tab;
		};
		const finished = async (account) => {
			await page.waitForFunction(() => document.querySelector('#smtprelay-finished, #smtprelay-progress [data-level=bad]'));
			await visitor.look(`sign-in-${account}-done`);

			if (!await page.$('#smtprelay-finished'))
				visitor.fail(await visitor.text('#smtprelay-progress'));

			if ((await router.call('status')).accounts.find((one) => one.name == account)?.secret != 'set')
				visitor.fail('the gateway has no login');
		};

		await begin('outlook', 'me@outlook.com');
		await visitor.fill('#smtprelay-client-id', CLIENT.id);
		await visitor.press('#smtprelay-save');
		await page.waitForSelector('#smtprelay-code');
		await visitor.look('sign-in-code');

		const codes = await elsewhere(await page.$eval('#smtprelay-progress a', (link) => link.href));

		await codes.type('input', await visitor.text('#smtprelay-code'));
		await Promise.all([ codes.waitForSelector('#done'), codes.click('button') ]);
		await finished('outlook');

		await begin('gworkspace', 'boss@example.com');
		await visitor.press('#smtprelay-sign-in');
		await visitor.fill('#smtprelay-client-id', CLIENT.id);
		await visitor.fill('#smtprelay-client-secret', CLIENT.secret);
		await visitor.press('#smtprelay-save');
		await page.waitForSelector('#smtprelay-copied');
		await visitor.fill('#smtprelay-copied', 'http://127.0.0.1:47110/?error=nonsense');
		await visitor.sees('#smtprelay-progress', 'is not the address that the browser shows at the end');
		await visitor.look('sign-in-copy');

		const google = await elsewhere(await page.$eval('#smtprelay-progress a', (link) => link.href));
		const back = new Promise((resolve) => { google.on('request', (request) => request.url().startsWith('http://127.0.0.1:47110/') && resolve(request.url())); });

		await google.click('#allow').catch(() => {});
		await visitor.fill('#smtprelay-copied', await back);
		await finished('gworkspace');
		await context.close();

		// From the overview, in a window of its own.
		await visitor.open('overview');
		visitor.where = 'signing in again';
		await visitor.press('[data-sign-in=outlook]');
		await page.waitForSelector('#modal_overlay #smtprelay-code');
		await visitor.look('sign-in-again');
		await visitor.press('#modal_overlay .right button');
		await visitor.closed();
		console.log(`sign-in: ${internet.secrets.size} secrets by now`);
	}

	/** Nothing of what must stay secret in what the gateway tells and writes. */
	async hunt() {
		const { router } = this;
		const said = await router.sh(`
			for method in status queue history devices log_read providers; do ubus call smtprelay $method; done
			logread; ps w; cat /proc/*/cmdline 2>/dev/null; ls -l /etc/smtprelay`);
		const found = Array.from(this.internet.secrets).filter((secret) => said.includes(secret));
		const open = (await router.sh('find /etc/smtprelay /etc/config/smtprelay -type f ! -perm 600')).trim();

		return found.map((secret) => `the router tells '${secret}'`).concat(open ? [ `others may read ${open}` ] : []);
	}
}

/** Calls of somebody who may only look, past the pages. */
export async function callDirectly(url, user, password) {
	const ask = async (session, object, method, argument) => {
		const answer = await fetch(`${url}/ubus`, {
			method: 'POST', headers: { 'Content-Type': 'application/json' },
			body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'call', params: [ session, object, method, argument ] })
		});

		return answer.json();
	};
	const login = await ask('0'.repeat(32), 'session', 'login', { username: user, password });
	const session = login.result[1].ubus_rpc_session;
	const problems = [];
	const bodies = [];
	const refused = [
		[ 'smtprelay', 'set_password', { account: 'gmail', password: 'stolen' } ], [ 'smtprelay', 'delete', { id: 'all' } ], [ 'smtprelay', 'retry', { id: 'all' } ],
		[ 'smtprelay', 'hold', { id: 'all' } ], [ 'smtprelay', 'release', { id: 'all' } ], [ 'smtprelay', 'reload', {} ], [ 'smtprelay', 'wake', {} ],
		[ 'smtprelay', 'test', { to: 'me@example.com' } ], [ 'smtprelay', 'job', { id: '1' } ], [ 'smtprelay', 'login_start', { account: 'gmail' } ],
		[ 'smtprelay', 'login_poll', { job: '1' } ], [ 'uci', 'get', { config: 'smtprelay' } ], [ 'uci', 'get', { config: 'smtprelay', section: 'gmail', option: 'password' } ],
		[ 'uci', 'set', { config: 'smtprelay', section: 'main', values: { enabled: '0' } } ], [ 'uci', 'commit', { config: 'smtprelay' } ],
		[ 'file', 'read', { path: '/etc/config/smtprelay' } ], [ 'file', 'exec', { command: '/usr/sbin/smtprelay', params: [ 'show' ] } ]
	];

	for (const [ object, method, argument ] of refused) {
		const answer = await ask(session, object, method, argument);

		bodies.push(JSON.stringify(answer));

		// -32002 is what uhttpd says for rpcd, 6 what ubus says (UBUS_STATUS_PERMISSION_DENIED).
		if (answer.error?.code != -32002 && answer.result?.[0] != 6)
			problems.push(`${user} may call ${object} ${method}: ${JSON.stringify(answer).slice(0, 200)}`);
	}

	for (const method of [ 'status', 'queue', 'devices', 'log_read', 'providers' ]) {
		const answer = await ask(session, 'smtprelay', method, {});

		bodies.push(JSON.stringify(answer));

		if (answer.result?.[0] != 0)
			problems.push(`${user} may not call smtprelay ${method}: ${JSON.stringify(answer).slice(0, 200)}`);
	}

	console.log(`direct calls of ${user}: ${bodies.length}, ${problems.length} of them answered otherwise than they should`);

	return { problems, bodies };
}
