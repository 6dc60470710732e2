"""The gRPC face of a real pair: the same ids, outcomes and balances as over REST, on both nodes."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from ftwallet.rpc.v1 import wallet_pb2, wallet_pb2_grpc
from tests.faults.checker import Asked, Client
from tests.faults.harness import Pair


@pytest.fixture
def channels(pair: Pair) -> Iterator[list[grpc.Channel]]:
    ports = (pair.ports["primary_grpc_port"], pair.ports["backup_grpc_port"])
    channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) for port in ports]
    yield channels
    for channel in channels:
        channel.close()


def test_K2_one_id_over_grpc_and_rest(client: Client, channels: list[grpc.Channel]) -> None:
    wallet = wallet_pb2_grpc.PrimaryWalletStub(channels[0])
    account, transaction_id = client.new_id("account"), client.new_id("grpc")
    client.asked[transaction_id] = Asked("deposit", account, "12.5")
    request = wallet_pb2.MoneyRequest(account_id=account, amount="12.50", transaction_id=transaction_id)
    reply = wallet.Deposit(request, timeout=5)
    assert (reply.success, reply.message, reply.new_balance, reply.replayed) == (
        True, "Deposited 12.5", "12.5", False
    )  # fmt: skip
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.replayed
    assert (answer.document["message"], answer.headers["ftwallet-lsn"]) == ("Deposited 12.5", str(reply.lsn))
    assert wallet.Deposit(request, timeout=5).replayed


def test_K2_a_refusal_over_grpc_is_an_outcome(client: Client, channels: list[grpc.Channel]) -> None:
    wallet = wallet_pb2_grpc.PrimaryWalletStub(channels[0])
    account, transaction_id = client.new_id("account"), client.new_id("grpc")
    client.asked[transaction_id] = Asked("withdraw", account, "1")
    request = wallet_pb2.MoneyRequest(account_id=account, amount="1", transaction_id=transaction_id)
    reply = wallet.Withdraw(request, timeout=5)
    assert (reply.success, reply.message, reply.new_balance) == (False, "Account not found", "")
    answer = client.again(transaction_id)
    assert answer is not None
    assert (answer.status, answer.replayed) == (404, True)


def test_both_nodes_tell_the_same_balance(client: Client, channels: list[grpc.Channel]) -> None:
    account = client.new_id("account")
    client.deposit("90071992547409.93", account)
    request = wallet_pb2.BalanceRequest(account_id=account)
    replies = [
        wallet_pb2_grpc.PrimaryWalletStub(channels[0]).GetBalance(request, timeout=5),
        wallet_pb2_grpc.WalletBackupStub(channels[1]).GetBalance(request, timeout=5),
    ]
    assert [reply.balance for reply in replies] == ["90071992547409.93"] * 2
