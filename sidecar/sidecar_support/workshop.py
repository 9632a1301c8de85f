"""A repository with a bare origin, and stub programs on the PATH, for tests of what a sidecar does around an agent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sidecar_support import openclaw_stub
from sidecar_support.gates import Gates

SIDECAR = Path(__file__).resolve().parent.parent
GIT = shutil.which("git") or "git"
IDENTITY = {
    "GIT_AUTHOR_NAME": "Agent",
    "GIT_AUTHOR_EMAIL": "agent@example.invalid",
    "GIT_COMMITTER_NAME": "Agent",
    "GIT_COMMITTER_EMAIL": "agent@example.invalid",
}
PYTHON_STUB = """\
#!{python} -IS
import sys
from pathlib import Path
sys.path.insert(0, {sidecar!r})
from sidecar_support.{module} import main
sys.exit(main(Path({state!r})))
"""
GIT_STUB = """\
#!/bin/sh
# The real git, which can be made to wait before and after each of its commands.
wait_at() {{ : > "{state}/at-$1"; while [ -e "{state}/gate-$1" ]; do sleep 0.02; done; }}
case "$1" in worktree) name="$1-$2" ;; *) name="$1" ;; esac
wait_at "before-$name"
"{git}" "$@"; code=$?
wait_at "after-$name"
exit $code
"""


class Workshop:
    """``origin.git``, a clone of it, and the folder in which the stubs keep what they know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.gates = Gates(self.state)
        self.clone = folder / "clone"
        self.origin = folder / "origin.git"
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        self.state.mkdir()
        (self.state / "instance").write_text("gateway-1")
        self.behave(result={"status": "success", "output": "done"})

    def make_repository(self, *, base: str = "main") -> "Workshop":
        """An origin with one commit, and a clone of it."""
        self.git(self.folder, "init", "--quiet", "--bare", f"--initial-branch={base}", str(self.origin))
        self.git(self.folder, "clone", "--quiet", str(self.origin), str(self.clone))
        self.git(self.clone, "config", "user.name", "Agent")
        self.git(self.clone, "config", "user.email", "agent@example.invalid")
        self.git(self.clone, "switch", "--quiet", "-c", base)
        self.commit(self.clone, "README.md", "hello\n")
        self.git(self.clone, "push", "--quiet", "origin", base)
        self.git(self.clone, "remote", "set-head", "origin", base)
        return self

    def commit(self, tree: Path, name: str, text: str) -> str:
        """Commit a file in a working tree; returns the hash."""
        (tree / name).write_text(text)
        self.git(tree, "add", "--all")
        self.git(tree, "commit", "--quiet", "-m", f"feat: {name}")
        return self.git(tree, "rev-parse", "HEAD")

    def install_stubs(self, *, git: bool = False) -> None:
        """Put ``gh``, and on wish a ``git`` with gates, first on the PATH of `environment`."""
        script = PYTHON_STUB.format(
            python=sys.executable, sidecar=str(SIDECAR), module="gh_stub", state=str(self.state)
        )
        self._install("gh", script)
        if git:
            self._install("git", GIT_STUB.format(state=self.state, git=GIT))

    @property
    def environment(self) -> dict[str, str]:
        """For `Program.start`."""
        return {"PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}", **IDENTITY}

    @property
    def openclaw(self) -> list[str]:
        """For the setting ``openclaw_command``."""
        return [sys.executable, "-I", "-S", str(openclaw_stub.__file__), str(self.state)]

    def behave(self, **behaviour: Any) -> None:
        """What the stub's agent does: ``result``, ``commit`` (a file's name), ``status``, ``reason``, ``reply``."""
        (self.state / "behaviour.json").write_text(json.dumps(behaviour))

    def restart_gateway(self) -> None:
        """A new Gateway, which knows nothing of the former one's turns."""
        (self.state / "instance").write_text("gateway-2")
        for run in (self.state / "runs").iterdir():
            run.unlink()

    def turns(self) -> int:
        """How many turns began."""
        path = self.state / "turns"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def calls(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the calls to the Gateway."""
        path = self.state / "calls"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line["params"] for line in lines if line["method"] == method]

    def pull_requests(self) -> list[dict[str, Any]]:
        """What was opened."""
        path = self.state / "pull-requests.json"
        found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        return found

    def branches(self) -> dict[str, str]:
        """The branches of origin and their commits."""
        listed = self.git(self.origin, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
        return dict(line.split() for line in listed.splitlines())

    def _install(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(text)
        path.chmod(0o755)

    def git(self, folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [GIT, *arguments], cwd=folder, env={**os.environ, **IDENTITY}, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()
