"""Every command and every piece of Python in README and the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_blocks import LANGUAGES, MARKERS, ROOT, Block, blocks_of, pages
from page_given import GIVEN
from page_stage import Stage, logical_lines, matches, missing, sessions, stage

for name in ("torch", "matplotlib", "jinja2"):  # what most pages are about
    pytest.importorskip(name)

__all__ = ["stage"]  # a fixture

MOST_NOT_RUN = 12
"""Blocks of all pages together that cannot be run here."""

PAGES = [path.relative_to(ROOT).as_posix() for path in pages()]


def blocks(page: str) -> list[Block]:
    """Those of a page that are code."""
    return [block for block in blocks_of((ROOT / page).read_text(), page) if block.language in LANGUAGES]


def played(page: str, stage: Stage, long: bool) -> int:
    """Run a page, and say how many blocks of it ran."""
    count = 0
    for block in blocks(page):
        if "not run" in block.markers or missing(block) or ("long" in block.markers and not long):
            continue
        for name in block.listed("given"):
            GIVEN[name](stage)
        stage.play(block)
        count += 1
    return count


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_block_of_the_page_runs(page: str, stage: Stage) -> None:
    if played(page, stage, long=False) == 0:
        pytest.skip("none of its blocks runs in the quick tests here")


@pytest.mark.long
@pytest.mark.parametrize("page", [page for page in PAGES if any("long" in b.markers for b in blocks(page))])
def test_every_block_of_the_page_runs_the_long_ones_too(page: str, stage: Stage) -> None:
    assert played(page, stage, long=True) > 0


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for page in PAGES for block in blocks(page) if "not run" in block.markers]
    assert len(left_out) <= MOST_NOT_RUN, [block.place for block in left_out]
    for block in left_out:
        assert len(block.markers["not run"].split()) >= 3, f"{block.place} does not say why"


def test_markers_name_what_exists() -> None:
    for page in PAGES:
        for block in blocks_of((ROOT / page).read_text(), page):
            assert set(block.listed("given")) <= set(GIVEN), block.place
            assert block.language in LANGUAGES or not block.markers, f"{block.place} is no code"


def test_no_command_hides_in_a_block_without_a_language() -> None:
    for page in PAGES:
        for block in blocks_of((ROOT / page).read_text(), page):
            hidden = re.search(r"^(\$ )?(pvqbounds|python|pip|make) ", block.text, re.MULTILINE)
            assert block.language in LANGUAGES or hidden is None, f"{block.place}: give it the language sh"


# ------------------------------------------------------------------- the runner finds what is planted


def planted(language: str, code: str) -> Block:
    return Block("planted.md", 1, language, code, {})


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import pvqbounds as pvq\npvq.solve('nothing')"),
        ("python", "assert 1 + 1 == 3"),
        ("sh", "pvqbounds layer --no-such-option"),
        ("sh", "pvqbounds show missing.json"),
        ("sh", "python -c 'raise SystemExit(3)'"),
        ("bash", "for i in 1 2; do\n  false\ndone"),
        ("console", "$ pvqbounds --version\npvqbounds 99.0"),
    ],
)
def test_a_block_that_fails_is_found(language: str, code: str, stage: Stage) -> None:
    with pytest.raises((AssertionError, Exception)) as found:
        stage.play(planted(language, code))
    assert found.type is not SystemExit


def test_blocks_share_names_and_folder(stage: Stage) -> None:
    stage.play(planted("python", "from pathlib import Path\nPath('x.txt').write_text('found')"))
    stage.play(planted("python", "assert Path('x.txt').exists()"))
    stage.play(planted("console", "$ cat x.txt\nfound"))
    assert Path("x.txt").parent.resolve() == stage.folder.resolve()


def test_what_is_shown_is_compared_but_for_spaces_and_seconds() -> None:
    assert matches("best  3.20 dB\nnative, 15 s", "best 3.20 dB\n  native, 0.31 s\n")
    assert matches("first\n...\nlast", "first\nmany\nlines\nlast")
    assert not matches("best 3.20 dB", "best 3.21 dB")
    assert not matches("best", "best 3.21 dB")


def test_a_page_is_cut_into_blocks() -> None:
    text = "\n".join(
        [
            "<!-- given: a, b -->",
            "<!-- not run: it is too large -->",
            "```sh",
            "pvqbounds layer \\",
            "    --bits 3  # three",
            "# a comment",
            "```",
            "",
            "- item",
            "",
            "  ```python",
            "  if True:",
            "      pass",
            "  ```",
        ]
    )
    first, second = blocks_of(text, "page.md")
    assert first.markers == {"given": "a, b", "not run": "it is too large"}
    assert first.place == "page.md:4"
    assert len(logical_lines(first.text)) == 1
    assert second.text == "if True:\n    pass"
    assert second.markers == {}
    assert sessions("$ a \\\n  b\nout\n$ c\n") == [("a   b", "out\n"), ("c", "")]


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_without_a_block_is_a_fault(marker: str) -> None:
    with pytest.raises(ValueError, match=r"planted\.md:2"):
        blocks_of(f"<!-- {marker}: 1 -->\nText.\n", "planted.md")
