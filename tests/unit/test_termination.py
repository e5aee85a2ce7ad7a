"""The termination list is the public vocabulary: its words and their numbers do not change by accident."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from nlbcore import termination
from nlbcore.termination import WORDS, Termination, word
from tests.tree import ROOT, run

# The contract, group by group; `protocol_error` is our addition to it. A new word goes to the end of the numbers.
PUBLIC = re.findall(
    r"\w+",
    """
    client_close server_close idle_timeout drained killed client_reset server_reset truncated shutdown protocol_error
    no_certificate unknown_ca expired not_yet_valid revoked crl_overdue crl_missing wrong_purpose bad_signature
    chain_too_long weak_key bad_certificate not_allowed denied
    became_revoked became_expired became_refused
    no_shared_cipher unsupported_version unknown_name no_alpn not_tls handshake_timeout handshake_error bad_proxy_header
    client_alert
    no_server connect_timeout connect_failed
    cps_limit connection_limit overload
    probe
""",
)


def test_the_words_and_their_numbers() -> None:
    assert list(WORDS) == ["open", *PUBLIC]
    assert [member.value for member in Termination] == list(range(len(WORDS)))


def test_a_word_of_each_number() -> None:
    assert [word(member) for member in Termination] == list(WORDS)


@pytest.mark.parametrize("number", [-1, len(WORDS), 1 << 20])
def test_a_number_that_is_not_in_the_list(number: int) -> None:
    """In a process of its own: a compiled module without bounds checks would not raise but read what is behind the list."""
    code = f"import nlbcore.termination as t\ntry: t.word({number})\nexcept IndexError: print('refused')"
    done = run(sys.executable, "-P", "-c", code)
    assert (done.returncode, done.stdout) == (0, "refused\n")


def test_the_segment_has_room_for_them() -> None:
    from nlbcore.segment import ListenerCounters

    assert len(WORDS) <= ListenerCounters().terminations._length_


def test_the_stub_names_the_same_members_in_the_same_order() -> None:
    tree = ast.parse((ROOT / "nlbcore/termination.pyi").read_text())
    (stub,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = [
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    names += [target.id for node in stub.body if isinstance(node, ast.Assign) for target in node.targets]  # type: ignore[attr-defined]
    assert names == [member.name for member in Termination]
    assert set(termination.__dict__) >= {"Termination", "WORDS", "word"}


def test_the_words_are_words() -> None:
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", one) for one in WORDS)
    assert len(set(WORDS)) == len(WORDS)
