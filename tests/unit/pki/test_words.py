"""The words that a user chooses from are those that the code knows."""

from __future__ import annotations

from cryptography import x509

from nlbcore.pki import words
from nlbcore.pki.issue import PURPOSES


def test_words() -> None:
    assert words.DEFAULT_KEY_TYPE in words.KEY_TYPES
    assert set(words.PROFILES) == set(PURPOSES)
    left_out = {flag.value for flag in x509.ReasonFlags} - set(words.REASONS)
    assert left_out == {"removeFromCRL"}
    assert len(words.REASONS) == len(x509.ReasonFlags) - 1
    assert words.HOLD in words.REASONS
    assert words.UNSPECIFIED in words.REASONS
    assert words.P12_TARGETS == ("modern", "legacy")
    assert words.BUNDLE_FORMS[0] == "fullchain"
