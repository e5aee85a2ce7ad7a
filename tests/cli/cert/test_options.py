"""The options that commands share are the same in each."""

from __future__ import annotations

import pytest

from nlbcli.cert import csr, issue, p12, renew, sign

SHARED = {
    ("--cn", "--dns", "--ip", "--uri", "--email", "--country", "--organization", "--subject-email"): (issue, csr),
    ("--days", "--not-before", "--not-after"): (issue, sign, renew),
    ("--out", "--force", "--json"): (issue, csr, sign, renew),
    ("--target", "--password-file"): (issue, p12),
    ("--ca", "--passphrase-file"): (issue, sign, renew),
}


@pytest.mark.parametrize("names", SHARED, ids=" ".join)
def test_shared(names: tuple[str, ...]) -> None:
    for module in SHARED[names]:
        known = {word for parameter in module.command.params for word in parameter.opts}
        assert set(names) <= known, module
