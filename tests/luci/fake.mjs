// SPDX-License-Identifier: Apache-2.0
// A stand-in for LuCI in the browser: just as much as the pages use, with the same traps. E() parses a string as HTML and
// takes an array as text, as the real one does; ubus refuses what the ACL does not grant; the forms only remember what
// they were asked for.
import fs from 'node:fs';
import path from 'node:path';
import { JSDOM } from 'jsdom';
import { APP, read, requires } from './sources.mjs';

export const ACL = JSON.parse(fs.readFileSync(path.join(APP, 'root/usr/share/rpcd/acl.d/luci-app-smtprelay.json'), 'utf8'))['luci-app-smtprelay'];

/** Whether the ACL grants a call. Users who may write may do what readers may. */
export function granted(writable, object, method) {
	return [ ACL.read, ...(writable ? [ ACL.write ] : []) ].some((part) => part.ubus?.[object]?.includes(method));
}

// LuCI gives it to all strings.
Object.defineProperty(String.prototype, 'format', {
	value: function (...values) {
		let at = 0;

		return this.replace(/%(?:\.\d+)?([sd%])/g, (all, kind) => (kind == '%') ? '%' : String(values[at++]));
	}
});

/**
 * A browser with a user in front of it.
 *
 * writable: whether the user may change settings. config: sections of /etc/config/smtprelay. ubus: answers by
 * 'object method', each a function of the arguments; what is missing is an object that is not there.
 */
export function world({ writable = true, config = [], ubus = {}, exec = null } = {}) {
	const dom = new JSDOM('<!doctype html><body><div id="maincontent"><div id="view"></div></div><div id="modal"></div></body>', { url: 'http://router/cgi-bin/luci/' });
	const { window } = dom;
	const { document } = window;
	const calls = [];
	const declared = [];
	const polls = [];
	const notifications = [];
	const state = { config: structuredClone(config), committed: structuredClone(config), loads: 0, unknown: new Set() };
	const self = { dom, window, document, calls, declared, polls, notifications, state, ubus, translate: (text) => text, forms: [] };

	window.scrollTo = () => {};
	// Waiting takes no time, but others get their turn.
	window.setTimeout = (fn) => setImmediate(fn);

	const isElement = (value) => value instanceof window.Node;

	function append(node, children) {
		if (Array.isArray(children)) {
			for (const child of children) {
				if (isElement(child))
					node.appendChild(child);
				else if (child !== null && child !== undefined)
					node.appendChild(document.createTextNode(`${child}`));
			}
		}
		else if (isElement(children)) {
			node.appendChild(children);
		}
		else if (children !== null && children !== undefined) {
			node.innerHTML = `${children}`;
		}

		return node;
	}

	function E(tag, attributes, children) {
		if (!(attributes instanceof Object) || Array.isArray(attributes))
			[ children, attributes ] = [ attributes, null ];

		const node = Array.isArray(tag) ? document.createDocumentFragment() : document.createElement(tag);

		for (const [ key, value ] of Object.entries(attributes ?? {})) {
			if (value == null)
				continue;

			if (typeof(value) == 'function')
				node.addEventListener(key, value);
			else
				node.setAttribute(key, (typeof(value) == 'object') ? JSON.stringify(value) : value);
		}

		return append(node, children);
	}

	self.E = E;

	const L = {
		bind: (fn, that, ...args) => fn.bind(that, ...args),
		hasViewPermission: () => writable,
		resolveDefault: (promise, fallback) => Promise.resolve(promise).catch(() => fallback),
		toArray: (value) => (value == null) ? [] : Array.isArray(value) ? value : String(value).trim().split(/\s+/).filter((word) => word),
		url: (...parts) => `/cgi-bin/luci/${parts.join('/')}`,
		resource: (...parts) => `/luci-static/resources/${parts.join('/')}`
	};

	async function call(object, method, args) {
		calls.push({ object, method, args });

		if (!granted(writable, object, method))
			throw new Error(`RPC call to ${object}/${method} failed with error -32002: Access denied`);

		const answer = self.ubus[`${object} ${method}`];

		if (!answer)
			throw new Error(`RPC call to ${object}/${method} failed with error -32000: Object not found`);

		// What comes over the network is a copy.
		return structuredClone(await answer(args));
	}

	const rpc = {
		// uhttpd answers everyone; objects that are not there are those without an answer.
		list: async () => self.objects ?? [ 'session', ...new Set(Object.keys(self.ubus).map((name) => name.split(' ')[0])) ],
		declare(options) {
			declared.push(options);

			return (...args) => {
				const named = {};

				(options.params ?? []).forEach((name, i) => {
					if (args[i] !== undefined)
						named[name] = args[i];
				});

				return call(options.object, options.method, named).then((answer) => {
					const key = Object.keys(options.expect ?? {})[0];

					return key ? answer[key] ?? options.expect[key] : answer;
				});
			};
		}
	};

	const find = (name) => state.config.find((section) => section['.name'] == name);
	const uci = {
		load: async () => {
			state.loads++;

			if (!writable)
				throw new Error('Access denied');
		},
		unload: () => {},
		sections: (config, type) => state.config.filter((section) => !type || section['.type'] == type),
		get: (config, name, option) => option ? find(name)?.[option] : find(name),
		set: (config, name, option, value) => {
			const section = find(name);

			if (!section)
				throw new Error(`there is no section ${name}`);

			if (value == null || value === '')
				delete section[option];
			else
				section[option] = value;
		},
		add: (config, type, name) => {
			const section = { '.type': type, '.name': name ?? `cfg${state.config.length}` };

			state.config.push(section);

			return section['.name'];
		},
		move: (config, name, other, after) => {
			const section = find(name);
			const rest = state.config.filter((one) => one != section);
			const at = rest.findIndex((one) => one['.name'] == other);

			rest.splice((at < 0) ? rest.length : at + (after ? 1 : 0), 0, section);
			state.config = rest;

			return true;
		},
		remove: (config, name) => { state.config = state.config.filter((section) => section['.name'] != name); },
		save: async () => {}
	};

	self.ubus['uci commit'] ??= () => {
		state.committed = structuredClone(state.config);

		return {};
	};

	const modal = document.getElementById('modal');
	const ui = {
		changes: { init: async () => {} },
		createHandlerFn(that, fn, ...args) {
			const bound = (typeof(fn) == 'string') ? that[fn] : fn;

			return (ev) => {
				const button = ev.currentTarget;

				button.disabled = true;
				self.busy = Promise.resolve(bound.call(that, ...args, ev)).finally(() => { button.disabled = false; });
			};
		},
		showModal(title, children) {
			modal.replaceChildren(E('h4', title));

			return append(modal, children);
		},
		hideModal: () => modal.replaceChildren(),
		addNotification(title, children, ...classes) {
			notifications.push({ text: children.textContent, classes });

			return append(E('div'), children);
		},
		addTimeLimitedNotification: (title, children, timeout, ...classes) => ui.addNotification(title, children, ...classes)
	};

	const baseclass = {
		extend(members) {
			function Class() {}

			Object.assign(Class.prototype, members);

			return Class;
		}
	};

	const modules = {
		baseclass, rpc, uci, ui,
		view: baseclass,
		form: fakeForm(self),
		fs: { exec: exec ?? (async () => { throw new Error('Access denied'); }) },
		poll: { add: (fn, interval) => polls.push({ fn, interval }) }
	};

	self.ui = ui;
	self.require = (name) => {
		if (!modules[name]) {
			const source = read(name);
			const asked = requires(source);
			const names = [ 'L', 'E', '_', 'N_', 'window', 'document', ...asked.map((one) => one.name) ];
			const values = [ L, E, (text) => self.translate(text), (n, one, many) => self.translate((n == 1) ? one : many), window, document, ...asked.map((one) => self.require(one.module)) ];

			modules[name] = new (new Function(...names, source)(...values))();
		}

		return modules[name];
	};

	/** Opens a page as LuCI does. */
	self.open = async (name) => {
		const page = self.require(`view.smtprelay.${name}`);
		const node = await page.render(await page.load());

		document.getElementById('view').replaceChildren(node);

		return page;
	};
	self.text = () => document.body.textContent;
	self.get = (selector) => {
		const node = document.querySelector(selector);

		if (!node)
			throw new Error(`there is no ${selector} in the page`);

		return node;
	};
	self.buttons = () => Array.from(document.querySelectorAll('button')).map((button) => button.textContent);
	self.press = async (selector) => {
		const button = (selector.startsWith('#') || selector.startsWith('[')) ? self.get(selector) : Array.from(document.querySelectorAll('button')).find((one) => one.textContent == selector);

		if (!button)
			throw new Error(`there is no button ${selector}`);

		self.busy = null;
		button.click();
		await self.busy;
	};
	self.type = (selector, value) => {
		const field = self.get(selector);

		field.value = value;
		field.dispatchEvent(new window.Event((field.tagName == 'SELECT') ? 'change' : 'input'));
	};
	self.poll = () => Promise.all(polls.map(({ fn }) => fn()));

	return self;
}

/** Forms that remember their sections and options. */
function fakeForm(self) {
	class Option {
		constructor(kind, name, title, help) { Object.assign(this, { kind, name, title, help, choices: [], dependencies: [] }); }
		value(key, label) { this.choices.push([ key, label ?? key ]); }
		depends(dependency) { this.dependencies.push(dependency); }
	}

	class Section {
		constructor(kind, args) { Object.assign(this, { kind, type: (kind == 'NamedSection') ? args[1] : args[0], options: [], tabs: [] }); }
		tab(name) { this.tabs.push(name); }

		option(kind, name, title, help) {
			const option = new Option(kind, name, title, help);

			this.options.push(option);

			return option;
		}

		taboption(tab, ...args) {
			if (!this.tabs.includes(tab))
				throw new Error(`there is no tab ${tab}`);

			return this.option(...args);
		}
	}

	class Map {
		constructor(config) {
			Object.assign(this, { config, sections: [], saved: 0 });
			self.forms.push(this);
		}

		section(kind, ...args) {
			const section = new Section(kind, args);

			this.sections.push(section);

			return section;
		}

		async render() {
			const node = self.document.createElement('div');

			node.className = 'cbi-map';

			return node;
		}

		async save() { this.saved++; }
	}

	return { Map, ...Object.fromEntries([ 'NamedSection', 'GridSection', 'Value', 'Flag', 'ListValue', 'DynamicList' ].map((name) => [ name, name ])) };
}
