"""Branches, working trees, pushes and pull requests with the real git, a bare origin and a stub of ``gh``."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.git import GIT_TIMEOUT, Git, GitError, base_branch
from agentcom_sidecar.handover import hand_over, push
from agentcom_sidecar.journal import Task
from agentcom_sidecar.subprocess_call import Finished
from agentcom_sidecar.workspace import Unsaved, Workspace, close, start
from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.program import Program
from sidecar_support.workshop import Workshop

Make = Callable[..., Program]
DESCRIPTION = 'Fix "the" thing; $(touch pwned) `touch pwned` & über 漢字\nsecond line'


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path / "workshop").make_repository()
    workshop.install_stubs()
    monkeypatch.setenv("PATH", workshop.environment["PATH"])
    yield workshop
    workshop.gates.open_all()


@pytest.fixture
def config(workshop: Workshop, tmp_path: Path) -> Callable[..., SidecarConfig]:
    def make(**more: Any) -> SidecarConfig:
        fixed = {"agent_id": "grey-area", "token": "t" * 64, "hub_url": "wss://hub.example/ws"}
        return SidecarConfig(**{**fixed, "repo_dir": workshop.clone, "data_dir": tmp_path / "data", **more})

    return make


def a_task(task_id: str = "task-1", **more: Any) -> Task:
    return Task(**{"task_id": task_id, "generation": 1, "description": DESCRIPTION, "metadata": {}, **more})


async def commit(workshop: Workshop, workspace: Workspace, name: str = "new.txt") -> str:
    return await asyncio.to_thread(workshop.commit, Path(workspace.path), name, "new\n")


async def test_task_gets_a_tree_of_its_own_on_a_branch_of_its_own(
    workshop: Workshop, config: Callable[..., SidecarConfig]
) -> None:
    workspace = await start(config(), a_task())
    assert workspace.branch == "grey-area/task-1-fix-the-thing-touch-pwned-touch-pwned-be"
    assert (workspace.base, workspace.worktree, workspace.resumed) == ("main", True, False)
    assert workspace.base_commit == workshop.git(workshop.clone, "rev-parse", "--short", "origin/main")
    tree = Path(workspace.path)
    assert (tree / "README.md").exists()
    other = await start(config(), a_task("task-2"))
    (tree / "only-here").touch()
    assert not (Path(other.path) / "only-here").exists()
    assert workshop.git(workshop.clone, "status", "--porcelain") == ""
    assert workshop.git(workshop.clone, "branch", "--show-current") == "main"


async def test_work_starts_from_what_origin_has_now(workshop: Workshop, config: Callable[..., SidecarConfig]) -> None:
    elsewhere = workshop.folder / "elsewhere"
    workshop.git(workshop.folder, "clone", "--quiet", str(workshop.origin), str(elsewhere))
    workshop.commit(elsewhere, "newer.txt", "x")
    workshop.git(elsewhere, "push", "--quiet", "origin", "main")
    workspace = await start(config(), a_task())
    assert (Path(workspace.path) / "newer.txt").exists()


async def test_commits_are_pushed_and_a_pull_request_is_opened(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    task = a_task(priority="urgent")
    settings = config(reviewer="somebody")
    workspace = await start(settings, task)
    commit_id = await commit(workshop, workspace)
    done = await hand_over(settings, task, workspace, scratch=tmp_path / "scratch")
    assert (done.error, done.commits, done.pushed) == ("", 1, True)
    assert workshop.branches()[workspace.branch] == commit_id
    (pr,) = workshop.pull_requests()
    assert done.pr_url == pr["url"]
    assert (pr["base"], pr["head"], pr["reviewer"]) == ("main", workspace.branch, "somebody")
    assert pr["labels"] == ["agent:grey-area", "priority:urgent"]
    assert pr["title"] == 'Fix "the" thing; $(touch pwned) `touch pwned` & über 漢字 s...'
    assert DESCRIPTION in pr["body"]
    assert "https://hub.example/api/tasks/task-1" in pr["body"]
    assert "new.txt | 1 +" in pr["body"]
    assert not list(tmp_path.rglob("pwned"))
    assert not list((tmp_path / "scratch").iterdir())
    assert await close(workspace, settings) == Unsaved()
    assert not Path(workspace.path).exists()
    assert workshop.git(workshop.clone, "rev-parse", workspace.branch) == commit_id


async def test_handing_over_twice_makes_one_pull_request(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    first = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    second = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert first.pr_url == second.pr_url
    assert len(workshop.pull_requests()) == 1


async def test_task_that_comes_back_goes_on_where_it_left_off(
    workshop: Workshop, config: Callable[..., SidecarConfig]
) -> None:
    first = await start(config(), a_task())
    commit_id = await commit(workshop, first)
    (Path(first.path) / "half done.txt").write_text("x")
    kept = await close(first, config())
    assert (kept.files, kept.commits) == (("half done.txt",), 1)
    again = await start(config(), a_task(generation=3))
    assert (again.path, again.branch) == (first.path, first.branch)
    assert (again.resumed, again.leftovers) == (True, ("half done.txt",))
    assert workshop.git(Path(again.path), "rev-parse", "HEAD") == commit_id


async def test_commits_outlive_a_deleted_tree(workshop: Workshop, config: Callable[..., SidecarConfig]) -> None:
    first = await start(config(), a_task())
    commit_id = await commit(workshop, first)
    await asyncio.to_thread(subprocess.run, ["rm", "-r", first.path], check=True)
    again = await start(config(), a_task())
    assert again.resumed
    assert workshop.git(Path(again.path), "rev-parse", "HEAD") == commit_id


async def test_work_of_an_earlier_attempt_elsewhere_is_fetched(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    first = await start(config(), a_task())
    commit_id = await commit(workshop, first)
    await hand_over(config(), a_task(), first, scratch=tmp_path / "scratch")
    fresh = workshop.folder / "fresh"
    workshop.git(workshop.folder, "clone", "--quiet", str(workshop.origin), str(fresh))
    again = await start(config(repo_dir=fresh, data_dir=tmp_path / "other"), a_task())
    assert (again.branch, again.resumed) == (first.branch, True)
    assert workshop.git(Path(again.path), "rev-parse", "HEAD") == commit_id


async def test_branch_that_is_checked_out_elsewhere_is_left_alone(
    workshop: Workshop, config: Callable[..., SidecarConfig]
) -> None:
    first = await start(config(), a_task())
    workshop.git(workshop.clone, "worktree", "move", first.path, str(workshop.folder / "moved"))
    again = await start(config(), a_task())
    assert again.branch == f"{first.branch}-2"
    assert Path(again.path).name == "task-1-2"


async def test_foreign_folder_in_the_place_of_a_tree_is_left_alone(config: Callable[..., SidecarConfig]) -> None:
    foreign = config().worktrees / "task-1"
    foreign.mkdir(parents=True)
    (foreign / "precious").touch()
    workspace = await start(config(), a_task())
    assert Path(workspace.path).name == "task-1-2"
    assert (foreign / "precious").exists()


async def test_branch_that_moved_on_at_origin_is_not_overwritten(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    theirs = workshop.branches()[workspace.branch]
    workshop.git(Path(workspace.path), "commit", "--quiet", "--amend", "-m", "feat: rewritten")
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert done.branch == f"{workspace.branch}-2"
    assert workshop.branches()[workspace.branch] == theirs
    assert workshop.branches()[done.branch] == workshop.git(Path(workspace.path), "rev-parse", "HEAD")


async def test_uncommitted_files_are_kept_and_named(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    (Path(workspace.path) / "forgotten.txt").write_text("x")
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert done.result()["git"]["uncommitted"] == ["forgotten.txt"]
    assert await close(workspace, config())
    assert (Path(workspace.path) / "forgotten.txt").exists()


async def test_labels_that_the_forge_refuses_do_not_cost_the_pull_request(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    (workshop.state / "no-labels").touch()
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert done.pr_url == "https://forge.example/pull/1"


async def test_no_commits_is_said_and_the_clean_tree_removed(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    workspace = await start(config(), a_task())
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert (done.error, done.pushed) == ("no_commits", False)
    assert not await close(workspace, config())
    assert not Path(workspace.path).exists()
    assert workshop.git(workshop.clone, "branch", "--list", workspace.branch) == ""


async def test_agent_that_left_for_the_base_branch_pushes_nothing(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    workspace = await start(config(), a_task())
    workshop.git(workshop.clone, "switch", "--quiet", "--detach")
    workshop.git(Path(workspace.path), "switch", "--quiet", "main")
    await commit(workshop, workspace)
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert done.error == "on_main_branch"
    assert list(workshop.branches()) == ["main"]


async def test_origin_that_refuses_is_an_error_with_its_words(
    workshop: Workshop, config: Callable[..., SidecarConfig], tmp_path: Path
) -> None:
    hook = workshop.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no pushes on Sundays >&2\nexit 1\n")
    hook.chmod(0o755)
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    done = await hand_over(config(), a_task(), workspace, scratch=tmp_path / "scratch")
    assert done.error == "push_failed"
    assert "no pushes on Sundays" in done.message
    assert (await close(workspace, config())).commits == 1


async def test_in_place_a_dirty_repository_is_refused_and_a_clean_one_switched(
    workshop: Workshop, config: Callable[..., SidecarConfig]
) -> None:
    settings = config(git_mode="branch")
    (workshop.clone / "mine.txt").write_text("x")
    with pytest.raises(GitError) as refused:
        await start(settings, a_task())
    assert (refused.value.code, refused.value.details["files"]) == ("dirty_working_tree", ["mine.txt"])
    (workshop.clone / "mine.txt").unlink()
    workspace = await start(settings, a_task())
    assert (workspace.path, workspace.worktree) == (str(workshop.clone), False)
    assert workshop.git(workshop.clone, "branch", "--show-current") == workspace.branch
    (workshop.clone / "half.txt").write_text("x")
    again = await start(settings, a_task())
    assert (again.resumed, again.leftovers, again.branch) == (True, ("half.txt",), workspace.branch)
    assert await close(again, settings)
    assert (workshop.clone / "half.txt").exists()


async def test_unreachable_origin_leaves_the_last_known_base(
    workshop: Workshop, config: Callable[..., SidecarConfig]
) -> None:
    workshop.origin.rename(workshop.folder / "away.git")
    workspace = await start(config(), a_task())
    assert (workspace.warning or "").startswith("fetch_failed: ")
    for name in ("symbolic-ref --delete refs/remotes/origin/HEAD", "update-ref -d refs/remotes/origin/main"):
        workshop.git(workshop.clone, *name.split())
    with pytest.raises(GitError) as refused:
        await start(config(), a_task("task-2"))
    assert refused.value.code == "fetch_failed"


@pytest.mark.parametrize(("make", "code"), [(None, "repo_dir_not_found"), ("plain", "not_a_git_repo")])
async def test_unusable_repository_has_a_code(
    config: Callable[..., SidecarConfig], tmp_path: Path, make: str | None, code: str
) -> None:
    folder = tmp_path / "plain"
    if make:
        folder.mkdir()
    with pytest.raises(GitError) as refused:
        await start(config(repo_dir=folder), a_task())
    assert refused.value.code == code


async def test_base_branch_is_what_origin_names(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "trunk").make_repository(base="trunk")
    git = Git(workshop.clone)
    assert await base_branch(git) == "trunk"
    workshop.git(workshop.clone, "remote", "set-head", "origin", "--delete")
    assert await base_branch(git) == "trunk"
    with pytest.raises(GitError, match="base_branch_not_found"):
        await base_branch(git, "develop")


async def test_push_gives_up_a_passing_failure_only_after_trying_again(
    workshop: Workshop, config: Callable[..., SidecarConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcom_sidecar.handover.PUSH_PAUSES", (0.01, 0.01))
    workspace = await start(config(), a_task())
    await commit(workshop, workspace)
    away = workshop.folder / "away.git"
    workshop.origin.rename(away)
    succeeded: list[bool] = []

    class OriginComesBack(Git):
        async def try_(self, *arguments: str, timeout: float = GIT_TIMEOUT) -> Finished:
            done = await super().try_(*arguments, timeout=timeout)
            succeeded.append(done.returncode == 0)
            if len(succeeded) == 2:
                away.rename(workshop.origin)
            return done

    assert await push(OriginComesBack(Path(workspace.path)), workspace.branch) == workspace.branch
    assert succeeded == [False, False, True]


# ---- step by step, for scripts


async def test_steps_from_the_command_line(workshop: Workshop, tmp_path: Path) -> None:
    values = {"agent_id": "w1", "token": "t" * 64, "hub_url": "ws://127.0.0.1:4000/ws", "repo_dir": "workshop/clone"}
    (tmp_path / "config.json").write_text(json.dumps(values))

    def step(command: str, config: str = "config.json", **arguments: Any) -> tuple[int, dict[str, Any]]:
        argv = [sys.executable, "-m", "agentcom_sidecar", "git", command, json.dumps(arguments)]
        done = subprocess.run([*argv, "--config", str(tmp_path / config)], capture_output=True, text=True, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, answer

    code, begun = await asyncio.to_thread(step, "start-task", task_id="task-1", description="Fix it")
    assert (code, begun["status"], begun["branch"]) == (0, "ok", "w1/task-1-fix-it")
    workshop.commit(Path(begun["repo_dir"]), "new.txt", "x")
    code, state = await asyncio.to_thread(step, "status", task_id="task-1")
    assert (state["commits_ahead"], state["is_clean"], state["non_conventional_commits"]) == (1, True, [])
    code, done = await asyncio.to_thread(step, "submit", task_id="task-1", task={"description": "Fix it"})
    assert (code, done["pr_url"], done["branch"]) == (0, "https://forge.example/pull/1", "w1/task-1-fix-it")
    for command, config, error in (
        ("start-task", "config.json", "missing_args"),
        ("fly", "config.json", "unknown_command"),
        ("submit", "none.json", "config_not_found"),
    ):
        code, refused = await asyncio.to_thread(step, command, config, task_id="task-2")
        assert (code, refused["status"], refused["error"]) == (1, "error", error)


# ---- the whole way


def agent(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def started(sidecar: Program, hub: Hub, workshop: Workshop) -> Program:
    await sidecar.start(**workshop.environment)
    await eventually(lambda: hub.connected, what=sidecar.console())
    return sidecar


async def report_of(hub: Hub, count: int = 1) -> dict[str, Any]:
    await eventually(lambda: len(hub.settled) == count, within=20)
    return hub.settled[-1]


async def test_result_names_branch_base_and_pull_request(hub: Hub, program: Make, workshop: Workshop) -> None:
    script = 'pwd; echo "$AGENTCOM_BRANCH"; echo x > new.txt; git add new.txt; git commit -qm "feat: new"'
    sidecar = await started(program(agent(script), repo_dir=str(workshop.clone)), hub, workshop)
    await hub.send({"type": "task_assign", "task_id": "task-1", "description": "do it", "generation": 2, "priority": 0})
    result = (await report_of(hub))["result"]
    folder, branch = result["output"].split()
    assert branch == result["branch"] == "w1/task-1-do-it"
    assert Path(folder) == sidecar.folder / "data" / "worktrees" / "task-1"
    assert result["pr_url"] == "https://forge.example/pull/1"
    assert result["git"] == {"status": "ok", "commits": 1, "pushed": True}
    assert result["base_commit"] == workshop.git(workshop.clone, "rev-parse", "--short", "origin/main")
    assert branch in workshop.branches()
    assert workshop.pull_requests()[0]["labels"] == ["agent:w1", "priority:urgent"]
    assert not Path(folder).exists()


async def test_failed_task_keeps_its_work_and_says_so(hub: Hub, program: Make, workshop: Workshop) -> None:
    script = 'echo x > half.txt; git add half.txt; git commit -qm "feat: half"; echo y > more.txt; echo bad >&2; exit 1'
    await started(program(agent(script), repo_dir=str(workshop.clone)), hub, workshop)
    await hub.assign("task-1", description="do it")
    error = (await report_of(hub))["error"]
    assert error.startswith("exit status 1: bad (kept on branch w1/task-1-do-it: 1 unpushed commit(s) and 1 ")
    assert not workshop.pull_requests()
    assert workshop.git(workshop.clone, "log", "--format=%s", "-1", "w1/task-1-do-it") == "feat: half"


async def test_slow_git_does_not_hold_up_heartbeats(hub: Hub, program: Make, workshop: Workshop) -> None:
    workshop.install_stubs(git=True)
    workshop.gates.shut("before-fetch")
    config = {"repo_dir": str(workshop.clone), "ping_interval_ms": 50, "pong_timeout_ms": 5000}
    await started(program(agent("echo done"), **config), hub, workshop)
    await hub.assign("task-1")
    await eventually(lambda: workshop.gates.reached("before-fetch"))
    pings = len(hub.seen("ping"))
    await eventually(lambda: len(hub.seen("ping")) > pings + 5)
    assert hub.seen("task_progress", task_id="task-1")
    workshop.gates.open("before-fetch")
    assert (await report_of(hub))["result"]["git"]["error"] == "no_commits"


async def test_cancel_while_git_works_leaves_no_git_behind(hub: Hub, program: Make, workshop: Workshop) -> None:
    workshop.install_stubs(git=True)
    workshop.gates.shut("before-push")
    script = 'echo x > new.txt; git add new.txt; git commit -qm "feat: new"; echo ok'
    await started(program(agent(script), repo_dir=str(workshop.clone)), hub, workshop)
    await hub.assign("task-1", description="do it")
    await eventually(lambda: workshop.gates.reached("before-push"))
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 1, "reason": "operator"})
    assert (await report_of(hub))["type"] == "task_cancelled"
    workshop.gates.open("before-push")
    assert workshop.git(workshop.clone, "log", "--format=%s", "-1", "w1/task-1-do-it") == "feat: new"
    assert list(workshop.branches()) == ["main"]


async def test_git_that_fails_fails_the_task_rather_than_use_another_tree(
    hub: Hub, program: Make, workshop: Workshop, tmp_path: Path
) -> None:
    config = {"repo_dir": str(workshop.clone), "base_branch": "gone"}
    await started(program(agent(f"touch {tmp_path}/ran"), **config), hub, workshop)
    await hub.assign("task-1")
    assert (await report_of(hub))["error"].startswith("git_start_failed: base_branch_not_found")
    assert not (tmp_path / "ran").exists()


async def test_without_a_repository_the_agent_works_in_the_folder_with_a_warning(
    hub: Hub, program: Make, workshop: Workshop, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    sidecar = await started(program(agent("pwd; cat"), repo_dir=str(plain)), hub, workshop)
    await hub.assign("task-1")
    where, _, document = (await report_of(hub))["result"]["output"].partition("\n")
    assert where == str(plain)
    assert json.loads(document)["git_warning"].startswith("not_a_git_repo")
    assert any("no git repository" in line["text"] for line in sidecar.logged("config_doubt"))
