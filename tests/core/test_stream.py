"""A stream ends exactly one way, every byte of it is our encoder's, and nothing comes after."""

from __future__ import annotations

import pytest

from proxy.core.evidence import MAX_RAW
from proxy.core.failures import Failure
from proxy.core.sse import ENCODED_KEEP_ALIVE
from proxy.core.stream import StreamSanitizer
from proxy.core.surfaces.names import CHAT, MESSAGES, OTHER, RESPONSES, SURFACE_NAMES
from proxy.core.surfaces.surface import Target
from tests.playbook import (
    Said,
    chunk,
    cut,
    data,
    done,
    eof,
    event,
    fails,
    failure,
    gets,
    keep_alive,
    play,
    raw,
    same,
    sanitizer,
    the_end,
)

STREAMS: dict[str, tuple[Said, Said, Said]] = {
    RESPONSES: (
        event("response.created", sequence_number=0, response={"id": "resp_1"}),
        event("response.output_text.delta", sequence_number=1, delta="Hi"),
        event("response.completed", sequence_number=2, response={"id": "resp_1"}),
    ),
    CHAT: (chunk(""), chunk("Hi"), chunk(finish="stop")),
    MESSAGES: (
        event("message_start", message={"id": "msg_1"}),
        event("content_block_delta", delta={"text": "Hi"}),
        event("message_stop"),
    ),
    OTHER: (
        event("transcript.text.delta", delta="a"),
        event("transcript.text.delta", delta="b"),
        event("transcript.text.done", text="ab"),
    ),
}


@pytest.mark.parametrize("surface", STREAMS)
class TestEndings:
    def test_a_healthy_stream_passes_as_it_is(self, surface: str) -> None:
        first, second, last = STREAMS[surface]
        script = play(surface) >> first << same() >> second << same() >> last << same() >> eof()
        assert script if surface == MESSAGES else script << the_end()

    def test_a_cut_between_two_events_ends_in_one_failure(self, surface: str) -> None:
        first, second, _ = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> second
            << same()
            >> cut()
            << failure("server_error")
            >> second
            >> eof()
            >> cut()
        )

    def test_a_clean_end_too_early_ends_in_one_failure(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        assert play(surface) >> first << same() >> eof() << failure("server_error")

    def test_an_empty_stream_ends_in_one_failure(self, surface: str) -> None:
        assert play(surface) >> eof() << failure("server_error")

    def test_a_cut_inside_an_event_ends_in_one_failure(self, surface: str) -> None:
        first, second, _ = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> raw(second.data[:-10])
            >> cut()
            << failure("server_error")
        )

    def test_a_last_event_without_its_blank_line_is_not_sent(self, surface: str) -> None:
        first, _, last = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> raw(last.data[:-1])
            >> eof()
            << failure("server_error")
        )

    def test_a_silent_stream_ends_in_one_failure(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        assert (
            play(surface) >> first << same() >> fails(Failure.IDLE) << failure("upstream_timeout")
        )

    def test_an_error_ends_the_stream(self, surface: str) -> None:
        first, second, last = STREAMS[surface]
        said = data({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "M"}})
        assert (
            play(surface)
            >> first
            << same()
            >> said
            << failure("rate_limit_exceeded")
            >> second
            >> last
            >> said
            >> cut()
        )

    def test_a_cut_after_the_end_is_no_failure(self, surface: str) -> None:
        first, _, last = STREAMS[surface]
        script = play(surface) >> first << same() >> last << same() >> cut()
        assert script if surface == MESSAGES else script << the_end()

    def test_an_event_over_the_limit_ends_the_stream(self, surface: str) -> None:
        first, second, _ = STREAMS[surface]
        assert (
            play(surface, max_event=len(first.data) + len(second.data))
            >> first
            << same()
            >> data({"type": "x", "pad": "x" * 1000})
            << failure("server_error")
            >> second
        )

    def test_an_event_before_the_one_over_the_limit_still_passes(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        one = sanitizer(surface, max_event=len(first.data))
        out = one.feed(first.data + b"data: " + b"x" * 10_000)
        assert out.startswith(first.data)
        assert len(out) > len(first.data)
        assert one.closed

    @pytest.mark.parametrize("large", [0, 100_000])
    def test_an_event_in_pieces_passes_whole_when_its_end_is_there(
        self, surface: str, large: int
    ) -> None:
        first, second, _ = STREAMS[surface]
        said = second.data.replace(b"\ndata: {", b"\ndata: {" + b" " * large)
        for cut_at in (1, 9, len(said) // 2, len(said) - 2, len(said) - 1):
            one = sanitizer(surface)
            assert one.feed(first.data) == first.data
            assert one.feed(said[:cut_at]) == b""
            assert one.feed(b"") == b""
            assert one.feed(said[cut_at:] + second.data) == said + second.data

    def test_a_page_ends_the_stream(self, surface: str) -> None:
        assert (
            play(surface)
            >> raw("<html><body>502 Bad Gateway: 10.0.0.7</body></html>")
            >> eof()
            << failure("server_error")
        )

    @pytest.mark.parametrize("text", ["Traceback (most recent call last):", "[1, 2]", "7", '"M"'])
    def test_data_that_is_no_object_ends_the_stream(self, surface: str, text: str) -> None:
        first, _, _ = STREAMS[surface]
        assert play(surface) >> first << same() >> data(text) << failure("server_error")

    def test_data_without_a_word_is_dropped(self, surface: str) -> None:
        first, second, _ = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> raw("data:  \n\n")
            >> raw("data\n\n")
            >> second
            << same()
        )

    def test_an_error_told_in_stray_lines_ends_the_stream(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> raw('error: {"message":"M","code":"rate_limit_exceeded"}\n\n')
            << failure("rate_limit_exceeded")
        )

    def test_an_error_left_unfinished_is_still_understood(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        for text in (
            'data: {"error":{"code":"rate_limit_exceeded"}}',
            'error: {"code":"rate_limit_exceeded"}',
            '{"error":{"code":"rate_limit_exceeded"}}\n',
        ):
            assert (
                play(surface)
                >> first
                << same()
                >> raw(text)
                >> cut()
                << failure("rate_limit_exceeded")
            )

    def test_other_stray_lines_are_dropped(self, surface: str) -> None:
        first, second, _ = STREAMS[surface]
        assert (
            play(surface)
            >> first
            << same()
            >> raw("INFO: 10.0.0.7 is slow\n\n")
            >> raw("foo: bar\n" + second.data.decode())
            << gets(second)
        )

    def test_comments_become_bare_keep_alives(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        assert (
            play(surface)
            >> raw(": from 10.0.0.7\n\n")
            << keep_alive()
            >> first
            << same()
            >> raw(":\n")
            << keep_alive()
        )

    def test_ids_and_retry_times_are_not_passed_on(self, surface: str) -> None:
        first, _, _ = STREAMS[surface]
        assert play(surface) >> raw(b"id: 10.0.0.7\nretry: 1\n" + first.data) << gets(first)


def test_the_proxys_own_failures_take_the_same_way() -> None:
    one = sanitizer(CHAT)
    one.feed(chunk("Hi").data)
    out = one.fail(Failure.RESET_AFTER, "ConnectionResetError: 10.0.0.7:443")
    assert b"10.0.0.7" not in out
    assert one._ledger.incidents[0].error.raw == b"ConnectionResetError: 10.0.0.7:443"
    assert one.fail(Failure.IDLE) == one.close() == one.feed(chunk("Hi").data) == b""


def test_what_stray_lines_said_is_kept_for_the_operator() -> None:
    one = sanitizer(CHAT)
    out = one.feed(b"worker 10.0.0.7 died\n\n") + one.fail(Failure.RESET_AFTER, "reset")
    assert b"10.0.0.7" not in out
    (incident,) = one._ledger.incidents
    assert incident.error.raw == b"worker 10.0.0.7 died"
    assert incident.error.failure is Failure.RESET_AFTER


def test_what_is_kept_for_the_operator_is_bounded() -> None:
    one = sanitizer(CHAT)
    one.feed(b"x" * 100_000 + b"\n\n")
    one.fail(Failure.RESET_AFTER, "y" * 100_000)
    assert len(one._ledger.incidents[0].error.raw) == MAX_RAW
    one = sanitizer(CHAT)
    one.fail(Failure.RESET_AFTER, "y" * 100_000)
    assert len(one._ledger.incidents[0].error.raw) == MAX_RAW


class TestWhatTheRelayReads:
    def test_content_has_not_been_seen_before_it_came(self) -> None:
        for surface, (first, second, _) in STREAMS.items():
            one = sanitizer(surface)
            one.feed(b": hi\n\n")
            assert not one.content_seen
            if surface != OTHER:  # where nothing is known of an event, it is content
                one.feed(first.data)
                assert not one.content_seen
            one.feed(second.data)
            assert one.content_seen

    def test_an_error_before_content_leaves_content_unseen(self) -> None:
        for surface in STREAMS:
            one = sanitizer(surface)
            one.feed(data({"error": {"code": "x"}}).data)
            assert self._state(one) == (False, False, True)
            assert one.reply is not None

    def test_the_end_is_told(self) -> None:
        for surface, events in STREAMS.items():
            one = sanitizer(surface)
            for said in events[:-1]:
                one.feed(said.data)
            assert self._state(one) == (True, False, False)
            one.feed(events[-1].data)
            one.close()
            assert self._state(one) == (True, True, True)
            assert one.reply is None

    def test_events_are_counted_and_comments_are_not(self) -> None:
        one = sanitizer(CHAT)
        for said in (chunk("a"), raw(": x\n\n"), chunk("b", "stop"), done(), done()):
            one.feed(said.data)
        assert one.events == 3

    def _state(self, one: StreamSanitizer) -> tuple[bool, bool, bool]:
        return one.content_seen, one.ended, one.closed


def test_one_fault_told_twice_is_one_incident() -> None:
    one = sanitizer(RESPONSES)
    first, second, _ = STREAMS[RESPONSES]
    error = {"code": "rate_limit_exceeded", "message": "M"}
    for said in (
        first,
        second,
        event("error", error=error, sequence_number=2),
        event("response.failed", response={"id": "resp_1", "status": "failed", "error": error}),
    ):
        one.feed(said.data)
    assert len(one._ledger.incidents) == 1


def test_a_failed_response_left_unfinished_is_still_understood() -> None:
    first, _, _ = STREAMS[RESPONSES]
    response = {"status": "failed", "error": {"code": "invalid_image_url", "message": "M"}}
    last = event("response.failed", response=response)
    script = play(RESPONSES) >> first << same() >> raw(last.data[:-1])
    assert script >> cut() << failure("invalid_image_url")


class TestTheLastEvents:
    def test_before_a_failure_are_named_for_the_operator(self) -> None:
        one = sanitizer(RESPONSES)
        for said in (*STREAMS[RESPONSES][:2], raw(": x\n\n")):
            one.feed(said.data)
        one.fail(Failure.RESET_AFTER)
        assert one.last_events()[-1] == "keep-alive"
        one = sanitizer(CHAT)
        one.feed(chunk("Hi").data * 9)
        one.fail(Failure.RESET_AFTER)
        assert one.last_events() == ("chat.completion.chunk",) * 5

    def test_have_names_whatever_they_are(self) -> None:
        one = sanitizer(OTHER, Target("POST", "/v1/anything"))
        for value, name in (({"a": 1}, "object"), ({"type": "x" * 99}, "x" * 64)):
            one.feed(data(value).data)
            assert one.last_events()[-1:] == (name,)
        one.feed(data("[DONE]").data)
        assert one.last_events()[-1:] == ("text",)

    def test_are_none_before_anything_was_said(self) -> None:
        assert sanitizer(CHAT).last_events() == ()

    def test_may_be_as_large_as_an_event_may_be(self) -> None:
        said = b'data:{"object":"chat.completion.chunk"}'
        one = sanitizer(CHAT, max_event=len(said))
        one.feed(said + b"\n\n")
        one.fail(Failure.RESET_AFTER)
        assert one.last_events() in ((), ("chat.completion.chunk",))


def test_nothing_is_said_to_an_empty_chunk() -> None:
    for surface in SURFACE_NAMES:
        assert sanitizer(surface).feed(b"") == b""


@pytest.mark.parametrize("surface", [RESPONSES, MESSAGES])
def test_comments_after_the_end_are_dropped(surface: str) -> None:
    one = sanitizer(surface)
    for said in STREAMS[surface]:
        one.feed(said.data)
    assert one.feed(b": x\n\n") == b""


def test_a_keep_alive_is_sent_at_once() -> None:
    assert sanitizer(CHAT).feed(b": x\n") == ENCODED_KEEP_ALIVE


def test_a_keep_alive_inside_an_event_is_sent_at_once() -> None:
    first, second, _ = STREAMS[CHAT]
    one = sanitizer(CHAT)
    one.feed(first.data)
    assert one.feed(second.data[:-1]) == b""
    assert one.feed(b": x\n") == one.feed(b": x\n") == ENCODED_KEEP_ALIVE
    assert one.feed(b"\n") == second.data
