"""The reaper: serves every deadline, and the jobs that may be late. Any number of copies share the work."""

from services.reaper.service import reaper_components

__all__ = ["reaper_components"]
