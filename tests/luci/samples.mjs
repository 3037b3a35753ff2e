// SPDX-License-Identifier: Apache-2.0
// What a daemon with some work might answer.
import fs from 'node:fs';
import path from 'node:path';
import { TREE } from './sources.mjs';

export const NOW = 1795400000;

export const PROVIDERS = JSON.parse(fs.readFileSync(path.join(TREE, 'src/config/providers.json'), 'utf8')).providers
	.map((entry) => ({ user: 'address', secret: 'password', from: 'account', ...entry }));

/** What `smtprelay services --json` lists, made from the same data as there. */
export const SERVICES = JSON.parse(fs.readFileSync(path.join(TREE, 'src/config/services.json'), 'utf8')).services
	.map(({ id, name, docs = '', base = '', to = '', help, token, own = false }) => ({ id, name, docs, base, to, help, token, own: own || (!base && token != 'address') }));

/** Settings as they are shipped. */
export const SHIPPED = [
	{ '.type': 'relay', '.name': 'main', enabled: '0' },
	{ '.type': 'listener', '.name': 'lan', interface: [ 'lan' ], port: '25' },
	{ '.type': 'account', '.name': 'provider', provider: 'custom' }
];

/** Settings with an account. */
export const SET_UP = [
	{ '.type': 'relay', '.name': 'main' },
	{ '.type': 'listener', '.name': 'lan', interface: [ 'lan' ], port: '25' },
	{ '.type': 'account', '.name': 'gmail', provider: 'gmail', username: 'me@gmail.com' }
];

export const INTERFACES = [
	{ interface: 'loopback', l3_device: 'lo', 'ipv4-address': [ { address: '127.0.0.1', mask: 8 } ] },
	{
		interface: 'lan', l3_device: 'br-lan', device: 'br-lan', 'ipv4-address': [ { address: '192.168.1.1', mask: 24 } ],
		'ipv6-prefix-assignment': [ { address: 'fd12:3456:789a::', mask: 60, 'local-address': { address: 'fd12:3456:789a::1', mask: 60 } } ]
	},
	{ interface: 'wan', l3_device: 'eth1', 'ipv4-address': [ { address: '203.0.113.7', mask: 24 } ] }
];

export function account(changes) {
	return {
		name: 'gmail', provider: 'gmail', host: 'smtp.gmail.com', port: 465, tls_mode: 'implicit', from: 'me@gmail.com', username: 'me@gmail.com',
		auth: 'password', secret: 'set', paused: null, failed_test: null,
		last: { time: NOW - 600, to: 'ops@example.com', tls: 'TLSv1.3', cipher: 'TLS13_AES_256_GCM_SHA384', verified: 'ca', expires: NOW + 60 * 86400 },
		...changes
	};
}

export function status(changes) {
	return {
		version: '0.5.0', running: 4711, health: 'Relaying; 2 messages waiting.', state: 'relaying', clock: { set: true, now: NOW },
		settings: { file: '/etc/config/smtprelay', loaded: NOW - 4711, error: null, warnings: [] },
		listeners: [ { name: 'lan', address: '192.168.1.1', port: 25, tls: 'none', note: null } ],
		accounts: [ account() ],
		queue: { messages: 2, held: 1, bytes: 90112, limit: 33554432, recovering: false },
		safe_spool: null,
		reachable: 'yes',
		power_cut: { messages: 2, bytes: 90112, meaning: 'no safe_spool is set: a power cut loses all mail that waits' },
		last: { time: NOW - 600, to: 'ops@example.com', account: 'gmail', tls: 'TLSv1.3', verified: 'ca' },
		today: { accepted: 4, delivered: 3, failed: 0, refused: 1 },
		counters: {
			accepted: 40, delivered: 37, failed: 1, refused: 2, since: NOW - 4711,
			days: [ { day: Math.floor(NOW / 86400) * 86400, accepted: 4, delivered: 3, failed: 0, refused: 1 }, { day: (Math.floor(NOW / 86400) - 1) * 86400, accepted: 12, delivered: 11, failed: 1, refused: 0 } ]
		},
		...changes
	};
}

export function device(changes) {
	return {
		client: '192.168.1.20', helo: 'plc-1', device: 'pump-house', name: 'pump-house', mac: '00:11:22:aa:bb:cc', section: '', allowed: true,
		first_seen: NOW - 86400, last_seen: NOW - 600, accepted: 12, delivered: 11, failed: 0, refused: 0,
		last_mail: { id: '01ABC', from: 'plc@plant.local', to: 'ops@example.com', time: NOW - 600 },
		last_verdict: { outcome: 'delivered', text: '', time: NOW - 600 }, rate: null,
		...changes
	};
}

export function expected(changes) {
	return { name: 'pump', device: 'Pump house', every: 86400, silent: 600, last_heard: NOW - 600, overdue: false, overdue_since: null, ...changes };
}

export function message(changes) {
	return {
		id: '01HZX5', arrived: NOW - 300, age: 300, size: 45056, client: '192.168.1.20', device: 'Pump house', from: 'plc@plant.local', subject: 'Pump 3: Störung',
		recipients: [ { address: 'ops@example.com', state: 'waiting', reply: '' } ], attempts: 2, held: false, notice: false,
		why: 'smtp.gmail.com answered 451 4.3.0 try again later', standing: 'later', next: 90,
		...changes
	};
}

export function verdict(changes) {
	return {
		number: 1, time: NOW - 600, outcome: 'delivered', id: '01ABC', client: '192.168.1.20', device: 'Pump house', from: 'plc@plant.local', to: 'ops@example.com', subject: 'Pump 3: Störung', size: 2048,
		account: 'gmail', tls: 'TLSv1.3', cipher: 'TLS13_AES_256_GCM_SHA384', verified: 'ca', text: '250 2.0.0 OK', delay: 2, times: 1,
		...changes
	};
}

/** The steps of a test mail, `done` of them passed; then the next one failed or is under way. */
export function steps(done, failed) {
	return [ 'clock', 'uplink', 'dns', 'tcp', 'tls', 'login', 'accepted' ].map((step, i) => ({
		step, state: (i < done) ? 'ok' : (i > done) ? 'pending' : failed ? 'failed' : 'running', text: (i < done) ? `${step} is fine` : '',
		remedy: (i == done && failed) ? 'do something about it' : null
	}));
}

/** Answers of a daemon that works. */
export function answers(changes) {
	return {
		'smtprelay status': () => status(),
		'smtprelay devices': () => ({ devices: [ device() ] }),
		'smtprelay queue': () => ({ total: 1, offset: 0, messages: [ message() ] }),
		'smtprelay message': () => ({ ...message(), header: 'Subject: Alarm\r\n', history: [ { what: 'tried', at: NOW - 200, results: [ { recipient: 0, state: 'waiting', reply: '451 later' } ] } ] }),
		'smtprelay log_read': () => ({ cursor: 'RUN-1-1', reset: true, more: false, entries: [ verdict() ], lines: [ { number: 1, time: NOW - 600, level: 'info', text: 'event=started' } ] }),
		'smtprelay providers': () => ({ providers: PROVIDERS, services: SERVICES }),
		'network.interface dump': () => ({ interface: INTERFACES }),
		...changes
	};
}
