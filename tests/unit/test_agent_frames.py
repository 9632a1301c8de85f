"""Frames from agents: what is valid, and what the answer says when one is not."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from agentcom.wire.close_codes import CloseCode, fit_reason, should_reconnect
from agentcom.wire.frames import FIELDS, KNOWN_TYPES, Frame, FrameKind, Refused, parse

TOKEN = "0" * 64


def valid(frame: dict[str, Any]) -> Frame:
    parsed = parse(orjson.dumps(frame).decode())
    assert isinstance(parsed, Frame), parsed
    return parsed


def refused(text: str | dict[str, Any] | list[Any]) -> dict[str, Any]:
    parsed = parse(text if isinstance(text, str) else orjson.dumps(text).decode())
    assert isinstance(parsed, Refused), parsed
    reply: dict[str, Any] = orjson.loads(parsed.reply)
    return reply


def failures(text: str | dict[str, Any] | list[Any]) -> list[tuple[str, str]]:
    return [(error["field"], error["error"]) for error in refused(text)["errors"]]


class TestValid:
    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "identify", "agent_id": "w1", "token": TOKEN},
            {
                "type": "identify",
                "agent_id": "w1",
                "token": TOKEN,
                "name": "Worker",
                "status": "idle",
                "capabilities": ["code", "größe", "two words"],
                "features": ["progress", "from-the-future"],
                "protocol_version": 1,
            },
            {"type": "identify", "agent_id": "w1", "token": TOKEN, "name": None, "status": None, "capabilities": None},
            {"type": "ping"},
            {"type": "ping", "client_type": "x", "unknown": {"nested": [1]}},
            {"type": "status", "status": ""},
            {"type": "list_agents"},
            {"type": "task_accepted", "task_id": "t"},
            {"type": "task_accepted", "task_id": "t", "generation": 3},
            {"type": "task_progress", "task_id": "t", "progress": 40},
            {"type": "task_complete", "task_id": "t", "generation": 1},
            {"type": "task_complete", "task_id": "t", "generation": 1, "result": {"a": [1]}, "tokens_used": 42},
            {"type": "task_failed", "task_id": "t", "generation": 1, "error": "x" * 2000},
            {"type": "task_rejected", "task_id": "t", "reason": "busy"},
            {"type": "task_cancelled", "task_id": "t", "generation": 1},
            {"type": "task_recovering", "task_id": "t", "last_status": "working"},
        ],
    )
    def test_it_is_kept_as_it_was_sent(self, frame: dict[str, Any]) -> None:
        parsed = valid(frame)
        assert parsed.kind == frame["type"]
        assert parsed.data == frame

    def test_every_kind_has_a_row_in_the_table(self) -> None:
        assert set(FIELDS) == set(FrameKind)

    def test_lengths_are_counted_in_what_people_see_as_characters(self) -> None:
        family = "\U0001f468‍\U0001f469‍\U0001f467"  # one cluster of five code points
        valid({"type": "status", "status": family * 256})
        assert failures({"type": "status", "status": family * 257}) == [("status", "too_long")]

    def test_a_limit_cannot_be_passed_by_with_combining_characters(self) -> None:
        assert failures({"type": "status", "status": "e" + "\u0301" * 100_000}) == [("status", "too_long")]


class TestRefused:
    @pytest.mark.parametrize(
        "text", ["", "{", "{'type':'ping'}", '{"type":"ping"', "nan", '{"a":"\\ud800"}', "[" * 5000]
    )
    def test_not_json(self, text: str) -> None:
        assert refused(text)["error"] == "invalid_json"

    @pytest.mark.parametrize(
        ("text", "word"),
        [("[1]", "an array"), ('"x"', "a string"), ("5", "an integer"), ("null", "null"), ("true", "a boolean")],
    )
    def test_json_but_no_object(self, text: str, word: str) -> None:
        reply = refused(text)
        assert (reply["error"], reply["message_type"]) == ("validation_failed", "unknown")
        assert [error["error"] for error in reply["errors"]] == ["wrong_type"]
        assert word in reply["errors"][0]["detail"]

    def test_no_type(self) -> None:
        reply = refused({"status": "idle"})
        assert reply["message_type"] == "unknown"
        assert [(e["field"], e["error"]) for e in reply["errors"]] == [("type", "required")]

    def test_a_type_that_is_no_string(self) -> None:
        reply = refused({"type": 7})
        assert reply["message_type"] == 7
        assert [(e["field"], e["error"], e["value"]) for e in reply["errors"]] == [("type", "wrong_type", 7)]

    def test_an_unknown_type_is_answered_with_the_known_ones(self) -> None:
        reply = refused({"type": "make_tea"})
        assert reply["message_type"] == "make_tea"
        (error,) = reply["errors"]
        assert (error["field"], error["error"]) == ("type", "unknown_message_type")
        assert error["known_types"] == KNOWN_TYPES == sorted(KNOWN_TYPES)

    def test_all_failures_are_named_required_fields_first_and_each_group_by_name(self) -> None:
        frame = {"type": "identify", "token": 5, "status": 1, "name": 2, "capabilities": "code"}
        assert failures(frame) == [
            ("agent_id", "required"),
            ("token", "wrong_type"),
            ("capabilities", "wrong_type"),
            ("name", "wrong_type"),
            ("status", "wrong_type"),
        ]

    def test_null_in_a_required_field_is_missing(self) -> None:
        assert failures({"type": "task_accepted", "task_id": None}) == [("task_id", "required")]

    @pytest.mark.parametrize("generation", [True, 1.0, "1", [1]])
    def test_types_are_not_converted(self, generation: object) -> None:
        frame = {"type": "task_complete", "task_id": "t", "generation": generation}
        (error,) = refused(frame)["errors"]
        assert (error["field"], error["error"], error["value"]) == ("generation", "wrong_type", generation)

    def test_only_the_first_bad_item_of_an_array_is_named(self) -> None:
        frame = {"type": "identify", "agent_id": "w", "token": TOKEN, "capabilities": ["code", 5, None]}
        assert failures(frame) == [("capabilities[1]", "wrong_type")]

    @pytest.mark.parametrize("capability", ["", "a\x1fb", "\x1ea1", "a\nb", "\x7f"])
    def test_a_capability_is_plain_text(self, capability: str) -> None:
        frame = {"type": "identify", "agent_id": "w", "token": TOKEN, "capabilities": ["code", capability]}
        assert failures(frame) == [("capabilities[1]", "invalid")]

    def test_an_array_has_a_bound(self) -> None:
        frame = {"type": "identify", "agent_id": "w", "token": TOKEN, "capabilities": ["c"] * 101}
        assert failures(frame) == [("capabilities", "too_long")]

    @pytest.mark.parametrize(("field", "limit"), [("agent_id", 128), ("token", 256), ("name", 256), ("status", 256)])
    def test_too_long_texts_are_shown_in_part(self, field: str, limit: int) -> None:
        frame = {"type": "identify", "agent_id": "w", "token": TOKEN, field: "x" * (limit + 1)}
        (error,) = refused(frame)["errors"]
        assert (error["field"], error["error"], error["value"]) == (field, "too_long", "x" * 50 + "...")
        valid(frame | {field: "x" * limit})

    def test_a_large_offending_value_is_not_sent_back(self) -> None:
        reply = refused({"type": "task_complete", "task_id": "t", "generation": 1, "result": list(range(10_000))})
        assert len(orjson.dumps(reply)) < 1_000
        assert refused({"type": "x" * 500_000})["message_type"] == "x" * 128

    def test_the_refusal_says_which_task_it_is_about(self) -> None:
        reply = refused({"type": "task_failed", "task_id": "t1", "generation": 2, "error": 5})
        assert (reply["task_id"], reply["generation"], reply["request_type"]) == ("t1", 2, "task_failed")


class TestCloseCodes:
    def test_the_range_says_whether_to_come_back(self) -> None:
        terminal = {code for code in CloseCode if not should_reconnect(code)}
        assert terminal == {CloseCode.REPLACED, CloseCode.TOKEN_REVOKED, CloseCode.AGENT_REMOVED}

    def test_a_reason_fits_into_a_close_frame_without_a_torn_character(self) -> None:
        assert fit_reason("short") == "short"
        fitted = fit_reason("ü" * 100)
        assert fitted == "ü" * 61


class TestLargeNumbers:
    """The fast reader would make floats of integers past 64 bits."""

    BIG = 123456789012345678901234567890

    def test_a_result_keeps_them(self) -> None:
        text = f'{{"type":"task_complete","task_id":"t","generation":1,"result":{{"n":[{self.BIG},{-self.BIG}]}}}}'
        parsed = parse(text)
        assert isinstance(parsed, Frame)
        assert parsed.data["result"] == {"n": [self.BIG, -self.BIG]}

    @pytest.mark.parametrize("value", [BIG, -BIG, 2**53 + 1])
    @pytest.mark.parametrize(
        ("kind", "field"),
        [("task_complete", "generation"), ("task_progress", "progress"), ("channel_history", "limit")],
    )
    def test_no_field_takes_one(self, kind: str, field: str, value: int) -> None:
        frame = json.dumps({"type": kind, "task_id": "t", "channel": "c", field: value})
        assert failures(frame) == [(field, "out_of_range")]

    def test_one_in_the_wrong_place_is_shown(self) -> None:
        frame = json.dumps({"type": "task_accepted", "task_id": self.BIG})
        assert refused(frame)["errors"][0]["value"] == str(self.BIG)
        assert failures(json.dumps({"type": "task_accepted", "task_id": [self.BIG]})) == [("task_id", "wrong_type")]
        assert failures(json.dumps({"type": self.BIG})) == [("type", "wrong_type")]

    def test_a_number_without_end_is_no_json(self) -> None:
        assert refused('{"type":"ping","n":' + "7" * 5_000 + "}")["error"] == "invalid_json"
