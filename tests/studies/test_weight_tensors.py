"""Weight tensors: statistics against plain evaluation, sources, streaming, and what cannot be measured."""

from __future__ import annotations

import json
import math
import pickle
import sys
import weakref
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pvqbounds.errors import InputError
from pvqbounds.problems.grids import mse_scale, symmetric_codes
from pvqbounds.studies import sources
from pvqbounds.studies.released import read_released
from pvqbounds.studies.tensors import tensor_errors
from pvqbounds.studies.weights import WeightStudy, check_device, measure

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

RNG = np.random.default_rng(0)


def study_of(source: sources.Source, bits: tuple[int, ...] = (4,), **options: object) -> WeightStudy:
    study = WeightStudy()
    measure(study, source, bits, **options)  # type: ignore[arg-type]
    return study


def plain(w: np.ndarray, bits: int) -> dict[str, float]:
    """Everything by definition, in exact or plain arithmetic, from the unsorted weights."""
    qmin, qmax = symmetric_codes(bits)
    n, scale = len(w), mse_scale(w, qmin, qmax)
    codes = np.clip(np.rint(w / scale), qmin, qmax)
    zeros = int((codes == 0).sum())
    squares = sorted(Fraction(float(x)) ** 2 for x in w)
    signal = sum(squares)

    def pruned(kept: int) -> float:
        return 10 * math.log10(signal / lost) if (lost := sum(squares[: n - kept])) else math.inf

    mean = sum(Fraction(float(x)) for x in w) / n
    second = sum((Fraction(float(x)) - mean) ** 2 for x in w) / n
    fourth = sum((Fraction(float(x)) - mean) ** 4 for x in w) / n
    return {
        "error": float(((w - scale * codes) ** 2).sum()),
        "pruning": pruned(n * bits // 16),
        "corrected": pruned((n - zeros) * bits // 16),
        "masked": pruned(n * (bits - 1) // 16),
        "kurtosis": float(fourth / second**2),
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "skewed", "tiny", "float16"])
def test_statistics_by_definition(bits, kind):
    rng = np.random.default_rng(1)
    w = {
        "gaussian": rng.standard_normal(300),
        "heavy": rng.standard_t(2, 301),
        "skewed": rng.exponential(size=257) - 0.3,
        "tiny": 1e-200 * rng.standard_normal(100),
        "float16": (1e-4 * rng.standard_normal(300)).astype(np.float16).astype(np.float64),
    }[kind]
    (found,), expected = tensor_errors(w, [bits]), plain(w / np.abs(w).max(), bits)
    unit = float(np.abs(w).max()) ** 2 if kind != "tiny" else 0.0
    if unit:
        qmin, qmax = symmetric_codes(bits)
        error = float(((w - found.scale * np.clip(np.rint(w / found.scale), qmin, qmax)) ** 2).sum()) / unit
        assert error <= expected["error"] * (1 + 1e-9)
    power = 10 * math.log10(float(np.mean((w / np.abs(w).max()) ** 2)) * len(w) / expected["error"])
    assert found.sqnr(found.quantization) == pytest.approx(power, abs=1e-7)
    for field in ("pruning", "corrected", "masked"):
        assert found.sqnr(getattr(found, field)) == pytest.approx(expected[field], abs=1e-9)
    assert found.kurtosis == pytest.approx(expected["kurtosis"], rel=1e-12)
    assert found.size == len(w)


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.integers(-9, 9).map(float)),
    st.sampled_from([2, 4, 8]),
    st.integers(-40, 40),
)
def test_statistics_follow_the_weights(w, bits, power):
    (one,) = tensor_errors(w, [bits])
    (other,) = tensor_errors(np.ldexp(w, power)[::-1], [bits])
    assert (other.quantization, other.pruning, other.zeros) == (one.quantization, one.pruning, one.zeros)
    if one.signal:
        assert other.scale == math.ldexp(one.scale, power)
    assert one.pruning <= one.masked
    assert one.pruning <= one.corrected <= one.signal
    assert math.isnan(one.kurtosis) or one.kurtosis >= 1.0 - 1e-12


def test_half_precision_would_have_lost_the_pruning_error():
    # in float16 every square of these is zero, and the kurtosis "impossible"
    w = (2e-4 * np.random.default_rng(0).standard_normal(10_000)).astype(np.float16)
    assert not np.square(w[np.abs(w) < 1e-4]).any()
    (found,) = tensor_errors(w, [8])
    assert found.sqnr(found.pruning) == pytest.approx(11.47, abs=0.3)
    assert found.kurtosis == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize(
    ("weights", "note", "quantization", "pruning"),
    [
        (np.full(64, 0.37), "all weights are equal", math.inf, 10 * math.log10(64 / 48)),
        (np.zeros((3, 3)), "all weights are zero", math.nan, math.nan),
        ([0.5], "one weight", math.inf, 0.0),
        ([1.0, -1.0], "quantization is exact", math.inf, 0.0),
        (np.append(np.zeros(30), [1.0, -0.3]), "removes zeros alone", None, math.inf),
        ([5e-324] * 16, "all weights are equal", math.inf, 10 * math.log10(16 / 12)),
    ],
)
def test_special_tensors(weights, note, quantization, pruning):
    (found,) = tensor_errors(weights, [4])
    assert note in found.note
    if quantization is not None:
        assert found.sqnr(found.quantization) == pytest.approx(quantization, nan_ok=True)
    assert found.sqnr(found.pruning) == pytest.approx(pruning, nan_ok=True)
    assert found.signal == 0.0 or found.scale > 0.0


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [math.inf], [1j], ["a"]])
def test_tensors_without_statistics(bad):
    with pytest.raises(InputError, match="weights"):
        tensor_errors(bad)


def test_overwriting_needs_an_array_that_can_be():
    w = RNG.standard_normal(50)
    expected = tensor_errors(w, [4])
    assert tensor_errors(w.copy(), [4], overwrite=True) == expected
    for bad in (w.astype(np.float32), w.reshape(5, 10), np.zeros(0), np.array([math.nan])):
        with pytest.raises(InputError):
            tensor_errors(bad, [4], overwrite=True)


def test_sorting_on_a_torch_device_changes_nothing():
    w = RNG.standard_normal(1000)
    assert tensor_errors(w, [2, 4], device="cpu:0") == tensor_errors(w, [2, 4])
    check_device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda"):
            check_device("cuda")
    with pytest.raises(InputError, match="gpu"):
        check_device("gpu")


# ---------------------------------------------------------------------------------------- sources


def test_the_embedded_network():
    (source,) = sources.model("digits")
    study = study_of(source, (2, 8))
    assert len(study.rows) == 12
    assert not study.skipped
    assert {row.model for row in study.rows} == {"digits"}
    network = safetensors_torch.load_file(
        Path(sources.__file__).parents[1] / "nn/embedded/digits_cnn.safetensors"
    )
    first = study.rows[0]
    (expected,) = tensor_errors(network[first.tensor].numpy(), [2])
    assert first.quantization_sqnr == expected.sqnr(expected.quantization)


def awkward(path: Path) -> None:
    weight = torch.from_numpy(RNG.standard_normal((8, 8)))
    safetensors_torch.save_file(
        {
            "good.weight": weight,
            "bias": torch.ones(8),
            "tied.weight": weight.clone(),
            "half.weight": weight.half(),
            "brain.weight": weight.bfloat16(),
            "eight.weight": weight.to(torch.float8_e4m3fn),
            "empty.weight": torch.zeros(0, 4),
            "integer.weight": torch.ones(3, 3, dtype=torch.int64),
            "nan.weight": torch.tensor([[math.nan, 1.0], [math.inf, 2.0]]),
            "zero.weight": torch.zeros(4, 4),
            "constant.weight": torch.ones(4, 4),
            "one.weight": torch.ones(1, 1),
        },
        path,
    )


def test_every_tensor_of_a_checkpoint_has_an_outcome(tmp_path):
    path = tmp_path / "model.safetensors"
    awkward(path)
    study = study_of(sources.checkpoint(path))
    measured = {row.tensor: row for row in study.rows}
    assert set(measured) | {tensor.tensor for tensor in study.skipped} == {
        *("good.weight", "tied.weight", "half.weight", "brain.weight", "eight.weight", "empty.weight"),
        *("integer.weight", "nan.weight", "zero.weight", "constant.weight", "one.weight"),
    }
    reasons = {tensor.tensor: tensor.reason for tensor in study.skipped}
    # which of two tied tensors comes first is the file's order
    (tied,) = {"good.weight", "tied.weight"} & reasons.keys()
    assert "counted once" in reasons[tied]
    assert "empty" in reasons["empty.weight"]
    assert "I64" in reasons["integer.weight"]
    assert reasons["nan.weight"] == "2 of 4 weights are not finite"
    assert len(reasons) == 4
    assert "zero" in measured["zero.weight"].note
    assert measured["zero.weight"].record()["quantization_sqnr"] is None
    assert "equal" in measured["constant.weight"].note
    assert "one weight" in measured["one.weight"].note
    assert measured["half.weight"].quantization_sqnr == pytest.approx(
        measured["brain.weight"].quantization_sqnr, abs=1.0
    )


def scaled_float8(scale: torch.Tensor, rows: int = 256, columns: int = 384):
    """Float8 numbers, and what they are with their scales, spread over blocks by plain repetition."""
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)
    block = [-(-size // count) for size, count in zip((rows, columns), scale.shape, strict=True)]
    spread = scale.double().repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return numbers, numbers.double() * spread[:rows, :columns]


@pytest.mark.parametrize("end", ["weight_scale_inv", "weight_scale", "scale_weight"])
@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((2, 3), 256, 384), ((3, 5), 300, 516 + 37), ((256, 1), 256, 96), ((256, 3), 256, 96), ((1, 1), 7, 5)],
)
def test_float8_weights_are_measured_with_their_scales(tmp_path, end, shape, rows, columns):
    if shape == (3, 5):  # 300 over 3 would be blocks of 100 as well: 128 it is only where nothing else fits
        rows = 301
    scale = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 0.1
    block = 128 if shape == (3, 5) else None
    numbers, weight = scaled_float8(scale, rows, columns)
    if block:
        spread = scale.double().repeat_interleave(block, 0).repeat_interleave(block, 1)
        weight = numbers.double() * spread[:rows, :columns]
    path = tmp_path / "f8.safetensors"
    safetensors_torch.save_file(
        {"a.weight": numbers, f"a.{end}": scale, "a.input_scale": torch.ones(2, 2)}, path
    )
    tensors = {tensor.name: tensor for tensor in sources.checkpoint(path).tensors()}
    np.testing.assert_array_equal(tensors["a.weight"].read(), weight.numpy().ravel())
    study = study_of(sources.checkpoint(path))
    assert {row.tensor for row in study.rows} == {"a.weight"}
    assert all("scales" in tensor.reason for tensor in study.skipped)
    # the other half of a checkpoint in shards
    folder = tmp_path / "shards"
    folder.mkdir()
    safetensors_torch.save_file({"a.weight": numbers}, folder / "1.safetensors")
    safetensors_torch.save_file({f"a.{end}": scale}, folder / "2.safetensors")
    assert study_of(sources.checkpoint(folder)).rows[0].scale == study.rows[0].scale


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ({"a.weight_scale_inv": torch.ones(3, 3)}, "fit in two ways"),  # 300: blocks of 100, or of 128
        ({"a.weight_scale_inv": torch.ones(7, 3)}, "do not fit"),
        ({"a.weight_scale": torch.ones(2, 2, 2)}, "do not fit"),
        ({"a.weight_scale": torch.ones(300, 1), "a.weight_scale_2": torch.ones(1, 1)}, "are scaled by"),
        ({"a.weight_mantissa_scale": torch.ones(300, 1)}, "are scaled by"),
        ({"a.weight_scale": torch.ones(300, 1, dtype=torch.int32)}, "are scaled by"),
    ],
)
def test_float8_weights_whose_scales_cannot_be_told_are_left_out(tmp_path, scales, words):
    numbers, _ = scaled_float8(torch.ones(1, 1), 300, 300)
    path = tmp_path / "f8.safetensors"
    safetensors_torch.save_file({"a.weight": numbers, "b.weight": torch.eye(3)} | scales, path)
    study = study_of(sources.checkpoint(path))
    reasons = {tensor.tensor: tensor.reason for tensor in study.skipped}
    assert "b.weight" in {row.tensor for row in study.rows}
    assert words in reasons["a.weight"]


def test_parts_of_quantized_checkpoints_and_adapters_are_no_weights(tmp_path):
    whole, half = torch.ones(4, 4, dtype=torch.int32), torch.rand(4, 4).half()
    tensors = {
        "gptq.qweight": whole, "gptq.qzeros": whole + 1, "gptq.g_idx": whole[0].clone(), "gptq.scales": half,
        "nf4.weight": whole.to(torch.uint8), "nf4.weight.absmax": half + 1, "nf4.weight.quant_map": half + 2,
        "int8.weight": whole.to(torch.int8), "int8.weight_scale": half + 3,
        "packed.weight_packed": whole + 2, "packed.weight_scale": half + 4,
        "q.lora_A.weight": half + 5, "q.lora_B.default.weight": half + 6,
        # a weight of its own, whatever its name, beside integers that stand for nothing
        "window.scale": half + 7, "window.relative_position_index": whole.long(), "plain.weight": half + 8,
    }  # fmt: skip
    path = tmp_path / "parts.safetensors"
    safetensors_torch.save_file(tensors, path)
    study = study_of(sources.checkpoint(path))
    assert {row.tensor for row in study.rows} == {"window.scale", "plain.weight"}
    reasons = {tensor.tensor: tensor.reason for tensor in study.skipped}
    assert "packed integers" in reasons["gptq.qweight"]
    assert "quantized 'gptq.qweight'" in reasons["gptq.scales"]
    assert "scales or offsets of the quantized 'nf4.weight'" in reasons["nf4.weight.absmax"]
    assert "integers that are scaled by 'int8.weight_scale'" in reasons["int8.weight"]
    assert "LoRA" in reasons["q.lora_A.weight"]


def test_a_folder_of_shards_is_one_model(tmp_path):
    folder = tmp_path / "language-model"
    folder.mkdir()
    embedding = torch.from_numpy(RNG.standard_normal((16, 4)))
    safetensors_torch.save_file({"embed.weight": embedding}, folder / "model-00001-of-00002.safetensors")
    safetensors_torch.save_file(
        {"head.weight": embedding, "norm.weight": torch.ones(4)}, folder / "model-00002-of-00002.safetensors"
    )
    study = study_of(sources.checkpoint(folder))
    assert [(row.model, row.tensor) for row in study.rows] == [("language-model", "embed.weight")]
    assert [tensor.tensor for tensor in study.skipped] == ["head.weight"]
    only = study_of(sources.checkpoint(folder), patterns=["norm.*"])
    assert [row.tensor for row in only.rows] == ["norm.weight"]
    with pytest.raises(InputError, match="matches"):
        study_of(sources.checkpoint(folder), patterns=["nothing*"])


def test_a_file_of_vectors_alone_is_measured(tmp_path):
    safetensors_torch.save_file({"w": torch.randn(100), "s": torch.tensor(0.5)}, tmp_path / "v.safetensors")
    study = study_of(sources.checkpoint(tmp_path / "v.safetensors"))
    assert {row.tensor for row in study.rows} == {"w", "s"}


def test_checkpoints_of_torch_are_read_without_unpickling(tmp_path):
    weight = torch.randn(6, 6)
    torch.save({"model": {"a.weight": weight}, "epoch": 3}, tmp_path / "c.pt")
    torch.save(weight, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (nested,) = study_of(sources.checkpoint(tmp_path / "c.pt")).rows
    (single,) = study_of(sources.checkpoint(tmp_path / "old.pth")).rows
    assert nested.tensor == "model.a.weight"
    assert single.tensor == "tensor"
    assert nested.quantization_sqnr == single.quantization_sqnr

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="never unpickled"):
        study_of(sources.checkpoint(tmp_path / "evil.pt"))
    assert not (tmp_path / "pwned").exists()


NOT_DENSE = "is no dense tensor of plain numbers"


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense_are_left_out_alone(tmp_path):
    """The others are measured; what is read nonetheless is refused."""
    strange = {
        "adjacency": torch.eye(3).to_sparse(),
        "unloaded": torch.ones(2, 2, device="meta"),
        "packed": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
        "ragged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    }
    path = tmp_path / "w.pt"
    coded = {"b.weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "b.weight_scale": torch.eye(2).to_sparse()}
    torch.save({"weight": torch.arange(12.0).reshape(3, 4)} | strange | coded, path)
    study = study_of(sources.checkpoint(path), patterns=["*"])
    assert {row.tensor for row in study.rows} == {"weight"}
    told = {each.tensor: each.reason for each in study.skipped}
    assert {name: told.pop(name) for name in strange} == dict.fromkeys(strange, NOT_DENSE)
    assert told["b.weight"] == f"holds float8 numbers, whose 'b.weight_scale' {NOT_DENSE}"
    assert study_of(sources.checkpoint(path)).rows == study.rows
    for tensor in sources.checkpoint(path).tensors():
        if tensor.name in strange:
            with pytest.raises(InputError, match="no dense tensor"):
                tensor.read()


def test_checkpoints_that_cannot_be_read(tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(InputError, match="damaged"):
        study_of(sources.checkpoint(tmp_path / "damaged.safetensors"))
    safetensors_torch.save_file({}, tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="no tensor"):
        study_of(sources.checkpoint(tmp_path / "nothing.safetensors"))
    (tmp_path / "folder").mkdir()
    for path, says in (("missing.safetensors", "no file"), ("x.onnx", "no file"), ("folder", "holds no")):
        with pytest.raises(InputError, match=says):
            sources.checkpoint(tmp_path / path)
    (tmp_path / "x.onnx").touch()
    with pytest.raises(InputError, match="safetensors"):
        sources.checkpoint(tmp_path / "x.onnx")


def test_one_tensor_is_in_memory_at_a_time(tmp_path, monkeypatch):
    shapes = {f"{name}.weight": torch.randn(64, 65) for name in "abcde"}
    safetensors_torch.save_file(shapes, tmp_path / "m.safetensors")
    monkeypatch.setattr(sources, "BLOCK", 1000)  # read in parts that do not fit the shape
    alive: list[weakref.ref[np.ndarray]] = []

    def watched(tensor: sources.WeightTensor) -> sources.WeightTensor:
        def read() -> np.ndarray:
            assert all(reference() is None for reference in alive)
            values = tensor.read()
            alive.append(weakref.ref(values))
            return values

        return sources.WeightTensor(tensor.name, tensor.shape, tensor.kind, tensor.real, read)

    source = sources.checkpoint(tmp_path / "m.safetensors")
    study = study_of(sources.Source("m", lambda: [watched(tensor) for tensor in source.tensors()]))
    assert len(alive) == 5
    (expected,) = tensor_errors(shapes["a.weight"].numpy(), [4])
    assert study.rows[0].quantization_sqnr == expected.sqnr(expected.quantization)


def fake(monkeypatch, name: str, **content: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_torchvision_gives_the_weights_that_the_paper_used(monkeypatch):
    asked: dict[str, object] = {}

    def get_state_dict(**options: object) -> dict[str, torch.Tensor]:
        asked.update(options)
        return {"conv.weight": torch.randn(4, 3, 3, 3), "bn.weight": torch.ones(4)}

    def get_model_weights(name: str) -> list[SimpleNamespace]:
        if name != "resnet18":
            raise ValueError(name)
        return [SimpleNamespace(get_state_dict=get_state_dict), SimpleNamespace()]

    fake(monkeypatch, "torchvision", models=SimpleNamespace(get_model_weights=get_model_weights))
    for name in ("torchvision:resnet18", "resnet18"):
        (source,) = sources.model(name)
        (row,) = study_of(source).rows
        assert (row.model, row.tensor) == ("resnet18", "conv.weight")
    assert asked["weights_only"] is True
    with pytest.raises(InputError, match="resnet19"):
        study_of(sources.model("torchvision:resnet19")[0])
    assert len(sources.model("torchvision:all")) == len(set(sources.TORCHVISION_ZOO)) == 45


def test_weights_that_cannot_be_fetched(monkeypatch):
    def offline(**_: object) -> None:
        raise OSError("no route to host")

    weights = [SimpleNamespace(get_state_dict=offline)]
    fake(monkeypatch, "torchvision", models=SimpleNamespace(get_model_weights=lambda _: weights))
    with pytest.raises(InputError, match=r"no route to host.*--checkpoint"):
        study_of(sources.model("torchvision:resnet18")[0])


def test_timm_and_factories(monkeypatch, tmp_path):
    fake(monkeypatch, "torchvision", models=SimpleNamespace())
    module = torch.nn.Linear(5, 5)
    fake(
        monkeypatch,
        "timm",
        list_models=lambda pretrained=False: ["lin"],
        create_model=lambda name, pretrained: module,
    )
    (row,) = study_of(sources.model("timm:lin")[0]).rows
    assert (row.model, row.tensor, row.size) == ("lin", "weight", 25)
    with pytest.raises(InputError, match="timm has no"):
        study_of(sources.model("timm:other")[0])
    fake(monkeypatch, "my_models", tied=lambda: torch.nn.Sequential(module, module))
    study = study_of(sources.model("my_models:tied")[0])
    assert [len(study.rows), len(study.skipped)] == [1, 1]
    assert "as the factory built them" in study.rows[0].note
    with pytest.raises(InputError, match="no model"):
        sources.model("resnet-18")


# --------------------------------------------------------------------------------------- released


def test_the_released_layout(tmp_path):
    entry = {
        "sample_kurtosis": 1.5,
        "quant_sqnr": 15.0,
        "quant_mse": 1e-3,
        "quant_sparsity": 0.3,
        "pruning_sqnr": 7.0,
        "pruning_mse": 1e-3,
        "pruning_sqnr_corrected": 6.0,
        "pruning_mse_corrected": 2e-3,
    }
    layers = {
        "fine": entry,
        "impossible": entry | {"sample_kurtosis": -3.0},
        "infinite": entry | {"sample_kurtosis": math.inf, "pruning_mse": 0.0, "pruning_sqnr": math.inf},
    }
    (tmp_path / "net_50_4_bits_mse.json").write_text(json.dumps(layers))
    (tmp_path / "net_50_2_bits_mse.json").write_text(json.dumps({"fine": entry}))
    (tmp_path / "net_50_2_bits_minmax.json").write_text("{}")
    rows = read_released(tmp_path)
    assert [(row.bits, row.tensor) for row in rows] == [
        (2, "fine.weight"),
        *((4, f"{name}.weight") for name in layers),
    ]
    first, fine, impossible, infinite = rows
    assert (first.model, first.source, first.density) == ("net_50", "released", 0.125)
    assert (fine.kurtosis, fine.zeros, fine.note) == (4.5, 0.3, None)
    assert impossible.kurtosis == 0.0
    assert impossible.note == "damaged by float16: kurtosis"
    assert infinite.note == "damaged by float16: kurtosis, pruning error"
    assert infinite.record()["pruning_sqnr"] is None


def test_released_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        read_released(tmp_path / "missing")
    with pytest.raises(InputError, match="no file named"):
        read_released(tmp_path)
    path = tmp_path / "net_4_bits_mse.json"
    for text, says in (
        ("{", "not a JSON file"),
        ("[]", "dictionary"),
        ('{"a": {"sample_kurtosis": true}}', "number"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_released(tmp_path)
