"""Docstrings as Markdown: roles become links where their target has an entry, tables keep their columns."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`(~?)([\w.]+)`")
RULE = re.compile(r"^=+( +=+)+$")


class DocstringsAsMarkdown(Extension):
    """Turns what Sphinx would read into what this site reads."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _with_tables(ROLE.sub(_link, obj.docstring.value))


def _link(role: re.Match[str]) -> str:
    short, target = role.groups()
    text = target.rsplit(".", 1)[-1] if short else target
    if "." not in target:  # one of the package's own names, as most are
        target = f"pvqbounds.{target}"
    return f'<autoref optional identifier="{target}"><code>{text}</code></autoref>'


def _with_tables(text: str) -> str:
    """Tables between lines of `===`, which Markdown has none of, as text of fixed width."""
    lines, inside = [], False
    for line in text.splitlines():
        if RULE.match(line) and not inside:
            inside = True
            lines.append("")
        inside = inside and bool(line.strip())
        lines.append("    " + line if inside else line)
    return "\n".join(lines)
