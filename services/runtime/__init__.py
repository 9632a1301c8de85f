"""The skeleton that every service shares: components, their supervisor, health, and the way in and out of a process."""

from services.runtime.component import BaseComponent, Component, StartupError, pause
from services.runtime.handshake import refuse_handshake
from services.runtime.health import health_app, health_routes
from services.runtime.http_server import HttpServer
from services.runtime.process import run_service
from services.runtime.supervisor import Backoff, Beat, ComponentHealth, Health, Phase, Supervisor

__all__ = [
    "Backoff",
    "BaseComponent",
    "Beat",
    "Component",
    "ComponentHealth",
    "Health",
    "HttpServer",
    "Phase",
    "StartupError",
    "Supervisor",
    "health_app",
    "health_routes",
    "pause",
    "refuse_handshake",
    "run_service",
]
