// SPDX-License-Identifier: Apache-2.0
// The router behind the pages: a shell on it, its ubus, and the devices that send mail through it.
import net from 'node:net';
import readline from 'node:readline';
import { execFile } from 'node:child_process';

const PATIENCE = 60000;

/** Waits until `look` finds something that is true. */
export async function until(what, look, patience = PATIENCE) {
	for (const end = Date.now() + patience; ;) {
		const found = await look();

		if (found)
			return found;

		if (Date.now() > end)
			throw new Error(`waited in vain: ${what}`);

		await new Promise((resolve) => { setTimeout(resolve, 300); });
	}
}

export class Router {
	/** `command` takes a line for the router's shell as its last argument; `address` is where its devices find it. */
	constructor(command, address) {
		[ this.program, ...this.before ] = command.split(' ');
		this.address = address;
	}

	/** Runs a line as root; what it said. */
	sh(line, input = '') {
		return new Promise((resolve, reject) => {
			const child = execFile(this.program, [ ...this.before, line ], { maxBuffer: 64 << 20 }, (error, said, wrong) =>
				error ? reject(new Error(`${line}: ${said}${wrong}`)) : resolve(said));

			child.stdin.on('error', () => {});
			child.stdin.end(input);
		});
	}

	/** Calls the gateway on ubus. */
	async call(method, argument = {}) {
		return JSON.parse(await this.sh(`ubus call smtprelay ${method} '${JSON.stringify(argument)}'`));
	}

	/** The gateway's message that waits for a recipient; undefined if there is none. */
	async waiting(recipient) {
		return (await this.call('queue', { limit: 200 })).messages.find((message) => message.recipients.some((one) => one.address == recipient));
	}

	/** The gateway, as soon as it knows settings that are not those of `before`. */
	async changed(before) {
		return until('the gateway has other settings', async () => {
			const now = await this.call('status').catch(() => null);

			return now && now.settings.loaded != before.settings.loaded && now;
		});
	}

	/** A device sends a mail: the replies of the gateway, up to the first refusal. */
	device(address, { from, to, subject, helo = 'device' }) {
		const lines = [ `EHLO ${helo}`, `MAIL FROM:<${from}>`, `RCPT TO:<${to}>`, 'DATA', `From: ${from}\r\nTo: ${to}\r\nSubject: ${subject}\r\n\r\n${subject}: all of it.\r\n.`, 'QUIT' ];
		const socket = net.connect({ host: this.address, port: 25, localAddress: address });

		return new Promise((resolve, reject) => {
			const replies = [];

			socket.setTimeout(PATIENCE, () => socket.destroy(new Error(`${address}: the gateway is silent`)));
			socket.on('error', (error) => replies.length ? resolve(replies) : reject(error));
			socket.on('close', () => resolve(replies));
			readline.createInterface({ input: socket, crlfDelay: Infinity }).on('error', () => {}).on('line', (line) => {
				if (line[3] == '-')
					return;

				replies.push(line);

				if (/^[45]/.test(line) || !lines.length)
					socket.end();
				else
					socket.write(`${lines.shift()}\r\n`);
			});
		});
	}
}
