"""A listener's `allow` and `deny` compiled into the one table that the engine looks into, drawn at the top of
``engine/rules.pyx``: a piece of memory without a pointer in it, which travels in the sealed snapshot and is one for all workers.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nlbcore.tls.rules import EMAIL, IP4, IP6, WILD, BadRule, Rule, covers, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nlbcore.config.finding import Severity

    Remark = tuple[str, int, Severity, str, str]  # "allow" or "deny", number of the entry, severity, sentence, hint

MAGIC = b"NLB-RULE"
VERSION = 1
TEXT = 96
WHOLE, BEFORE, BEHIND = range(3)
_HEADER = struct.Struct("=8sIIQQQ")
_SET = struct.Struct("=IIQQQII")
_ENTRY = struct.Struct("=IBBBBIIQQII")
_BITMAP = 257
_BITMAPS = 8


@dataclass(frozen=True, slots=True)
class Compiled:
    """What has become of a listener's rules: the table (None: there are none, or not all can be used), and what is to be
    said of them.
    """

    table: bytes | None
    remarks: tuple[Remark, ...]


def compile_rules(allow: Sequence[str], deny: Sequence[str]) -> Compiled:
    """Read both lists, tell every mistake in them, and make the table."""
    remarks: list[Remark] = []
    lists = {name: list(_read(name, texts, remarks)) for name, texts in (("allow", allow), ("deny", deny))}
    if any(severity == "error" for _, _, severity, _, _ in remarks):
        return Compiled(None, tuple(remarks))
    remarks += _shadowed(lists["allow"], lists["deny"])
    if not allow and not deny:
        return Compiled(None, ())
    return Compiled(_table(lists["allow"], lists["deny"]), tuple(remarks))


def _read(name: str, texts: Sequence[str], remarks: list[Remark]) -> Iterator[Rule]:
    seen: dict[tuple[int, bytes, int], int] = {}
    for number, text in enumerate(texts):
        try:
            rule = parse(text)
        except BadRule as error:
            remarks.append((name, number, "error", str(error), error.hint))
            continue
        if rule.warning:
            remarks.append((name, number, "warning", rule.warning, rule.hint))
        other = seen.setdefault((rule.kind, rule.pattern, rule.bits), number)
        if other != number:
            remarks.append((name, number, "warning", f'"{text}" says the same as {name}[{other}]', ""))
        yield rule


def _shadowed(allow: Iterable[Rule], deny: Sequence[Rule]) -> Iterator[Remark]:
    """Entries of `allow` that let nobody in, because `deny` covers all that they do."""
    exact = {(rule.kind, rule.pattern, rule.bits): number for number, rule in reversed(list(enumerate(deny)))}
    wild = [(number, rule) for number, rule in enumerate(deny) if rule.wild or rule.kind in (IP4, IP6)]
    for number, rule in enumerate(allow):
        found = exact.get((rule.kind, rule.pattern, rule.bits))
        if found is None:
            found = next((at for at, other in wild if covers(other, rule)), None)
        if found is not None:
            text = f'"{rule.text}" allows nobody: deny[{found}] "{deny[found].text}" covers it'
            yield "allow", number, "warning", text, ""


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    place: int
    key: bytes
    size: int
    pattern: bytes
    rule: int


def _table(allow: Sequence[Rule], deny: Sequence[Rule]) -> bytes:
    """The whole; what it looks like is drawn in ``engine/rules.pyx``."""
    out = bytearray(_HEADER.size)
    offsets = [
        _put_set(out, name, rules) if rules else 0 for name, rules in (("allow", allow), ("deny", _without_case(deny)))
    ]
    _HEADER.pack_into(out, 0, MAGIC, VERSION, 0, len(out), *offsets)
    return bytes(out)


def _without_case(deny: Iterable[Rule]) -> list[Rule]:
    return [replace(rule, pattern=rule.pattern.lower()) if rule.kind == EMAIL else rule for rule in deny]


def _put_set(out: bytearray, name: str, rules: Sequence[Rule]) -> int:
    """Put a set behind what is there: its offset."""
    entries = _entries(rules)
    slots = 8
    while slots < 2 * len(entries):
        slots *= 2
    start = _aligned(out)
    bitmaps = bytearray(_BITMAPS * 2 * _BITMAP)
    out += bytes(_SET.size + len(bitmaps))
    texts_at = _aligned(out)
    out += bytes(8 * len(rules))
    for number, rule in enumerate(rules):
        struct.pack_into("=Q", out, texts_at + 8 * number, len(out))
        out += _text(f"{name}[{number}] {rule.text}")
    packed, table = bytearray(), [0] * slots
    for number, entry in enumerate(entries):
        more = number + 1 < len(entries) and _key(entries[number + 1]) == _key(entry)
        value = _hash(entry)
        if number == 0 or _key(entries[number - 1]) != _key(entry):
            at = value & (slots - 1)
            while table[at]:
                at = (at + 1) & (slots - 1)
            table[at] = number + 1
        if entry.place:
            bit = (entry.kind * 2 + entry.place - 1) * _BITMAP * 8 + entry.size
            bitmaps[bit // 8] |= 1 << bit % 8
        key_at = len(out)
        out += entry.key
        packed += _ENTRY.pack(
            *(value, entry.kind, entry.place, more, 0, entry.rule, entry.size),
            *(key_at, len(out), len(entry.pattern), 0),
        )
        out += entry.pattern
    slots_at = _aligned(out)
    out += struct.pack(f"={slots}I", *table)
    entries_at = _aligned(out)
    out += packed
    kinds = sum(1 << kind for kind in {entry.kind for entry in entries})
    _SET.pack_into(out, start, kinds, slots - 1, slots_at, entries_at, texts_at, len(entries), len(rules))
    out[start + _SET.size : start + _SET.size + len(bitmaps)] = bitmaps
    return start


def _entries(rules: Sequence[Rule]) -> list[_Entry]:
    """Each different rule once, by key. A wildcard's key is what stands before it or behind it, whichever fewer others have."""
    different = {(rule.kind, rule.pattern, rule.bits): number for number, rule in reversed(list(enumerate(rules)))}
    ends = {
        pattern: (WILD.split(pattern, 1)[0], WILD.split(pattern)[-1])
        for kind, pattern, _ in different
        if kind < IP4 and WILD.search(pattern)
    }
    common: Counter[tuple[int, int, bytes]] = Counter()
    for kind, pattern, _ in different:
        if kind < IP4 and pattern in ends:
            common.update(((kind, BEFORE, ends[pattern][0]), (kind, BEHIND, ends[pattern][1])))
    made = []
    for (kind, pattern, bits), number in different.items():
        if kind in (IP4, IP6):
            made.append(_Entry(kind, BEFORE, pattern, bits, b"", number))
        elif kind < IP4 and pattern in ends:
            place, key = min(
                zip((BEFORE, BEHIND), ends[pattern], strict=True),
                key=lambda end: (common[kind, *end], -len(end[1])),
            )
            made.append(_Entry(kind, place, key, len(key), pattern, number))
        else:
            made.append(_Entry(kind, WHOLE, pattern, len(pattern), b"", number))
    return sorted(made, key=lambda entry: (*_key(entry), entry.rule))


def _key(entry: _Entry) -> tuple[int, int, int, bytes]:
    return entry.kind, entry.place, entry.size, entry.key


def _hash(entry: _Entry) -> int:
    """FNV-1a, 32 bits; from the end where the key is the end of a name."""
    value = 2166136261
    for byte in (entry.kind, entry.place, *(reversed(entry.key) if entry.place == BEHIND else entry.key)):
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) >= TEXT:
        data = data[: TEXT - 4].decode(errors="ignore").encode() + b"..."
    return data + b"\0"


def _aligned(out: bytearray) -> int:
    out += bytes(-len(out) % 8)
    return len(out)
