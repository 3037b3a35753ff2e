/**
 * The part of LuCI's JavaScript API that the pages use, written down from its documentation. A module asks for the others
 * with directives, 'require rpc'; sources.mjs turns these into declarations.
 */

/** A child of an element. Only an array is taken as text and elements; a string alone would be parsed as HTML. */
type Child = Node | string;

declare function E<K extends keyof HTMLElementTagNameMap>(tag: K, children?: readonly Child[]): HTMLElementTagNameMap[K];
declare function E<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, unknown>, children?: readonly Child[]): HTMLElementTagNameMap[K];
declare function _(text: string, context?: string): string;
declare function N_(count: number, one: string, many: string, context?: string): string;

interface String {
	format(...values: unknown[]): string;
}

declare const L: {
	bind<T extends Function>(fn: T, self: unknown, ...args: unknown[]): T;
	hasViewPermission(): boolean | null;
	resolveDefault<T, D>(promise: Promise<T> | T, fallback?: D): Promise<T | D>;
	toArray<T>(value: T | T[] | null | undefined): T[];
	url(...parts: string[]): string;
	resource(...parts: string[]): string;
};

declare namespace LuCI {
	interface BaseClass {
		extend<T>(members: T & ThisType<T>): new () => T;
	}

	interface ViewMembers {
		handleSave?: unknown;
		handleSaveApply?: unknown;
		handleReset?: unknown;
	}
	interface View {
		/** Members that a page sets while it runs are not declared before. */
		extend<T extends ViewMembers>(members: T & ThisType<T & Record<string, any>>): new () => T;
	}

	interface Rpc {
		declare(options: { object: string; method: string; params?: string[]; expect?: Record<string, unknown>; reject?: boolean }): (...args: any[]) => Promise<any>;
		list(): Promise<string[]>;
	}

	interface UciSection extends Record<string, any> {
		'.name': string;
		'.type': string;
	}
	interface Uci {
		load(packages: string | string[]): Promise<unknown>;
		unload(packages: string | string[]): void;
		sections(config: string, type?: string): UciSection[];
		get(config: string, section: string, option?: string): any;
		set(config: string, section: string, option: string, value: string | string[] | null): void;
		add(config: string, type: string, name?: string): string;
		remove(config: string, section: string): void;
		move(config: string, section: string, other: string | null, after?: boolean): boolean;
		save(): Promise<unknown>;
	}

	interface Fs {
		exec(command: string, args?: string[]): Promise<{ code: number; stdout?: string; stderr?: string }>;
	}

	interface Poll {
		add(fn: () => Promise<unknown>, interval?: number): boolean;
	}

	interface Ui {
		changes: { init(): Promise<unknown> };
		createHandlerFn(self: unknown, fn: string | ((...args: any[]) => unknown), ...args: unknown[]): (ev: Event) => void;
		showModal(title: string | null, children: readonly Child[], ...classes: string[]): HTMLElement;
		hideModal(): void;
		addNotification(title: string | null, children: Node, ...classes: string[]): HTMLElement;
		/** Since OpenWrt 24.10. */
		addTimeLimitedNotification?(title: string | null, children: Node, timeout: number, ...classes: string[]): HTMLElement;
	}

	interface Option {
		textvalue?: (section_id: string) => string;
		default?: string;
		placeholder?: string;
		rmempty?: boolean;
		optional?: boolean;
		password?: boolean;
		modalonly?: boolean;
		validate?: (section_id: string, value: string) => true | string;
		cfgvalue?: (section_id: string) => unknown;
		write?: (section_id: string, value: string) => unknown;
		remove?: (section_id: string) => unknown;
		value(key: string, label?: string): void;
		depends(dependency: Record<string, string | RegExp>): void;
	}
	interface Section {
		addremove?: boolean;
		anonymous?: boolean;
		sortable?: boolean;
		nodescriptions?: boolean;
		tab(name: string, title: string): void;
		option(kind: unknown, name: string, title: string, help?: string): Option;
		taboption(tab: string, kind: unknown, name: string, title: string, help?: string): Option;
	}
	interface Map {
		tabbed?: boolean;
		section(kind: unknown, ...args: unknown[]): Section;
		render(): Promise<HTMLElement>;
		save(callback?: (() => void) | null, silent?: boolean): Promise<void>;
	}
	interface Form {
		Map: new (config: string, title: string, help?: string) => Map;
		NamedSection: unknown;
		GridSection: unknown;
		Value: unknown;
		Flag: unknown;
		ListValue: unknown;
		DynamicList: unknown;
	}
}

declare const __luci: {
	baseclass: LuCI.BaseClass;
	view: LuCI.View;
	rpc: LuCI.Rpc;
	uci: LuCI.Uci;
	fs: LuCI.Fs;
	poll: LuCI.Poll;
	ui: LuCI.Ui;
	form: LuCI.Form;
};
