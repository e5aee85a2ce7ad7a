"""How figures are written: a unit that suits their size, three digits, and never a false one."""

from __future__ import annotations

from nlbbench.trials import Unit

_STEPS = {
    Unit.SECONDS: ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    Unit.SECONDS_PER_BYTE: ((1e-9, "s/GB"),),
    Unit.BYTES: ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
    Unit.PER_SECOND: ((1.0, "/s"),),
    Unit.BYTES_PER_SECOND: ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "KB/s"), (1.0, "B/s")),
    Unit.COUNT: ((1.0, ""),),
}


def scale(unit: Unit, value: float) -> tuple[float, str]:
    """The divisor and the name of the unit in which a value of this size is written."""
    for step, name in _STEPS[unit]:
        if abs(value) >= step:
            return step, name
    return _STEPS[unit][-1]


def number(value: float) -> str:
    """Three significant digits, as far as they are before the point all of them."""
    if value == 0:
        return "0"
    size = abs(value)
    places = 0 if size >= 99.5 else 1 if size >= 9.95 else 2 if size >= 0.995 else 3
    return f"{value:,.{places}f}"


def quantity(unit: Unit, value: float) -> str:
    """With its unit: 1.24 ms, 2,140 /s, 27.9 KB."""
    if unit is Unit.COUNT:
        return f"{value:,.0f}"
    step, name = scale(unit, value)
    return f"{number(value / step)} {name}"


def spread(unit: Unit, median: float, low: float, high: float) -> str:
    """Lowest and highest in the median's unit: 1.20-1.31."""
    if unit is Unit.COUNT:
        return f"{low:,.0f}-{high:,.0f}"
    step, _ = scale(unit, median)
    return f"{number(low / step)}-{number(high / step)}"


def ratio(value: float) -> str:
    """1.24x, two digits behind the point also below one tenth."""
    return f"{value:.2f}x" if value < 9.95 else f"{value:.1f}x" if value < 99.5 else f"{value:.0f}x"


def duration(seconds: float) -> str:
    """1 min 20 s, 45 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
