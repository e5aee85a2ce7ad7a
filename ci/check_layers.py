"""Check who may import whom, as the map in `nlbcore/__init__.py` draws it: imports go down only.

import-linter sees chains of Python imports but neither compiled modules nor `cimport`; this check reads `.py`, `.pyi`,
`.pyx` and `.pxd` alike, line by line. Prints `FILE:LINE: ...` for each import that the table does not allow.

Usage: check_layers.py [ROOT]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLOOR = ("errors", "address", "proxy_protocol", "termination", "facts", "segment", "unixsocket", "dn")

# What a layer may import beside itself and the packages of others. A name stands for the module and all below it.
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FLOOR, FLOOR),
    "config": FLOOR,
    # engine.callbacks: the addresses of the C callbacks that a context is given; engine.revoked: the records of a
    # revocation list, in the form in which they are searched. engine.examine, with what it takes (hooks, rules): a listener's
    # own verdict on a certificate, for tls.explain.
    "tls": (
        *(*FLOOR, "config.model", "config.finding", "engine.callbacks", "engine.revoked"),
        *("engine.examine", "engine.hooks", "engine.rules"),
    ),
    # engine.hooks is the interface that the schedulers implement for the engine; engine.linux is C declarations only.
    # engine.counters: the verdicts on the servers, in the segment.
    "pool": (*FLOOR, "config.model", "engine.hooks", "engine.counters", "engine.linux"),
    "engine": FLOOR,
    # engine.journal: the layout of the records it makes lines of; tls.identity: the words for a certificate in them.
    "observe": (*FLOOR, "config.model", "engine.counters", "engine.journal", "tls.identity"),
    "control": (*FLOOR, "config.model"),
    "admin": (*FLOOR, "control.handlers", "observe.metrics", "observe.connections"),
    "pki": ("errors", "dn"),
    "process": (
        *FLOOR,
        *("admin", "config", "tls", "pool", "engine", "observe"),
        *("control.protocol", "control.server", "control.handlers"),
    ),
}
CLI = "nlbcli"
BENCH = "nlbbench"
# The commands that run it; nothing else imports it.
BENCH_CLI = "nlbcli.bench"
# The generator is a client: of the engine it uses OpenSSL's table and the declarations of the system's calls. pki: the
# certificates of a comparison.
BENCH_ALLOWED = ("errors", "address", "engine.openssl", "engine.linux", "pki")
CLI_ALLOWED: tuple[str, ...] = (
    "errors",
    "config",
    "control.client",
    "observe.connections",
    "pki",
    "process.supervisor",
    "process.checker",
    "tls.explain",
    "tls.trusted",
)
# Nobody imports these.
TOPS = (CLI, "tests", "bench")

SOURCES = (".py", ".pyi", ".pyx", ".pxd")
STATEMENT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[.\w]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n(]+)"
    r"|c?import[ \t]+(?P<modules>[^\n]+))",
    re.MULTILINE,
)
STRING_OR_COMMENT = re.compile(
    r"'''.*?'''|\"\"\".*?\"\"\"|#[^\n]*|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL
)


@dataclass(frozen=True)
class Import:
    """One imported module, with the line of the statement."""

    line: int
    target: str


def imports(text: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """Every module that a source imports or cimports, in full names; `from a import b` gives `a.b`, module or not."""
    text = STRING_OR_COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text).replace("\\\n", "  ")
    for match in STATEMENT.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["modules"]:
            for one in match["modules"].split(","):
                yield Import(line, one.split()[0])
            continue
        base = match["base"]
        if base.startswith("."):
            level = len(base) - len(base.lstrip("."))
            parents = module.split(".")
            parents = parents[: len(parents) - level + is_package]
            base = ".".join([*parents, base.lstrip(".")]).rstrip(".")
        for one in match["names"].strip("() \t\n").split(","):
            if one.strip():
                yield Import(line, f"{base}.{one.split()[0]}")


def _below(target: str, name: str) -> bool:
    return target == name or target.startswith(f"{name}.")


def refusal(module: str, target: str) -> str | None:
    """Why `module` may not import `target`, or None."""
    top = module.split(".", maxsplit=1)[0]
    if _below(target, BENCH) and top != BENCH and not _below(module, BENCH_CLI):
        return f"only {BENCH_CLI} imports {BENCH}"
    if top != CLI and any(_below(target, one) for one in TOPS):
        return f"nobody imports {target.split('.', maxsplit=1)[0]}"
    if not _below(target, "nlbcore"):
        return None
    wanted = target.removeprefix("nlbcore").removeprefix(".")
    if "." not in wanted and (not wanted or wanted.startswith("__")):
        return None  # the map itself: nlbcore.__version__
    if top == CLI:
        layer, allowed = CLI, CLI_ALLOWED
    elif top == BENCH:
        layer, allowed = BENCH, BENCH_ALLOWED
    else:
        layer = module.removeprefix("nlbcore").removeprefix(".").split(".")[0]
        if not layer:
            return "the map imports nothing"
        if layer not in ALLOWED:
            return f"layer {layer} has no row in ci/check_layers.py"
        allowed = (layer, *ALLOWED[layer])
    if any(_below(wanted, name) for name in allowed):
        return None
    return f"{layer} may see {', '.join(name for name in allowed if name != layer)}"


def check(root: Path) -> list[str]:
    """Every import below `root` that breaks the table, as a line for the reader."""
    found = []
    for base, package in ((root, "nlbcore"), (root / "cli", CLI), (root / "bench", BENCH)):
        for path in sorted((base / package).rglob("*")):
            if path.suffix not in SOURCES:
                continue
            parts = path.relative_to(base).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            refused: dict[int, str] = {}  # one finding per statement, however many names it imports
            for one in imports(path.read_text(), module, is_package=is_package):
                why = refusal(module, one.target)
                if why is not None:
                    refused.setdefault(one.line, f"{module} imports {one.target}: {why}")
            found += [f"{path.relative_to(root)}:{line}: {text}" for line, text in refused.items()]
    return found


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = check(root)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
