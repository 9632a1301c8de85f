"""What a restart finds: the task in hand, its agent if one still runs, and left-overs of neither."""

import asyncio
from dataclasses import dataclass, replace

import structlog

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.job import Job
from agentcom_sidecar.journal import Journal, Phase, Task
from agentcom_sidecar.outbox import Outbox, Report, ReportKey
from agentcom_sidecar.protocol import TASK_ID, ReportType
from agentcom_sidecar.run import Run


@dataclass(frozen=True, slots=True)
class Recovered:
    """The task in hand, and its job when that must be watched on (its agent may also have ended meanwhile)."""

    task: Task | None
    job: Job | None


async def recover(config: SidecarConfig, journal: Journal, outbox: Outbox) -> Recovered:
    """Bring the data folder to a state in which a session can begin."""
    log = structlog.get_logger()
    try:
        task = journal.load()
    except (ValueError, OSError) as error:
        log.warning("journal_unreadable", error=str(error), moved_to=str(journal.set_aside()))
        task = None
    await _stop_strays(config, keep=task)
    if task is None:
        return Recovered(None, None)
    job = Job(config, task)
    run = job.run
    log.info("recovery_found", task_id=task.task_id, generation=task.generation, phase=task.phase)
    if ReportKey(task.task_id, task.generation) in outbox.pending():
        return await _forget(journal, job)  # It ended; the crash came between storing the report and clearing.
    if task.phase is Phase.CANCELLING:
        await run.stop()
        outbox.store(Report(ReportKey(task.task_id, task.generation), ReportType.CANCELLED, {}))
        return await _forget(journal, job)
    if task.phase is Phase.INTERRUPTED:
        await run.stop()
    if _may_start_again(run):
        task = replace(task, phase=Phase.ACCEPTED, started_at=None)
        journal.save(task)
        return Recovered(task, None)
    return Recovered(task, job)


def _may_start_again(run: Run) -> bool:
    """Whether no agent can have done, or be doing, the task's work."""
    match run.task.phase:
        case Phase.ACCEPTED:
            return not run.has_result()
        case Phase.INTERRUPTED:
            return not run.has_result()
        case _:
            return run.never_started and not run.has_result()


async def _forget(journal: Journal, job: Job) -> Recovered:
    journal.clear()
    await job.close()
    await asyncio.to_thread(job.run.clean_up)
    return Recovered(None, None)


async def _stop_strays(config: SidecarConfig, *, keep: Task | None) -> None:
    """End agents that an earlier process was stopping when it died, and remove their files."""
    runs = config.data_dir / "runs"
    for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
        if TASK_ID.match(folder.name) and (keep is None or folder.name != keep.task_id):
            stray = Job(config, Task(task_id=folder.name, generation=0, metadata={}))
            structlog.get_logger().warning("stray_run_removed", task_id=folder.name, alive=stray.run.alive)
            await stray.run.stop()
            await stray.close()
            await asyncio.to_thread(stray.run.clean_up)
