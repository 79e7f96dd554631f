"""Gradual pruning: the schedule at its ends, exact counts, patterns, channels."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from train_helpers import few_digits, recipe, tiny  # noqa: E402

from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.nn.layers import find_layer  # noqa: E402
from pvqbounds.train.fit import fine_tune  # noqa: E402
from pvqbounds.train.presets import Pruning  # noqa: E402
from pvqbounds.train.prune import cubic_sparsity, gradual_pattern_mask, masks_of, pattern_mask  # noqa: E402

NAMES = ("first", "second", "head")


@given(st.floats(0, 2), st.floats(0, 0.9), st.floats(0, 1))
def test_the_schedule_is_clamped_and_rises(progress, initial, share):
    final = initial + share * (0.95 - initial)
    values = [cubic_sparsity(p, 0.1, 0.8, initial, final) for p in sorted((progress, progress + 0.01))]
    assert initial - 1e-12 <= values[0] <= values[1] + 1e-12
    assert values[1] <= final + 1e-12
    assert (
        cubic_sparsity(0.8, 0.1, 0.8, initial, final) == final == cubic_sparsity(2, 0.1, 0.8, initial, final)
    )
    assert cubic_sparsity(0.1, 0.1, 0.8, initial, final) == initial


def test_the_schedule_is_cubic():
    assert cubic_sparsity(0.5, 0.0, 1.0, 0.0, 0.8) == pytest.approx(0.8 - 0.8 / 8)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.98))
def test_the_smallest_weights_go_and_no_more(seed, sparsity):
    rng = np.random.default_rng(seed)
    weights = {name: torch.tensor(rng.standard_normal((4, n)) * n) for name, n in (("a", 6), ("b", 9))}
    masks = masks_of(weights, dict.fromkeys(weights, sparsity), "layer")
    for name, weight in weights.items():
        kept = weight.abs()[masks[name] > 0]
        removed = weight.abs()[masks[name] == 0]
        assert len(kept) == int((1.0 - sparsity) * weight.numel() + 1e-9)
        assert not len(removed) or not len(kept) or removed.max() <= kept.min()
    whole = masks_of(weights, dict.fromkeys(weights, sparsity), "network", frozenset(weights))
    flat = torch.cat([w.flatten().abs() for w in weights.values()])
    kept = torch.cat([m.flatten() for m in whole.values()]) > 0
    assert int(kept.sum()) == int((1.0 - sparsity) * 60 + 1e-9)
    assert not kept.any() or kept.all() or flat[~kept].max() <= flat[kept].min()


@pytest.mark.parametrize(("kept", "size", "inputs"), [(2, 4, 12), (1, 4, 10), (3, 5, 7)])
def test_patterns_keep_the_largest_of_each_group(kept, size, inputs):
    weight = torch.tensor(np.random.default_rng(0).standard_normal((3, inputs)))
    mask = pattern_mask(weight, kept, size)
    for row, chosen in zip(weight.abs(), mask, strict=True):
        for start in range(0, inputs, size):
            group, keep = row[start : start + size], chosen[start : start + size] > 0
            assert int(keep.sum()) == min(kept, len(group))
            assert keep.all() or group[~keep].max() <= group[keep].min()
    # of a convolution at each position of its kernel by itself
    kernel = torch.stack([weight, weight.flip(1)], dim=2)[:, :, None]
    assert torch.equal(pattern_mask(kernel, kept, size)[:, :, 0, 0], mask)
    assert torch.equal(pattern_mask(kernel, kept, size)[:, :, 0, 1], pattern_mask(weight.flip(1), kept, size))
    part = gradual_pattern_mask(weight, kept, size, 0.1)
    assert int((part == 0).sum()) == 3 * inputs - int(0.9 * 3 * inputs + 1e-9)
    assert not ((part == 0) & (mask == 1)).any()  # what the pattern keeps never goes first


def test_whole_channels_go():
    weight = torch.tensor(np.random.default_rng(0).standard_normal((8, 3, 2, 2)))
    mask = masks_of({"layer": weight}, {"layer": 0.6}, "channel")["layer"]
    norms, kept = weight.flatten(1).norm(dim=1), mask.flatten(1).amin(1) > 0
    assert torch.equal(mask.flatten(1).amax(1) > 0, kept)
    assert int(kept.sum()) == 3
    assert norms[~kept].max() <= norms[kept].min()


@pytest.mark.parametrize(
    ("compression", "ends", "zeros"),
    [
        (Pruning(sparsity=0.75, every=2), "8-bit", (0.5, 0.75, 0.5)),
        (Pruning(sparsity=0.75, every=2), "same", (0.75, 0.75, 0.75)),
        (Pruning(sparsity=0.75, every=2), "dense", (0.0, 0.75, 0.0)),
        (Pruning(scope="pattern", pattern="1:4", every=2), "8-bit", (0.0, 0.75, 0.5)),
        (Pruning(sparsity=0.5, scope="channel", every=2), "8-bit", (0.5, 0.5, 0.0)),
        (Pruning(sparsity=0.5, scope="network", every=2, prune_until=1.0), "8-bit", None),
    ],
)
def test_training_ends_at_the_sparsity_asked_for(compression, ends, zeros):
    model = tiny()
    trained = fine_tune(model, few_digits(), recipe(compression, ends=ends))
    found = [float((find_layer(model, name).weight == 0.0).mean()) for name in NAMES]
    for name, layer in trained.layers.items():
        np.testing.assert_array_equal(layer.weight, find_layer(model, name).weight)
    if zeros is not None:
        assert found == pytest.approx(zeros, abs=0.03)
        assert all(share >= want - 1e-12 for share, want in zip(found, zeros, strict=True))
    else:
        total = sum((find_layer(model, name).weight == 0.0).sum() for name in NAMES)
        assert total == 36 + 144 + 160 - int(0.5 * 340)
    sparsities = [epoch.sparsity for epoch in trained.history]
    assert sparsities == sorted(sparsities)


def test_final_masks_stay_and_the_kept_weights_are_re_fitted():
    model = tiny()
    early = recipe(Pruning(sparsity=0.5, prune_until=0.3, every=1), ends="same")
    seen = []

    def watch(moment):
        if moment.ended is not None:
            seen.append(find_layer(model, "second").weight)

    fine_tune(model, few_digits(), early, progress=watch)
    zeros = [weight == 0.0 for weight in seen]
    np.testing.assert_array_equal(zeros[0], zeros[-1])
    assert not np.allclose(seen[0], seen[-1])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"initial_sparsity": 0.9}, "initial"),
        ({"prune_from": 0.9}, "before"),
        ({"pattern": "2:4"}, "belongs to scope"),
        ({"scope": "pattern"}, "needs the pattern"),
        ({"scope": "pattern", "pattern": "0:4"}, "at least one"),
        ({"scope": "pattern", "pattern": "4-2"}, "like 2:4"),
        ({"scope": "rows"}, "channel"),
    ],
)
def test_values_that_cannot_be_used(values, words):
    with pytest.raises(InputError, match=words):
        recipe(Pruning(), **values)


def test_a_layer_without_a_weight_to_spare():
    with pytest.raises(InputError, match="keeps no weight of layer 'first'"):
        fine_tune(tiny(), few_digits(), recipe(Pruning(sparsity=0.99), ends="same"))
