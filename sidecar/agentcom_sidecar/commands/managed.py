"""Which process manager runs an installed agent."""

from agentcom_sidecar.installation import Installation
from agentcom_sidecar.onboarding.progress import load_progress
from agentcom_sidecar.process_manager import Kind, ProcessManager, Service, Status, manager_of


def manager_for(place: Installation) -> ProcessManager:
    """The recorded one, else the first that knows the agent, else none. Raises Failure."""
    progress = load_progress(place)
    if progress is not None and progress.process_manager is not None:
        return manager_of(Kind(progress.process_manager))
    service = Service(place)
    for kind in (Kind.PM2, Kind.SYSTEMD):
        manager = manager_of(kind)
        if manager.problem() is None and manager.state(service).status is not Status.MISSING:
            return manager
    return manager_of(Kind.NONE)
