"""The running sidecar: one inbox, one loop that asks the session and carries out its effects in order."""

import asyncio
import signal
import time
from dataclasses import replace

import structlog

from agentcom_sidecar import __version__
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.connection import HubConnection
from agentcom_sidecar.delivery import Delivery
from agentcom_sidecar.effects import (
    AgentFinished,
    AgentStopped,
    ClearTask,
    DropReport,
    Effect,
    Event,
    Exit,
    Reconnect,
    RefuseReport,
    RenumberReport,
    ReviveReport,
    SaveTask,
    Send,
    SendReport,
    StartAgent,
    StopAgent,
    StoreReport,
    Tick,
)
from agentcom_sidecar.hand import FIRST_RUN
from agentcom_sidecar.job import Job
from agentcom_sidecar.journal import Journal, Phase, Task
from agentcom_sidecar.outbox import Outbox, ReportKey
from agentcom_sidecar.protocol import fit_report
from agentcom_sidecar.recovery import Recovered, recover
from agentcom_sidecar.result import Outcome, failed
from agentcom_sidecar.session import Session

EX_OK = 0
EX_SOFTWARE = 70
EX_IOERR = 74
EX_CONFIG = 78

TICK_SECONDS = 0.25
SHUTDOWN_GRACE = 3.0
WATCH_RETRY_SECONDS = 1.0


class Sidecar:
    """Wires session, socket, disk and agent together. The caller holds the lock of the data folder."""

    def __init__(self, config: SidecarConfig) -> None:
        self._config = config
        self._inbox: asyncio.Queue[Event] = asyncio.Queue(maxsize=256)
        self._connection = HubConnection(config, self._inbox)
        self._journal = Journal(config.data_dir)
        self._outbox = Outbox(config.data_dir)
        self._job: Job | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._exit: int | None = None
        self._log = structlog.get_logger()

    async def run(self) -> int:
        """Run until a signal or a terminal answer of the hub; returns the exit code."""
        self._log.info("startup", version=__version__, hub_url=self._config.hub_url)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number, stop)
        recovered = await recover(self._config, self._journal, self._outbox)
        session = self._session(recovered)
        if recovered.job is not None:
            self._work_on(recovered.job, FIRST_RUN, begin=False)
        work = asyncio.create_task(self._work(session))
        background = [
            asyncio.create_task(self._connection.run()),
            asyncio.create_task(self._tick()),
            asyncio.create_task(stop.wait()),
        ]
        self._log.info("ready")
        await asyncio.wait([work, background[-1]], return_when=asyncio.FIRST_COMPLETED)
        if self._exit is None:
            self._exit = EX_OK  # The loop ends after the event it is at; the next tick wakes it if it is at none.
            await asyncio.wait([work], timeout=SHUTDOWN_GRACE)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.gather(self._connection.close(), self._leave(session.task))
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        return self._exit

    def _session(self, recovered: Recovered) -> Session:
        ack_timeout = self._config.ack_timeout_ms / 1000
        return Session(
            Delivery(self._outbox.pending(), self._outbox.superseded(), ack_timeout=ack_timeout),
            task=recovered.task,
            agent_runs=recovered.job is not None,
            ack_timeout=ack_timeout,
            progress_interval=self._config.progress_interval_ms / 1000,
        )

    def _on_signal(self, number: signal.Signals, stop: asyncio.Event) -> None:
        self._log.info("shutdown", signal=number.name)
        stop.set()

    async def _tick(self) -> None:
        interval = min(TICK_SECONDS, self._config.progress_interval_ms / 1000)
        while True:
            await asyncio.sleep(interval)
            await self._inbox.put(Tick())

    async def _work(self, session: Session) -> None:
        while self._exit is None:
            event = await self._inbox.get()
            try:
                for effect in session.handle(event, time.monotonic()):
                    await self._perform(effect)
            except OSError as error:
                # What was promised to the hub can no longer be recorded: stop, so that a supervisor shows it.
                self._log.critical("data_dir_failed", error=str(error), data_dir=str(self._config.data_dir))
                self._exit = EX_IOERR
            except Exception:  # noqa: BLE001 - supervises the loop
                self._log.exception("internal_error", on=type(event).__name__)
                self._exit = EX_SOFTWARE

    async def _perform(self, effect: Effect) -> None:
        outbox = self._outbox
        match effect:
            case Send(frame):
                if not await self._connection.send(frame):
                    self._log.debug("send_failed", type=frame.get("type"))
            case SaveTask(task):
                await asyncio.to_thread(self._journal.save, task)
            case ClearTask(task):
                await self._clear(task)
            case StartAgent(task, run):
                self._work_on(Job(self._config, task), run, begin=True)
            case StopAgent(run):
                self._stop(run)
            case StoreReport(report):
                await asyncio.to_thread(outbox.store, report)
            case SendReport(key, max_bytes):
                await self._send_report(key, max_bytes)
            case DropReport(key):
                await asyncio.to_thread(outbox.drop, key)
            case RefuseReport(key, code):
                kept = await asyncio.to_thread(outbox.refuse, key, code)
                self._log.info("report_kept_aside", task_id=key.task_id, path=str(kept))
            case RenumberReport(key, generation):
                await asyncio.to_thread(outbox.renumber, key, generation)
            case ReviveReport(task_id, generation):
                await asyncio.to_thread(outbox.revive, task_id, generation)
            case Reconnect(reason):
                self._connection.drop(reason)
            case Exit(sentence):
                self._log.error("terminal", reason=sentence)
                self._exit = EX_CONFIG

    async def _send_report(self, key: ReportKey, max_bytes: int) -> None:
        report = await asyncio.to_thread(self._outbox.load, key)
        if report is None:
            self._log.error("report_missing", task_id=key.task_id, generation=key.generation)
            return
        frame = await asyncio.to_thread(fit_report, report.frame(), max_bytes)
        if await self._connection.send(frame):
            self._log.info("report_sent", type=report.type, task_id=key.task_id, generation=key.generation)

    def _work_on(self, job: Job, run: int, *, begin: bool) -> None:
        """Carry a task to its outcome beside the loop, so that neither git nor an agent holds up a heartbeat."""

        async def work() -> None:
            outcome: Outcome | None = None
            try:
                outcome = await job.begin() if begin else None
            except OSError as error:
                self._log.error("wake_error", task_id=job.task.task_id, error=str(error))
                outcome = failed(f"wake_failed: {error}")
            except Exception as error:  # noqa: BLE001 - supervises the job: a task must not hang on a mistake here
                self._log.exception("internal_error", task_id=job.task.task_id)
                outcome = failed(f"internal_error: {type(error).__name__}")
            while outcome is None:
                try:
                    outcome = await job.finish()
                except OSError as error:
                    self._log.error("watch_error", task_id=job.task.task_id, error=str(error))
                    await asyncio.sleep(WATCH_RETRY_SECONDS)
                except Exception as error:  # noqa: BLE001 - supervises the job
                    self._log.exception("internal_error", task_id=job.task.task_id)
                    outcome = failed(f"internal_error: {type(error).__name__}")
            await self._inbox.put(AgentFinished(run, outcome))

        self._job = job
        self._watching = asyncio.create_task(work())

    def _stop(self, run: int) -> None:
        job, watching = self._job, self._watching

        async def stop() -> None:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            if job is not None:
                try:
                    await job.run.stop()
                    await job.close()
                    await asyncio.to_thread(job.run.clean_up)
                except Exception:  # noqa: BLE001 - supervises the end of a job: the next task waits for it
                    self._log.exception("stop_error", task_id=job.task.task_id)
            await self._inbox.put(AgentStopped(run))

        self._stopping = asyncio.create_task(stop())

    async def _clear(self, task: Task) -> None:
        """Files of an agent that is still being stopped are removed when it is gone."""
        await asyncio.to_thread(self._journal.clear)
        if self._stopping is None or self._stopping.done():
            await asyncio.to_thread(Job(self._config, task).run.clean_up)

    async def _leave(self, task: Task | None) -> None:
        """End the agent, unless it is to work on without the sidecar, and leave its task to the next start."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching], timeout=SHUTDOWN_GRACE)
        if self._stopping is not None and not self._stopping.done():
            await asyncio.wait([self._stopping], timeout=SHUTDOWN_GRACE)
            self._stopping.cancel()
        agent = self._job.run if self._job is not None else None
        if agent is None or not agent.alive:
            return
        if task is not None and task.phase is Phase.RUNNING:
            if not self._config.stops_agent_on_exit:
                return
            await asyncio.to_thread(self._journal.save, replace(task, phase=Phase.INTERRUPTED))
        await agent.stop(grace=min(SHUTDOWN_GRACE, self._config.kill_grace_ms / 1000))
