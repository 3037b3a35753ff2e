-- SPDX-License-Identifier: Apache-2.0
--
-- Metrics of smtprelay for prometheus-node-exporter-lua: the same names, labels and values as
-- "smtprelay status --prometheus" (src/cli/metrics.rs has the same table), from the method "status" on ubus.
-- The exporter defines the globals metric and output. It writes labels as they are, so they are escaped here.

local PREFIX = "smtprelay_"

-- Name, help, where the value is, the list whose entries have it, the labels. A value "PATH=WORD" is whether the text
-- there is that word, "PATH?" whether there is anything, and "" is 1. What is not known is left out.
local account, device = { { "account", "name" } }, { { "device", "name" } }
local by_account, by_device = "counters.accounts", "counters.devices"
local metrics = {
	{ "build_info", "Version of the running gateway.", "", nil, { { "version", "version" } } },
	{ "start_time_seconds", "When the gateway started, in seconds since 1970.", "started" },
	{ "clock_set", "Whether the clock of the router is set.", "clock.set" },
	{ "relaying", "Whether mail can be sent: an account is set up and not paused.", "state=relaying" },
	{ "reachable", "Whether devices can connect to all addresses of the listeners.", "reachable=yes" },
	{ "listener_open", "Whether devices can connect to all addresses of the listener.", "open", "listeners",
		{ { "listener", "name" } } },
	{ "accepted_messages_total", "Messages accepted from clients.", "counters.accepted" },
	{ "accepted_bytes_total", "Bytes of the messages accepted from clients.", "counters.accepted_bytes" },
	{ "delivered_recipients_total", "Recipients for whom a provider accepted the message.", "counters.delivered" },
	{ "delivered_bytes_total", "Bytes delivered, counted for each recipient.", "counters.delivered_bytes" },
	{ "deferred_recipients_total", "Failed attempts that are retried, for each recipient.", "counters.deferred" },
	{ "failed_recipients_total", "Recipients whose message failed permanently.", "counters.failed" },
	{ "refused_total", "Connections and messages of clients that were refused.", "counters.refused" },
	{ "device_accepted_messages_total", "Messages accepted, by device section.", "accepted", by_device, device },
	{ "device_accepted_bytes_total", "Bytes of messages accepted, by device section.", "accepted_bytes", by_device,
		device },
	{ "device_delivered_recipients_total", "Recipients delivered to, by device section.", "delivered", by_device,
		device },
	{ "device_delivered_bytes_total", "Bytes delivered for each recipient, by device section.", "delivered_bytes",
		by_device, device },
	{ "device_failed_recipients_total", "Recipients failed permanently, by device section.", "failed", by_device,
		device },
	{ "device_refused_total", "Connections and messages refused, by device section.", "refused", by_device, device },
	{ "device_last_heard_timestamp_seconds",
		"When the device was last heard that is expected to send, in seconds since 1970.", "last_heard", "expected",
		device },
	{ "device_overdue", "Whether the device has been silent for longer than is expected of it.", "overdue", "expected",
		device },
	{ "account_delivered_recipients_total", "Recipients delivered to, by account.", "delivered", by_account, account },
	{ "account_delivered_bytes_total", "Bytes delivered for each recipient, by account.", "delivered_bytes",
		by_account, account },
	{ "account_deferred_recipients_total", "Failed attempts that are retried, by account.", "deferred", by_account,
		account },
	{ "account_failed_recipients_total", "Recipients failed permanently, by account.", "failed", by_account, account },
	{ "queue_messages", "Messages that wait for delivery.", "queue.messages" },
	{ "queue_held_messages", "Messages that wait for the administrator.", "queue.held" },
	{ "queue_bytes", "Bytes of the queue.", "queue.bytes" },
	{ "queue_limit_bytes", "Bytes that the queue may have.", "queue.limit" },
	{ "queue_oldest_age_seconds", "Age of the oldest queued message.", "queue.oldest" },
	{ "power_cut_messages", "Messages that a power cut would lose now.", "power_cut.messages" },
	{ "account_paused", "Whether the account is paused after an error.", "paused?", "accounts", account },
	{ "account_paused_seconds", "How long the account has been paused.", "paused.since", "accounts", account },
	{ "account_secret_missing", "Whether the account has no password or token although it logs in.", "secret=missing",
		"accounts", account },
	{ "account_test_failed", "Whether the last test failed and no mail was accepted since.", "failed_test?", "accounts",
		account },
	{ "account_last_success_timestamp_seconds", "When the provider last accepted a message, in seconds since 1970.",
		"last.time", "accounts", account },
	{ "account_certificate_expiry_timestamp_seconds",
		"When the certificate that the provider last presented expires, in seconds since 1970.", "last.expires",
		"accounts", account },
	{ "account_tls_info", "TLS version of the last delivery, and how the certificate was verified.", "", "accounts",
		{ { "account", "name" }, { "version", "last.tls" }, { "verified", "last.verified" } } },
}

-- What is at a path such as "queue.bytes"; nil if there is nothing.
local function at(entry, path)
	for name in path:gmatch("[^.]+") do
		if type(entry) ~= "table" then
			return nil
		end
		entry = entry[name]
	end
	return entry
end

local function flag(yes)
	return yes and 1 or 0
end

local function value_of(entry, value)
	if value == "" then
		return 1
	end
	local asked = value:match("^(.*)%?$")
	if asked then
		return flag(at(entry, asked) ~= nil)
	end
	local path, word = value:match("^(.*)=(.*)$")
	if path then
		local found = at(entry, path)
		return found ~= nil and flag(found == word) or nil
	end
	local found = at(entry, value)
	if type(found) == "boolean" then
		return flag(found)
	end
	return type(found) == "number" and found or nil
end

local function escaped(text)
	return (text:gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("\n", "\\n"))
end

-- The labels as the exporter takes them, and a key for comparison; nil if one is missing.
local function labels_of(entry, wanted)
	if not wanted then
		return nil, ""
	end
	local labels, key = {}, ""
	for _, label in ipairs(wanted) do
		local name, text = label[1], at(entry, label[2])
		if type(text) ~= "string" then
			return nil, nil
		end
		-- By a certificate authority.
		if name == "verified" and text == "yes" then
			text = "ca"
		end
		labels[name] = escaped(text)
		key = key .. name .. '="' .. labels[name] .. '",'
	end
	return labels, key
end

local function write(name, help, samples)
	if #samples == 0 then
		return
	end
	output("# HELP " .. PREFIX .. name .. " " .. help)
	local add = metric(PREFIX .. name, name:match("_total$") and "counter" or "gauge")
	for _, sample in ipairs(samples) do
		-- Larger numbers would lose digits in the notation that Lua chooses.
		add(sample.labels, string.format("%.0f", sample.value))
	end
end

-- What the gateway says of itself; nil if it is not running.
local function ask()
	local there, ubus = pcall(require, "ubus")
	local connection = there and ubus.connect()
	if not connection then
		return nil
	end
	local answered, status = pcall(connection.call, connection, "smtprelay", "status", {})
	connection:close()
	-- An error is an answer without a version.
	if answered and type(status) == "table" and type(status.version) == "string" then
		return status
	end
	return nil
end

local function scrape()
	local status = ask()
	write("up", "Whether the gateway is running.", { { value = flag(status ~= nil) } })
	if not status then
		return
	end
	for _, one in ipairs(metrics) do
		local name, help, value, list, wanted = one[1], one[2], one[3], one[4], one[5]
		local samples, known = {}, {}
		for _, entry in ipairs(list and (at(status, list) or {}) or { status }) do
			local labels, key = labels_of(entry, wanted)
			local number = key and value_of(entry, value)
			-- Of several with the same labels, such as the addresses of a listener, the least counts.
			if number and known[key] then
				known[key].value = math.min(known[key].value, number)
			elseif number then
				known[key] = { labels = labels, value = number }
				samples[#samples + 1] = known[key]
			end
		end
		write(name, help, samples)
	end
end

return { scrape = scrape }
