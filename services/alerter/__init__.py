"""The alerter: watches what endangers the hub and says so."""

from services.alerter.service import alerter_components

__all__ = ["alerter_components"]
