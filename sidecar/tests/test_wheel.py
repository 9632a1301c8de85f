"""What people install: a wheel that stands on its own."""

import ast
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

PACKAGE = "agentcom_sidecar"
PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the wheel, by name."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
    subprocess.run([sys.executable, *build, str(folder), str(PROJECT)], check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def dist_info(wheel: dict[str, bytes], name: str) -> bytes:
    (found,) = (content for path, content in wheel.items() if path.endswith(f".dist-info/{name}"))
    return found


def test_it_has_the_program_the_skill_and_nothing_else(wheel: dict[str, bytes]) -> None:
    assert {path.split("/")[0] for path in wheel if ".dist-info/" not in path} == {PACKAGE}
    assert wheel[f"{PACKAGE}/skill/SKILL.md"] == (PROJECT / PACKAGE / "skill" / "SKILL.md").read_bytes()
    assert f"{PACKAGE}/__main__.py" in wheel
    assert b"agentcom-sidecar = agentcom_sidecar.__main__:main" in dist_info(wheel, "entry_points.txt")


def test_it_imports_only_what_it_asks_to_be_installed(wheel: dict[str, bytes]) -> None:
    required = message_from_bytes(dist_info(wheel, "METADATA")).get_all("Requires-Dist", [])
    names = {re.split(r"[^A-Za-z0-9_-]", requirement)[0].replace("-", "_") for requirement in required}
    imported = set()
    for path, source in wheel.items():
        for node in ast.walk(ast.parse(source)) if path.endswith(".py") else ():
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) - {PACKAGE} == names
