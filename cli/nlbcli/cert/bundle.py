"""`nlb cert bundle`"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import naming_options
from nlbcli.cert._paper import files_argument, key_password_file_option, secret, tell
from nlbcore.pki.words import BUNDLE_FORMS


@click.command("bundle")
@files_argument
@click.option(
    "--form",
    metavar="FORM",
    type=click.Choice(BUNDLE_FORMS),
    default=BUNDLE_FORMS[0],
    show_default=True,
    help="fullchain (leaf, then intermediates), chain (intermediates only), leaf, or haproxy (leaf, intermediates and "
    "private key in one file).",
)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path, readable=False), required=True, help="The new file."
)
@key_password_file_option
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Overwrite the file if it is there; it may be one of those read, but not the key's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...], *, form: str, out: Path, key_password_file: Path | None, force: bool, as_json: bool
) -> None:
    """Put a certificate and those above it in order, in one PEM file, as other programs want it.

    For example `nlb cert bundle www.crt intermediate.crt --out fullchain.pem`, or, for HAProxy,
    `nlb cert bundle www.crt www.key --form haproxy --out www.pem`.

    FILE... may be PEM, DER, PKCS#7 or PKCS#12, in any order; what has nothing to do with the certificate is left out, and so
    is the root, which verifiers have themselves. The file is for its owner only.
    """
    from nlbcore.pki import bundle, inspect, store
    from nlbcore.pki.store import Output

    def passphrase(path: Path) -> Callable[[], str]:
        return lambda: secret(path.name, key_password_file, "--key-password-file")

    if not force:
        store.refuse_existing([out])
    certificates, key = bundle.collect(files, passphrase)
    made = bundle.line(certificates, key, files)
    with naming_options():
        data = bundle.pem(made, form, key)
    bundle.refuse_loss(out, form)
    with store.staged([Output(out, data)], replace=force) as publish:
        publish()
    leaf = [] if form == "chain" else [made.leaf]
    chain = [] if form == "leaf" else made.intermediates
    held = [inspect.subject_words(one.subject) for one in (*leaf, *chain)]
    if as_json:
        shown = {"file": str(out), "form": form, "certificates": held, "private_key": form == "haproxy"}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    tell(f"{out}: {form}")
    for one in held:
        tell(f"  {one}")
    if form == "haproxy":
        tell("  its private key")
    if made.missing and form != "leaf":
        tell(f"  above it {made.missing}, which is not in these files (a root need not be)")
