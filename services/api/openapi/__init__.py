"""The description of the API, made of the tables that the API itself works by."""

from services.api.openapi.document import build_document

__all__ = ["build_document"]
