"""Channels: made, subscribed to, published on, read, and removed."""

from __future__ import annotations

from typing import Final, cast

from agentcom.domain.messages import (
    MAX_CHANNEL_DESCRIPTION,
    MAX_CHANNEL_NAME,
    MAX_MEMBERS,
    channel_name,
    is_channel_name,
)
from agentcom.domain.names import is_agent_id
from agentcom.errors import ChannelNotFound, InvalidCursor, UnknownAgent
from agentcom.settings import Settings
from agentcom.store.channels import Viewer
from agentcom.store.store import Store
from agentcom.wire.fields import MAX_INTEGER
from agentcom.wire.messages import channel_detail_shape, channel_shape, post_shape
from services.api.answer import Answer, answer
from services.api.auth import Access, Gate
from services.api.request import ApiRequest
from services.api.routes.messages import new_message, post_schema, viewer_of
from services.api.routing import Endpoint, Handler
from services.api.schemas import (
    AgentIdField,
    Code,
    Flag,
    Problem,
    Schema,
    Text,
    invalid,
    problem,
    problem_with,
    query_integer,
    wrong_type,
)

MAX_PAGE: Final = 1_000
DEFAULT_POSTS: Final = 50
_AGENT_ID: Final = AgentIdField()
MEMBER: Final = Schema(required={"agent_id": _AGENT_ID}, optional={})


class ChannelName:
    """A channel's name: what is left of it when it is normalised must be a name."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, str):
            return wrong_type(name, "string", value)
        normalised = channel_name(value)
        if len(normalised) > MAX_CHANNEL_NAME:
            return problem_with(name, Code.TOO_LONG, f"must have at most {MAX_CHANNEL_NAME} characters", value=value)
        if not is_channel_name(normalised):
            return problem_with(name, Code.INVALID_FORMAT, "must have a letter, digit, - or _", value=value)
        return None


class Members:
    """A list of agent ids. Only the first bad one is reported."""

    def check(self, name: str, value: object) -> Problem | None:
        if not isinstance(value, list):
            return wrong_type(name, "array<string>", value)
        if len(value) >= MAX_MEMBERS:
            return problem(name, Code.TOO_LONG, f"must have less than {MAX_MEMBERS} entries")
        found = (_AGENT_ID.check(f"{name}[{index}]", item) for index, item in enumerate(value))
        return next((bad for bad in found if bad is not None), None)


CREATE: Final = Schema(
    required={"name": ChannelName()},
    optional={"description": Text(MAX_CHANNEL_DESCRIPTION), "private": Flag(), "members": Members()},
)


class ChannelRoutes:
    """``/api/channels``, and the channels of an agent"""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._channels = store.channels
        self._max_body = settings.max_body_bytes
        self._most_posts = settings.channel_history_cap
        self._post = post_schema(settings)

    def endpoints(self, gate: Gate) -> list[Endpoint]:
        self._gate = gate

        def route(method: str, path: str, handler: Handler, access: Access = Access.TOKEN) -> Endpoint:
            return Endpoint(method, path, handler, gate=gate, access=access, max_body_bytes=self._max_body)

        return [
            route("GET", "/api/channels", self.index, Access.LOCAL),
            route("POST", "/api/channels", self.create),
            route("GET", "/api/channels/{channel}", self.get, Access.LOCAL),
            route("DELETE", "/api/channels/{channel}", self.delete),
            route("POST", "/api/channels/{channel}/subscribe", self.subscribe),
            route("POST", "/api/channels/{channel}/unsubscribe", self.unsubscribe),
            route("POST", "/api/channels/{channel}/publish", self.publish),
            route("GET", "/api/channels/{channel}/history", self.history, Access.LOCAL),
            route("POST", "/api/channels/{channel}/members", self.admit),
            route("DELETE", "/api/channels/{channel}/members/{agent_id}", self.expel),
            route("GET", "/api/agents/{agent_id}/subscriptions", self.subscriptions, Access.LOCAL),
        ]

    # -- reading ---------------------------------------------------------------------------------------------------

    async def index(self, request: ApiRequest) -> Answer:
        """Private channels only for their members. A page may be short and still have a cursor."""
        limit = query_integer(request, "limit", default=MAX_PAGE, low=1, high=MAX_PAGE)
        cursor = request.query.get("cursor")
        if cursor is not None and channel_name(cursor) != cursor:
            raise InvalidCursor
        page = await self._channels.page(viewer=await self._viewer(request), cursor=cursor, limit=limit)
        return answer({"channels": [channel_shape(channel) for channel in page.channels], "cursor": page.cursor})

    async def get(self, request: ApiRequest) -> Answer:
        channel = await self._channels.get(_name(request), viewer=await self._viewer(request))
        return answer(channel_detail_shape(channel))

    async def history(self, request: ApiRequest) -> Answer:
        """Oldest first: the posts after ``since``, or the last ones before ``before``, or the last ones."""
        limit = min(query_integer(request, "limit", default=DEFAULT_POSTS, low=0, high=MAX_INTEGER), self._most_posts)
        since = query_integer(request, "since", default=0, low=-MAX_INTEGER, high=MAX_INTEGER)
        before = query_integer(request, "before", default=0, low=0, high=MAX_INTEGER)
        try:
            posts = await self._channels.history(
                _name(request),
                viewer=await self._viewer(request),
                after=max(since, 0) if "since" in request.query else None,
                before=before if "before" in request.query else None,
                limit=limit,
            )
        except ChannelNotFound:
            posts = []
        shapes = [post_shape(post) for post in posts]
        return answer({"channel": request.params["channel"], "messages": shapes, "count": len(shapes)})

    async def subscriptions(self, request: ApiRequest) -> Answer:
        agent_id = request.params["agent_id"]
        names: list[str] = []
        if is_agent_id(agent_id):
            names = await self._channels.subscriptions(agent_id, viewer=await self._viewer(request))
        return answer({"agent_id": agent_id, "channels": names})

    async def _viewer(self, request: ApiRequest) -> Viewer:
        """Where no token is needed, one that is sent all the same shows its owner's private channels."""
        if request.principal is None:
            request.principal = await self._gate.identify(request)
        return viewer_of(request)

    # -- changing --------------------------------------------------------------------------------------------------

    async def create(self, request: ApiRequest) -> Answer:
        """Naming members makes the channel private."""
        CREATE.require(request)
        body = request.body
        asked = cast("str", body["name"])
        members = cast("list[str]", body.get("members") or [])
        private = cast("bool | None", body.get("private"))
        if members and private is False:
            raise invalid(request, [problem("members", Code.CONFLICT, "only a private channel has members")])
        name = channel_name(asked)
        await self._channels.create(
            name,
            description=cast("str | None", body.get("description")) or "",
            created_by=request.caller.agent_id,
            private=bool(private or members),
            members=members,
        )
        return answer({"status": "created", "channel": asked, "name": name}, status=201)

    async def delete(self, request: ApiRequest) -> Answer:
        name = _name(request)
        await self._channels.delete(name, by=viewer_of(request))
        return answer({"status": "deleted", "channel": request.params["channel"], "name": name})

    async def subscribe(self, request: ApiRequest) -> Answer:
        name = _name(request)
        if not await self._channels.subscribe(name, by=viewer_of(request)):
            return answer({"status": "already_subscribed"})
        return answer({"status": "subscribed", "channel": request.params["channel"], "name": name})

    async def unsubscribe(self, request: ApiRequest) -> Answer:
        name = _name(request)
        await self._channels.unsubscribe(name, by=viewer_of(request))
        return answer({"status": "unsubscribed", "channel": request.params["channel"], "name": name})

    async def publish(self, request: ApiRequest) -> Answer:
        self._post.require(request)
        message = new_message(request)
        sent = await self._channels.publish(_name(request), message, privileged=request.caller.is_admin)
        return answer({"status": "published", "seq": sent.post_seq, "id": sent.message_id, "repeated": sent.repeated})

    async def admit(self, request: ApiRequest) -> Answer:
        MEMBER.require(request)
        name, agent_id = _name(request), cast("str", request.body["agent_id"])
        await self._channels.admit(name, agent_id, by=viewer_of(request))
        return answer({"status": "admitted", "channel": request.params["channel"], "name": name, "agent_id": agent_id})

    async def expel(self, request: ApiRequest) -> Answer:
        name, agent_id = _name(request), request.params["agent_id"]
        if not is_agent_id(agent_id):
            raise UnknownAgent(agent_id=agent_id[:128])
        await self._channels.expel(name, agent_id, by=viewer_of(request))
        return answer({"status": "expelled", "channel": request.params["channel"], "name": name, "agent_id": agent_id})


def _name(request: ApiRequest) -> str:
    """The normalised name in the path. Raises ChannelNotFound for one that no channel can have."""
    asked = request.params["channel"]
    name = channel_name(asked)
    if not is_channel_name(name):
        raise ChannelNotFound(channel=asked[:256])
    return name
