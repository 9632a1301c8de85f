"""The scheduler: matches what an inline match left over. Any number of copies share the work."""

from services.scheduler.service import scheduler_components

__all__ = ["scheduler_components"]
