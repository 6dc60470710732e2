"""A short story against a running wallet: `python example_client.py [URL]`.

Start the wallet first, in another terminal: `ftwallet-run up`. Kill things while this runs, as often as you like: every
call is tried again, under the same transaction id, until its outcome is known, and no money moves twice.
"""

from __future__ import annotations

import sys
from decimal import Decimal

from ftwallet.client import Amount, InDoubt, Receipt, Rejected, TransferReceipt, Unreachable, WalletClient

ACCOUNT = "user123"
OTHER_ACCOUNT = "user456"


class ExampleClient:
    """The calls of the story, named as the first design of this system named them; each says what happened."""

    def __init__(self, wallet: WalletClient) -> None:
        self._wallet = wallet

    def deposit_with_retry(self, account_id: str, amount: Amount, transaction_id: str | None = None) -> Receipt:
        """Deposit until the outcome is known. Raises Rejected or InDoubt."""
        return _told(self._wallet.deposit(account_id, amount, transaction_id))

    def withdraw_with_retry(self, account_id: str, amount: Amount, transaction_id: str | None = None) -> Receipt:
        """Withdraw until the outcome is known. Raises Rejected or InDoubt."""
        return _told(self._wallet.withdraw(account_id, amount, transaction_id))

    def transfer_with_retry(
        self, from_account_id: str, to_account_id: str, amount: Amount, transaction_id: str | None = None
    ) -> TransferReceipt:
        """Transfer until the outcome is known. Raises Rejected or InDoubt."""
        receipt = self._wallet.transfer(from_account_id, to_account_id, amount, transaction_id)
        balances = ", ".join(f"{account_id} has {balance}" for account_id, balance in receipt.balances.items())
        print(f"   {receipt.message}; {balances}")
        print(f"   transaction {receipt.transaction_id}, lsn {receipt.lsn}, {receipt.durability}")
        return receipt

    def get_balance_with_retry(self, account_id: str) -> Decimal:
        """Ask for the balance until there is an answer. Raises Rejected or Unreachable."""
        balance = self._wallet.balance(account_id).balance
        print(f"   the balance of {account_id} is {balance}")
        return balance


def _told(receipt: Receipt) -> Receipt:
    again = " (the answer of the first time)" if receipt.replayed else ""
    print(f"   {receipt.message}; the balance is {receipt.new_balance}{again}")
    print(f"   transaction {receipt.transaction_id}, lsn {receipt.lsn}, {receipt.durability}")
    return receipt


def story(client: ExampleClient) -> None:
    """Tell the story. Raises InDoubt or Unreachable when the wallet does not answer for long."""
    print(f"1. Deposit 1000.00 into {ACCOUNT}")
    client.deposit_with_retry(ACCOUNT, 1000.00)
    print("2. Withdraw 250.50")
    receipt = client.withdraw_with_retry(ACCOUNT, 250.50)
    print("3. Ask for the balance")
    balance = client.get_balance_with_retry(ACCOUNT)
    print("4. Withdraw more than there is")
    try:
        client.withdraw_with_retry(ACCOUNT, balance + 1)
    except Rejected as refusal:
        print(f"   refused: {refusal.detail} (HTTP {refusal.status}); nothing moved")
    print("5. Send the withdrawal of step 2 again, with its own id, as a client does that lost the answer")
    client.withdraw_with_retry(ACCOUNT, 250.50, receipt.transaction_id)
    print("6. Ask for the balance again: it has not moved")
    client.get_balance_with_retry(ACCOUNT)
    print(f"7. Transfer 99.50 from {ACCOUNT} to {OTHER_ACCOUNT}")
    client.transfer_with_retry(ACCOUNT, OTHER_ACCOUNT, 99.50)


def main(arguments: list[str]) -> int:
    """Run the story against the wallet at the URL given, or at 127.0.0.1:8000; return the exit code."""
    with WalletClient(*arguments[:1]) as wallet:
        try:
            print(f"The wallet at {wallet.base_url} is {wallet.health()}.")
            story(ExampleClient(wallet))
        except Unreachable as error:
            print(f"{error}. Start one with: ftwallet-run up", file=sys.stderr)
            return 1
        except (InDoubt, Rejected) as error:
            print(f"{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
