"""A Redis for a test session."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.redis_server import EmbeddedRedis

IMAGE = "redis:7-alpine"


@contextmanager
def redis_for_tests(directory: Path) -> Iterator[str]:
    """The URL of a Redis: ``AGENTCOM_TEST_REDIS_URL``, else a container, else a server of this machine, in memory."""
    if configured := os.environ.get("AGENTCOM_TEST_REDIS_URL"):
        yield configured
    elif _docker_answers():
        with _container() as url:
            if url is not None:
                yield url
                return
        with _server(directory) as url:
            yield url
    else:
        with _server(directory) as url:
            yield url


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    server = EmbeddedRedis(directory, port=0, persistent=False)
    server.start_blocking()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _container() -> Iterator[str | None]:
    """None when the engine cannot give us one, for example because it cannot pull the image."""
    from docker.errors import DockerException
    from testcontainers.community.redis import RedisContainer

    container = RedisContainer(IMAGE)
    try:
        container.start()
    except (DockerException, OSError) as error:
        warnings.warn(f"no Redis container ({error}); using a server of this machine", stacklevel=2)
        yield None
        return
    try:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}/0"
    finally:
        container.stop()


def _docker_answers() -> bool:
    import docker

    try:
        client = docker.from_env(timeout=2)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()
