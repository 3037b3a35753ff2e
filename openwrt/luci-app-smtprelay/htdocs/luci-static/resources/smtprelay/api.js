'use strict';
'require baseclass';
'require rpc';
'require uci';
'require fs';

/*
 * The ubus object `smtprelay`. It answers a refusal as data, { error, kind }, so that users of a shell see the sentence;
 * here it becomes a rejected promise again.
 */

/** How often something is asked that takes its time, in milliseconds. */
const PATIENCE = 1000;
/** Devices that are shown at most. */
const DEVICES = 200;

const callStatus = rpc.declare({ object: 'smtprelay', method: 'status', expect: { '': {} }, reject: true });
const callQueue = rpc.declare({ object: 'smtprelay', method: 'queue', params: [ 'offset', 'limit' ], expect: { '': {} }, reject: true });
const callMessage = rpc.declare({ object: 'smtprelay', method: 'message', params: [ 'id' ], expect: { '': {} }, reject: true });
const callRetry = rpc.declare({ object: 'smtprelay', method: 'retry', params: [ 'id' ], expect: { '': {} }, reject: true });
const callHold = rpc.declare({ object: 'smtprelay', method: 'hold', params: [ 'id' ], expect: { '': {} }, reject: true });
const callRelease = rpc.declare({ object: 'smtprelay', method: 'release', params: [ 'id' ], expect: { '': {} }, reject: true });
const callDelete = rpc.declare({ object: 'smtprelay', method: 'delete', params: [ 'id' ], expect: { '': {} }, reject: true });
const callHistory = rpc.declare({ object: 'smtprelay', method: 'history', params: [ 'offset', 'limit' ], expect: { '': {} }, reject: true });
const callDevices = rpc.declare({ object: 'smtprelay', method: 'devices', params: [ 'offset', 'limit' ], expect: { '': {} }, reject: true });
const callTest = rpc.declare({ object: 'smtprelay', method: 'test', params: [ 'to', 'account' ], expect: { '': {} }, reject: true });
const callJob = rpc.declare({ object: 'smtprelay', method: 'job', params: [ 'id' ], expect: { '': {} }, reject: true });
const callSetPassword = rpc.declare({ object: 'smtprelay', method: 'set_password', params: [ 'account', 'password' ], expect: { '': {} }, reject: true });
const callReload = rpc.declare({ object: 'smtprelay', method: 'reload', expect: { '': {} }, reject: true });
const callProviders = rpc.declare({ object: 'smtprelay', method: 'providers', expect: { '': {} }, reject: true });
const callLoginStart = rpc.declare({ object: 'smtprelay', method: 'login_start', params: [ 'account' ], expect: { '': {} }, reject: true });
const callLoginPoll = rpc.declare({ object: 'smtprelay', method: 'login_poll', params: [ 'job', 'address' ], expect: { '': {} }, reject: true });
const callCommit = rpc.declare({ object: 'uci', method: 'commit', params: [ 'config' ], reject: true });
const callInterfaces = rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });
const callLogRead = rpc.declare({ object: 'log', method: 'read', params: [ 'lines', 'stream', 'oneshot' ], expect: { log: [] }, reject: true });

/**
 * Turns a refusal into an error whose `kind` is wrong, not_found, busy or failed.
 *
 * @template T
 * @param {T} answer what ubus answered
 * @returns {T} the same, if it is no refusal
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
 * Waits a while.
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
 * Collects a list. An answer on ubus ends where it would grow too large, so it may hold less than what was asked for.
 *
 * @param {(offset: number, limit: number) => Promise<any>} call asks for a part of the list
 * @param {string} name of the list in the answer
 * @param {number} offset entries before those that are wanted
 * @param {number} limit entries at most
 * @returns {Promise<any>} the answer with all of them
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
	 * How things are; null while the service does not run.
	 *
	 * @returns {Promise<Smtprelay.Status | null>} the status
	 */
	status() {
		return callStatus().then(checked).catch((error) => {
			if (error.name == 'Refusal')
				throw error;

			return null;
		});
	},

	/**
	 * A page of waiting messages, oldest first.
	 *
	 * @param {number} offset messages before it
	 * @param {number} limit messages at most
	 * @returns {Promise<Smtprelay.QueuePage>} the page
	 */
	queue(offset, limit) {
		return collect(callQueue, 'messages', offset, limit);
	},

	/**
	 * One message with its header and history.
	 *
	 * @param {string} id its name
	 * @returns {Promise<Smtprelay.WholeMessage>} the message
	 */
	message(id) {
		return callMessage(id).then(checked);
	},

	/**
	 * Changes what happens to a message, or to all of them.
	 *
	 * @param {'retry' | 'hold' | 'release' | 'delete'} what the change
	 * @param {string} id name of the message, or 'all'
	 * @returns {Promise<Smtprelay.Changed>} how many were changed
	 */
	change(what, id) {
		const calls = { retry: callRetry, hold: callHold, release: callRelease, delete: callDelete };

		return calls[what](id).then(checked);
	},

	/**
	 * Verdicts, newest first.
	 *
	 * @param {number} offset verdicts before them
	 * @param {number} limit verdicts at most
	 * @returns {Promise<Smtprelay.HistoryPage>} the page
	 */
	history(offset, limit) {
		return collect(callHistory, 'entries', offset, limit);
	},

	/**
	 * Who sent, or tried to.
	 *
	 * @returns {Promise<Smtprelay.Device[]>} the one heard of last first
	 */
	devices() {
		return collect(callDevices, 'devices', 0, DEVICES).then((answer) => answer.devices);
	},

	/**
	 * Sends a test mail.
	 *
	 * @param {string} to its recipient
	 * @param {string} [account] the account; without it the one that is next
	 * @returns {Promise<string>} name of the job
	 */
	test(to, account) {
		return callTest(to, account || undefined).then(checked).then((answer) => answer.job);
	},

	/**
	 * How far a test mail is.
	 *
	 * @param {string} id name of the job
	 * @returns {Promise<Smtprelay.Job>} the job
	 */
	job(id) {
		return callJob(id).then(checked);
	},

	/**
	 * Follows a test mail to its end.
	 *
	 * @param {string} id name of the job
	 * @param {(job: Smtprelay.Job) => void} show called with each state of it
	 * @param {() => boolean} [gone] tells that nobody looks any more
	 * @returns {Promise<Smtprelay.Job | null>} its end; null if nobody looked any more
	 */
	async follow(id, show, gone) {
		for (;;) {
			const job = await this.job(id);

			if (gone && gone())
				return null;

			show(job);

			if (job.state != 'running')
				return job;

			await pause(PATIENCE);
		}
	},

	/**
	 * Stores a password. It can never be read again.
	 *
	 * @param {string} account name of the account
	 * @param {string} password the password
	 * @returns {Promise<unknown>} resolves when it is stored
	 */
	setPassword(account, password) {
		return callSetPassword(account, password).then(checked);
	},

	/**
	 * Takes the file of settings over now. A service that can't be asked for it hears of the change from procd.
	 *
	 * @returns {Promise<{warnings: string[]}>} what is odd about it; rejects with what is wrong
	 */
	reload() {
		return callReload().then(checked).catch((error) => {
			if (error.name == 'Refusal')
				throw error;

			return { warnings: [] };
		});
	},

	/**
	 * Begins a sign-in at a provider.
	 *
	 * @param {string} account name of the account
	 * @returns {Promise<Smtprelay.Login>} where to sign in
	 */
	loginStart(account) {
		return callLoginStart(account).then(checked);
	},

	/**
	 * How a sign-in stands.
	 *
	 * @param {string} job name of the sign-in
	 * @param {string} [address] the address that was copied back from the browser
	 * @returns {Promise<Smtprelay.LoginState>} its state
	 */
	loginPoll(job, address) {
		return callLoginPoll(job, address || undefined).then(checked);
	},

	/**
	 * The presets. The program knows them also while the service does not run.
	 *
	 * @returns {Promise<Smtprelay.Provider[]>} by name; empty when they can't be had
	 */
	providers() {
		return callProviders().then(checked).then((answer) => answer.providers || [])
			.catch(() => fs.exec('/usr/sbin/smtprelay', [ 'providers', '--json' ]).then((result) => JSON.parse(result.stdout || '[]')))
			.catch(() => []);
	},

	/**
	 * Networks of the router with the addresses that they have now.
	 *
	 * @returns {Promise<Smtprelay.Interface[]>} empty when they can't be had
	 */
	interfaces() {
		return L.resolveDefault(callInterfaces(), []);
	},

	/**
	 * Last lines of the system log, if this user may read it.
	 *
	 * @param {number} lines how many of the whole log are looked at
	 * @returns {Promise<Smtprelay.LogLine[] | null>} null if it can't be read
	 */
	log(lines) {
		return callLogRead(lines, false, true).catch(() => null);
	},

	/**
	 * Writes the changed settings into the file; procd then tells the service. Changes of other packages are left alone.
	 *
	 * @returns {Promise<unknown>} resolves when the file is written
	 */
	commit() {
		return uci.save().then(() => callCommit('smtprelay'));
	},

	/**
	 * Waits until the service runs and knows an account.
	 *
	 * @param {string} account name of the account
	 * @param {number} seconds how long at most
	 * @returns {Promise<Smtprelay.Status | null>} the status; null if it did not come
	 */
	async awaitAccount(account, seconds) {
		for (let left = seconds; left > 0; left--) {
			const status = await this.status();

			if (status && status.accounts.some((known) => known.name == account))
				return status;

			await pause(PATIENCE);
		}

		return null;
	},

	pause: pause
});
