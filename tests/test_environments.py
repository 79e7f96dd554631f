"""What sets up environments agrees with pyproject.toml: versions, the image, the hooks before a commit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def numbers(version: str) -> tuple[int, ...]:
    """A version as far as it is numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def pins() -> dict[str, str]:
    """The versions that are tested together, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("extra", [None, *EXTRAS], ids=lambda extra: extra or "base")
def test_what_is_tested_is_no_older_than_what_is_asked_for(extra: str | None) -> None:
    pinned = pins()
    for line in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        name, least = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?(?:>=([\d.]+))?", line).groups()  # type: ignore[union-attr]
        if name == "pvqbounds" or extra == "hf":  # transformers stand beside what is tested together
            continue
        assert least is None or numbers(pinned[name]) >= numbers(least), line


def copied() -> set[str]:
    """What the image is built from."""
    rows = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {word for row in rows for word in row.split()}


def test_the_image_gets_what_the_package_is_built_from_and_nothing_else() -> None:
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "constraints.txt", "pvqbounds"}
    assert copied() == needed
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(let_through) == needed
    assert all((ROOT / name).exists() for name in needed)


def test_the_image_names_extras_and_programs_that_exist() -> None:
    (named,) = re.findall(r'^ARG EXTRAS="\[([\w,]+)\]"$', DOCKERFILE, re.MULTILINE)
    assert set(named.split(",")) <= EXTRAS.keys()
    for module in re.findall(r"-m (pvqbounds[\w.]+)", DOCKERFILE):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    assert "debian:bookworm" in DOCKERFILE  # with Python 3.11
    assert PROJECT["requires-python"] == ">=3.11"


def test_hooks_before_a_commit_are_the_checks_of_make() -> None:
    hooks = re.findall(
        r"^ +entry: \.venv/bin/(.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE
    )
    makefile = (ROOT / "Makefile").read_text()
    made = re.search(r"^check:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    assert made is not None
    checks = [line.removeprefix("$(BIN)/").removesuffix(" .") for line in made[1].split("\t") if line]
    assert [hook.removesuffix(" --force-exclude") for hook in hooks] == [
        line.strip().removesuffix(" .") for line in checks
    ]
    assert {hook.split()[0] for hook in hooks} <= pins().keys()
