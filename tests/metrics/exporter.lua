-- SPDX-License-Identifier: Apache-2.0
--
-- Stands in for prometheus-node-exporter-lua and its module ubus: runs a collector against a recorded answer.
--
--	lua5.1 tests/metrics/exporter.lua COLLECTOR [ANSWER]
--
-- ANSWER is a file of Lua that returns the answer of the method "status". Without it there is no such object; if it is
-- the word "nobus", ubusd is not running; if it is "nomodule", the module is not installed.

local answer = arg[2]

if answer ~= "nomodule" then
	package.preload.ubus = function()
		local connection = { open = true }
		function connection.call(self, object, method, arguments)
			assert(self.open and object == "smtprelay" and method == "status" and next(arguments) == nil)
			-- Nothing and the status of the bus: 4 is "not found".
			if not answer then
				return nil, 4
			end
			return dofile(answer)
		end
		function connection.close(self)
			self.open = false
		end
		return { connect = function() return answer ~= "nobus" and connection or nil end }
	end
end

function output(line)
	io.write(line, "\n")
end

-- As in the exporter: labels are written as they come, in any order.
function metric(name, kind, _, _)
	output("# TYPE " .. name .. " " .. kind)
	return function(labels, value)
		local parts = {}
		for label, text in pairs(labels or {}) do
			parts[#parts + 1] = label .. '="' .. text .. '"'
		end
		output(name .. (labels and "{" .. table.concat(parts, ",") .. "}" or "") .. " " .. value)
	end
end

dofile(arg[1]).scrape()
