/** What the ubus object `smtprelay` answers, and what the pages make of it. Times are seconds since 1970, durations seconds, sizes bytes. */
declare namespace Smtprelay {
	type Level = 'good' | 'warning' | 'bad' | 'neutral';

	interface Pause { reason: string; remedy?: string | null; since: number; next: number }
	interface LastDelivery { time: number; to: string; account?: string; tls: string; cipher: string; verified: string; expires: number | null }
	interface Account {
		name: string;
		provider: string;
		host: string;
		port: number;
		tls_mode: 'implicit' | 'starttls' | 'none';
		from: string;
		username: string;
		/** Only a channel has one. */
		service?: string;
		auth: 'password' | 'xoauth2' | 'token' | 'none';
		secret: 'set' | 'missing' | 'none';
		paused: Pause | null;
		last: LastDelivery | null;
		failed_test: { time: number; text: string } | null;
	}
	/** Why there is no status. */
	type Absence = 'router' | 'rpcd' | 'session' | 'silent' | 'disabled' | 'stopped';
	interface Day { day: number; accepted: number; delivered: number; failed: number; refused: number }
	interface Listener { name: string; address: string; port: number; tls: string; note: string | null }
	interface Status {
		version: string;
		running: number;
		health: string;
		state: 'relaying' | 'paused' | 'no_account';
		clock: { set: boolean; now: number };
		settings?: { file: string; loaded: number; error: string | null; warnings: string[]; secrets_left?: string[] };
		reachable?: 'yes' | 'partly' | 'no';
		listeners?: Listener[];
		accounts: Account[];
		queue: { messages: number; held: number; bytes: number; limit: number; recovering: boolean };
		expected?: Expected[];
		safe_spool: { path: string; files_written: number; bytes_written: number; bytes_programmed: number | null } | null;
		power_cut: { messages: number; bytes: number; meaning: string };
		last: { time: number; to: string; account: string; tls: string; verified: string } | null;
		today: { accepted: number; delivered: number; failed: number; refused: number };
		counters: { accepted: number; delivered: number; failed: number; refused: number; since: number; days: Day[] };
	}
	interface Recipient { address: string; state: string; reply: string }
	interface Message {
		id: string;
		size: number;
		client?: string;
		device?: string;
		from?: string;
		subject?: string;
		arrived?: number;
		age?: number | null;
		recipients?: Recipient[];
		attempts?: number;
		held?: boolean;
		doubts?: number;
		notice?: boolean;
		why?: string;
		standing?: 'due' | 'later' | 'held' | 'sending';
		next?: number;
		escalation?: { tried: string[]; step: { account: string; next: number } | null };
		error?: string;
	}
	interface Note { what: string; at?: number; to?: number; account?: string; reply?: string; results?: { recipient: number; state: string; reply: string }[] }
	interface WholeMessage extends Message { header: string; history: Note[] }
	interface QueuePage { total: number; offset: number; messages: Message[] }
	interface Changed { count: number; in_hand: number; failed: number }
	interface Verdict {
		number: number;
		device: string;
		time: number;
		outcome: string;
		id: string;
		client: string;
		from: string;
		to: string;
		subject: string;
		size: number;
		account: string;
		tls: string;
		cipher: string;
		verified: string;
		text: string;
		delay: number;
		times: number;
	}
	/** What the page keeps of the log, oldest first. */
	interface Log { cursor: string; entries: Verdict[]; lines: LogLine[] }
	interface Device {
		client: string;
		helo: string;
		device: string;
		name: string;
		mac: string;
		section: string;
		allowed: boolean;
		first_seen: number;
		last_seen: number;
		accepted: number;
		delivered: number;
		failed: number;
		refused: number;
		last_mail: { id: string; from: string; to: string; time: number } | null;
		last_verdict: { outcome: string; text: string; time: number } | null;
		rate: { limit: string; digested: number; deferred: number; rejected: number } | null;
	}
	/** A `device` section that is expected to send. */
	interface Expected { name: string; device: string; every: number; silent: number; last_heard: number | null; overdue: boolean; overdue_since: number | null }
	/** A row of the list of devices: a client, a section that is expected to send, or both. */
	interface Heard { device: Device | null; expected: Expected | null }
	interface Step {
		step: 'clock' | 'uplink' | 'dns' | 'tcp' | 'tls' | 'login' | 'accepted';
		state: 'ok' | 'failed' | 'running' | 'pending' | 'skipped';
		text: string;
		remedy: string | null;
	}
	/** A certificate that a server presented and that is not trusted. */
	interface Certificate { fingerprint: string; issuer: string; expires: number | null }
	interface Job { state: 'running' | 'done' | 'failed'; text: string; account: string; steps: Step[]; certificate?: Certificate | null; transcript: string[] }
	interface Login { job: string; url: string; code: string | null; expires: number }
	interface LoginState { state: 'pending' | 'done' | 'failed'; text: string }
	interface Provider {
		id: string;
		name?: string;
		host: string;
		port: number;
		tls: string;
		user?: string;
		secret?: string;
		issuer?: string;
		domains?: string;
		url?: string;
		help?: string;
	}

	/** What a service of channels requires. */
	interface Service {
		id: string;
		name: string;
		docs: string;
		/** Address of its server; empty if everyone has another, or if it is in the token. */
		base: string;
		/** Whether a server of one's own is possible, or required where there is no other. */
		own: boolean;
		/** What the recipient is; empty if there is none to enter. */
		to: string;
		token: 'optional' | 'required' | 'address';
		help: string;
	}
	interface Presets { providers: Provider[]; services: Service[] }
	/** What was typed into the wizard for channels. `mail`: also, only, all, none. */
	interface ChannelAnswers { url: string; to: string; token: string; mail: string; alias: string }
	type Section = Record<string, any> & { '.name': string; '.type': string };
	/** Changes of the settings. */
	interface ChannelPlan {
		remove: string[];
		set: { name: string; option: string; value: string[] }[];
		add: { type: string; options: Record<string, string[]> }[];
	}
	/** What a wizard sets up. */
	interface SetUp {
		name: string;
		/** Recipient of the test message. */
		to: string;
		/** Stores the password, or signs in. */
		login: (say: (text: string) => void, more: HTMLElement) => Promise<void>;
		sending: string;
		accepted: string;
	}

	/** From `network.interface dump`. */
	interface Interface {
		interface: string;
		l3_device?: string;
		device?: string;
		'ipv4-address'?: { address: string; mask: number }[];
		'ipv6-address'?: { address: string; mask: number }[];
		'ipv6-prefix-assignment'?: { address: string; mask: number; 'local-address'?: { address: string; mask: number } }[];
	}
	interface LogLine { number: number; time: number; level: string; text: string }

	/** A section `listener` as the settings have it. */
	interface ListenerSection { '.name': string; interface?: string | string[]; address?: string | string[]; allow?: string | string[] }

	/** A sentence for people, and what to do about it. */
	interface Health { level: Level; text: string; remedy: string }
	/** A word with a colour. */
	interface Badge { level: Level; label: string; title: string }

	/** Which fields the wizard asks for. */
	interface Needs { host: boolean; region: boolean; username: boolean; sender: boolean; password: boolean; client: boolean; secret: boolean }
	/** What was typed into the wizard. */
	interface Answers {
		address: string;
		username: string;
		password: string;
		host: string;
		port: string;
		tls: string;
		region: string;
		signIn: boolean;
		clientId: string;
		clientSecret: string;
		to: string;
	}

	type OptionKind = 'flag' | 'text' | 'list' | 'choice' | 'password' | 'secret' | 'interfaces' | 'accounts' | 'devices' | 'users' | 'provider' | 'service';
	interface OptionForm {
		name: string;
		kind: OptionKind;
		title: string;
		help: string;
		tab?: string;
		preset?: string;
		placeholder?: string;
		choices?: string[][];
		check?: (text: string) => true | string;
		when?: Record<string, string | RegExp>;
		needed?: boolean;
	}
	interface SectionForm {
		type: string;
		title: string;
		help: string;
		named: boolean;
		single?: boolean;
		columns: string[];
		tabs: string[][];
		options: OptionForm[];
	}
}
