"""The rules of money in the configuration against those of the ledger, with real processes."""

from __future__ import annotations

from ftwallet.errors import ExitCode
from tests.faults.checker import Client
from tests.faults.harness import running_pair


def test_other_decimals_than_the_ledgers_are_refused_and_other_limits_are_put_on_record() -> None:
    with running_pair() as pair:
        client = Client(pair)
        earlier = client.deposit("12.50")
        pair.a.stop()
        pair.settings["currency_exponent"] = 3
        assert pair.start("a").ends() == ExitCode.WRONG_DIRECTORY
        assert "currency_exponent is 3, and this ledger's balances have 2 decimals: set it to 2" in pair.a.said()
        del pair.settings["currency_exponent"]
        pair.settings["max_amount"] = 1_000
        pair.start("a")
        pair.wait_paired()
        answer = client.send("deposit", "user123", "10.01", client.new_id("over"))
        assert answer is not None
        assert (answer.status, answer.document["detail"]) == (400, "Amount is over the limit of 10.0")
        again = pair.rest.move("deposit", "user123", "12.50", earlier.document["transaction_id"])
        assert again is not None
        assert (again.status, again.body, again.replayed) == (200, earlier.body, True)
