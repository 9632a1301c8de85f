"""The steps of a setup, each of which can be taken again."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agentcom_sidecar.failure import Failure
from agentcom_sidecar.files import read_tail
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding import registration, repository, smoke_test
from agentcom_sidecar.onboarding.display import Display
from agentcom_sidecar.onboarding.progress import ProgressFile, Step, WakeMode
from agentcom_sidecar.onboarding.settings import write_settings
from agentcom_sidecar.process_manager import Kind, ProcessManager, Service, Status, manager_of, service_pid
from agentcom_sidecar.secrets_input import child_environment

CONNECT_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
MANAGER_POLL = 3.0

Tell = Callable[[str], None]
Action = Callable[[Tell], str]
Check = Callable[[], None]
"""Raises Failure when waiting has become pointless."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What the setup did, for the summary."""

    steps: dict[Step, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    passed: smoke_test.Passed | None = None


class Setup:
    """Takes one agent from where its progress is to the end. Pre-flight is done."""

    def __init__(
        self,
        place: Installation,
        progress: ProgressFile,
        *,
        api: HubApi,
        admin: HubApi | None,
        enrolment_key: str | None,
        manager: ProcessManager,
        display: Display,
        verify_timeout: float,
    ) -> None:
        """``api`` has no token."""
        self._place = place
        self._progress = progress
        self._api = api
        self._admin = admin
        self._enrolment_key = enrolment_key
        self._manager = manager
        self._service = Service(place)
        self._display = display
        self._verify_timeout = verify_timeout
        self._settings_changed = False
        self.report = Report()

    def run(self) -> Report:
        """All steps in order. Raises Failure; then ``report`` has the steps that were done."""
        self.register()
        self._step(Step.CLONE, "Clone the repository", self._clone)
        self._step(Step.CONFIG, "Write the configuration", self._write_settings)
        self._step(Step.PROCESS, f"Start the sidecar ({self._manager.kind})", self._start)
        self._step(Step.VERIFY, "Check the agent with a first task", self._verify)
        return self.report

    def register(self) -> None:
        """The first step on its own: a generated name may have to be changed after it. Taking it twice does nothing."""
        if Step.REGISTER not in self.report.steps:
            self._step(Step.REGISTER, f"Register {self._place.name} with the hub", self._register)

    def _step(self, step: Step, title: str, action: Action) -> None:
        """One step; whatever stops it, the operator is told how to go on."""
        resume = f"{program()} add-agent --resume --name {self._place.name}"
        try:
            with self._display.step(step, title) as line:
                line.outcome = action(line.tell)
                self.report.steps[step] = line.outcome
        except KeyboardInterrupt:
            self._display.note(f"Go on with: {resume}")
            raise
        except Failure as error:
            if not any("add-agent" in advice for advice in error.advice):
                error.advice = (*error.advice, f"When that is mended: {resume}")
            raise

    def _register(self, _tell: Tell) -> str:
        if self._progress.now.registration == "done":
            return "skipped, there is a token"
        registration.register(self._progress, self._api, enrolment_key=self._enrolment_key, admin=self._admin)
        return "done"

    def _clone(self, tell: Tell) -> str:
        options = self._progress.now.options
        url = options.repo if options.repo is not None else self._progress.now.default_repo
        if not url:
            why = "none wanted" if options.repo == "" else "the hub has no default repository"
            self._progress.complete(Step.CLONE)
            return f"skipped, {why}"
        if repository.address_problem(url) is None:
            tell(url)
        cloned = repository.clone(self._place, url)
        self._progress.complete(Step.CLONE)
        return "done" if cloned else "skipped, it is there"

    def _write_settings(self, _tell: Tell) -> str:
        token = self._token()
        try:
            self._settings_changed = write_settings(self._place, self._progress.now, token=token)
        except (OSError, ValueError) as error:
            raise Failure(f"The configuration could not be written: {error}.", code="config_failed") from None
        _, doubts = self._place.load()
        self.report.notes += doubts
        # From here on the configuration is the one place where the token is.
        self._progress.complete(Step.CONFIG, token=None)
        return "done" if self._settings_changed else "skipped, it is as it should be"

    def _start(self, _tell: Tell) -> str:
        manager = self._manager
        before = self._progress.now.process_manager
        if before is not None and before != manager.kind:
            manager_of(Kind(before)).remove(self._service)
        # Recorded first: after a crash it is known where a half-started process is.
        self._progress.update(process_manager=manager.kind.value)
        running = manager.state(self._service).status is Status.RUNNING
        if running and not self._settings_changed and self._progress.has(Step.PROCESS):
            return "skipped, it runs"
        if manager.kind is not Kind.NONE:
            self._refuse_foreign_process()
        self.report.notes += manager.start(self._service)
        self._progress.complete(Step.PROCESS)
        return "skipped, none wanted" if manager.kind is Kind.NONE else "done"

    def _refuse_foreign_process(self) -> None:
        """A sidecar that somebody started by hand would keep ours from starting, and get its task."""
        pid = service_pid(self._service)
        if pid is not None and self._manager.state(self._service).pid != pid:
            raise Failure(
                f"A sidecar of {self._place.name} already runs as process {pid}, outside {self._manager.kind}.",
                code="already_running",
                advice=(f"Stop it (kill {pid}) and use --resume.",),
            )

    def _verify(self, tell: Tell) -> str:
        config, _ = self._place.load()
        token = config.token.get_secret_value()
        name = self._place.name
        with HubApi(self._api.hub, token=token, ca_file=config.ca_file) as api, self._running(tell) as still_runs:
            smoke_test.wait_until_connected(api, name, timeout=CONNECT_TIMEOUT, still_runs=still_runs)
            if self._progress.now.options.wake is WakeMode.NONE:
                self._progress.complete(Step.VERIFY)
                self.report.notes.append("The agent is woken by other means, so no task was tried.")
                return "connected, no task was tried"
            passed = self.report.passed = smoke_test.check_agent(
                api, self._progress, timeout=self._verify_timeout, still_runs=still_runs, tell=tell
            )
        self._progress.complete(Step.VERIFY)
        return f"passed by {passed.task_id}"

    @contextlib.contextmanager
    def _running(self, tell: Tell) -> Iterator[Check]:
        """Gives a check that the sidecar runs. Without a process manager it runs for the time of this block only.

        Its pid is recorded, so that one that outlived a crash of ours is recognised and ended all the same.
        """
        if self._manager.kind is not Kind.NONE:
            yield self._check_manager()
            return
        pid = service_pid(self._service)
        if pid is not None and pid == self._progress.now.check_pid:
            self._end(pid)
            pid = None
        if pid is not None:
            yield lambda: None
            return
        tell("running the sidecar for the time of the check")
        with self._service.errors.open("ab") as errors:
            process = subprocess.Popen(
                self._service.argv,
                cwd=self._place.folder,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._progress.update(check_pid=process.pid)

        def check() -> None:
            if process.poll() is not None:
                raise self._ended(f"exit code {process.returncode}")

        try:
            yield check
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._progress.update(check_pid=None)

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while service_pid(self._service) == pid:
            if time.monotonic() > deadline:
                raise Failure(f"The sidecar with process id {pid} does not stop.", code="does_not_stop")
            time.sleep(0.1)

    def _check_manager(self) -> Check:
        """Asks the process manager only now and then."""
        asked = time.monotonic()

        def check() -> None:
            nonlocal asked
            if time.monotonic() - asked < MANAGER_POLL:
                return
            asked = time.monotonic()
            state = self._manager.state(self._service)
            if state.status not in {Status.RUNNING, Status.STARTING}:
                raise self._ended(state.status.value)

        return check

    def _ended(self, how: str) -> Failure:
        said = " ".join(read_tail(self._service.errors, 400)[0].split())
        return Failure(
            f"The sidecar does not run any more ({how}){f': {said}' if said else '.'}",
            code="sidecar_ended",
            advice=(f"Find out why: {program()} doctor --agent {self._place.name}",),
        )

    def _token(self) -> str:
        token = self._progress.now.token
        if token is not None:
            return token.get_secret_value()
        config, _ = self._place.load()
        return config.token.get_secret_value()
