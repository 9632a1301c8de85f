"""The API as an ASGI app."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.api.addresses import is_base_url, parse_networks
from services.api.auth import Authenticator, Gate, authenticator_for
from services.api.errors import RouteNotFound
from services.api.limits import RequestLimits
from services.api.middleware import Edge
from services.api.routes.admin import AdminRoutes
from services.api.routes.agents import AgentRoutes
from services.api.routes.analytics import AnalyticsRoutes
from services.api.routes.audit import AuditRoutes
from services.api.routes.channels import ChannelRoutes
from services.api.routes.config import ConfigRoutes
from services.api.routes.description import DescriptionRoutes
from services.api.routes.health import HealthRoutes
from services.api.routes.messages import MessageRoutes
from services.api.routes.onboarding import OnboardingRoutes
from services.api.routes.rate_limits import RateLimitRoutes
from services.api.routes.tasks import TaskRoutes
from services.api.routes.tokens import TokenRoutes
from services.runtime import StartupError

log = structlog.get_logger(__name__)


def create_app(
    store: Store,
    settings: Settings,
    *,
    authenticator: Authenticator | None = None,
    more_routes: Sequence[BaseRoute] = (),
) -> Edge:
    """The API on an opened store.

    ``authenticator`` is shared with a RevocationListener, which lets it remember tokens; one without asks the store
    every time. ``more_routes`` come last and get the same edge: request ids, errors as JSON, the access log.

    Raises StartupError if the settings make no sense.
    """
    if settings.public_url and not is_base_url(settings.public_url):
        raise StartupError("AGENTCOM_PUBLIC_URL must be an http or https URL without query or fragment.")
    gate = Gate(
        authenticator or authenticator_for(store.tokens, settings),
        settings,
        limits=RequestLimits(store.rate_limits, trusted_proxies=parse_networks(settings.trusted_proxies)),
        admin_log=store.admin_log,
    )
    resources = (
        TaskRoutes(store, settings),
        AgentRoutes(store, settings),
        MessageRoutes(store, settings),
        ChannelRoutes(store, settings),
        OnboardingRoutes(store, settings),
        TokenRoutes(store, settings),
        AuditRoutes(store, settings),
        ConfigRoutes(store, settings),
        RateLimitRoutes(store, settings),
        AdminRoutes(store, settings),
        AnalyticsRoutes(store, settings),
        HealthRoutes(store, settings),
    )
    description = DescriptionRoutes(settings)
    endpoints = [endpoint for resource in (*resources, description) for endpoint in resource.endpoints(gate)]
    description.describe(endpoints)
    routes: list[BaseRoute] = [*endpoints]
    return Edge(Router([*routes, *more_routes], redirect_slashes=False, default=_not_found))


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RouteNotFound


def describe_registration(settings: Settings) -> None:
    """Says at start-up who may register, since that depends on where the hub listens."""
    if settings.enrolment_key is not None:
        log.info("registration", open_to="holders of the enrolment key and admins")
    elif settings.listens_on_loopback:
        log.info("registration", open_to="everybody on this machine")
    else:
        log.warning(
            "registration_closed",
            host=settings.host,
            reason="the hub can be reached from other machines and AGENTCOM_ENROLMENT_KEY is not set",
            open_to="admins",
        )
