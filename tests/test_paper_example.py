"""`examples/paper`: its steps are commands that exist, and the paper's intervals hold what is proved now."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def test_the_papers_intervals_hold_what_is_exact_now(tmp_path):
    torch = pytest.importorskip("torch")
    from examples.paper.protocol import compared, write_protocol
    from pvqbounds.nn import layer_bounds
    from pvqbounds.results.pairs import formats_of_widths

    torch.manual_seed(1)
    module = torch.nn.Linear(12, 3, dtype=torch.float64)
    data = torch.randn(80, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64)
    widths = [2, 4]
    now = layer_bounds(
        module, "", data, formats=formats_of_widths(widths), opt_dim=6, methods=["magnitude+refit"]
    )
    then = layer_bounds(
        module,
        "",
        data,
        formats=[f"int{bits}" for bits in widths],
        opt_dim=6,
        methods=["randomized"],
        method="relax",
        relaxation="park-boyd",
    )
    chunks = list(compared(then, now))
    assert [chunk.bits for chunk in chunks] == [2, 2, 4, 4]
    for chunk in chunks:
        assert chunk.exact
        for before, exact in zip(chunk.then, chunk.now, strict=True):
            assert before[0] <= exact[1] + 1e-6
            assert exact[0] <= before[1] + 1e-6
    assert any(chunk.then[0][1] - chunk.then[0][0] > 0.1 for chunk in chunks)
    then.save(tmp_path / "then.json")
    now.save(tmp_path / "now.json")
    write_protocol([tmp_path / "then.json"], [tmp_path / "now.json"], tmp_path / "protocol")
    assert len((tmp_path / "protocol.md").read_text().splitlines()) == 2 + len(widths)
    assert (tmp_path / "protocol.csv").read_text().startswith("bits,chunks,exact_now,then_quantization_lower")


def test_a_pair_is_decided_by_disjoint_intervals_alone():
    from examples.paper.protocol import winner

    assert winner(((10.0, 11.0), (8.0, 9.0))) == "quantization"
    assert winner(((8.0, 9.0), (9.5, 9.6))) == "pruning"
    assert winner(((8.0, 9.6), (9.5, 9.7))) == "undecided"


def test_every_step_names_commands_and_options_that_exist():
    import typer

    from examples.paper.__main__ import FULL, TINY, steps
    from pvqbounds.cli import app

    commands = typer.main.get_command(app).commands
    for size in (FULL, TINY):
        made = list(steps(size, Path("out")))
        assert len({step.makes for step in made}) == len(made)
        for step in made:
            name, *arguments = step.arguments
            commands[name].make_context(name, list(arguments), resilient_parsing=False)


def test_convolutions_that_pad_by_themselves_become_plain_ones():
    torch = pytest.importorskip("torch")
    from examples.paper.networks import with_plain_convolutions
    from pvqbounds.nn import layer_names

    class Padding(torch.nn.Conv2d):
        def __init__(self, pad, *sizes, **options):
            super().__init__(*sizes, **options)
            self.static_padding = pad

        def forward(self, x):
            return super().forward(self.static_padding(x))

    torch.manual_seed(0)
    padded = Padding(torch.nn.ZeroPad2d((0, 1, 0, 1)), 2, 4, 3, stride=2)
    own = torch.nn.Sequential(padded, torch.nn.ReLU(), Padding(torch.nn.Identity(), 4, 3, 1, bias=False))
    x = torch.randn(2, 2, 8, 8)
    before = own(x)
    assert layer_names(own) == []
    assert torch.equal(with_plain_convolutions(own)(x), before)
    assert layer_names(own) == ["0.conv", "2"]
