-- labnet's RUDP for Wireshark and tshark: the text signals and the binary transport, which share one UDP port.
--
--   tshark -X lua_script:labnet.lua -r capture.pcapng -Y labnet
--
-- or put this file into Wireshark's folder "Personal Lua Plugins" (Help, About Wireshark, Folders). The
-- format is written down in labnet's sources, in src/rudp/signal.rs, src/rudp/packet/mod.rs and
-- src/rudp/exchange/mod.rs. All filters begin with "labnet": "rudp" is another protocol of Wireshark's.
--
-- Runs with Lua 5.2 (Wireshark before 4.4) and 5.4.

local labnet = Proto("labnet", "labnet RUDP")

-- Fields ------------------------------------------------------------------------------------------

local NAMES = {
  packet = {
    [0x80] = "DATA", [0xc0] = "HELLO", [0xc1] = "COOKIE", [0xc2] = "VERSIONS", [0xc3] = "RESET", [0xc4] = "ACCEPT",
  },
  frame = {
    [0x00] = "PADDING", [0x01] = "PING", [0x02] = "ACK", [0x03] = "ACK_ECN", [0x04] = "RESET_STREAM",
    [0x05] = "STOP_SENDING", [0x08] = "STREAM", [0x09] = "STREAM (FIN)", [0x0a] = "STREAM (length)",
    [0x0b] = "STREAM (length, FIN)", [0x10] = "MAX_DATA", [0x11] = "MAX_STREAM_DATA", [0x12] = "MAX_STREAMS",
    [0x14] = "DATA_BLOCKED", [0x15] = "STREAM_DATA_BLOCKED", [0x1a] = "PATH_CHALLENGE", [0x1b] = "PATH_RESPONSE",
    [0x1c] = "CLOSE", [0x1f] = "ACK_FREQUENCY",
  },
  error = {
    [0x00] = "NO_ERROR", [0x01] = "INTERNAL_ERROR", [0x02] = "CONNECTION_REFUSED", [0x03] = "FLOW_CONTROL_ERROR",
    [0x04] = "STREAM_LIMIT_ERROR", [0x05] = "STREAM_STATE_ERROR", [0x06] = "FINAL_SIZE_ERROR",
    [0x07] = "FRAME_ENCODING_ERROR", [0x08] = "TRANSPORT_PARAMETER_ERROR", [0x0a] = "PROTOCOL_VIOLATION",
    [0x0f] = "AEAD_LIMIT_REACHED", [0x100] = "CANCELLED", [0x101] = "SHUTDOWN", [0x102] = "SOURCE_FAILED",
    [0x103] = "MALFORMED_QUESTION", [0x104] = "TOO_SLOW",
  },
  integrity = {
    [0] = "good", [1] = "bad: damaged on the way, or of another connection",
    [2] = "cannot be checked: proven by the secret (psk)", [3] = "cannot be checked: the handshake is not in the capture",
    [4] = "cannot be checked: the capture holds a part of the packet only",
  },
  direction = { [0] = "client to server", [1] = "server to client" },
}

local f, WIDE = {}, {}
local function field(kind, filter, name, ...)
  f[filter] = ProtoField[kind]("labnet." .. filter, name, ...)
  WIDE[filter] = kind == "uint64"
end

-- The text protocol.
field("string", "signal", "Signal")
field("uint64", "signal.id", "Id", base.DEC, nil, nil, "A client's signals are numbered from its name's number on")
field("string", "signal.name", "Name")
field("uint64", "signal.first_id", "Id of the first numbered signal", base.DEC)
field("string", "signal.timestamp", "Timestamp")
field("string", "signal.file", "File")
field("string", "signal.url", "Where to fetch it")
field("uint64", "signal.stat.sent", "Packets sent", base.DEC)
field("uint64", "signal.stat.lost", "Packets lost", base.DEC)
field("string", "signal.stat.connected", "Connected time")
field("string", "signal.why", "Reason")
field("string", "signal.rest", "Rest")
field("framenum", "signal.request_in", "Answers the signal in", base.NONE, frametype.REQUEST)
field("framenum", "signal.answer_in", "Answered in", base.NONE, frametype.RESPONSE)
field("relative_time", "signal.time", "Time from the signal to its answer")
-- Every packet of the transport.
field("uint8", "packet", "Packet", base.HEX, NAMES.packet)
field("uint32", "connection", "Connection, counted in this capture", base.DEC)
field("uint8", "direction", "Direction", base.DEC, NAMES.direction)
field("uint32", "version", "Version", base.DEC)
field("bytes", "cid", "Destination's connection id")
field("bytes", "cid.client", "Client's connection id")
field("bytes", "cid.server", "Server's connection id")
field("bytes", "nonce", "Nonce")
field("bytes", "cookie", "Cookie")
field("bytes", "token", "Reset token")
field("uint32", "padding", "Padding, bytes", base.DEC)
field("bytes", "tag", "Tag")
field("uint8", "integrity", "Integrity", base.DEC, NAMES.integrity)
field("string", "mode", "Protection")
-- Transport parameters.
field("none", "parameter", "Transport parameter")
field("uint64", "parameter.id", "Id", base.HEX)
field("uint64", "parameter.length", "Length", base.DEC)
field("bytes", "parameter.unknown", "Value")
field("uint64", "parameter.max_idle_timeout", "Longest idle time, ms", base.DEC)
field("uint64", "parameter.initial_max_data", "Bytes at first over all streams", base.DEC)
field("uint64", "parameter.initial_max_stream_data", "Bytes at first on each stream", base.DEC)
field("uint64", "parameter.initial_max_streams", "Streams at first", base.DEC)
field("uint64", "parameter.max_udp_payload_size", "Largest datagram taken, bytes", base.DEC)
field("uint64", "parameter.max_ack_delay", "Longest delay of an acknowledgement, ms", base.DEC)
field("bytes", "parameter.reset_token", "Reset token")
field("string", "parameter.congestion", "Congestion control wanted of the server")
field("string", "parameter.name", "Client's name")
-- DATA.
field("uint32", "number.low", "Packet number, low 32 bits", base.DEC)
field("uint64", "number", "Packet number", base.DEC)
field("bool", "again", "Carries bytes that were sent before")
field("bytes", "protected", "Protected frames")
field("bytes", "unread", "Frames that are not read")
field("uint8", "frame", "Frame", base.HEX, NAMES.frame)
field("uint64", "ack.largest", "Largest acknowledged", base.DEC)
field("uint64", "ack.delay", "Held back, microseconds", base.DEC)
field("uint64", "ack.count", "Further ranges", base.DEC)
field("uint64", "ack.first", "First range's length", base.DEC)
field("uint64", "ack.gap", "Gap", base.DEC)
field("uint64", "ack.length", "Length", base.DEC)
field("string", "ack.range", "Packets acknowledged")
field("uint64", "ack.ect0", "Packets with ECT(0)", base.DEC)
field("uint64", "ack.ect1", "Packets with ECT(1)", base.DEC)
field("uint64", "ack.ce", "Packets with CE", base.DEC)
field("framenum", "ack.of", "The largest was sent in", base.NONE, frametype.ACK)
field("relative_time", "ack.rtt", "Time since the largest was captured")
field("uint64", "stream.id", "Stream", base.DEC)
field("uint64", "stream.offset", "Offset", base.DEC)
field("uint64", "stream.length", "Length", base.DEC)
field("bool", "stream.fin", "Ends the stream")
field("bytes", "stream.data", "Data")
field("uint64", "error", "Error code", base.HEX, NAMES.error)
field("uint64", "final_size", "Final size", base.DEC)
field("uint64", "limit", "Limit", base.DEC)
field("bytes", "path", "Challenge")
field("uint64", "reason.length", "Reason's length", base.DEC)
field("string", "reason", "Reason")
field("uint64", "ack_frequency.sequence", "Sequence", base.DEC)
field("uint64", "ack_frequency.packets", "Acknowledge after packets", base.DEC)
field("uint64", "ack_frequency.delay", "Acknowledge after, microseconds", base.DEC)
-- What streams carry.
field("string", "question", "Question")
field("string", "question.file", "File")
field("string", "question.range", "Range")
field("string", "question.timestamp", "Timestamp")
field("string", "answer", "Answer")
field("uint64", "answer.first", "First byte", base.DEC)
field("uint64", "answer.length", "Body's length", base.DEC)
field("uint64", "answer.whole", "Whole file's length", base.DEC)
field("string", "answer.digest", "SHA-256 of the whole")
field("string", "answer.error", "Why there is no answer")
field("string", "answer.text", "For people")
field("string", "answer.file", "File")
field("string", "answer.statistic", "Statistic")
field("string", "validator", "State of the file")
labnet.fields = f

local e = {}
local function expertise(filter, text, group, severity)
  e[filter] = ProtoExpert.new("labnet." .. filter, text, expert.group[group], expert.severity[severity])
end
expertise("malformed", "Malformed", "MALFORMED", "ERROR")
expertise("cut", "The capture holds a part of the packet only", "UNDECODED", "NOTE")
expertise("signal.missing", "A signal is missing: the server asks for it", "SEQUENCE", "WARN")
expertise("signal.full", "The server's window is full: the client has to wait", "SEQUENCE", "WARN")
expertise("signal.refused", "The server does not answer", "RESPONSE_CODE", "WARN")
expertise("signal.repeated", "The same signal again", "SEQUENCE", "NOTE")
expertise("integrity.bad", "The checksum is wrong: the receiver drops this packet", "CHECKSUM", "ERROR")
expertise("moved", "The client has moved to another address", "SEQUENCE", "NOTE")
expertise("sent_again", "Bytes that were sent before", "SEQUENCE", "NOTE")
expertise("ended", "The connection ends", "SEQUENCE", "CHAT")
expertise("token.wrong", "Not the connection's token: the receiver ignores this RESET", "SECURITY", "WARN")
expertise("other_version", "A version that this dissector does not know", "UNDECODED", "NOTE")
labnet.experts = e

labnet.prefs.ports = Pref.range("UDP ports", "49152", "Where labnet's proxies listen", 65535)
labnet.prefs.statistics = Pref.bool("Answers to STAT in full", true, "One item for each statistic")

-- Numbers -----------------------------------------------------------------------------------------

local WORD = 4294967296
-- From here on a number of Lua 5.2 is not exact.
local EXACT = 9007199254740992

local function decimal(number)
  return type(number) == "number" and string.format("%.0f", number) or tostring(number)
end

local function counted(number, noun)
  return ("%s %s%s"):format(decimal(number), noun, number == 1 and "" or "s")
end

local function hex(bytes)
  return (bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

local function wide(value)
  return type(value) == "number" and UInt64.new(value % WORD, math.floor(value / WORD)) or value
end

-- A field that stands in the packet; without `value` it is what stands there.
local function add(tree, filter, range, value)
  if value == nil then return tree:add(f[filter], range) end
  return tree:add(f[filter], range, WIDE[filter] and wide(value) or value)
end

-- A field that was found out.
local function generated(tree, filter, value)
  return tree:add(f[filter], WIDE[filter] and wide(value) or value):set_generated()
end

-- Exclusive or of 32 bits, of as many numbers as there are.
local xor
do
  local library = rawget(_G, "bit32")
  if library then
    xor = library.bxor
  else
    -- The operator is no Lua of before 5.3.
    xor = load([[
      return function(a, b, c, d, e, f, g, h)
        return (math.tointeger(a) or 0) ~ (math.tointeger(b) or 0) ~ (c or 0) ~ (d or 0) ~ (e or 0) ~ (f or 0) ~ (g or 0) ~ (h or 0)
      end]])()
  end
end

-- CRC32C. SLICES[k][byte]: what the byte does to the CRC once k more bytes follow.
local SLICES, UNDO = { [0] = {} }, {}
for byte = 0, 255 do
  local crc = byte
  for _ = 1, 8 do
    local low = crc % 2
    crc = (crc - low) / 2
    if low == 1 then crc = xor(crc, 0x82f63b78) end
  end
  SLICES[0][byte] = crc
  -- No two entries have the same high byte.
  UNDO[math.floor(crc / 16777216)] = byte
end
for k = 1, 7 do
  SLICES[k] = {}
  for byte = 0, 255 do
    local before = SLICES[k - 1][byte]
    local low = before % 256
    SLICES[k][byte] = xor((before - low) / 256, SLICES[0][low])
  end
end

-- The CRC32C of bytes `from` to `to` (counted from 1) after what has the CRC `before`.
local function crc32c(before, bytes, from, to)
  local s0, s1, s2, s3 = SLICES[0], SLICES[1], SLICES[2], SLICES[3]
  local s4, s5, s6, s7 = SLICES[4], SLICES[5], SLICES[6], SLICES[7]
  local crc = WORD - 1 - before
  while from + 7 <= to do
    local a, b, c, d, g, h, i, j = bytes:byte(from, from + 7)
    local mixed = xor(crc, a + b * 256 + c * 65536 + d * 16777216)
    local m0 = mixed % 256
    mixed = (mixed - m0) / 256
    local m1 = mixed % 256
    mixed = (mixed - m1) / 256
    local m2 = mixed % 256
    crc = xor(s7[m0], s6[m1], s5[m2], s4[(mixed - m2) / 256], s3[g], s2[h], s1[i], s0[j])
    from = from + 8
  end
  for at = from, to do
    local low = crc % 256
    crc = xor((crc - low) / 256, s0[xor(low, bytes:byte(at))])
  end
  return WORD - 1 - crc
end

-- The CRC of what stood before bytes 1 to `to`, if the whole has the CRC `after`.
local function crc32c_before(after, bytes, to)
  local crc = WORD - 1 - after
  for at = to, 1, -1 do
    local index = UNDO[math.floor(crc / 16777216)]
    crc = xor(crc, SLICES[0][index]) * 256 + xor(index, bytes:byte(at))
  end
  return WORD - 1 - crc
end

local function be32(bytes, from)
  local a, b, c, d = bytes:byte(from, from + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- The whole packet number: as RFC 9000 appendix A.3.
local function expand(expected, low)
  local number = expected - expected % WORD + low
  if number + WORD / 2 <= expected then
    number = number + WORD
  elseif number > expected + WORD / 2 and number >= WORD then
    number = number - WORD
  end
  return number
end

-- Reading -----------------------------------------------------------------------------------------

local function malformed(why)
  error({ malformed = why }, 0)
end

-- Reads a packet up to `stop`, of which the capture may hold less.
local Reader = {}
Reader.__index = Reader

local function reader(tvb, bytes, at, stop)
  return setmetatable({ tvb = tvb, bytes = bytes, at = at, stop = stop }, Reader)
end

-- Passes `count` bytes; where they began.
function Reader:pass(count)
  local at = self.at
  if at + count > self.stop then malformed("it ends too early") end
  if at + count > #self.bytes then error({ cut = true }, 0) end
  self.at = at + count
  return at
end

function Reader:left()
  return self.stop - self.at
end

function Reader:range(from, to)
  return self.tvb(from, (to or self.at) - from)
end

-- `count` bytes as a string.
function Reader:take(count)
  local at = self:pass(count)
  return self.bytes:sub(at + 1, at + count), at
end

-- An integer of `count` bytes, 4 at most.
function Reader:uint(count)
  local at = self:pass(count)
  local value = 0
  for i = at + 1, at + count do value = value * 256 + self.bytes:byte(i) end
  return value, at
end

-- A number, or a UInt64 where a number is not exact.
function Reader:varint()
  local at = self:pass(1)
  local first = self.bytes:byte(at + 1)
  local length = ({ [0] = 1, 2, 4, 8 })[math.floor(first / 64)]
  self:pass(length - 1)
  if length < 8 then
    local value = first % 64
    for i = at + 2, at + length do value = value * 256 + self.bytes:byte(i) end
    return value, at
  end
  local high, low = be32(self.bytes, at + 1) % 0x40000000, be32(self.bytes, at + 5)
  if high < EXACT / WORD then return high * WORD + low, at end
  return UInt64.new(low, high), at
end

-- The same, shown.
function Reader:number(tree, filter)
  local value, at = self:varint()
  return value, add(tree, filter, self:range(at), value)
end

-- As a count of bytes to come: what is not exact is beyond every packet.
local function size(value)
  return type(value) == "number" and value or EXACT
end

-- What is remembered of a capture -----------------------------------------------------------------

local connections, by_cid, sessions, packets

local function forget()
  connections = 0
  -- By connection id: { connection, to = 0 or 1, expected, sent = { number -> packet }, ... }.
  by_cid = {}
  -- Of the text protocol, by both addresses.
  sessions = {}
  -- What was found out of each packet when it was first seen: packets are shown in any order later.
  packets = {}
end
forget()
labnet.init = forget

local TO_SERVER, TO_CLIENT = 0, 1

-- What the packet says, in words, as far as it was read.
local info = ""

local function source(pinfo)
  return tostring(pinfo.src) .. " port " .. tostring(pinfo.src_port)
end

local function interval(seconds)
  local whole = math.floor(seconds)
  return NSTime.new(whole, math.floor((seconds - whole) * 1000000000 + 0.5))
end

local function new_connection(client, nonce)
  local connection = { index = connections, client = client, nonce = nonce, streams = {}, servers = {} }
  connections = connections + 1
  return connection
end

local function endpoint(connection, to)
  return { connection = connection, to = to, expected = 0, sent = {} }
end

-- The connection that a HELLO asks for.
local function on_hello(cid, nonce, mode, pinfo)
  local known = by_cid[cid]
  if not (known and known.to == TO_CLIENT and (known.connection.nonce or nonce) == nonce) then
    known = endpoint(new_connection(cid, nonce), TO_CLIENT)
    by_cid[cid] = known
  end
  known.connection.nonce = nonce
  known.connection.mode = known.connection.mode or mode
  known.connection.address = known.connection.address or source(pinfo)
  return known.connection
end

-- An ACCEPT joins the server's connection id to the client's.
local function on_accept(client, server, nonce, token, mode)
  local known = by_cid[client]
  if not known then
    known = endpoint(new_connection(client), TO_CLIENT)
    by_cid[client] = known
  end
  local connection = known.connection
  connection.mode = connection.mode or mode
  if not connection.servers[server] then
    local binding
    if connection.nonce then
      binding = crc32c(crc32c(0, connection.nonce, 1, 16), nonce, 1, 16)
    end
    connection.servers[server] = { binding = binding }
    local there = by_cid[server]
    if there and there.connection ~= connection then
      -- Its packets were seen before its ACCEPT: they are of this connection from here on.
      there.connection = connection
    elseif not there then
      by_cid[server] = endpoint(connection, TO_SERVER)
    end
    by_cid[server].token = token
    by_cid[server].binding = binding
    known.bindings = known.bindings or {}
    if binding then table.insert(known.bindings, binding) end
  end
  return connection
end

-- The integrity of a DATA packet, by the bindings that its destination can have; learns a binding that
-- no handshake told from two packets that agree on one.
local function check_data(there, bytes)
  local covered = #bytes - 4
  local crc = be32(bytes, covered + 1)
  local candidates = there.bindings or (there.binding and { there.binding }) or {}
  for _, binding in ipairs(candidates) do
    if crc32c(binding, bytes, 1, covered) == crc then return 0 end
  end
  if #candidates > 0 and not there.learned then return 1 end
  local binding = crc32c_before(crc, bytes, covered)
  there.guesses = there.guesses or {}
  if there.guesses[binding] then
    there.binding, there.learned = binding, true
    there.connection.mode = "checksum"
    return 0
  end
  if there.learned then return 1 end
  there.guesses[binding] = true
  there.unlike = (there.unlike or 0) + 1
  return 3
end

-- The text protocol -------------------------------------------------------------------------------

local MOST_ID = "18446744073709551615"

local function id_at(text, from)
  local digits = text:match("^[1-9]%d*", from)
  if not digits or #digits > #MOST_ID or (#digits == #MOST_ID and digits > MOST_ID) then
    malformed("the id is no number")
  end
  return digits
end

local function plain(text, longest)
  if #text == 0 or #text > longest or text:find("[^ -~]") or text:find(";", 1, true) then
    malformed("a text is empty, too long, or not printable ASCII without ;")
  end
  return text
end

-- What follows each word: "id", "text" and so on, and what it means. Each gets the message `m`: `show`
-- adds a field that stands at an offset.
local SIGNALS, ANSWERS = {}, {}

function SIGNALS.SIGNEW(m)
  local name = plain(m.rest, 64)
  m.show("signal.name", name, m.from)
  local number = 0
  for i = 1, #name do number = number + name:byte(i) end
  generated(m.tree, "signal.first_id", number + 1)
  return ("hello, I am %s, open a session"):format(name)
end

function SIGNALS.SIGNECHO(m)
  m.numbered()
  m.show("signal.timestamp", plain(m.text, 64), m.text_at)
  return "send my timestamp back"
end

function SIGNALS.SIGNSTAT(m)
  m.numbered(true)
  if m.text then m.show("signal.rest", m.text, m.text_at) end
  return "how is my session doing?"
end

function SIGNALS.SIGNGET(m)
  m.numbered()
  if m.text == "SIGNGET" then return "which files are there?" end
  m.show("signal.file", plain(m.text, 765), m.text_at)
  return ("where do I fetch %s?"):format(m.text)
end

function SIGNALS.SIGNEND(m)
  m.numbered()
  if m.text ~= "SIGNEND" then malformed("not the shape of its signal") end
  return "goodbye, end my session"
end

function ANSWERS.SIGNACK(m)
  if m.rest then malformed("not the shape of its signal") end
  return "hello, the session is open"
end

function ANSWERS.ECHOREPLY(m)
  m.numbered()
  m.show("signal.timestamp", plain(m.text, 64), m.text_at)
  return "here is your timestamp back"
end

function ANSWERS.STATREPLY(m)
  m.numbered()
  local sent, lost, time = m.text:match("^Packets sent: (%d+)\nPackets lost: (%d+)\nConnected time: (%d+%.?%d*) seconds$")
  if not sent or #sent > 19 or #lost > 19 then malformed("not the shape of its signal") end
  m.show("signal.stat.sent", UInt64.new(sent), m.text_at + 14, #sent)
  m.show("signal.stat.lost", UInt64.new(lost), m.text_at + 29 + #sent, #lost)
  m.show("signal.stat.connected", time .. " s", m.text_at + 46 + #sent + #lost, #time)
  return ("%s received, %s lost, connected %s s"):format(sent, lost, time)
end

function ANSWERS.ACKGET(m)
  m.numbered()
  if m.text == "" then return "there is nothing" end
  if m.text:sub(-1) ~= ";" then
    m.show("signal.url", m.text, m.text_at)
    return "fetch " .. m.text
  end
  local names = {}
  for at, name in m.text:gmatch("()([^;]+);") do
    m.show("signal.file", name, m.text_at + at - 1, #name)
    names[#names + 1] = name
  end
  return ("%s: %s"):format(counted(#names, "file"), table.concat(names, " "))
end

function ANSWERS.ACKEND(m)
  if m.rest then m.only_id() end
  return "goodbye"
end

function ANSWERS.SIGNLOST(m)
  if not m.rest then malformed("not the shape of its signal") end
  m.only_id():add_proto_expert_info(e["signal.missing"], ("Signal %s never came: the server asks for it"):format(m.id))
  return "it never came, send it again"
end

function ANSWERS.SIGNFULL(m)
  local item = m.rest and m.only_id() or m.tree
  item:add_proto_expert_info(e["signal.full"])
  return "window full, wait, then send it again"
end

function ANSWERS.SIGNREFUSED(m)
  if not m.rest then malformed("not the shape of its signal") end
  if m.rest:find(";", 1, true) then
    m.numbered()
  else
    m.text, m.text_at = m.rest, m.from
  end
  m.show("signal.why", plain(m.text, 200), m.text_at):add_proto_expert_info(e["signal.refused"], m.text)
  return m.text
end

-- The signal that each answer is for.
local ANSWERED = { ECHOREPLY = "SIGNECHO", STATREPLY = "SIGNSTAT", ACKGET = "SIGNGET", ACKEND = "SIGNEND", SIGNACK = "SIGNEW" }

-- Joins signals and answers, when a packet is first seen.
local function remember_signal(m, pinfo, seen)
  local here = tostring(pinfo.src) .. "|" .. tostring(pinfo.src_port)
  local there = tostring(pinfo.dst) .. "|" .. tostring(pinfo.dst_port)
  local key = m.from_client and (here .. "|" .. there) or (there .. "|" .. here)
  local session = sessions[key]
  if not session or (m.word == "SIGNEW" and session.numbered) then
    session = {}
    sessions[key] = session
  end
  if m.from_client then
    local what = m.word .. (m.id or "")
    session.numbered = session.numbered or m.word ~= "SIGNEW"
    if session[what] then
      seen.first = session[what].number
    else
      session[what] = { number = pinfo.number, time = pinfo.rel_ts, seen = seen }
      if m.word == "SIGNEND" then session["SIGNEND"] = session[what] end
    end
  elseif ANSWERED[m.word] then
    local request = session[ANSWERED[m.word] .. (m.id or "")]
    if request then
      seen.request, seen.time = request.number, interval(pinfo.rel_ts - request.time)
      request.seen.answer = request.seen.answer or pinfo.number
    end
  end
end

local function dissect_text(tvb, bytes, pinfo, tree, seen)
  local line = bytes:gsub("\r?\n$", "")
  local word, rest = line:match("^([A-Z]+):(.*)$")
  if not word then word = line:match("^[A-Z]+$") end
  local says = word and (SIGNALS[word] or ANSWERS[word])
  if not says or (SIGNALS[word] and not rest) then malformed("no signal of this protocol") end
  local m = { word = word, rest = rest, from = #word + 1, tree = tree, from_client = SIGNALS[word] ~= nil }
  function m.show(filter, value, at, length)
    return add(tree, filter, tvb(at, length or #tostring(value)), value)
  end
  function m.only_id()
    m.id = id_at(rest, 1)
    if #m.id ~= #rest then malformed("the id is no number") end
    return m.show("signal.id", UInt64.new(m.id), m.from, #m.id)
  end
  function m.numbered(alone_too)
    if not rest then malformed("not the shape of its signal") end
    if alone_too and not rest:find(";", 1, true) then return m.only_id() end
    m.id = id_at(rest, 1)
    if rest:sub(#m.id + 1, #m.id + 1) ~= ";" then malformed("not the shape of its signal") end
    m.text, m.text_at = rest:sub(#m.id + 2), m.from + #m.id + 1
    return m.show("signal.id", UInt64.new(m.id), m.from, #m.id)
  end
  add(tree, "signal", tvb(0, #word), word)
  info = word
  local meaning = says(m)
  if seen and not seen.whole then
    seen.whole = true
    remember_signal(m, pinfo, seen)
  end
  if seen and seen.first then
    tree:add_proto_expert_info(e["signal.repeated"], ("The same signal again: first in packet %d"):format(seen.first))
  end
  if seen and seen.request then
    generated(tree, "signal.request_in", seen.request)
    generated(tree, "signal.time", seen.time)
  end
  if seen and seen.answer then generated(tree, "signal.answer_in", seen.answer) end
  local again = seen and seen.first and " (again)" or ""
  info = ("%s%s%s: %s"):format(word, m.id and " " .. m.id or "", again, meaning)
end

-- What streams carry ------------------------------------------------------------------------------

local function word_items(tree, tvb, at, line, filters)
  local n = 0
  for from, word in line:gmatch("()(%S+)") do
    n = n + 1
    local filter = filters[n]
    if filter and word ~= "-" then
      local number = f[filter] and (filter:match("first$") or filter:match("length$") or filter:match("whole$"))
      local value = word
      if number then value = word:match("^%d+$") and #word < 20 and UInt64.new(word) end
      if value then add(tree, filter, tvb(at + from - 1, #word), value) end
    end
  end
end

local QUESTIONS = {
  LIST = { "question" },
  STAT = { "question" },
  ECHO = { "question", "question.timestamp" },
  GET = { "question", "question.file", "question.range", "validator" },
}
local OK = { "answer", "answer.first", "answer.length", "answer.whole", "validator", "answer.digest" }

-- The line at a stream's begin, as far as it stands in this packet; what it says, in words. `stream`
-- remembers what was asked.
local function dissect_exchange(tvb, tree, at, data, to, stream)
  local line = data:match("^([^\n]*)\n")
  if not line or #line > 2047 then return nil end
  if to == TO_SERVER then
    local word = line:match("^%u+")
    if not QUESTIONS[word] then return nil end
    word_items(tree, tvb, at, line, QUESTIONS[word])
    if stream then stream.question = word end
    return line
  end
  local code, text = line:match("^ERROR (%S+) ?(.*)$")
  if code then
    add(tree, "answer", tvb(at, 5), "ERROR")
    add(tree, "answer.error", tvb(at + 6, #code), code)
    if text ~= "" then add(tree, "answer.text", tvb(at + 7 + #code, #text), text) end
    return ("no answer: %s%s"):format(code, text ~= "" and ", " .. text or "")
  end
  if not line:match("^OK %d+ %S+ %S+ %S+") then return nil end
  word_items(tree, tvb, at, line, OK)
  local body = stream and ({ LIST = "answer.file", STAT = "answer.statistic" })[stream.question]
  if body == "answer.file" or (body and labnet.prefs.statistics) then
    for from, one in data:sub(#line + 2):gmatch("()([^\n]+)\n") do
      add(tree, body, tvb(at + #line + from, #one), one)
    end
  end
  local first, length = line:match("^OK (%d+) (%S+)")
  if length == "-" then length = "an unknown number of" end
  return ("here are %s bytes%s"):format(length, first ~= "0" and " from " .. first or "")
end

-- Frames ------------------------------------------------------------------------------------------

local function name_of_error(code)
  return NAMES.error[code] or (type(code) == "number" and ("0x%x"):format(code)) or tostring(code)
end

-- Each reads its fields and says in words what it says. `packet`: the packet it stands in.
local FRAMES = {}

FRAMES[0x00] = function(r, tree)
  -- All in a row are one item.
  local _, last = r.bytes:find("^\0*", r.at + 1)
  last = math.min(last, r.stop)
  local count = last - r.at + 1
  r.at = last
  tree:set_len(count)
  add(tree, "padding", r:range(last - count, last), count)
  return "padding"
end

FRAMES[0x01] = function() return "ping" end

local function ack(r, tree, packet)
  local largest, item = r:number(tree, "ack.largest")
  r:number(tree, "ack.delay")
  local count = r:number(tree, "ack.count")
  local first, length_item = r:number(tree, "ack.first")
  -- All of one kind, so that they can be reckoned with.
  local function alike(number)
    return type(largest) == "number" and number or UInt64.new(decimal(number))
  end
  if type(largest) ~= type(first) and type(first) ~= "number" then malformed("its ranges of packets are impossible") end
  if alike(first) > largest then malformed("its ranges of packets are impossible") end
  local smallest = largest - alike(first)
  local function show(under, high)
    local range = decimal(smallest) .. (smallest == high and "" or "-" .. decimal(high))
    generated(under, "ack.range", range)
    return range
  end
  local range = show(length_item, largest)
  local ranges = 1
  for _ = 1, size(count) do
    local gap = r:number(tree, "ack.gap")
    local length, length_item = r:number(tree, "ack.length")
    if type(largest) == "number" and not (type(gap) == "number" and type(length) == "number") then
      malformed("its ranges of packets are impossible")
    end
    gap, length = alike(gap), alike(length)
    if gap > smallest or smallest - gap < alike(2) then malformed("its ranges of packets are impossible") end
    local high = smallest - gap - alike(2)
    if length > high then malformed("its ranges of packets are impossible") end
    smallest = high - length
    local one = show(length_item, high)
    ranges = ranges + 1
    if ranges <= 4 then range = range .. ", " .. one end
  end
  local of = packet.acknowledges and packet.acknowledges[decimal(largest)]
  if of then
    generated(item, "ack.of", of.packet)
    generated(item, "ack.rtt", of.time)
  end
  return ("got %s%s"):format(range, ranges > 4 and " and " .. counted(ranges - 4, "range") .. " more" or "")
end

FRAMES[0x02] = ack
FRAMES[0x03] = function(r, tree, packet)
  local words = ack(r, tree, packet)
  r:number(tree, "ack.ect0")
  r:number(tree, "ack.ect1")
  local marked = r:number(tree, "ack.ce")
  return words .. (marked ~= 0 and (", %s marked"):format(decimal(marked)) or "")
end

FRAMES[0x04] = function(r, tree)
  local id, code = r:number(tree, "stream.id"), r:number(tree, "error")
  r:number(tree, "final_size")
  return ("stream %s is given up (%s)"):format(decimal(id), name_of_error(code))
end

FRAMES[0x05] = function(r, tree)
  local id, code = r:number(tree, "stream.id"), r:number(tree, "error")
  return ("no more of stream %s (%s)"):format(decimal(id), name_of_error(code))
end

local function stream(r, tree, packet, kind)
  local id, offset = r:number(tree, "stream.id"), r:number(tree, "stream.offset")
  local fin, length = kind % 2 == 1, nil
  if kind % 4 >= 2 then length = size(r:number(tree, "stream.length")) else length = r:left() end
  if length > r:left() then malformed("it ends too early") end
  if size(offset) + length > EXACT and offset + UInt64.new(length) > UInt64.new(4294967295, 0x3fffffff) then
    malformed("a stream would be longer than 2^62 - 1 bytes")
  end
  if kind % 4 < 2 then generated(tree, "stream.length", length) end
  add(tree, "stream.fin", r:range(r.frame, r.frame + 1), fin)
  local whole = math.min(length, #r.bytes - r.at)
  local at = r.at
  if whole > 0 then add(tree, "stream.data", r:range(at, at + whole)) end
  local words
  if offset == 0 then
    local data = r.bytes:sub(at + 1, at + whole)
    words = dissect_exchange(r.tvb, tree, at, data, packet.to, packet.stream(id))
  end
  if packet.sent_before(id, offset, length) then
    tree:add_proto_expert_info(
      e["sent_again"], ("Stream %s from %s: sent before"):format(decimal(id), decimal(offset)))
    words = (words and words .. ", " or "") .. "sent again"
  end
  r:pass(length)
  return ("stream %s from %s: %s%s%s"):format(
    decimal(id), decimal(offset), counted(length, "byte"), fin and ", its end" or "", words and " (" .. words .. ")" or "")
end
for kind = 0x08, 0x0b do FRAMES[kind] = stream end

local function limit(words)
  return function(r, tree) return words:format(decimal((r:number(tree, "limit")))) end
end
local function stream_limit(words)
  return function(r, tree)
    local id = r:number(tree, "stream.id")
    return words:format(decimal(id), decimal((r:number(tree, "limit"))))
  end
end
FRAMES[0x10] = limit("send up to %s bytes")
FRAMES[0x11] = stream_limit("stream %s up to %s")
FRAMES[0x12] = limit("up to %s streams")
FRAMES[0x14] = limit("held up at %s bytes")
FRAMES[0x15] = stream_limit("stream %s is held up at %s")

local function path(words)
  return function(r, tree)
    local at = r:pass(8)
    add(tree, "path", r:range(at))
    return words
  end
end
FRAMES[0x1a] = path("are you there?")
FRAMES[0x1b] = path("I am here")

FRAMES[0x1c] = function(r, tree)
  local code, item = r:number(tree, "error")
  local length = size(r:number(tree, "reason.length"))
  if length > r:left() then malformed("it ends too early") end
  local reason, at = r:take(length)
  if length > 0 then add(tree, "reason", r:range(at), reason) end
  item:add_proto_expert_info(e["ended"])
  return ("goodbye (%s%s)"):format(name_of_error(code), length > 0 and ": " .. reason:gsub("%c", " ") or "")
end

FRAMES[0x1f] = function(r, tree)
  r:number(tree, "ack_frequency.sequence")
  local packets = r:number(tree, "ack_frequency.packets")
  r:number(tree, "ack_frequency.delay")
  return ("acknowledge each %s"):format(decimal(packets))
end

-- What fits a line of the packet list.
local MOST_WORDS = 8

local function dissect_frames(r, tree, packet, head)
  local words = {}
  while r:left() > 0 do
    local kind, at = r:uint(1)
    r.frame = at
    local item = add(tree, "frame", r:range(at), kind)
    local read = FRAMES[kind]
    if not read then malformed(("no frame begins with the byte 0x%02x"):format(kind)) end
    words[#words + 1] = read(r, item, packet, kind)
    item:set_len(r.at - at)
    item:append_text(": " .. words[#words])
    if #words <= MOST_WORDS then info = head .. ": " .. table.concat(words, ", ") end
  end
  if #words == 0 then malformed("it holds nothing") end
  if #words > MOST_WORDS then
    local some = table.concat(words, ", ", 1, MOST_WORDS)
    info = ("%s: %s and %d frames more"):format(head, some, #words - MOST_WORDS)
  end
end

-- Packets -----------------------------------------------------------------------------------------

local function show_integrity(tree, range, state)
  local item = add(tree, "integrity", range, state):set_generated()
  if state == 1 then item:add_proto_expert_info(e["integrity.bad"]) end
end

-- The tag of a handshake packet whose fields end where `r` stands: its length tells the mode.
local function handshake_tag(r, tree, tag)
  local from = r.stop - tag
  local whole = r.stop <= #r.bytes
  if whole then add(tree, "tag", r.tvb(from, tag)) end
  local state = 2
  if tag == 4 then
    state = 4
    if whole then state = crc32c(0, r.bytes, 1, from) == be32(r.bytes, from + 1) and 0 or 1 end
  end
  show_integrity(tree, r.tvb(math.min(from, #r.bytes), 0), state)
  return state
end

local PARAMETERS = {
  { "max_idle_timeout", 1000, 86400000 }, { "initial_max_data" }, { "initial_max_stream_data" },
  { "initial_max_streams" }, { "max_udp_payload_size", 1200, 65487 }, { "max_ack_delay", 0, 16383 },
  { "reset_token", kind = "token" }, { "congestion", kind = "text" }, { "name", kind = "text" },
}

local function dissect_parameters(r, tree)
  local length = r:uint(2)
  if length > r:left() then malformed("it ends too early") end
  local stop, values = r.stop, {}
  r.stop = r.at + length
  while r:left() > 0 do
    local from = r.at
    local under = add(tree, "parameter", r:range(from, from))
    local id = r:number(under, "parameter.id")
    local value_length = size(r:number(under, "parameter.length"))
    local known = PARAMETERS[id]
    local function wrong() malformed(("the transport parameter 0x%x is wrong or there twice"):format(id)) end
    if known and values[known[1]] then wrong() end
    if value_length > r:left() then malformed("it ends too early") end
    local bytes, at = r:take(value_length)
    local value = hex(bytes)
    if not known then
      if value_length > 0 then add(under, "parameter.unknown", r:range(at)) end
    elseif known.kind == "token" then
      if value_length ~= 16 then wrong() end
      add(under, "parameter.reset_token", r:range(at))
      values[known[1]] = bytes
    elseif known.kind == "text" then
      if not bytes:find("^[ -:<-~]+$") or value_length > 64 then wrong() end
      add(under, "parameter." .. known[1], r:range(at), bytes)
      value, values[known[1]] = bytes, bytes
    else
      local inner = reader(r.tvb, r.bytes, at, r.at)
      if value_length == 0 then wrong() end
      local number = inner:varint()
      if inner:left() > 0 then wrong() end
      if known[2] and (size(number) < known[2] or size(number) > known[3]) then wrong() end
      add(under, "parameter." .. known[1], r:range(at), number)
      value, values[known[1]] = decimal(number), number
    end
    under:set_len(r.at - from)
    under:set_text(("%s: %s"):format(known and known[1] or ("unknown parameter 0x%s"):format(decimal(id)), value))
  end
  r.stop = stop
  return values
end

-- Which connection, and which way; the addresses beside it may change.
local function show_connection(tree, connection, to)
  if connection then generated(tree, "connection", connection.index) end
  if to then generated(tree, "direction", to) end
end

local function versioned(r, tree, pinfo)
  local version, at = r:uint(4)
  local item = add(tree, "version", r:range(at), version)
  local cid, cid_at = r:take(8)
  if version ~= 1 then
    add(tree, "cid.client", r:range(cid_at))
    item:add_proto_expert_info(e["other_version"])
    info = ("a handshake packet of version %d"):format(version)
    return nil
  end
  return cid, cid_at
end

local PACKETS = {}

PACKETS[0xc0] = function(r, tree, pinfo, seen)
  local cid, cid_at = versioned(r, tree, pinfo)
  if not cid then return end
  if r.stop < 1200 then malformed("a HELLO has 1200 bytes at least") end
  add(tree, "cid.client", r:range(cid_at))
  local nonce, nonce_at = r:take(16)
  add(tree, "nonce", r:range(nonce_at))
  local length = r:uint(1)
  local cookie, cookie_at = r:take(length)
  if length > 0 then add(tree, "cookie", r:range(cookie_at)) end
  local values = dissect_parameters(r, tree)
  -- Where the padding ends is the mode's affair. Zeros before the last four bytes: a CRC stands there.
  local tag = 4
  if r.stop <= #r.bytes and r:left() >= 16 and not r.bytes:find("^\0\0\0\0\0\0\0\0\0\0\0\0", r.stop - 15) then tag = 16 end
  local padding = r:left() - tag
  if padding < 0 then malformed("it ends too early") end
  local shown = math.min(padding, #r.bytes - r.at)
  if padding > 0 then add(tree, "padding", r.tvb(math.min(r.at, #r.bytes), math.max(shown, 0)), padding) end
  local state = handshake_tag(r, tree, tag)
  generated(tree, "mode", tag == 4 and "checksum" or "psk")
  if seen and not seen.whole and state ~= 1 then
    seen.connection = on_hello(cid, nonce, tag == 4 and "checksum" or "psk", pinfo)
    by_cid[cid].token = values.reset_token
  end
  show_connection(tree, seen and seen.connection, TO_SERVER)
  info = ("HELLO: I want a connection%s%s"):format(
    values.name and ", I am " .. values.name or "", length > 0 and ", here is your cookie" or "")
end

PACKETS[0xc1] = function(r, tree, pinfo, seen)
  local cid, cid_at = versioned(r, tree, pinfo)
  if not cid then return end
  add(tree, "cid.client", r:range(cid_at))
  local at = r:pass(16)
  add(tree, "nonce", r:range(at))
  local length = r:uint(1)
  if length == 0 then malformed("it holds nothing") end
  at = r:pass(length)
  add(tree, "cookie", r:range(at))
  if r:left() ~= 4 and r:left() ~= 16 then malformed("something is left over or missing at its end") end
  local tag = r:left()
  handshake_tag(r, tree, tag)
  generated(tree, "mode", tag == 4 and "checksum" or "psk")
  if seen and not seen.whole and by_cid[cid] then seen.connection = by_cid[cid].connection end
  show_connection(tree, seen and seen.connection, TO_CLIENT)
  info = "COOKIE: show me that you are where you say"
end

PACKETS[0xc4] = function(r, tree, pinfo, seen)
  local cid, cid_at = versioned(r, tree, pinfo)
  if not cid then return end
  add(tree, "cid.client", r:range(cid_at))
  local server, server_at = r:take(8)
  add(tree, "cid.server", r:range(server_at))
  local nonce, nonce_at = r:take(16)
  add(tree, "nonce", r:range(nonce_at))
  local token, token_at = r:take(16)
  add(tree, "token", r:range(token_at))
  dissect_parameters(r, tree)
  if r:left() ~= 4 and r:left() ~= 16 then malformed("something is left over or missing at its end") end
  local tag = r:left()
  local state = handshake_tag(r, tree, tag)
  generated(tree, "mode", tag == 4 and "checksum" or "psk")
  if seen and not seen.whole and state ~= 1 then
    seen.connection = on_accept(cid, server, nonce, token, tag == 4 and "checksum" or "psk")
  end
  show_connection(tree, seen and seen.connection, TO_CLIENT)
  info = "ACCEPT: hello, write to me as " .. hex(server)
end

PACKETS[0xc2] = function(r, tree, pinfo, seen)
  local cid, at = r:take(8)
  add(tree, "cid.client", r:range(at))
  local versions = r:left() - 4
  if versions < 4 or versions > 64 or versions % 4 ~= 0 then malformed("it lists no version, or too many") end
  local list = {}
  for _ = 1, versions / 4 do
    local version, version_at = r:uint(4)
    add(tree, "version", r:range(version_at), version)
    list[#list + 1] = decimal(version)
  end
  handshake_tag(r, tree, 4)
  if seen and not seen.whole and by_cid[cid] then seen.connection = by_cid[cid].connection end
  show_connection(tree, seen and seen.connection, TO_CLIENT)
  info = "VERSIONS: these are what I speak: " .. table.concat(list, ", ")
end

PACKETS[0xc3] = function(r, tree, pinfo, seen)
  local cid, at = r:take(8)
  local item = add(tree, "cid", r:range(at))
  item:set_text("Connection id that is not known: " .. hex(cid))
  local token, token_at = r:take(16)
  local token_item = add(tree, "token", r:range(token_at))
  if r:left() > 0 then malformed("something is left over or missing at its end") end
  local there = by_cid[cid]
  if seen and not seen.whole and there then
    seen.connection, seen.to = there.connection, there.to and 1 - there.to
    seen.wrong_token = there.token ~= nil and there.token ~= token
  end
  show_connection(tree, seen and seen.connection, seen and seen.to)
  if seen and seen.wrong_token then token_item:add_proto_expert_info(e["token.wrong"]) end
  info = "RESET: I know nothing of this connection"
end

-- What there is to find out of a DATA packet when it is first seen.
local function first_look(r, cid, low, pinfo, seen)
  local there = by_cid[cid]
  if not there then
    -- Of a connection that began before the capture.
    there = endpoint(new_connection(), nil)
    by_cid[cid] = there
  end
  seen.connection, seen.there, seen.to = there.connection, there, there.to
  if there.connection.mode == "psk" then
    seen.integrity = 2
  elseif r.stop > #r.bytes then
    seen.integrity = 4
  else
    seen.integrity = check_data(there, r.bytes)
  end
  if seen.integrity == 1 then return end
  seen.number = expand(there.expected, low)
  if there.to == TO_SERVER then
    local now = source(pinfo)
    if there.connection.address ~= now and seen.number + 1 > there.expected then
      seen.moved = there.connection.address
      there.connection.address = now
    end
  end
  there.expected = math.max(there.expected, seen.number + 1)
  there.sent[seen.number] = there.sent[seen.number] or { packet = pinfo.number, time = pinfo.rel_ts }
end

-- The other direction's endpoint of a connection.
local function opposite(connection, to)
  if to == TO_SERVER then return by_cid[connection.client] end
  for server in pairs(connection.servers) do return by_cid[server] end
end

-- What the frames of a packet want to know of its connection, found out once.
local function context(seen, first, pinfo)
  local packet = { to = seen and seen.to }
  local connection = seen and seen.connection
  function packet.stream(id)
    if not connection then return nil end
    local key = decimal(id)
    connection.streams[key] = connection.streams[key] or {}
    return connection.streams[key]
  end
  local pieces = 0
  function packet.sent_before(id, offset, length)
    if not (seen and seen.to and length > 0 and type(offset) == "number") then return false end
    pieces = pieces + 1
    if first then
      -- Bytes not sent before come in their order, each packet's number above the last's. A packet may carry a
      -- piece twice; a copy that a link makes of it has the same number, and is another.
      local stream = packet.stream(id)
      local edge = stream[seen.to]
      if edge and offset < edge.offset and (seen.number > edge.number or edge.by == seen) then
        seen.again = seen.again or {}
        seen.again[pieces] = true
      elseif not edge or offset + length > edge.offset then
        stream[seen.to] = { offset = offset + length, number = seen.number, by = seen }
      end
    end
    return seen.again ~= nil and seen.again[pieces] == true
  end
  if seen and first and seen.to then
    -- An ACK speaks of the packets that its receiver sent, which went to its sender.
    local other = opposite(seen.connection, seen.to)
    packet.acknowledges = setmetatable({}, { __index = function(_, largest)
      local of = other and other.sent[tonumber(largest)]
      seen.of = seen.of or {}
      seen.of[largest] = of and { packet = of.packet, time = interval(pinfo.rel_ts - of.time) }
      return seen.of[largest]
    end })
  elseif seen then
    packet.acknowledges = seen.of
  end
  return packet
end

PACKETS[0x80] = function(r, tree, pinfo, seen)
  local cid, cid_at = r:take(8)
  add(tree, "cid", r:range(cid_at))
  local low, low_at = r:uint(4)
  local item = add(tree, "number.low", r:range(low_at), low)
  local first = seen and not seen.whole
  if first then first_look(r, cid, low, pinfo, seen) end
  local integrity = seen and seen.integrity or 3
  local head = ("DATA %s"):format(decimal(seen and seen.number or low))
  info = head
  if seen then
    if seen.number then generated(item, "number", seen.number) end
    show_connection(tree, seen.connection, seen.to)
    if seen.moved then
      tree:add_proto_expert_info(e["moved"], ("The client has moved: here %s, before %s"):format(source(pinfo), seen.moved))
      head = head .. " (from a new address)"
    end
  end
  local psk = integrity == 2
  local tag = psk and 16 or 4
  if r:left() <= tag then malformed("it ends too early") end
  r.stop = r.stop - tag
  local from, captured = r.at, math.min(r.stop, #r.bytes)
  if r.stop + tag <= #r.bytes then add(tree, "tag", r.tvb(r.stop, tag)) end
  show_integrity(tree, r.tvb(math.min(r.stop, #r.bytes), 0), integrity)
  if seen and seen.connection.mode then generated(tree, "mode", seen.connection.mode) end
  if psk then
    add(tree, "protected", r.tvb(from, captured - from))
    info = ("%s: %d bytes of frames, protected by the secret"):format(head, r.stop - from)
  elseif integrity == 1 then
    add(tree, "unread", r.tvb(from, captured - from))
    info = head .. ": damaged, its receiver drops it"
  elseif integrity == 3 and seen and not seen.there.learned and seen.there.unlike > 1 then
    -- No two packets were of one checksum's making.
    add(tree, "unread", r.tvb(from, captured - from))
    info = head .. ": not readable without its handshake"
  else
    local well, fault = pcall(dissect_frames, r, tree, context(seen, first, pinfo), head)
    if seen and seen.again then generated(tree, "again", true) end
    if not well then error(fault, 0) end
  end
end

-- The dissector -----------------------------------------------------------------------------------

-- One packet; what it says is `info` then. Gives whether all of it was read.
local function dissect_packet(tvb, bytes, whole, pinfo, root, seen)
  info = ""
  local good, fault = pcall(function()
    local kind = bytes:byte(1)
    if kind < 0x80 then
      if whole > #bytes then error({ cut = true }, 0) end
      return dissect_text(tvb, bytes, pinfo, root, seen)
    end
    add(root, "packet", tvb(0, 1), kind)
    local read = PACKETS[kind]
    if not read then malformed(("no packet begins with the byte 0x%02x"):format(kind)) end
    info = NAMES.packet[kind]
    read(reader(tvb, bytes, 1, whole), root, pinfo, seen)
  end)
  if seen then seen.whole = true end
  if not good then
    if type(fault) == "table" and (fault.cut or pinfo.in_error_pkt) then
      root:add_proto_expert_info(e["cut"])
      info = info .. " (the rest is not in the capture)"
    else
      local why = type(fault) == "table" and fault.malformed or "this dissector failed: " .. tostring(fault)
      root:add_proto_expert_info(e["malformed"], "Malformed: " .. why)
      info = ("%s [Malformed: %s]"):format(info, why)
    end
  end
  root:append_text(", " .. info)
end

-- A kernel takes and gives many packets of one size at once (UDP segmentation offload), and captures
-- them as one datagram of up to 64 KiB: their size, if this is such a train, or the whole's.
local function segment_size(bytes, whole)
  local header = bytes:sub(1, 9)
  if #header < 9 or header:byte(1) ~= 0x80 then return whole end
  -- All but the last are of one size, so each begins at a multiple of it; one may be damaged.
  local size, headers = 0, 1
  local at = bytes:find(header, 19, true)
  while at do
    local rest = at - 1
    while rest > 0 do size, rest = rest, size % rest end
    headers = headers + 1
    at = bytes:find(header, at + 1, true)
  end
  if size < 18 or (whole - 1) % size < 17 or headers * 2 < #bytes / size then return whole end
  return size
end

function labnet.dissector(tvb, pinfo, tree)
  local bytes = tvb:raw(0, tvb:len())
  local whole = tvb:reported_len()
  pinfo.cols.protocol = "RUDP"
  local size = segment_size(bytes, whole)
  local first
  for begin = 0, #bytes - 1, size do
    -- What an ICMP error quotes is no packet of its own.
    local seen
    if not pinfo.in_error_pkt then
      local key = begin == 0 and pinfo.number or pinfo.number .. "/" .. begin
      seen = packets[key] or {}
      packets[key] = seen
    end
    local captured = math.min(size, #bytes - begin)
    local range = tvb(begin, captured)
    local one = begin == 0 and bytes or bytes:sub(begin + 1, begin + captured)
    if size < whole then one = one:sub(1, captured) end
    local here = size < whole and range:tvb() or tvb
    dissect_packet(here, one, math.min(size, whole - begin), pinfo, tree:add(labnet, range), seen)
    first = first or info
  end
  if size < whole then
    first = ("%d packets at once: %s; up to %s"):format(math.ceil(whole / size), first, info)
  end
  pinfo.cols.info = first
  return tvb:len()
end

-- On other ports: only what can hardly be anything else.
local function is_rudp(bytes, whole)
  local kind = bytes:byte(1)
  if kind < 0x80 then
    local word, after = bytes:match("^([A-Z]+)([:]?)")
    return word ~= nil and ((SIGNALS[word] and after == ":") or (ANSWERS[word] and (after == ":" or #word == #bytes)))
  elseif #bytes < 13 then
    return false
  elseif kind == 0xc0 then
    return whole >= 1200 and be32(bytes, 2) == 1
  elseif kind == 0xc1 then
    return whole > 34 and be32(bytes, 2) == 1 and #bytes > 29 and (whole - 30 - bytes:byte(30)) % 12 == 4
  elseif kind == 0xc4 then
    return whole > 55 and be32(bytes, 2) == 1
  elseif kind == 0xc2 then
    return #bytes == whole and whole >= 17 and crc32c(0, bytes, 1, whole - 4) == be32(bytes, whole - 3)
  elseif kind == 0x80 or kind == 0xc3 then
    return by_cid[bytes:sub(2, 9)] ~= nil
  end
  return false
end

labnet:register_heuristic("udp", function(tvb, pinfo, tree)
  if tvb:len() == 0 or not is_rudp(tvb:raw(0, tvb:len()), tvb:reported_len()) then return false end
  labnet.dissector(tvb, pinfo, tree)
  pinfo.conversation = labnet
  return true
end)

local udp, registered = DissectorTable.get("udp.port"), nil

local function listen()
  if registered == labnet.prefs.ports then return end
  if registered and registered ~= "" then udp:remove(registered, labnet) end
  registered = labnet.prefs.ports
  if registered ~= "" then udp:add(registered, labnet) end
end
listen()
labnet.prefs_changed = listen
