"""Bad input to a real primary over HTTP and gRPC: refused with the field's name, and no record in the log."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import grpc
import pytest

from ftwallet.rpc.v1 import wallet_pb2, wallet_pb2_grpc
from tests.api.cases import MALFORMED_BALANCES, MALFORMED_MOVEMENTS, MOVEMENTS, REFUSED_AMOUNTS, Case
from tests.faults.checker import Asked, Client
from tests.faults.harness import Pair

LIMIT = 16_384
_IDS_OF_CASES = {"t1", "t2", "a", "k" * 129}


@pytest.fixture(autouse=True)
def _no_record(client: Client) -> Iterator[None]:
    """What is refused leaves the log as it was, and its ids unknown."""
    client.deposit()
    pair = client.pair
    before = pair.until(lambda: _idle(pair), "nothing is under way")
    yield
    assert _idle(pair) == before
    client.absent |= _IDS_OF_CASES
    for transaction_id in ("t1", "t2"):
        assert client.known(transaction_id) is None


def _idle(pair: Pair) -> tuple[int, bytes] | None:
    status = pair.wait_up("a")
    return (status.durable_lsn, status.digest) if status.durable_lsn == status.applied_lsn else None


def _post(pair: Pair, path: str, case: Case) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", pair.ports["http_port"], timeout=10)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(len(case.body)))
    for name, value in case.headers:
        connection.putheader(name, value.encode("utf-8", "surrogateescape"))
    connection.endheaders(case.body)
    response = connection.getresponse()
    answer = response.status, response.read(), response.getheader("content-type", "")
    connection.close()
    return answer


def _check(pair: Pair, path: str, case: Case) -> None:
    status, body, content_type = _post(pair, path, case)
    document = json.loads(body)
    assert (status, content_type) == (case.status, "application/problem+json"), case.name
    assert document["detail"] == case.detail, case.name
    if case.field is not None:
        assert case.field in [error["field"] for error in document["errors"]], case.name


@pytest.mark.parametrize("path", MOVEMENTS)
def test_A1_over_http(pair: Pair, path: str) -> None:
    for case in (*MALFORMED_MOVEMENTS, *REFUSED_AMOUNTS):
        _check(pair, path, case)


def test_A1_balance_over_http(pair: Pair) -> None:
    for case in MALFORMED_BALANCES:
        _check(pair, "/balance", case)


@pytest.mark.parametrize("depth", [8_000, 50_000])
def test_A1_deep_json(pair: Pair, depth: int) -> None:
    bodies = [b"[" * depth, b'{"a":' * (depth // 5), b"[" * (depth // 2) + b"]" * (depth // 2)]
    for body in bodies:
        status, answer, _ = _post(pair, "/deposit", Case("deep", body, 0, ""))
        assert status == (413 if len(body) > LIMIT else 422)
        assert json.loads(answer)["status"] == status
    assert pair.rest.healthy()


# ---- gRPC


@pytest.fixture
def wallet(pair: Pair) -> Iterator[wallet_pb2_grpc.PrimaryWalletStub]:
    with _channel(pair.ports["primary_grpc_port"]) as channel:
        yield wallet_pb2_grpc.PrimaryWalletStub(channel)


def _channel(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])


_BAD_MONEY = [
    ("", "1", "t1", "account_id must not be empty"),
    ("@world", "1", "t1", "account_id must not start with '@'"),
    ("a" * 129, "1", "t1", "account_id must have at most 128 characters"),
    ("a\0b", "1", "t1", "account_id must have printable characters only"),
    ("a\nb", "1", "t1", "account_id must have printable characters only"),
    ("user123", "1", "", "transaction_id must not be empty"),
    ("user123", "1", "\t", "transaction_id must have printable characters only"),
    ("user123", "1", "k" * 129, "transaction_id must have at most 128 characters"),
    ("user123", "", "t1", "Amount must be a decimal number"),
    ("user123", "NaN", "t1", "Amount must be a decimal number"),
    ("user123", "Infinity", "t1", "Amount must be a decimal number"),
    ("user123", "true", "t1", "Amount must be a decimal number"),
    ("user123", "1_0", "t1", "Amount must be a decimal number"),
    ("user123", "٣", "t1", "Amount must be a decimal number"),
    ("user123", "0", "t1", "Amount must be positive"),
    ("user123", "-5", "t1", "Amount must be positive"),
    ("user123", "0.001", "t1", "Amount has more than 2 decimal places"),
    ("user123", "1e400", "t1", "Amount is over the limit of 10000000000000000.0"),
    ("user123", "1E+400000000", "t1", "Amount is over the limit of 10000000000000000.0"),
    ("user123", "1" + "0" * 30, "t1", "Amount is over the limit of 10000000000000000.0"),
]


@pytest.mark.parametrize("call", ["Deposit", "Withdraw"])
def test_A1_over_grpc(wallet: wallet_pb2_grpc.PrimaryWalletStub, call: str) -> None:
    for account_id, amount, transaction_id, detail in _BAD_MONEY:
        request = wallet_pb2.MoneyRequest(account_id=account_id, amount=amount, transaction_id=transaction_id)
        with pytest.raises(grpc.RpcError) as refusal:
            getattr(wallet, call)(request, timeout=5)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.value.details().startswith(detail)


def test_A1_balance_over_grpc(wallet: wallet_pb2_grpc.PrimaryWalletStub) -> None:
    for account_id in ("", "@world", "a" * 129, "a\0"):
        with pytest.raises(grpc.RpcError) as refusal:
            wallet.GetBalance(wallet_pb2.BalanceRequest(account_id=account_id), timeout=5)
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.value.details().startswith("account_id ")


# ---- A2


def test_A2_body_over_the_limit(pair: Pair) -> None:
    for size in (LIMIT + 1, 3_000_000):
        status, body, content_type = _post(pair, "/deposit", Case("long", b" " * size, 413, ""))
        assert (status, content_type) == (413, "application/problem+json")
        assert str(LIMIT) in json.loads(body)["detail"]


@pytest.mark.parametrize("head", [b"content-length: 1000000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"])
def test_A2_long_body_is_refused_before_its_end(pair: Pair, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", pair.ports["http_port"]), timeout=10) as connection:
        connection.sendall(b"POST /deposit HTTP/1.1\r\nhost: x\r\n" + head)
        if b"chunked" in head:
            connection.sendall(b"%x\r\n" % (LIMIT + 1) + b"[" * (LIMIT + 1) + b"\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_A2_id_at_and_over_the_limit(client: Client) -> None:
    longest = "x" * 128
    if longest not in client.asked:
        client.asked[longest] = Asked("deposit", "user123", "1")
    too_long = client.pair.rest.move("deposit", "user123", "1", longest + "x")
    assert too_long is not None
    assert too_long.status == 422
    client.absent.add(longest + "x")


def test_A2_grpc_message_over_the_limit(pair: Pair, wallet: wallet_pb2_grpc.PrimaryWalletStub) -> None:
    request = wallet_pb2.MoneyRequest(account_id="a" * (LIMIT + 1), amount="1", transaction_id="t1")
    with pytest.raises(grpc.RpcError) as refusal:
        wallet.Deposit(request, timeout=5)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with _channel(pair.ports["backup_grpc_port"]) as channel:
        long = wallet_pb2.BalanceRequest(account_id="a" * (17 * 1024 * 1024))
        with pytest.raises(grpc.RpcError) as refusal:
            wallet_pb2_grpc.WalletBackupStub(channel).GetBalance(long, timeout=5)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert pair.wait_up("b").state == "in-sync"
