"""The training loop: resumed bit for bit, stopped in time, nothing lost."""

from __future__ import annotations

import json
import math
import pickle
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from train_helpers import few_digits, recipe, tiny, wider  # noqa: E402

from pvqbounds.errors import InputError, TrainingError  # noqa: E402
from pvqbounds.train import fit  # noqa: E402
from pvqbounds.train.engine import Engine  # noqa: E402
from pvqbounds.train.fit import fine_tune  # noqa: E402
from pvqbounds.train.presets import Pruning, Quantization  # noqa: E402

EVERYTHING = Quantization(
    bits=3,
    per_channel=True,
    activation_bits=4,
    scale_rate=1e-4,
    dampen_final=0.1,
    freeze=0.3,
    freeze_final=0.1,
)


class StopTraining(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


def stop_after(epoch):
    def watch(moment):
        if moment.epoch > epoch:
            raise StopTraining

    return watch


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "compression", [None, EVERYTHING, Pruning(sparsity=0.6, every=2), Pruning(scope="pattern", pattern="2:4")]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path, compression, optimizer):
    data, settings = few_digits(), recipe(compression, optimizer=optimizer)
    whole = fine_tune(tiny(), data, settings)
    with pytest.raises(StopTraining):
        fine_tune(tiny(), data, settings, folder=tmp_path, progress=stop_after(2))
    torch.manual_seed(1234)  # whatever has happened in between
    resumed = fine_tune(tiny(), data, settings, folder=tmp_path, resume=True)
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    assert resumed.accuracy_after == whole.accuracy_after
    assert [e.loss for e in resumed.history] == [e.loss for e in whole.history]
    for name, layer in whole.layers.items():
        assert (layer.weight == resumed.layers[name].weight).all()


def test_seeds_decide_and_nothing_outside_is_touched():
    data = few_digits()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again = (fine_tune(tiny(), data, recipe(Quantization())) for _ in range(2))
    other = fine_tune(tiny(), data, recipe(Quantization(), seed=1))
    assert same(first.model.state_dict(), again.model.state_dict())
    assert not same(first.model.state_dict(), other.model.state_dict())
    assert torch.equal(before, torch.get_rng_state())


def test_training_learns():
    trained = fine_tune(tiny(), few_digits(), recipe(Quantization(bits=4), epochs=15, learning_rate=0.3))
    assert trained.history[-1].loss < 0.5 * trained.history[0].loss
    assert trained.accuracy_after > trained.accuracy_before + 0.3
    assert trained.history[-1].learning_rate == pytest.approx(0.3 * 0.01, rel=0.5)
    assert [epoch.epoch for epoch in trained.history] == list(range(1, 16))


def test_batch_norm_statistics_are_those_of_the_final_weights():
    data, model = few_digits(64), tiny()
    settings = recipe(Quantization(bits=2), batch_size=64, reestimate_batches=1)
    fine_tune(model, data, settings)
    inputs = model.first(data.train.__getitems__(range(64)).inputs)
    torch.testing.assert_close(model.norm.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(model.norm.running_var, inputs.var((0, 2, 3)))


def test_mixed_precision_keeps_master_weights():
    trained = fine_tune(
        tiny(), few_digits(), recipe(Quantization(), precision="bf16"), engine=Engine("cpu", 1, "bf16")
    )
    assert {tensor.dtype for tensor in trained.model.parameters()} == {torch.float32}
    assert math.isfinite(trained.history[-1].loss)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_epoch(tmp_path):
    data, settings, model = few_digits(), recipe(Quantization()), tiny()

    def spoil(moment):
        if moment.ended is not None and moment.ended.epoch == 2:
            with torch.no_grad():
                model.head.bias.fill_(math.nan)

    with pytest.raises(TrainingError, match=r"not finite; lower learning_rate.* epoch 2 is kept") as caught:
        fine_tune(model, data, settings, folder=tmp_path, progress=spoil)
    assert caught.value.exit_code == 1
    lower = replace(settings, learning_rate=0.01)
    resumed = fine_tune(tiny(), data, lower, folder=tmp_path, resume=True)  # with a lower rate
    assert len(resumed.history) == 3
    assert math.isfinite(resumed.history[-1].loss)


def test_a_scale_that_leaves_the_positive_numbers_stops_the_run():
    with pytest.raises(TrainingError, match="no longer positive; lower scale_rate"):
        fine_tune(tiny(), few_digits(), recipe(Quantization(scale_rate=10.0)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_names_a_batch_size(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(fit, "training_step", fail)
    with pytest.raises(TrainingError, match="batches of 32; try --batch-size 16"):
        fine_tune(tiny(), few_digits(), recipe(Quantization()))


def test_other_errors_are_not_called_out_of_memory(monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(fit, "training_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        fine_tune(tiny(), few_digits(), recipe(Quantization()))


def test_an_interrupt_keeps_the_last_checkpoint(tmp_path):
    def interrupt(moment):
        if moment.epoch == 2 and moment.ended is None:
            raise KeyboardInterrupt

    data, settings = few_digits(), recipe(Pruning(sparsity=0.5))
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny(), data, settings, folder=tmp_path, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert len(fine_tune(tiny(), data, settings, folder=tmp_path, resume=True).history) == 3


def test_checkpoints_of_something_else(tmp_path):
    data, settings = few_digits(), recipe(Quantization())
    with pytest.raises(StopTraining):
        fine_tune(tiny(), data, settings, folder=tmp_path, progress=stop_after(1))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=r"another architecture: for 'first.*shape \(4, 1, 3, 3\).*\(5, 1"):
        fine_tune(wider(), data, settings, folder=tmp_path, resume=True)
    other = replace(settings, compression=Quantization(bits=3))
    with pytest.raises(InputError, match="made with bits = 4, not 3"):
        fine_tune(tiny(), data, other, folder=tmp_path, resume=True)
    with pytest.raises(InputError, match="another architecture"):
        fine_tune(tiny(), data, recipe(Pruning()), folder=tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_damaged_and_hostile_checkpoints(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (sys.exit, (99,))

    data, settings, path = few_digits(), recipe(Quantization()), tmp_path / "checkpoint.pt"
    for content in (b"", b"PK\x03\x04 nothing", pickle.dumps(Hostile(), protocol=2), b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged or not a checkpoint"):
            fine_tune(tiny(), data, settings, folder=tmp_path, resume=True)
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="not a checkpoint of pvqbounds"):
        fine_tune(tiny(), data, settings, folder=tmp_path, resume=True)
    path.unlink()
    with pytest.raises(InputError, match="no checkpoint"):
        fine_tune(tiny(), data, settings, folder=tmp_path, resume=True)


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, words in (
        ("cuda", "no CUDA device here.*--device cpu"),
        ("cuda:1", "no CUDA device here"),
        ("gpu", "auto, cpu, cuda"),
        ("cpu:0", "auto, cpu, cuda"),
    ):
        with pytest.raises(InputError, match=words):
            Engine(device)
    with pytest.raises(InputError, match="at least 1"):
        Engine("cpu", 0)


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, devices in (("cuda", 2), ("cuda:3", 1)):
        with pytest.raises(InputError, match="there are 1 CUDA"):
            Engine(device, devices)


def test_curves_go_to_tensorboard_where_it_is(tmp_path, monkeypatch):
    data, settings = few_digits(), recipe(Quantization())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        fine_tune(tiny(), data, settings, tensorboard=tmp_path)

    written = []

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *_):
            written.append("closed")

        def add_scalar(self, name, value, epoch):
            written.append((name, epoch))

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    fine_tune(tiny(), data, settings, tensorboard=tmp_path)
    assert ("accuracy", 3) in written
    assert written[-1] == "closed"
    assert len(written) == 4 * 3 + 1


def test_recipes_go_through_json():
    from pvqbounds.train.presets import PRESETS, recipe_from_json, recipe_named

    for name, preset in PRESETS.items():
        preset.check()
        assert recipe_from_json(json.loads(json.dumps(preset.to_json())), name) == preset
    with pytest.raises(InputError, match="did you mean 'resnet18-int4'"):
        recipe_named("resnet18-int")
    for document in ({}, [], {"schema": "other"}, PRESETS["digits-75"].to_json() | {"task": "quantization"}):
        with pytest.raises(InputError):
            recipe_from_json(document, "file")


def test_the_presets_are_the_papers_table():
    from pvqbounds.train.presets import PRESETS

    table = {
        "resnet18": (256, 1e-4, 1e-2, 1e-2),
        "resnet50": (128, 1e-4, 3.3e-2, 1e-5),
        "mobilenet_v2": (128, 5e-5, 3.3e-4, 3.3e-4),
        "efficientnet": (128, 5e-5, 3.3e-4, 3.3e-3),
    }
    for name, (batch, decay, pruning, quantization) in table.items():
        for ending, rate in (("75", pruning), ("int4", quantization)):
            r = PRESETS[f"{name}-{ending}"]
            assert (r.batch_size, r.weight_decay, r.learning_rate) == (batch, decay, rate)
            assert (r.epochs, r.optimizer, r.final_rate) == (20, "sgd", 1e-2)
            assert "paper" in r.source
        assert PRESETS[f"{name}-int4"].compression == Quantization(bits=4, scale_rate=1e-5)
        pruned = PRESETS[f"{name}-75"].compression
        assert (pruned.sparsity, pruned.initial_sparsity) == (0.75, 0.0)
        assert pruned.prune_until * 20 == 15
