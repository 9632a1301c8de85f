"""Messages, mailboxes and threads."""

from __future__ import annotations

import secrets
from typing import Final, Literal, cast

import orjson

from agentcom.domain.messages import (
    BROADCAST,
    DEFAULT_TYPE,
    MAX_MESSAGE_ID,
    MAX_REPLY_TO,
    MAX_TYPE,
    NewMessage,
    channel_name,
    is_message_id,
)
from agentcom.domain.names import is_agent_id
from agentcom.errors import MessageNotFound, UnknownAgent
from agentcom.settings import Settings
from agentcom.store.channels import Viewer
from agentcom.store.message_reader import MessageFilter, Thread
from agentcom.store.store import Store
from agentcom.wire.fields import MAX_INTEGER
from agentcom.wire.messages import envelope_shape, history_shape, mail_shape, message_state_shape
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.errors import Unauthorized
from services.api.request import ApiRequest
from services.api.routing import Endpoint, Handler
from services.api.schemas import (
    Code,
    Field,
    Integer,
    JsonObject,
    Problem,
    Schema,
    Text,
    Word,
    problem_with,
    query_field,
    query_integer,
    wrong_type,
)

MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50
MAX_POLL: Final = 1_000
#: Batches of one request to evict; what is left is due for the reaper's next turn.
EVICT_BATCHES: Final = 20
_LONGEST_TEXT: Final = 1_000
_ORDER: Final = Word(("asc", "desc"))
ACK: Final = Schema(required={"seq": Integer()}, optional={})


class MessageIdField:
    """The id that a client chooses for its message."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return wrong_type(name, "string", value)
        if len(value) > MAX_MESSAGE_ID:
            return problem_with(name, Code.TOO_LONG, f"must have at most {MAX_MESSAGE_ID} characters", value=value)
        if not is_message_id(value):
            detail = "must be letters, digits, dots, underscores and hyphens, and begin with a letter or a digit"
            return problem_with(name, Code.INVALID_FORMAT, detail, value=value)
        return None


def message_fields(settings: Settings) -> tuple[dict[str, Field], dict[str, Field]]:
    """The required and optional fields of whatever is sent."""
    return {"payload": JsonObject(settings.max_payload_bytes)}, {
        "type": Text(MAX_TYPE),
        "reply_to": Text(MAX_REPLY_TO),
        "message_id": MessageIdField(),
    }


def message_schema(settings: Settings) -> Schema:
    """The fields of a message."""
    required, optional = message_fields(settings)
    return Schema(required=required, optional={**optional, "to": Text(_LONGEST_TEXT)})


def post_schema(settings: Settings) -> Schema:
    """The fields of a post on a channel."""
    required, optional = message_fields(settings)
    return Schema(required=required, optional=optional)


def new_message(request: ApiRequest) -> NewMessage:
    """The message in a request's body, which was checked."""
    body = request.body
    chosen_id = cast("str | None", body.get("message_id"))
    return NewMessage(
        id=chosen_id or secrets.token_hex(8),
        sender=request.caller.agent_id,
        type=cast("str | None", body.get("type")) or DEFAULT_TYPE,
        payload=orjson.dumps(body["payload"]),
        reply_to=cast("str | None", body.get("reply_to")) or None,
        chosen_id=chosen_id is not None,
    )


def viewer_of(request: ApiRequest) -> Viewer:
    """For whose eyes the answer is."""
    principal = request.principal
    return Viewer() if principal is None else Viewer(principal.agent_id, principal.is_admin)


class MessageRoutes:
    """``/api/message``, ``/api/messages``, ``/api/mailbox``, ``/api/threads``"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._max_body = settings.max_body_bytes
        self._batch = settings.sweep_batch
        self._message = message_schema(settings)

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        """Literal segments before parameters."""

        def route(method: str, path: str, handler: Handler, access: Access = Access.TOKEN) -> Endpoint:
            return Endpoint(method, path, handler, gate=gate, access=access, max_body_bytes=self._max_body)

        return [
            route("POST", "/api/message", self.send),
            route("GET", "/api/messages", self.index),
            route("GET", "/api/messages/{message_id}", self.get),
            route("POST", "/api/mailbox/evict", self.evict, Access.OPERATOR),
            route("GET", "/api/mailbox/{agent_id}", self.poll),
            route("POST", "/api/mailbox/{agent_id}/ack", self.ack),
            route("GET", "/api/threads/{message_id}", self.thread),
            route("GET", "/api/threads/{message_id}/replies", self.replies),
            route("GET", "/api/threads/{message_id}/root", self.root),
        ]

    async def send(self, request: ApiRequest) -> Answer:
        self._message.require(request)
        to = cast("str | None", request.body.get("to"))
        message = new_message(request)
        if to is None or to == BROADCAST:
            sent = await self._store.mail.broadcast(message)
        elif is_agent_id(to):
            sent = await self._store.mail.send(message, to=to)
        else:
            raise UnknownAgent(agent_id=to[:128])
        return answer({"status": "sent", "id": sent.message_id, "seq": sent.seq, "repeated": sent.repeated})

    # -- reading ---------------------------------------------------------------------------------------------------

    async def index(self, request: ApiRequest) -> Answer:
        """Oldest first after ``cursor``, or with ``order=desc`` newest first before it."""
        newest_first = query_field(request, "order", _ORDER) == "desc"
        cursor = _optional_integer(request, "cursor")
        channel = query_field(request, "channel", Text(_LONGEST_TEXT))
        page = MessageFilter(
            sender=query_field(request, "from", Text(_LONGEST_TEXT)),
            recipient=query_field(request, "to", Text(_LONGEST_TEXT)),
            channel=None if channel is None else channel_name(channel) or "#",
            start_time=_optional_integer(request, "start_time"),
            end_time=_optional_integer(request, "end_time"),
            cursor=cursor,
            newest_first=newest_first,
            limit=min(query_integer(request, "limit", default=DEFAULT_PAGE, low=0, high=MAX_INTEGER), MAX_PAGE),
        )
        messages = await self._store.messages.page(page, viewer=viewer_of(request))
        last = messages[-1].seq if messages else cursor or 0
        shapes = [history_shape(message) for message in messages]
        return answer({"messages": shapes, "cursor": last, "count": len(shapes)})

    async def get(self, request: ApiRequest) -> Answer:
        message_id = request.params["message_id"]
        if not is_message_id(message_id):
            raise MessageNotFound(message_id=message_id[:MAX_MESSAGE_ID])
        return answer(message_state_shape(await self._store.messages.get(message_id, viewer=viewer_of(request))))

    async def thread(self, request: ApiRequest) -> Answer:
        message_id = request.params["message_id"]
        thread = await self._thread(request, "tree")
        if thread is None:
            return answer({"root": message_id, "messages": [], "count": 0})
        shapes = [envelope_shape(message) for message in thread.messages]
        body = {"root": thread.root, "messages": shapes, "count": len(shapes)}
        return answer({**body, "truncated": True} if thread.truncated else body)

    async def replies(self, request: ApiRequest) -> Answer:
        message_id = request.params["message_id"]
        thread = await self._thread(request, "replies")
        shapes = [envelope_shape(message) for message in thread.messages] if thread else []
        return answer({"parent": message_id, "replies": shapes, "count": len(shapes)})

    async def root(self, request: ApiRequest) -> Answer:
        message_id = request.params["message_id"]
        thread = await self._thread(request, "root")
        return answer({"message_id": message_id, "root": thread.root if thread else message_id})

    async def _thread(self, request: ApiRequest, scope: Literal["tree", "replies", "root"]) -> Thread | None:
        """None for an id that no message and no answer can have."""
        message_id = request.params["message_id"]
        if len(message_id) > MAX_REPLY_TO:
            return None
        return await self._store.messages.thread(message_id, viewer=viewer_of(request), scope=scope)

    # -- mailboxes -------------------------------------------------------------------------------------------------

    async def poll(self, request: ApiRequest) -> Answer:
        agent_id = _own_mailbox(request)
        since = query_integer(request, "since", default=0, low=-MAX_INTEGER, high=MAX_INTEGER)
        limit = query_integer(request, "limit", default=MAX_POLL, low=1, high=MAX_POLL)
        mail = await self._store.mail.poll(agent_id, since=since, limit=limit)
        last = mail[-1].seq if mail else since
        shapes = [mail_shape(entry) for entry in mail]
        return answer({"agent_id": agent_id, "messages": shapes, "last_seq": last, "count": len(shapes)})

    async def ack(self, request: ApiRequest) -> Answer:
        agent_id = _own_mailbox(request)
        ACK.require(request)
        seq = cast("int", request.body["seq"])
        removed = await self._store.mail.ack(agent_id, seq=seq)
        return answer({"status": "acked", "up_to": seq, "removed": removed})

    async def evict(self, _request: ApiRequest) -> Answer:
        """The reaper does it all the time; this does it now."""
        evicted = 0
        for _ in range(EVICT_BATCHES):
            swept = await self._store.mail.evict(limit=self._batch)
            evicted += swept.served
            if not swept.more:
                break
        return answer({"status": "eviction_triggered", "evicted": evicted})


def _own_mailbox(request: ApiRequest) -> str:
    """The caller's agent id. Raises Unauthorized where the path names another."""
    if request.params["agent_id"] != request.caller.agent_id:
        raise Unauthorized("A mailbox is open to its own agent only.")
    return request.caller.agent_id


def _optional_integer(request: ApiRequest, name: str) -> int | None:
    if name not in request.query:
        return None
    return query_integer(request, name, default=0, low=-MAX_INTEGER, high=MAX_INTEGER)
