"""The ASGI application of a node: FastAPI declares and serves every call; the busy ones rarely come here.

Every answer is JSON, also the ones that FastAPI and Starlette would give by themselves (404, 405, validation): those
are problem documents like all others. The interactive pages are left off, because they load their assets from other
people's servers; `/openapi.json` is whole, with an example of every answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ftwallet import __version__
from ftwallet.api import describe, problems, schemas
from ftwallet.api.asgi import answered, guarded
from ftwallet.api.decode import FieldError, Headers, Malformed
from ftwallet.api.handlers import Handler, Handlers, Hot
from ftwallet.api.problems import ProblemType
from ftwallet.api.relay import Relay
from ftwallet.api.reply import JSON, Header, Reply, framed
from ftwallet.wallet import NO_WALLET, Wallet

_PLAIN_HOLD = re.compile(rb"/holds/([A-Za-z0-9._~:@!$&'()*+,;=/-]+)/(capture|release)")
"""A path that means itself: nothing in it is decoded, and no query or fragment follows."""

_HOLDS = "/holds/"
_MAX_BATCH_BODY_BYTES = 4 * 1024 * 1024
_POLL_S = 0.002

OfAHold = Callable[[bytes, Headers, bytes], Awaitable[Reply]]
"""A call on a hold: its id as bytes, percent-decoded, and then as a `Handler`."""


class Application:
    """The REST application; bodies longer than `max_body_bytes` are refused before they are parsed.

    That of a batch may be longer: up to `max_batch_body_bytes`.

    Building it takes some 30 ms, which nobody should wait for in a failover: it is built first, and is given the
    wallet that it serves later, also another one.
    """

    def __init__(self, max_body_bytes: int = 16_384, max_batch_body_bytes: int = _MAX_BATCH_BODY_BYTES) -> None:
        self._handlers = handlers = Handlers(NO_WALLET)
        self._app = _head_like_get(declared_app(handlers, max_body_bytes, max_batch_body_bytes))
        self._direct = {
            b"/deposit": Hot(handlers.deposit, max_body_bytes),
            b"/withdraw": Hot(handlers.withdraw, max_body_bytes),
            b"/transfer": Hot(handlers.transfer, max_body_bytes),
            b"/holds": Hot(handlers.hold, max_body_bytes),
            b"/balance": Hot(handlers.balance, max_body_bytes),
            b"/transactions": Hot(handlers.batch, max_batch_body_bytes),
        }
        self._of_a_hold: dict[bytes, OfAHold] = {b"capture": handlers.capture, b"release": handlers.release}
        self._max_body_bytes = max_body_bytes
        self._inside = 0
        self._relay: Relay | None = None

    def serve(self, wallet: Wallet) -> None:
        """Serve this wallet from the next request on."""
        self._handlers.wallet = wallet

    @property
    def leaving(self) -> bool:
        """Whether connections are to end with their next answer: the one after it is another node's to give."""
        return self._relay is not None and self._relay.has_passed

    async def hold(self, relay: Relay, within_s: float) -> None:
        """Hold what comes from now on; returns when what came before is answered, or after `within_s` seconds."""
        self._relay = relay
        give_up = time.monotonic() + within_s
        while self._inside and time.monotonic() < give_up:
            await asyncio.sleep(_POLL_S)

    def go_on(self) -> None:
        """Serve here again; what is held goes on when its relay is told so."""
        self._relay = None

    def direct(self, path: bytes) -> Hot | None:
        """The call of the hot path that POST to this path is; None for any other, and while a relay holds them."""
        if self._relay is not None:
            return None
        return self._direct.get(path) or self._direct_of_a_hold(path)

    def _direct_of_a_hold(self, path: bytes) -> Hot | None:
        """The last segment is the verb, and the id may hold slashes."""
        found = _PLAIN_HOLD.fullmatch(path)
        if found is None:
            return None
        hold_id, verb = found.groups()
        return Hot(partial(self._of_a_hold[verb], hold_id), self._max_body_bytes)

    async def answer(self, hot: Hot, path: bytes, headers: list[Header], body: bytes) -> Reply:
        """The reply of a call of the hot path, whose body is whole and not too long; a bug becomes a problem."""
        relay = self._relay
        if relay is not None:  # since the request's headers came
            deadline = relay.deadline()
            if await relay.passed(deadline):
                scope = {"method": "POST", "raw_path": path, "query_string": b"", "headers": headers}
                return await relay.reply(scope, body, deadline)
        self._inside += 1
        try:
            return await guarded(hot.handler(headers, body))
        finally:
            self._inside -= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        relay = self._relay
        if relay is not None:
            deadline = relay.deadline()
            if await relay.passed(deadline):
                await relay.answer(scope, receive, send, deadline)
                return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


def build_app(
    wallet: Wallet, *, max_body_bytes: int = 16_384, max_batch_body_bytes: int = _MAX_BATCH_BODY_BYTES
) -> Application:
    """The REST application over one wallet."""
    application = Application(max_body_bytes, max_batch_body_bytes)
    application.serve(wallet)
    return application


def declared_app(handlers: Handlers, max_body_bytes: int, max_batch_body_bytes: int = _MAX_BATCH_BODY_BYTES) -> FastAPI:
    """Every call as a FastAPI route, for the OpenAPI document and for all that comes by ASGI."""
    app = _Application(
        title="FT-Wallet",
        version=__version__,
        description=describe.OVERVIEW,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)

    def post(path: str, handler: Handler, limit: int = max_body_bytes, **documented: Any) -> None:
        async def call(request: Request) -> Response:
            return _response(await answered(handler, request.scope["headers"], request.receive, limit))

        app.add_api_route(path, call, methods=["POST"], response_model=None, **documented)

    post("/deposit", handlers.deposit, **describe.deposit())
    post("/withdraw", handlers.withdraw, **describe.withdraw())
    post("/transfer", handlers.transfer, **describe.transfer())
    post("/holds", handlers.hold, **describe.hold())
    _declare_ends_of_a_hold(app, handlers, max_body_bytes)
    post("/balance", handlers.balance, **describe.balance())
    post("/transactions", handlers.batch, max_batch_body_bytes, **describe.batch())

    def get(path: str, field: str, handler: Callable[[bytes], Awaitable[Reply]], **documented: Any) -> None:
        async def call(request: Request) -> Response:
            return _response(await guarded(handler(_raw_id(request, path, field))))

        app.add_api_route(path + "{" + field + ":path}", call, methods=["GET"], response_model=None, **documented)

    get("/transactions/", "transaction_id", handlers.transaction, **describe.transaction())
    get("/holds/", "hold_id", handlers.get_hold, **describe.get_hold())
    get("/accounts/", "account_id", handlers.account, **describe.account())

    @app.get("/health", response_model=None, **describe.health())
    async def health() -> Response:
        return _response(await guarded(handlers.health()))

    @app.get("/", response_model=None, include_in_schema=False)
    async def index() -> Response:
        return _response(framed(200, JSON, describe.INDEX, []))

    return app


class _Application(FastAPI):
    """FastAPI, plus the schemas that the descriptions of our calls refer to, and the nulls in their examples."""

    def openapi(self) -> dict[str, Any]:
        """The document; FastAPI leaves every null out of it, also where it is the value that an example shows."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas.SCHEMAS)
        for route in self.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                responses = {str(status): response for status, response in route.responses.items()}
                for method in route.methods or ():
                    document["paths"][route.path_format][method.lower()]["responses"] = responses
        return document


class _NoResponse(Response):
    """The client is gone: nothing is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


def _response(reply: Reply | None) -> Response:
    if reply is None:
        return _NoResponse()
    status, headers, body = reply
    response = Response(body, status)
    response.raw_headers = headers
    return response


def _declare_ends_of_a_hold(app: FastAPI, handlers: Handlers, limit: int) -> None:
    """The two calls whose last segment is the verb; what stands between is the hold's id."""

    def post(verb: str, handler: OfAHold, documented: dict[str, Any]) -> None:
        async def call(request: Request) -> Response:
            bound = partial(handler, _raw_id(request, _HOLDS, "hold_id", verb))
            return _response(await answered(bound, request.scope["headers"], request.receive, limit))

        app.add_api_route(_HOLDS + "{hold_id:path}" + verb, call, methods=["POST"], response_model=None, **documented)

    post("/capture", handlers.capture, describe.capture())
    post("/release", handlers.release, describe.release())


def _raw_id(request: Request, before: str, field: str, after: str = "") -> bytes:
    """The id that stands between in the path, as the client wrote it, percent-decoded.

    Servers decode a path with replacement characters, which could name another id.
    """
    raw = unquote_to_bytes(request.scope.get("raw_path", b"").partition(b"?")[0])
    begin, end = before.encode(), after.encode()
    if raw.startswith(begin) and raw.endswith(end):
        return raw[len(begin) : len(raw) - len(end)]
    return str(request.path_params[field]).encode("utf-8", "surrogateescape")


async def _http_problem(request: Request, error: Exception) -> Response:
    """Starlette's own refusals as problem documents; OPTIONS is answered from what its 405 knows."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == ProblemType.NO_SUCH_PATH.status:
        return _response(problems.problem(ProblemType.NO_SUCH_PATH, "No such path: /openapi.json lists what there is"))
    if error.status_code == ProblemType.METHOD_NOT_ALLOWED.status:
        return _other_method(request.method, (error.headers or {}).get("Allow", ""))
    return _response(problems.problem(ProblemType.BAD_REQUEST, str(error.detail)))


def _other_method(method: str, allow: str) -> Response:
    allow = ", ".join([*allow.split(", "), *(["HEAD"] if "GET" in allow else []), "OPTIONS"])
    header = (b"allow", allow.encode("ascii"))
    if method == "OPTIONS":
        return _response((204, [header], b""))
    detail = f"Method {method} is not allowed here, only {allow}"
    return _response(problems.problem(ProblemType.METHOD_NOT_ALLOWED, detail, headers=[header]))


async def _validation_problem(request: Request, error: Exception) -> Response:
    """FastAPI's own validation, should a route ever declare what its handler does not check itself."""
    if not isinstance(error, RequestValidationError):
        raise error
    fields = [FieldError(".".join(map(str, item["loc"])), str(item["msg"])) for item in error.errors()]
    return _response(problems.malformed(Malformed(fields)))


def _head_like_get(app: ASGIApp) -> ASGIApp:
    """Answer HEAD as GET would be, without the body."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await app({**scope, "method": "GET"}, receive, send_headers)
        else:
            await app(scope, receive, send)

    return wrapped
