"""Generated requests against a live API: whatever is asked, the answer is one that the document describes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.hub import ServiceProcess

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ADMIN = "a" * 64


async def explore(process: ServiceProcess, *options: str) -> str:
    """Runs schemathesis; returns its output. Raises AssertionError if it found anything."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{process.url}/openapi.json"]
    header = ["--header", f"Authorization: Bearer {ADMIN}"]
    run = await asyncio.create_subprocess_exec(
        *command,
        *header,
        *("--checks", CHECKS, "--no-color", "--seed", "1", "--suppress-health-check", "all"),
        *options,
        cwd=process.log_file.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()
    text = output.decode(errors="replace")
    assert run.returncode == 0, text[-8_000:]
    return text


@pytest.fixture
async def process(redis_url: str, namespace: str, tmp_path: Path) -> ServiceProcess:
    settings = {
        "AGENTCOM_REDIS_URL": redis_url,
        "AGENTCOM_NAMESPACE": namespace,
        "AGENTCOM_DATA_DIR": str(tmp_path / "data"),
        "AGENTCOM_ADMIN_TOKEN": ADMIN,
        "AGENTCOM_LOG_FORMAT": "json",
        "AGENTCOM_RATE_LIGHT": "0",
        "AGENTCOM_RATE_NORMAL": "0",
        "AGENTCOM_RATE_HEAVY": "0",
    }
    return ServiceProcess("api", 0, folder=tmp_path, settings=settings)


#: Revoking makes the rest of the run unauthorized, which would hide what it looks for.
SPARED = ("--exclude-path-regex", "^/admin/tokens/")


@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        pytest.param("examples,coverage", 1, id="every field at its bounds", marks=pytest.mark.slow),
        pytest.param("fuzzing", 5, id="a few of everything"),
        pytest.param("fuzzing,stateful", 60, id="many of everything", marks=pytest.mark.slow),
    ],
)
async def test_nothing_unexpected_is_answered(process: ServiceProcess, phases: str, examples: int) -> None:
    try:
        await process.start()
        text = await explore(process, "--phases", phases, "--max-examples", str(examples), *SPARED)
    finally:
        process.kill()
    assert "No issues found" in text or "passed" in text
    assert "http_request_failed" not in process.output()
