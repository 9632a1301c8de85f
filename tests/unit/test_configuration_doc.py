"""docs/configuration.md names every setting with its default and meaning, and nothing else."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from agentcom.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def names(field_name: str, field: FieldInfo) -> list[str]:
    """The environment variables of a setting."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [f"AGENTCOM_{field_name.upper()}"]


def table() -> str:
    """What the document's table must be."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for field_name, field in Settings.model_fields.items():
        variables = ", ".join(f"`{name}`" for name in names(field_name, field))
        default = "–" if field.default in {None, ""} else f"`{field.default}`"
        rows.append(f"| {variables} | {default} | {field.description} |")
    return "\n".join(rows)


def test_every_setting_is_described_in_the_code() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_document_has_the_table_of_the_settings() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8")
