// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require rpc';
'require uci';
'require fs';

/*
 * The ubus object `smtprelay`. It returns an error as data, { error, kind }, so that shell users see the text; this
 * module turns it back into a rejected promise.
 */

/** Polling interval for running operations, in milliseconds. */
const INTERVAL = 1000;
/** Results and lines of the log that the page keeps: the daemon does not keep more either. */
const LOG_ENTRIES = 200;
const LOG_LINES = 200;
/** The init script. */
const INIT = '/etc/init.d/smtprelay';
/** Maximum number of devices shown. */
const DEVICES = 200;

const callStatus = rpc.declare({ object: 'smtprelay', method: 'status', expect: { '': {} }, reject: true });
const callQueue = rpc.declare({ object: 'smtprelay', method: 'queue', params: [ 'offset', 'limit' ], expect: { '': {} }, reject: true });
const callMessage = rpc.declare({ object: 'smtprelay', method: 'message', params: [ 'id' ], expect: { '': {} }, reject: true });
const callRetry = rpc.declare({ object: 'smtprelay', method: 'retry', params: [ 'id' ], expect: { '': {} }, reject: true });
const callHold = rpc.declare({ object: 'smtprelay', method: 'hold', params: [ 'id' ], expect: { '': {} }, reject: true });
const callRelease = rpc.declare({ object: 'smtprelay', method: 'release', params: [ 'id' ], expect: { '': {} }, reject: true });
const callDelete = rpc.declare({ object: 'smtprelay', method: 'delete', params: [ 'id' ], expect: { '': {} }, reject: true });
const callLog = rpc.declare({ object: 'smtprelay', method: 'log_read', params: [ 'after' ], expect: { '': {} }, reject: true });
const callDevices = rpc.declare({ object: 'smtprelay', method: 'devices', params: [ 'offset', 'limit' ], expect: { '': {} }, reject: true });
const callTest = rpc.declare({ object: 'smtprelay', method: 'test', params: [ 'to', 'account' ], expect: { '': {} }, reject: true });
const callJob = rpc.declare({ object: 'smtprelay', method: 'job', params: [ 'id' ], expect: { '': {} }, reject: true });
const callSetPassword = rpc.declare({ object: 'smtprelay', method: 'set_password', params: [ 'account', 'password' ], expect: { '': {} }, reject: true });
const callReload = rpc.declare({ object: 'smtprelay', method: 'reload', expect: { '': {} }, reject: true });
const callProviders = rpc.declare({ object: 'smtprelay', method: 'providers', expect: { '': {} }, reject: true });
const callLoginStart = rpc.declare({ object: 'smtprelay', method: 'login_start', params: [ 'account' ], expect: { '': {} }, reject: true });
const callLoginPoll = rpc.declare({ object: 'smtprelay', method: 'login_poll', params: [ 'job', 'address' ], expect: { '': {} }, reject: true });
const callWriteFile = rpc.declare({ object: 'file', method: 'write', params: [ 'path', 'data', 'mode' ], reject: true });
const callCommit = rpc.declare({ object: 'uci', method: 'commit', params: [ 'config' ], reject: true });
const callInterfaces = rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });

/**
 * Throws an error with the `kind` wrong, not_found, busy or failed if the response is an error.
 *
 * @template T
 * @param {T} answer the ubus response
 * @returns {T} the same, if it is not an error
 */
function checked(answer) {
	const refusal = /** @type {{error?: unknown, kind?: unknown}} */ (answer);

	if (typeof(refusal.error) == 'string' && typeof(refusal.kind) == 'string') {
		const error = /** @type {Error & {kind: string}} */ (new Error(refusal.error));

		error.name = 'Refusal';
		error.kind = refusal.kind;
		throw error;
	}

	return answer;
}

/**
 * Waits for a while.
 *
 * @param {number} milliseconds how long
 * @returns {Promise<void>} resolves afterwards
 */
function pause(milliseconds) {
	return new Promise((resolve) => {
		window.setTimeout(resolve, milliseconds);
	});
}

/**
 * Collects a list. A ubus response is truncated before it becomes too large, so it may contain less than requested.
 *
 * @param {(offset: number, limit: number) => Promise<any>} call requests part of the list
 * @param {string} name name of the list in the response
 * @param {number} offset number of entries to skip
 * @param {number} limit maximum number of entries
 * @returns {Promise<any>} the response with all entries
 */
async function collect(call, name, offset, limit) {
	const answer = checked(await call(offset, limit));
	/** @type {unknown[]} */
	const entries = answer[name] || [];
	let came = entries.length;

	while (came > 0 && entries.length < limit && offset + entries.length < (answer.total || 0)) {
		/** @type {unknown[]} */
		const more = checked(await call(offset + entries.length, limit - entries.length))[name] || [];

		came = more.length;
		entries.push(...more);
	}

	return Object.assign(answer, { [name]: entries });
}

return baseclass.extend({
	/**
	 * The status; null if the service is not running.
	 *
	 * @returns {Promise<Smtprelay.Status | null>} the status
	 */
	status() {
		return callStatus().then(checked).catch((error) => {
			if (error.name == 'Refusal')
				throw error;

			this.lastError = String(error.message || error);

			return null;
		});
	},

	/** What LuCI said when the status could not be had. */
	lastError: '',

	/**
	 * Why there is no status. uhttpd lists the objects of the bus to everyone, with or without a session.
	 *
	 * @param {boolean} writable whether this user may ask the init script
	 * @returns {Promise<Smtprelay.Absence>} the reason
	 */
	async absence(writable) {
		/** @type {string[]} */
		let objects;

		try {
			objects = await rpc.list();
		}
		catch {
			return 'router';
		}

		if (!objects.includes('session'))
			return 'rpcd';

		// -32002: uhttpd refuses a call without a valid session.
		if (objects.includes('smtprelay'))
			return this.lastError.includes('-32002') ? 'session' : 'silent';

		if (!writable)
			return 'stopped';

		try {
			return ((await fs.exec(INIT, [ 'enabled' ])).code == 0) ? 'stopped' : 'disabled';
		}
		catch {
			return 'stopped';
		}
	},

	/**
	 * Starts the service, also at each boot from now on.
	 *
	 * @param {boolean} disabled whether it is not started at boot
	 * @returns {Promise<unknown>} resolves when it has been started; rejects with the reason
	 */
	async start(disabled) {
		for (const action of disabled ? [ 'enable', 'start' ] : [ 'start' ]) {
			const result = await fs.exec(INIT, [ action ]);

			if (result.code != 0)
				throw new Error(result.stderr || _('The service did not start. The system log shows the reason.'));
		}

		return pause(INTERVAL);
	},

	/**
	 * Stores the certificates that an account trusts.
	 *
	 * @param {string} account name of the account
	 * @param {string} pem the certificates
	 * @returns {Promise<string>} path of the file
	 */
	async storeAuthority(account, pem) {
		const path = `/etc/ssl/smtprelay-${account}.pem`;

		await callWriteFile(path, `${pem.trim()}\n`, 0o644);

		return path;
	},

	/**
	 * A page of queued messages, oldest first.
	 *
	 * @param {number} offset number of messages to skip
	 * @param {number} limit maximum number of messages
	 * @returns {Promise<Smtprelay.QueuePage>} the page
	 */
	queue(offset, limit) {
		return collect(callQueue, 'messages', offset, limit);
	},

	/**
	 * One message with its header and history.
	 *
	 * @param {string} id its ID
	 * @returns {Promise<Smtprelay.WholeMessage>} the message
	 */
	message(id) {
		return callMessage(id).then(checked);
	},

	/**
	 * Changes the state of one message, or of all messages.
	 *
	 * @param {'retry' | 'hold' | 'release' | 'delete'} what the change
	 * @param {string} id ID of the message, or 'all'
	 * @returns {Promise<Smtprelay.Changed>} how many were changed
	 */
	change(what, id) {
		const calls = { retry: callRetry, hold: callHold, release: callRelease, delete: callDelete };

		return calls[what](id).then(checked);
	},

	/**
	 * Brings the results and the lines of the log up to date, in place. Only what is new since the last call is fetched.
	 *
	 * @param {Smtprelay.Log} log what is known so far
	 * @returns {Promise<void>} resolves when it is current
	 */
	async readLog(log) {
		for (let more = true; more;) {
			const news = checked(await callLog(log.cursor || undefined));

			if (news.reset) {
				log.entries = [];
				log.lines = [];
			}

			// The last result comes again, since it may have been repeated.
			const again = new Set(news.entries.map((/** @type {Smtprelay.Verdict} */ entry) => entry.number));

			log.entries = log.entries.filter((entry) => !again.has(entry.number)).concat(news.entries).slice(-LOG_ENTRIES);
			log.lines = log.lines.concat(news.lines).slice(-LOG_LINES);
			more = news.more && log.cursor != news.cursor;
			log.cursor = news.cursor;
		}
	},

	/**
	 * Devices that have sent mail, or tried to.
	 *
	 * @returns {Promise<Smtprelay.Device[]>} most recently seen first
	 */
	devices() {
		return collect(callDevices, 'devices', 0, DEVICES).then((answer) => answer.devices);
	},

	/**
	 * Sends a test message.
	 *
	 * @param {string} to its recipient
	 * @param {string} [account] the account; without it, the first available one
	 * @returns {Promise<string>} ID of the job
	 */
	test(to, account) {
		return callTest(to, account || undefined).then(checked).then((answer) => answer.job);
	},

	/**
	 * The progress of a test message.
	 *
	 * @param {string} id ID of the job
	 * @returns {Promise<Smtprelay.Job>} the job
	 */
	job(id) {
		return callJob(id).then(checked);
	},

	/**
	 * Follows a test message until it is done.
	 *
	 * @param {string} id ID of the job
	 * @param {(job: Smtprelay.Job) => void} show called with each state of the job
	 * @param {() => boolean} [gone] returns true when the page is no longer shown
	 * @returns {Promise<Smtprelay.Job | null>} the final state; null if the page was left
	 */
	async follow(id, show, gone) {
		for (;;) {
			const job = await this.job(id);

			if (gone && gone())
				return null;

			show(job);

			if (job.state != 'running')
				return job;

			await pause(INTERVAL);
		}
	},

	/**
	 * Stores a password. It cannot be read back.
	 *
	 * @param {string} account name of the account
	 * @param {string} password the password
	 * @returns {Promise<unknown>} resolves when it is stored
	 */
	setPassword(account, password) {
		return callSetPassword(account, password).then(checked);
	},

	/**
	 * Reloads the configuration file now. If the service does not support this, procd triggers the reload.
	 *
	 * @returns {Promise<{warnings: string[]}>} warnings; rejects with the error
	 */
	reload() {
		return callReload().then(checked).catch((error) => {
			if (error.name == 'Refusal')
				throw error;

			return { warnings: [] };
		});
	},

	/**
	 * Starts a sign-in at a provider.
	 *
	 * @param {string} account name of the account
	 * @returns {Promise<Smtprelay.Login>} where to sign in
	 */
	loginStart(account) {
		return callLoginStart(account).then(checked);
	},

	/**
	 * The state of a sign-in.
	 *
	 * @param {string} job ID of the sign-in
	 * @param {string} [address] the address pasted from the browser
	 * @returns {Promise<Smtprelay.LoginState>} its state
	 */
	loginPoll(job, address) {
		return callLoginPoll(job, address || undefined).then(checked);
	},

	/**
	 * The presets. The program lists them even if the service is not running.
	 *
	 * @returns {Promise<Smtprelay.Provider[]>} the presets; empty if they are not available
	 */
	providers() {
		return callProviders().then(checked).then((answer) => answer.providers || [])
			.catch(() => fs.exec('/usr/sbin/smtprelay', [ 'providers', '--json' ]).then((result) => JSON.parse(result.stdout || '[]')))
			.catch(() => []);
	},

	/**
	 * The services that a channel can use. The program lists them even if the service is not running.
	 *
	 * @returns {Promise<Smtprelay.Service[]>} the services; empty if they are not available
	 */
	services() {
		return callProviders().then(checked).then((answer) => answer.services || [])
			.catch(() => fs.exec('/usr/sbin/smtprelay', [ 'services', '--json' ]).then((result) => JSON.parse(result.stdout || '[]')))
			.catch(() => []);
	},

	/**
	 * Networks of the router with their current addresses.
	 *
	 * @returns {Promise<Smtprelay.Interface[]>} empty if they are not available
	 */
	interfaces() {
		return L.resolveDefault(callInterfaces(), []);
	},

	/**
	 * Commits the changed settings; procd then reloads the service. Changes to other packages are left alone.
	 *
	 * @returns {Promise<unknown>} resolves when the file has been written
	 */
	commit() {
		return uci.save().then(() => callCommit('smtprelay'));
	},

	/**
	 * Waits until the service is running, and uses an account.
	 *
	 * @param {string | null} account name of the account; null if only the service matters
	 * @param {number} seconds timeout
	 * @returns {Promise<Smtprelay.Status | null>} the status; null on timeout
	 */
	async awaitAccount(account, seconds) {
		for (let left = seconds; left > 0; left--) {
			const status = await this.status();

			if (status && (account == null || status.accounts.some((known) => known.name == account)))
				return status;

			await pause(INTERVAL);
		}

		return null;
	},

	pause: pause
});
