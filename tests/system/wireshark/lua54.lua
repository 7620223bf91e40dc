-- Runs the dissector, arg[1], outside of Wireshark: this Lua is the one of Wireshark from 4.4 on. Ends with an
-- error if it names what neither of the two gives, or reckons differently.
local hooks = {}
local thing = {}
setmetatable(thing, {
  __index = function() return thing end,
  __call = function() return thing end,
  __newindex = function(_, _, value)
    if type(value) == "function" then hooks[#hooks + 1] = value end
  end,
})
for _, name in ipairs { "Proto", "ProtoField", "ProtoExpert", "UInt64", "NSTime", "DissectorTable", "base",
  "frametype", "expert", "Pref" } do
  _G[name] = thing
end
setmetatable(_G, {
  __index = function(_, name) error("neither Lua nor Wireshark has " .. name, 2) end,
})
dofile(arg[1])

-- A local function of the dissector, by its name: what Wireshark is given leads to all of them.
local function find(wanted, of, met)
  for n = 1, 255 do
    local name, value = debug.getupvalue(of, n)
    if not name then return nil end
    if type(value) == "function" and not met[value] then
      met[value] = true
      local found = name == wanted and value or find(wanted, value, met)
      if found then return found end
    elseif type(value) == "table" and not met[value] then
      met[value] = true
      for _, entry in pairs(value) do
        if type(entry) == "function" and not met[entry] then
          met[entry] = true
          local found = find(wanted, entry, met)
          if found then return found end
        end
      end
    end
  end
end

local crc32c
for _, hook in ipairs(hooks) do crc32c = crc32c or find("crc32c", hook, {}) end
assert(crc32c, "the dissector has no crc32c")
-- RFC 3720 appendix B.4, and the check value of the CRC catalogue.
assert(crc32c(0, ("\0"):rep(32), 1, 32) == 0x8a9136aa)
assert(crc32c(0, "123456789", 1, 9) == 0xe3069283)
