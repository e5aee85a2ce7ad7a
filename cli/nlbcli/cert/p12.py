"""`nlb cert p12`"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from nlbcli.ca.options import UsageProblem, naming_options
from nlbcli.cert._paper import files_argument, key_password_file_option, password_file_option, secret, tell
from nlbcli.cert.options import p12_target_option


@click.command("p12")
@files_argument
@p12_target_option("it")
@password_file_option("the new file")
@key_password_file_option
@click.option(
    "--name", metavar="FRIENDLY", help="What a keychain shows. [default: the certificate file's name without .crt]"
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="The new file. [default: the certificate file's name with .p12]",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite it if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    files: tuple[Path, ...],
    *,
    target: str,
    password_file: Path | None,
    key_password_file: Path | None,
    name: str | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Pack a certificate and its key for browsers and keychains (PKCS#12).

    FILE... are the certificate and its private key: `nlb cert p12 alice.crt alice.key` makes alice.p12. The intermediates
    that stand behind the certificate, or in a further file, go with it. A bundle that is there can be packed again:
    `nlb cert p12 alice.p12 --target legacy --out old.p12`.

    The password of the new one is asked for, twice, or comes from --password-file. An authority's key is never packed.
    """
    from nlbcore.pki import bundle, inspect, pkcs12, store
    from nlbcore.pki.contents import STDIN
    from nlbcore.pki.errors import PkiError
    from nlbcore.pki.store import Output

    def passphrase(path: Path) -> Callable[[], str]:
        return lambda: secret(f"{path.name} (as it is)", key_password_file, "--key-password-file")

    if files[0] == STDIN and (out is None or name is None):
        raise UsageProblem("the standard input has no name: give --out FILE and --name FRIENDLY")
    out = files[0].with_suffix(".p12") if out is None else out
    if not force:
        store.refuse_existing([out])
    certificates, key = bundle.collect(files, passphrase)
    if key is None:
        raise PkiError(f"there is no private key in {', '.join(map(str, files))}: give its file too")
    made = bundle.line(certificates, key, files)
    bundle.refuse_authority(made.leaf)
    friendly = files[0].stem if name is None else name
    password = secret(out.name, password_file, new=True)
    with naming_options():
        data = pkcs12.bundle(friendly, key, made.leaf, made.intermediates, password, target)
    with store.staged([Output(out, data)], replace=force) as publish:
        publish()
    subject = inspect.subject_words(made.leaf.subject)
    chain = [inspect.subject_words(one.subject) for one in made.intermediates]
    if as_json:
        shown = {"file": str(out), "target": target, "name": friendly, "subject": subject, "chain": chain}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    tell(f'{out}: {subject}, "{friendly}", for {target} importers, under the password')
    for one in chain:
        tell(f"  with {one}")
    if made.missing:
        tell(f"  above it {made.missing}, which is not in these files (a root need not be)")
