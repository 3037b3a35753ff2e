// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.check as check';

/*
 * Allows a refused device: its address is added to the list `allow` of a listener. An empty list implies the subnets of
 * the listener's interfaces and the router itself. This no longer applies once the list has an entry, so the implied
 * networks are written out first.
 */

/** The router itself. */
const LOOPBACK = [ '127.0.0.0/8', '::1/128' ];

/**
 * Whether an address is private: a listener on a fixed address does not imply the subnets of public addresses.
 *
 * @param {string} address an address
 * @returns {boolean} true if it is
 */
function isPrivate(address) {
	return /^(10\.|192\.168\.|169\.254\.|127\.|172\.(1[6-9]|2[0-9]|3[01])\.|f[cd]|fe[89ab])/i.test(address);
}

/**
 * The networks of an interface.
 *
 * @param {Smtprelay.Interface} net the interface
 * @returns {{address: string, net: string}[]} its addresses with their networks
 */
function networksOf(net) {
	/** @type {{address: string, net: string}[]} */
	const found = [];

	for (const own of net['ipv4-address'] || []) {
		const network = check.networkOf(own.address, own.mask);

		if (network)
			found.push({ address: own.address, net: network });
	}

	// The daemon accepts any address within a network for the network.
	for (const own of net['ipv6-address'] || [])
		found.push({ address: own.address, net: `${own.address}/${own.mask}` });

	for (const prefix of net['ipv6-prefix-assignment'] || [])
		found.push({ address: (prefix['local-address'] || prefix).address, net: `${prefix.address}/${prefix.mask}` });

	if (found.some((own) => own.net.includes(':')))
		found.push({ address: 'fe80::1', net: 'fe80::/64' });

	return found;
}

return baseclass.extend({
	/**
	 * What an empty list `allow` currently implies, as in the daemon's accept.rs.
	 *
	 * @param {Smtprelay.ListenerSection} listener the section
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 * @returns {{nets: string[], unknown: string[]}} the networks, and interfaces whose addresses are unknown
	 */
	implied(listener, interfaces) {
		const names = L.toArray(listener.interface);
		const addresses = L.toArray(listener.address);
		/** @type {string[]} */
		const nets = [];
		const seen = new Set();

		for (const net of interfaces) {
			const ours = [ net.interface, net.l3_device, net.device ].filter((name) => name && names.includes(name));

			ours.forEach((name) => seen.add(name));

			for (const own of networksOf(net)) {
				const listened = addresses.some((address) => address == '0.0.0.0' || address == '::' || address == own.address);

				if (ours.length || (listened && isPrivate(own.address)))
					nets.push(own.net);
			}
		}

		return {
			nets: Array.from(new Set(nets.concat(LOOPBACK))),
			unknown: names.filter((name) => !seen.has(name))
		};
	},

	/**
	 * The list that also allows `client`.
	 *
	 * @param {Smtprelay.ListenerSection} listener the section
	 * @param {string} client address of the device
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 * @returns {{list: string[], written: string[], unknown: string[]}} the new list, entries implied before, and
	 * interfaces whose networks could not be written out
	 */
	plan(listener, client, interfaces) {
		const present = L.toArray(listener.allow).filter((net) => net !== '');
		const implied = present.length ? { nets: [], unknown: [] } : this.implied(listener, interfaces);

		return {
			list: Array.from(new Set(present.concat(implied.nets, [ client ]))),
			written: implied.nets,
			unknown: implied.unknown
		};
	},

	/**
	 * Whether a device was refused and can be allowed.
	 *
	 * @param {Smtprelay.Device} device the device
	 * @returns {boolean} true if it is
	 */
	isRefused(device) {
		return device.allowed === false && check.ip(device.client) === true && device.client != '';
	}
});
