"""How a setup begins: anew, where an earlier one stopped, or over an existing agent."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agentcom_sidecar.agent_names import draw_name
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.files import read_object
from agentcom_sidecar.hub_address import parse_hub
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import Installation, installation, installations, locked
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.display import Display
from agentcom_sidecar.onboarding.flow import Report, Setup
from agentcom_sidecar.onboarding.preflight import Findings, look_around
from agentcom_sidecar.onboarding.progress import Options, Progress, ProgressFile, Step, WakeMode, load_progress
from agentcom_sidecar.onboarding.registration import NameTakenError, check_token
from agentcom_sidecar.onboarding.settings import options_of

MAX_DRAWS = 20


class Mode(StrEnum):
    """What is wanted."""

    NEW = "new"
    RESUME = "resume"
    REJOIN = "rejoin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator asked for. ``given`` are the fields of Options that were said explicitly."""

    mode: Mode
    name: str | None
    given: Mapping[str, Any]
    token: SecretStr | None = None
    admin_token: SecretStr | None = None
    enrolment_key: SecretStr | None = None
    verify_timeout: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A finished setup."""

    place: Installation
    progress: Progress
    report: Report


def onboard(request: Request, display: Display) -> Ready:
    """Do it. Raises Failure."""
    place = _place(request)
    with contextlib.ExitStack() as stack:
        if place is not None and place.folder.is_dir():
            stack.enter_context(locked(place))
        stored = None if place is None or request.mode is Mode.NEW else load_progress(place)
        if request.mode is Mode.RESUME and stored is None:
            raise _nothing_to_resume(request.name)
        options = _options(request, place, stored)
        hub = parse_hub(options.hub_url)
        ca_file = None if options.ca_file is None else Path(options.ca_file)
        api = stack.enter_context(HubApi(hub, ca_file=ca_file))
        admin = None
        if request.admin_token is not None:
            secret = request.admin_token.get_secret_value()
            admin = stack.enter_context(HubApi(hub, token=secret, ca_file=ca_file))
        onboarding = _Onboarding(request, options, display=display, api=api, admin=admin)
        if place is not None and stored is not None and request.mode is Mode.RESUME:
            return onboarding.resume(place, stored)
        if place is not None and request.mode is Mode.REJOIN:
            return onboarding.rejoin(place)
        return onboarding.anew(place)


class _Onboarding:
    """One setup, with its options settled. ``api`` has no token; ``admin`` has an admin's."""

    def __init__(
        self, request: Request, options: Options, *, display: Display, api: HubApi, admin: HubApi | None
    ) -> None:
        self._request = request
        self._options = options
        self._display = display
        self._api = api
        self._admin = admin

    def anew(self, place: Installation | None) -> Ready:
        """A new agent. A drawn name that turns out to be taken is drawn again."""
        findings = self._preflight(place, fresh=True)
        taken = set(self._connected())
        for _ in range(MAX_DRAWS):
            candidate = place or self._draw(taken)
            candidate.create()
            with locked(candidate):
                progress = ProgressFile(candidate, Progress(agent_name=candidate.name, options=self._options))
                progress.complete(Step.PREFLIGHT, default_repo=findings.default_repo)
                setup = self._setup(candidate, progress, findings)
                try:
                    setup.register()
                except NameTakenError as error:
                    shutil.rmtree(candidate.folder)
                    if place is not None:
                        raise
                    self._display.note(f"{error} Another name is drawn.")
                    taken.add(candidate.name)
                    continue
                report = setup.run()
                return Ready(place=candidate, progress=progress.now, report=report)
        raise _no_name_left()

    def resume(self, place: Installation, stored: Progress) -> Ready:
        """From where it stopped. What the operator says now replaces what was said then."""
        if stored.registration != "none" and stored.options.hub_url != self._options.hub_url:
            raise Failure(
                f"{place.name} was set up for {stored.options.hub_url}: --resume cannot change the hub, --rejoin can.",
                code="other_hub",
                exit_code=ExitCode.USAGE,
            )
        self._display.note(f"{place.name}: {len(stored.steps_completed)} of {len(Step)} steps were done before.")
        progress = ProgressFile(place, stored.model_copy(update={"options": self._options}))
        return self._go_on(place, progress)

    def rejoin(self, place: Installation) -> Ready:
        """Over whatever is there, with a token that is known to be good before anything is changed."""
        token = self._request.token or _known_token(place)
        if token is None:
            raise Failure(
                f"There is no token for {place.name} here: give it.",
                code="token_missing",
                exit_code=ExitCode.USAGE,
                advice=("Use --token-file FILE, the variable AGENTCOM_TOKEN, or --token - and stdin.",),
            )
        secret = token.get_secret_value()
        ca_file = None if self._options.ca_file is None else Path(self._options.ca_file)
        with HubApi(self._api.hub, token=secret, ca_file=ca_file) as api:
            check_token(api, name=place.name, token=secret)
        before = load_progress(place) if place.progress_path.exists() else None
        fresh = Progress(
            agent_name=place.name,
            options=self._options,
            registration="done",
            token=token,
            ws_url=self._api.hub.ws_url,
            process_manager=None if before is None else before.process_manager,
        )
        return self._go_on(place, ProgressFile(place, fresh))

    def _go_on(self, place: Installation, progress: ProgressFile) -> Ready:
        findings = self._preflight(place, fresh=False)
        place.create()
        progress.complete(Step.PREFLIGHT, default_repo=findings.default_repo or progress.now.default_repo)
        report = self._setup(place, progress, findings).run()
        return Ready(place=place, progress=progress.now, report=report)

    def _setup(self, place: Installation, progress: ProgressFile, findings: Findings) -> Setup:
        key = self._request.enrolment_key
        return Setup(
            place,
            progress,
            api=self._api,
            admin=self._admin,
            enrolment_key=None if key is None else key.get_secret_value(),
            manager=findings.manager,
            display=self._display,
            verify_timeout=self._request.verify_timeout,
        )

    def _preflight(self, place: Installation | None, *, fresh: bool) -> Findings:
        with self._display.step(Step.PREFLIGHT, "Look at this machine and the hub"):
            findings = look_around(self._options, place=place, fresh=fresh, api=self._api)
        for note in findings.notes:
            self._display.note(note)
        return findings

    def _connected(self) -> frozenset[str]:
        """A hub that does not show its agents to strangers still refuses a taken name."""
        try:
            return (self._admin or self._api).connected_agents()
        except Failure:
            return frozenset()

    @staticmethod
    def _draw(taken: set[str]) -> Installation:
        name = draw_name(taken | {place.name for place in installations()})
        if name is None:
            raise _no_name_left()
        return installation(name)


def _place(request: Request) -> Installation | None:
    """The agent meant; None for a new one whose name is still to be drawn."""
    if request.name is not None:
        return installation(request.name)
    if request.mode is Mode.NEW:
        return None
    if request.mode is Mode.REJOIN:
        raise Failure("--rejoin needs --name.", code="usage", exit_code=ExitCode.USAGE)
    open_ones = [place for place in installations() if _unfinished(place)]
    if len(open_ones) == 1:
        return open_ones[0]
    if not open_ones:
        raise _nothing_to_resume(None)
    names = ", ".join(place.name for place in open_ones)
    raise Failure(f"Several setups are unfinished ({names}): say which with --name.", code="usage")


def _unfinished(place: Installation) -> bool:
    progress = load_progress(place)
    return progress is not None and Step.VERIFY not in progress.steps_completed


def _options(request: Request, place: Installation | None, stored: Progress | None) -> Options:
    """What is said now, else what was said before, else what the configuration says; last, OpenClaw if it is there."""
    known: dict[str, Any] = {}
    if stored is not None:
        known = dict(stored.options)
    elif place is not None and request.mode is Mode.REJOIN:
        try:
            known = options_of(place)
        except (OSError, ValueError) as error:
            raise Failure(f"{place.config_path} cannot be used: {error}.", code="invalid_config") from None
    known |= request.given
    if known.get("hub_url") is None:
        raise Failure("The hub's address is missing: give --hub URL.", code="usage", exit_code=ExitCode.USAGE)
    if known.get("wake") is None and shutil.which("openclaw") is not None:
        known["wake"] = WakeMode.OPENCLAW
    known["hub_url"] = parse_hub(str(known["hub_url"])).url
    return Options.model_validate(known)


def _known_token(place: Installation) -> SecretStr | None:
    """The token of an earlier setup, finished or not."""
    with contextlib.suppress(OSError, ValueError):
        stored = (read_object(place.config_path) or {}).get("token")
        if isinstance(stored, str) and stored:
            return SecretStr(stored)
    progress = load_progress(place) if place.progress_path.exists() else None
    return progress.token if progress is not None and progress.registration == "done" else None


def _nothing_to_resume(name: str | None) -> Failure:
    whose = "no setup" if name is None else f"no setup of {name}"
    return Failure(
        f"There is {whose} to resume.",
        code="nothing_to_resume",
        advice=(f"Begin one: {program()} add-agent --hub URL",),
    )


def _no_name_left() -> Failure:
    return Failure("No ship's name is free any more: choose one with --name.", code="no_name_left")
