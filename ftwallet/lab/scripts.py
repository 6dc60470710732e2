"""wrk's scripts (Lua): one kind of request, each with an id never used before, or a mix of all that clients ask.

A request is put together by hand, because wrk.format would cost more than the rest of the script. One thread alone
keeps up with a server in Python many times over; ids still name the thread, as wrk may have several. What was counted
is printed as one line of JSON at the end, so nothing depends on how wrk lays out its text for people.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ACCOUNTS = 1_000
AMOUNT_MINOR = 125
"""What each deposit brings, in minor units of a currency with two decimals."""

WITHDRAWN_MINOR = 25
"""What each withdrawal of the mix takes: less than comes in meanwhile, so none is refused."""

TRANSFERRED_MINOR = 1
"""What each transfer takes from one account to the next: each gives as often as it gets, so none is refused."""


class Requests(StrEnum):
    """What a load asks."""

    DEPOSITS = "deposits"
    TRANSFERS = "transfers"
    HOLDS = "holds"
    MIX = "mix"


LINE = "ftwallet-load "
"""What the line with the counts begins with."""

_BEGIN: Final = """
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(arguments)
  prefix = arguments[1] .. "-" .. number .. "-"
  limit = tonumber(arguments[2])
  accounts = tonumber(arguments[3])
  sent, fresh, answered = 0, 0, 0
  deposits, withdrawals, balances, holds = 0, 0, 0, 0
  head = " HTTP/1.1\\r\\nHost: " .. wrk.host .. "\\r\\nContent-Type: application/json\\r\\nContent-Length: "
  -- Only where it is needed: with this function wrk hands every answer over to the script, which is slower.
  if limit > 0 then response = count end
end

function post(path, body)
  return "POST " .. path .. head .. #body .. "\\r\\n\\r\\n" .. body
end

function name(index)
  return '"account-' .. (index * 7919) % accounts .. '"'
end

function account(index)
  return '{"account_id":' .. name(index)
end

function deposit(index)
  return post("/deposit", account(index) .. ',"amount":DEPOSITED,"transaction_id":"' .. prefix .. index .. '"}')
end
"""

_DEPOSITS: Final = """
function request()
  sent = sent + 1
  fresh = sent
  return deposit(sent)
end
"""

_TRANSFERS: Final = """
function request()
  sent = sent + 1
  fresh = sent
  return post("/transfer", '{"from_account_id":' .. name(sent) .. ',"to_account_id":' .. name(sent + 1) ..
    ',"amount":TRANSFERRED,"transaction_id":"' .. prefix .. sent .. '"}')
end
"""

# A hold, then the capture of one that was placed well before: it has been answered, whatever connection it went by.
# The first is never sent, as wrk only looks at it.
_HOLDS: Final = """
local back = 400

function request()
  sent = sent + 1
  fresh = sent
  local captured = sent / 2 - back
  if sent % 2 == 0 and captured > 1 then
    return post("/holds/" .. prefix .. "h" .. captured .. "/capture", '{"to_account_id":' .. name(captured + 1) ..
      ',"transaction_id":"' .. prefix .. "c" .. captured .. '"}')
  end
  holds = holds + 1
  return post("/holds", account(holds) .. ',"amount":TRANSFERRED,"transaction_id":"' .. prefix .. "h" .. holds .. '"}')
end
"""

# Of ten requests five are deposits, two withdrawals, two look at a balance, and one sends an older deposit again.
# Its first must be none that a retry would take for done.
_MIX: Final = """
local back = 100

function request()
  sent = sent + 1
  local turn = sent % 10
  if turn == 3 and deposits > back then return deposit(deposits - back) end
  if turn == 1 or turn == 3 or turn == 6 then
    balances = balances + 1
    return post("/balance", account(balances) .. "}")
  end
  fresh = fresh + 1
  if turn == 4 or turn == 9 then
    withdrawals = withdrawals + 1
    return post("/withdraw",
      account(withdrawals) .. ',"amount":WITHDRAWN,"transaction_id":"' .. prefix .. "w" .. withdrawals .. '"}')
  end
  deposits = deposits + 1
  return deposit(deposits)
end
"""

_END: Final = """
function count()
  answered = answered + 1
  if answered == limit then wrk.thread:stop() end
end

function done(summary, latency, requests)
  local errors, sent, fresh = summary.errors, 0, 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
    fresh = fresh + thread:get("fresh")
  end
  io.write(string.format(
    'LINE{"requests":%d,"sent":%d,"fresh":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,' ..
    '"non_200":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\\n',
    summary.requests, sent, fresh, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
"""


_ASKING: Final = {
    Requests.DEPOSITS: _DEPOSITS,
    Requests.TRANSFERS: _TRANSFERS,
    Requests.HOLDS: _HOLDS,
    Requests.MIX: _MIX,
}


def lua(requests: Requests = Requests.DEPOSITS) -> str:
    """Return the script that asks these."""
    script = _BEGIN + _ASKING[requests] + _END
    words = {
        "DEPOSITED": decimals(AMOUNT_MINOR),
        "WITHDRAWN": decimals(WITHDRAWN_MINOR),
        "TRANSFERRED": decimals(TRANSFERRED_MINOR),
        "LINE": LINE,
    }
    for word, text in words.items():
        script = script.replace(word, text)
    return script


def decimals(minor: int) -> str:
    """Return an amount as it stands in a request."""
    return f"{minor // 100}.{minor % 100:02d}"
