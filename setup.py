"""The compiled modules and the table of build profiles; metadata is in pyproject.toml.

The list of modules is the tree itself (every `.pyx` below SOURCES): a list beside it could name a module that is gone
or miss one that came, and a missed module shows only when it is imported. TESTS_ONLY is the one exception.

`NLB_BUILD` chooses the profile (default: release):

    release  what users get
    debug    -O0, bounds and None checks, assertions, the tests' door (`engine/_testing`)
    trace    debug with line tracing, for coverage that counts `.pyx` lines
    asan     debug under the address and undefined-behaviour sanitizers (see `make asan`)
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Folder that a package stands in -> the package.
SOURCES = {".": "nlbcore", "bench": "nlbbench"}
TESTS_ONLY = {"nlbcore.engine._testing"}


@dataclass(frozen=True)
class Profile:
    """One way to build: directives for Cython, flags for the C compiler and the linker, with the tests' door or not."""

    directives: dict[str, bool]
    compile: tuple[str, ...]
    link: tuple[str, ...] = ()
    tests_only: bool = True


# The same in every profile, because they change what the code means and not how it is checked: C division (no
# exception from `nogil` code) and no negative indices.
COMMON: dict[str, Any] = {"language_level": 3, "embedsignature": True, "cdivision": True, "wraparound": False}
CHECKED = {"boundscheck": True, "initializedcheck": True, "nonecheck": True}
UNCHECKED = {"boundscheck": False, "initializedcheck": False, "nonecheck": False}
# -Wno-unused-function: Cython writes helpers that a module may not need. -U...: Python's own flags come first.
WARN = ("-Wall", "-Wno-unused-function")
ASSERT = ("-UNDEBUG", "-U_FORTIFY_SOURCE", "-DNLB_DEBUG=1")

PROFILES = {
    "release": Profile(
        directives=UNCHECKED,
        compile=(
            *("-O3", "-g1", "-DCYTHON_WITHOUT_ASSERTIONS=1"),
            *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"),
            *WARN,
        ),
        link=("-Wl,-z,relro,-z,now",),
        tests_only=False,
    ),
    "debug": Profile(
        directives=CHECKED,
        compile=("-O0", "-g3", *ASSERT, *WARN),
    ),
    # CYTHON_USE_SYS_MONITORING=0: coverage's C tracer needs the old hooks, and only it supports plug-ins.
    "trace": Profile(
        directives={**CHECKED, "linetrace": True, "binding": True},
        compile=("-O0", "-g1", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0", *ASSERT, *WARN),
    ),
    "asan": Profile(
        directives=CHECKED,
        compile=(
            "-O1",
            "-g3",
            "-fno-omit-frame-pointer",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
            *ASSERT,
            *WARN,
        ),
        link=("-fsanitize=address,undefined",),
    ),
}


def modules(profile: Profile) -> list[Extension]:
    """Every `.pyx` of the tree as an extension of this profile. Paths are relative: setuptools refuses others."""
    found = []
    paths = {
        path: Path(folder) for folder, package in SOURCES.items() for path in Path(folder, package).glob("**/*.pyx")
    }
    for path, folder in sorted(paths.items()):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        if name in TESTS_ONLY and not profile.tests_only:
            continue
        found.append(
            Extension(
                name,
                [str(path)],
                extra_compile_args=list(profile.compile),
                extra_link_args=list(profile.link),
            )
        )
    return found


def translate(extensions: list[Extension], name: str, *, build_dir: str, force: bool = False) -> list[Extension]:
    """Cython to C, below `build_dir`; Cython's own time stamps decide what is translated again."""
    from Cython.Build import cythonize

    translated: list[Extension] = cythonize(  # type: ignore[no-untyped-call]
        extensions,
        build_dir=build_dir,
        include_path=list(SOURCES),
        compiler_directives={**COMMON, **PROFILES[name].directives},
        force=force,
        nthreads=len(os.sched_getaffinity(0)),
    )
    return translated


class Build(build_ext):
    """build_ext with Cython in parallel, and everything built again when the profile changed (in-place builds share names)."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = len(os.sched_getaffinity(0))

    def run(self) -> None:
        # Translation belongs here and not before setup(): an sdist must not contain generated C.
        stamp = Path("build", "profile")
        if not stamp.exists() or stamp.read_text() != CHOSEN:
            self.force = True
        translated = {ext.name: ext for ext in translate(self.extensions, CHOSEN, build_dir=f"build/{CHOSEN}/c")}
        for extension in self.extensions:
            extension.sources = translated[extension.name].sources
            extension.depends = translated[extension.name].depends
        super().run()
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(CHOSEN)


def chosen() -> str:
    name = os.environ.get("NLB_BUILD", "release")
    if name not in PROFILES:
        raise SystemExit(f"NLB_BUILD={name}: no such build profile; there are {', '.join(PROFILES)}")
    return name


def refuse_free_threaded() -> None:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise SystemExit(
            "nlb does not support free-threaded Python: its engine relies on the GIL for what is shared between the "
            "loop and Python. Use the ordinary build of the same version (for example python3.13, not python3.13t)."
        )


if __name__ == "__main__":
    refuse_free_threaded()
    CHOSEN = chosen()
    setup(
        ext_modules=modules(PROFILES[CHOSEN]),
        cmdclass={"build_ext": Build},
        # A folder per profile, or a release wheel would pack what a debug build left behind.
        options={"build": {"build_base": f"build/{CHOSEN}"}},
    )
