"""`nlb cert sign`"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from nlbcli.ca.options import authority_option, naming_options, new_term_options, opened, passphrase_option, term_of
from nlbcli.cert.options import force_option, out_option, profile_option
from nlbcli.cert.told import tell


@click.command("sign")
@click.argument("csr", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@authority_option
@profile_option(required=True)
@click.option(
    "--name", metavar="NAME", help="Of the certificate in the index, and of its file. [default: that of FILE]"
)
@new_term_options
@out_option
@passphrase_option
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    csr: Path,
    *,
    folder: Path,
    profile: str,
    name: str | None,
    days: int | None,
    not_before: str | None,
    not_after: str | None,
    out: Path,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Sign the certificate signing request in FILE (PEM or DER): NAME.crt, the certificate, then the intermediate.

    The names come from the request: look at what is printed, for whoever made the request chose them. What the certificate
    may be used for comes from --profile; whatever else the request asks for is left out, and told. A request that is not
    signed with its own key, or whose key is weak, is refused.
    """
    with naming_options(name="FILE" if name is None else "--name"):
        authority = opened(folder, passphrase_file)
        term = term_of(days, not_before, not_after)
        issued = authority.sign(csr, profile, name=csr.stem if name is None else name, term=term, out=out, force=force)
    tell(issued, as_json=as_json)
