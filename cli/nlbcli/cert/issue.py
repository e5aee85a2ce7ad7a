"""`nlb cert issue`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.ca.options import (
    UsageProblem,
    authority_option,
    key_type_option,
    naming_options,
    new_term_options,
    opened,
    passphrase_option,
    subject_options,
    term_of,
)
from nlbcli.cert._paper import password_file_option, secret
from nlbcli.cert.options import (
    force_option,
    names_options,
    out_option,
    p12_target_option,
    profile_option,
    subject_email_option,
)
from nlbcli.cert.told import tell
from nlbcore.pki.words import P12_TARGETS


@click.command("issue")
@click.argument("name", metavar="NAME")
@authority_option
@profile_option(required=True)
@names_options
@new_term_options
@key_type_option(default=None, text="Kind of its key")
@subject_options
@subject_email_option
@out_option
@click.option("--p12", is_flag=True, help="Write NAME.p12 too, for browsers and keychains; it asks for a password.")
@password_file_option("NAME.p12")
@p12_target_option("NAME.p12")
@passphrase_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    name: str,
    *,
    folder: Path,
    profile: str,
    cn: str | None,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    uri: tuple[str, ...],
    email: tuple[str, ...],
    days: int | None,
    not_before: str | None,
    not_after: str | None,
    key_type: str | None,
    out: Path,
    p12: bool,
    password_file: Path | None,
    target: str,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
    subject_email: str,
    **subject: str,
) -> None:
    """Issue a certificate: NAME.crt (the certificate, then the intermediate) and NAME.key, for their owner only.

    Clients look at the alternative names (--dns, --ip, --uri, --email); the common name is added to them if it is such a
    name. A certificate never outlives the authority that has issued it.
    """
    from nlbcore.pki.issue import Request
    from nlbcore.pki.names import Subject

    if target != P12_TARGETS[0] and not p12:
        raise UsageProblem("--target: it is who imports NAME.p12, and --p12 is not given")
    if password_file is not None and not p12:
        raise UsageProblem("--password-file: the password is that of NAME.p12, and --p12 is not given")
    with naming_options(name="NAME", cn="NAME" if cn is None else "--cn"):
        authority = opened(folder, passphrase_file)
        term = term_of(days, not_before, not_after)
        request = Request(
            name, profile, cn, Subject(**subject, email=subject_email), dns, ip, uri, email, key_type, term
        )
        request.checked()  # before the password is asked for
        password = secret(f"{name}.p12", password_file, new=True) if p12 else None
        issued = authority.issue(request, out=out, p12_password=password, p12_target=target, force=force)
    tell(issued, as_json=as_json)
