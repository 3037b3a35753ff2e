// SPDX-License-Identifier: Apache-2.0
// The internet for the walk through LuCI: a mail provider with TLS, login and tokens, and the login servers of Google and
// Microsoft. The gateway knows them by the names of its presets, so what is tried is what owners do.
import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import tls from 'node:tls';
import { execFileSync } from 'node:child_process';

/** Who is played, and must lead here on the router. */
export const NAMES = [ 'smtp.gmail.com', 'smtp-mail.outlook.com', 'accounts.google.com', 'oauth2.googleapis.com', 'login.microsoftonline.com' ];
export const CLIENT = { id: 'client-of-the-walk', secret: 'GOCSPX-client-secret-of-the-walk' };

const REDIRECT = 'http://127.0.0.1:47110/';
const random = () => crypto.randomBytes(24).toString('base64url');

/** A certificate for all of them that is its own authority. */
function certificate() {
	const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'luci-walk-'));
	const [ key, cert ] = [ 'key.pem', 'cert.pem' ].map((name) => path.join(folder, name));

	execFileSync('openssl', [ 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30', '-subj', '/CN=walk',
		'-addext', `subjectAltName=${NAMES.map((name) => `DNS:${name}`).join(',')}`, '-addext', 'basicConstraints=critical,CA:FALSE',
		'-keyout', key, '-out', cert ], { stdio: 'ignore' });

	const pair = { key: fs.readFileSync(key, 'utf8'), cert: fs.readFileSync(cert, 'utf8') };

	fs.rmSync(folder, { recursive: true });

	return pair;
}

export class Internet {
	/** The login, and the password that is right at this moment. */
	user = 'me@gmail.com';
	password = '';
	/** What came, oldest first: { from, to, text }. */
	mails = [];
	/** Recipients whose mail has to wait, and recipients that do not exist. */
	later = new Set();
	unknown = new Set();
	/** Whether connections are closed at once. */
	closed = false;
	/** All that nobody may see, for the hunt at the end. */
	secrets = new Set();
	#tokens = new Set();
	#refresh = new Set();
	#codes = new Map();
	#servers = [];

	/** Listens where the presets expect it, which takes the rights for low ports. */
	static async open(address) {
		const internet = new Internet();
		const pair = certificate();

		internet.certificate = pair.cert;
		internet.address = address;
		internet.#servers = [
			[ net.createServer((socket) => internet.#mail(socket, pair, true)), 465 ],
			[ net.createServer((socket) => internet.#mail(socket, pair, false)), 587 ],
			[ https.createServer(pair, (request, response) => internet.#web(request, response)), 443 ]
		];

		for (const [ server, port ] of internet.#servers)
			await new Promise((resolve, reject) => server.once('error', reject).listen(port, address, resolve));

		return internet;
	}

	close() {
		for (const [ server ] of this.#servers)
			server.close();
	}

	/** How Chromium finds and trusts it. */
	chromium() {
		const key = new crypto.X509Certificate(this.certificate).publicKey.export({ type: 'spki', format: 'der' });

		return [
			`--host-resolver-rules=${NAMES.map((name) => `MAP ${name} ${this.address}`).join(',')}`,
			`--ignore-certificate-errors-spki-list=${crypto.createHash('sha256').update(key).digest('base64')}`
		];
	}

	/** The mails with these words in them. */
	got(words) {
		return this.mails.filter((mail) => mail.text.includes(words));
	}

	async #mail(raw, pair, atOnce) {
		raw.on('error', () => {});

		if (this.closed)
			return raw.destroy();

		try {
			await this.#converse(atOnce ? new tls.TLSSocket(raw, { isServer: true, ...pair }) : raw, pair, atOnce, false);
		}
		catch {
			raw.destroy();
		}
	}

	/** A conversation (RFC 5321), as much of it as the gateway needs. */
	async #converse(socket, pair, secure, greeted) {
		const say = (line) => socket.write(`${line}\r\n`);
		const lines = readline.createInterface({ input: socket, crlfDelay: Infinity });
		let login = false, mail = null, text = null;

		socket.on('error', () => {});

		if (!greeted)
			say('220 provider ESMTP');

		for await (const line of lines) {
			if (this.closed)
				break;

			if (text) {
				if (line != '.') {
					text.push(line.replace(/^\./, ''));
					continue;
				}

				this.mails.push({ ...mail, text: text.join('\n') });
				text = null;
				say('250 2.0.0 OK taken');
				continue;
			}

			const [ verb, word, answer ] = line.split(' ');

			switch (verb.toUpperCase()) {
			case 'EHLO':
				say('250-provider');
				say(secure ? '250-AUTH PLAIN LOGIN XOAUTH2' : '250-STARTTLS');
				say('250 SIZE 26214400');
				break;
			case 'STARTTLS':
				say('220 go on');
				lines.close();
				socket.removeAllListeners('data');

				return this.#converse(new tls.TLSSocket(socket, { isServer: true, ...pair }), pair, true, true);
			case 'AUTH':
				login = this.#knows(word, Buffer.from(answer || '', 'base64').toString());
				say(login ? '235 2.7.0 Accepted' : '535 5.7.8 Username and Password not accepted');
				break;
			case 'MAIL':
				mail = { from: line.replace(/^.*<(.*)>.*$/, '$1'), to: [] };
				say(login ? '250 2.1.0 OK' : '530 5.7.0 Authentication Required');
				break;
			case 'RCPT':
				say(this.#recipient(line.replace(/^.*<(.*)>.*$/, '$1'), mail));
				break;
			case 'DATA':
				say(mail.to.length ? '354 go on' : '503 5.5.1 no recipient');
				text = mail.to.length ? [] : null;
				break;
			case 'QUIT':
				say('221 2.0.0 bye');
				socket.end();
				break;
			default:
				say(/^(NOOP|RSET)$/i.test(verb) ? '250 2.0.0 OK' : '500 5.5.1 what?');
			}
		}
	}

	#recipient(address, mail) {
		if (this.unknown.has(address))
			return '550 5.1.1 The email account that you tried to reach does not exist';
		if (this.later.has(address))
			return '450 4.2.1 The user you are trying to contact is receiving mail too quickly';

		mail.to.push(address);

		return '250 2.1.5 OK';
	}

	/** RFC 4616, and XOAUTH2 with one of our tokens. */
	#knows(mechanism, answer) {
		if (mechanism == 'PLAIN')
			return answer == `\0${this.user}\0${this.password}`;

		return this.#tokens.has(answer.match(/auth=Bearer ([^\x01]*)/)?.[1]);
	}

	/** Tokens (RFC 6749 section 5.1). */
	#grant() {
		const [ access, refresh ] = [ `access-${random()}`, `refresh-${random()}` ];

		this.#tokens.add(access);
		this.#refresh.add(refresh);
		this.secrets.add(access).add(refresh);

		return { access_token: access, refresh_token: refresh, token_type: 'Bearer', expires_in: 3600 };
	}

	async #web(request, response) {
		const url = new URL(request.url, 'https://login');
		const parts = [];

		for await (const part of request)
			parts.push(part);

		const form = new URLSearchParams(Buffer.concat(parts).toString());
		const page = (html) => response.setHeader('Content-Type', 'text/html').end(`<!DOCTYPE html><title>Sign in</title><link rel="icon" href="data:,">${html}`);
		const json = (value) => response.writeHead(value.error ? 400 : 200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));

		switch (url.pathname) {
		case '/common/oauth2/v2.0/devicecode': {
			const [ code, device ] = [ crypto.randomBytes(4).toString('hex').toUpperCase(), `device-${random()}` ];

			this.secrets.add(device);
			this.#codes.set(device, { user: code, approved: false });

			return json({ device_code: device, user_code: code, verification_uri: 'https://login.microsoftonline.com/device', expires_in: 900, interval: 1 });
		}
		case '/device': {
			const known = Array.from(this.#codes.values()).find((one) => one.user && one.user == form.get('code'));

			if (known)
				known.approved = true;

			return page(known ? '<p id="done">Done' : '<form method="post"><input name="code"><button>Next</button></form>');
		}
		case '/o/oauth2/v2/auth': {
			const code = `code-${random()}`;

			this.#codes.set(code, { challenge: url.searchParams.get('code_challenge') });

			return page(`<a id="allow" href="${REDIRECT}?${new URLSearchParams({ state: url.searchParams.get('state'), code })}">Allow</a>`);
		}
		case '/token':
		case '/common/oauth2/v2.0/token':
			return json(this.#token(form));
		default:
			return response.writeHead(404).end();
		}
	}

	#token(form) {
		const google = this.#codes.get(form.get('code'));
		const microsoft = this.#codes.get(form.get('device_code'));

		switch (form.get('client_id') == CLIENT.id && form.get('grant_type')) {
		case 'authorization_code':
			return (google && form.get('client_secret') == CLIENT.secret
				&& crypto.createHash('sha256').update(form.get('code_verifier')).digest('base64url') == google.challenge)
				? this.#grant() : { error: 'invalid_grant' };
		case 'urn:ietf:params:oauth:grant-type:device_code':
			return microsoft?.approved ? this.#grant() : { error: microsoft ? 'authorization_pending' : 'expired_token' };
		case 'refresh_token':
			return this.#refresh.has(form.get('refresh_token')) ? this.#grant() : { error: 'invalid_grant' };
		default:
			return { error: 'invalid_client' };
		}
	}
}
