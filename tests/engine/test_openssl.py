"""The table of function pointers refuses what it does not know; OpenSSL's answers become words of the termination list."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.tree import run

VERIFY = {
    0: "open",
    **dict.fromkeys((2, 18, 19, 20, 21, 27), "unknown_ca"),
    3: "crl_missing",
    7: "bad_signature",
    **dict.fromkeys((9, 11), "not_yet_valid"),
    10: "expired",
    12: "crl_overdue",
    **dict.fromkeys((22, 25), "chain_too_long"),
    23: "revoked",
    **dict.fromkeys((24, 26, 28, 32, 79), "wrong_purpose"),
    **dict.fromkeys((66, 67, 68), "weak_key"),
}
SSL_LIBRARY = 20
REASONS = {
    **dict.fromkeys((193, 101, 118, 376), "no_shared_cipher"),
    **dict.fromkeys((258, 266, 267, 166, 396, 252, 373, 191), "unsupported_version"),
    199: "no_certificate",
    123: "bad_signature",
    235: "no_alpn",
    **dict.fromkeys((155, 156), "not_tls"),
    134: "bad_certificate",
}


def test_words_of_verification_results(door: Any) -> None:
    for result in range(-1, 100):
        assert door.verify_word(result) == VERIFY.get(result, "bad_certificate"), result


def test_words_of_errors(door: Any) -> None:
    for reason in range(1000):
        assert door.error_word(SSL_LIBRARY << 23 | reason) == REASONS.get(reason, "handshake_error"), reason
    assert door.error_word(SSL_LIBRARY << 23 | 1000) == "handshake_error"
    for alert in (0, 10, 42, 48, 116, 255):
        assert door.error_word(SSL_LIBRARY << 23 | (1000 + alert)) == ("client_alert" if alert else "handshake_error")


def test_errors_of_any_library_are_no_alerts(door: Any) -> None:
    """ERR_R_INTERNAL_ERROR and its like have flags above the number (err.h), in all libraries the same."""
    flags, fatal = 0x2 << 18, 0x1 << 18
    for reason in (1256, flags | fatal | 259, flags | 256, flags | fatal | 1003):
        assert door.error_word(SSL_LIBRARY << 23 | reason) == "handshake_error"


def test_errors_of_other_libraries(door: Any) -> None:
    for library in (11, 13, 16):
        assert door.error_word(library << 23 | 193) == "bad_certificate"
    for library, reason in ((4, 104), (6, 234)):
        assert door.error_word(library << 23 | reason) == "bad_signature"
        assert door.error_word(library << 23 | (reason + 1)) == "handshake_error"
    for code in (0, 2 << 23 | 193, 0x80000000 | 104, 0xFFFFFFFF):
        assert door.error_word(code) == "handshake_error"


def test_the_reasons_are_those_of_the_openssl_in_use() -> None:
    """The numbers are part of its stable interface; their texts show that they mean what we think."""
    from cryptography.hazmat.bindings._rust import _openssl

    texts = {
        193: "no shared cipher",
        101: "no suitable key share",
        118: "no suitable signature algorithm",
        376: "no shared signature algorithms",
        258: "unsupported protocol",
        267: "wrong version number",
        199: "peer did not return a certificate",
        123: "bad signature",
        235: "no application protocol",
        156: "http request",
        155: "https proxy request",
        134: "certificate verify failed",
    }
    # The first error of the process loads the texts.
    _openssl.lib.SSL_CTX_set_cipher_list(
        _openssl.ffi.gc(_openssl.lib.SSL_CTX_new(_openssl.lib.TLS_server_method()), _openssl.lib.SSL_CTX_free), b"none"
    )
    _openssl.lib.ERR_clear_error()
    found = {code: _openssl.lib.ERR_reason_error_string(SSL_LIBRARY << 23 | code) for code in texts}
    assert {code: _openssl.ffi.string(text).decode() for code, text in found.items()} == texts


# `load()` looks functions up in the bindings each time: a stand-in for them says what would happen with another release.
STAND_IN = """
import sys, types
from cryptography.hazmat.bindings._rust import _openssl as real
import nlbcore.engine.openssl as openssl
import cryptography.hazmat.bindings._rust as rust

class Ffi:
    def __getattr__(self, name):
        return getattr(real.ffi, name)
    def addressof(self, lib, name):
        if name == {missing!r}:
            raise AttributeError(name)
        return real.ffi.addressof(real.lib, name)
    def typeof(self, pointer):
        changed = {changed!r}
        if changed and pointer == real.ffi.addressof(real.lib, changed):
            return types.SimpleNamespace(cname='int(*)(SSL *, void *, long)')
        return real.ffi.typeof(pointer)

rust._openssl = types.SimpleNamespace(ffi=Ffi(), lib=real.lib)
try:
    openssl.load()
except Exception as error:
    print(type(error).__name__, error.exit_code, error)
else:
    print("loaded")
"""


@pytest.mark.parametrize(
    ("missing", "changed", "said"),
    [
        ("", "", "loaded"),
        ("SSL_read", "", "StartError 1 the OpenSSL bindings lack SSL_read; VERSIONS are installed"),
        (
            "",
            "SSL_write",
            (
                "StartError 1 the OpenSSL bindings declare SSL_write as 'int(*)(SSL *, void *, long)', "
                "not 'int(*)(SSL *, void *, int)'; VERSIONS are installed"
            ),
        ),
    ],
    ids=["as it is", "missing", "changed"],
)
def test_bindings_of_another_release(missing: str, changed: str, said: str) -> None:
    import cryptography
    import OpenSSL

    done = run(sys.executable, "-P", "-c", STAND_IN.format(missing=missing, changed=changed))
    versions = f"cryptography {cryptography.__version__}, pyOpenSSL {OpenSSL.__version__}"
    assert done.stdout.strip() == said.replace("VERSIONS", versions)


def test_every_function_is_looked_at() -> None:
    """Each one that the table has stops the start when it is missing."""
    from tests.tree import ROOT

    text = (ROOT / "nlbcore/engine/openssl.pxd").read_text()
    declared = text[text.index("cdef struct OpenSSL:") : text.index("cdef OpenSSL ossl")]
    table = {line.split("(*", 1)[1].split(")", 1)[0] for line in declared.splitlines() if "(*" in line}
    source = (ROOT / "nlbcore/engine/openssl.pyx").read_text()
    loaded = {line.split("ossl.", 1)[1].split(")", 1)[0] for line in source.splitlines() if "(<void **>&ossl." in line}
    assert table == loaded
    for name in table:
        assert f'ossl.{name})[0] = _function("{name}",' in source.replace('_function(\n        "', '_function("'), name
