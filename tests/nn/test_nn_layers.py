"""Layers and Grams: against the layer's own forward pass, for every geometry it supports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn import Layer, find_layer, gram_of_layer, grams_of_layers, layer_names
from pvqbounds.nn.accumulation import Accumulator
from pvqbounds.nn.layers import find_layers, module_of, select_layers


@st.composite
def convolutions(draw):
    """A random convolution in float64 and an input that it accepts."""
    dimensions = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    groups = draw(st.integers(1, 3))
    kernel, dilation = sizes(1, 3), sizes(1, 2)
    padding = draw(st.sampled_from(["same", "valid", sizes(0, 2)]))
    stride = (1,) * dimensions if padding == "same" else sizes(1, 3)
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        dtype=torch.float64,
    )
    torch.manual_seed(draw(st.integers(0, 2**16)))
    lead = () if draw(st.integers(0, 4)) == 0 else (draw(st.integers(1, 3)),)  # sometimes unbatched
    extent = sizes(5, 7)  # at least as long as the longest window, 2 (3 - 1) + 1
    return layer, torch.randn(*lead, layer.in_channels, *extent, dtype=torch.float64)


def mean_squares(module: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Mean square of each output channel of the module with its bias off."""
    bias, module.bias = module.bias, None
    with torch.no_grad():
        outputs = module(inputs)
    module.bias = bias
    if not isinstance(module, nn.Linear):
        outputs = outputs if outputs.dim() == inputs.dim() == module.weight.dim() else outputs.unsqueeze(0)
        outputs = outputs.movedim(1, -1)
    return outputs.reshape(-1, outputs.shape[-1]).square().mean(0).numpy()


def assert_gram_is_the_layers_own(module: nn.Module, inputs: torch.Tensor) -> None:
    layer = find_layer(module, "")
    found = gram_of_layer(module, layer, [inputs])
    assert len(found.grams) == layer.groups
    for seed in range(2):
        v = np.random.default_rng(seed).standard_normal(layer.weight.shape)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(v).reshape(module.weight.shape))
        np.testing.assert_array_equal(layer.weight, v)
        forms = [row @ found.grams[layer.group_of(c)].matrix @ row for c, row in enumerate(v)]
        np.testing.assert_allclose(forms, mean_squares(module, inputs), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@settings(max_examples=120)
@given(convolutions())
def test_gram_of_any_convolution_is_its_mean_square(case):
    assert_gram_is_the_layers_own(*case)


@given(st.lists(st.integers(1, 4), max_size=3), st.booleans())
def test_gram_of_a_linear_layer_with_any_leading_axes(lead, bias):
    module = nn.Linear(5, 3, bias=bias, dtype=torch.float64)
    assert_gram_is_the_layers_own(module, torch.randn(*lead, 5, dtype=torch.float64))


@given(convolutions())
def test_slices_of_the_unfolding_add_up(case):
    module, inputs = case
    whole = gram_of_layer(module, "", [inputs])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Accumulator, "height", 1)  # a sample at a time
        sliced = gram_of_layer(module, "", [inputs])
    assert sliced.positions == whole.positions
    for a, b in zip(sliced.grams, whole.grams, strict=True):
        np.testing.assert_allclose(a.matrix, b.matrix, rtol=1e-12, atol=1e-14)


class Net(nn.Module):
    """Calls `shared` twice, by position and by keyword, and `unused` never."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.shared = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        return self.head(self.shared(input=self.drop(self.shared(self.norm(x)))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().train()


def test_all_calls_and_batches_count_and_evaluation_mode_holds(net):
    x = torch.randn(10, 4)
    found = gram_of_layer(net, "shared", x, batch_size=3)
    with torch.no_grad():
        net.eval()
        first = net.norm(x)
        rows = torch.cat([first, net.shared(first)]).double()  # dropout passes all
    assert found.positions == 20
    np.testing.assert_allclose(found.grams[0].matrix, (rows.T @ rows / 20).numpy(), rtol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_buffers_and_hooks_are_as_before(net, fails):
    net.drop.eval()
    modes = {name: module.training for name, module in net.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    if fails:
        with pytest.raises(InputError, match="cannot run"):
            gram_of_layer(net, "shared", torch.randn(3, 5))
    else:
        gram_of_layer(net, "shared", torch.randn(3, 4))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(buffers[name], buffer) for name, buffer in net.named_buffers())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_every_form_of_data_gives_one_gram(net):
    x = torch.randn(7, 4)
    labels = torch.zeros(7)
    forms = [
        x,
        x.numpy(),
        x.double().numpy(),
        [x[:3], x[3:]],
        [(x, labels)],
        [[x.numpy(), labels]],
        (part for part in x.split(2)),
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, labels), batch_size=2),
    ]
    expected = gram_of_layer(net, "shared", x, batch_size=7).grams[0].matrix
    for form in forms:
        found = gram_of_layer(net, "shared", form)
        assert found.positions == 14
        np.testing.assert_allclose(found.grams[0].matrix, expected, rtol=1e-5, atol=1e-7)


class Text(nn.Module):
    """Token indices and, if it is given, a mask."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4, padding_idx=0)
        self.out = nn.Linear(4, 3)

    def forward(self, input_ids=None, attention_mask=None, flag=True):
        hidden = self.embed(input_ids)
        return self.out(hidden if attention_mask is None else hidden * attention_mask[..., None])


class StrictText(Text):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask)


IDS = torch.tensor([[3, 4, 5, 0], [7, 8, 0, 0]])
MASK = (IDS > 0).long()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(IDS, MASK)], "2 parts and the model could take more than one .attention_mask"),
        ([[IDS.numpy(), MASK.numpy()]], "2 parts"),
        ((IDS, MASK), "only zeros and ones"),
        ([IDS, MASK], "only zeros and ones"),
        ((IDS, IDS + 1), "tuple of 2"),
        (torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IDS, MASK)), "2 parts"),
    ],
)
def test_nothing_of_a_batch_is_dropped_that_the_model_would_use(data, message):
    for model in (Text(), torch.nn.DataParallel(Text())):
        name = "out" if isinstance(model, Text) else "module.out"
        with pytest.raises(InputError, match=message):
            gram_of_layer(model, name, data)


class Keywords(nn.Linear):
    def forward(self, x, **options):
        return super().forward(x)


def test_keywords_of_any_name_may_hold_a_mask():
    inner = Keywords(4, 4)
    inner.add_module("out", nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"could take more than one \(\*\*options\)"):
        gram_of_layer(inner, "out", [(torch.zeros(2, 4), torch.zeros(2))])


def test_a_mask_that_the_model_needs_is_asked_for_in_words():
    with pytest.raises(InputError, match="needs attention_mask beside its first input"):
        gram_of_layer(StrictText(), "out", IDS)


def test_padded_positions_are_told():
    assert "padded positions count" in gram_of_layer(Text(), "out", IDS).notes[0]
    assert gram_of_layer(Text(), "out", [IDS[:1, :3], IDS[1:, :2]]).notes == ()

    class Deaf(Text):
        def forward(self, ids):
            return super().forward(ids)

    assert len(gram_of_layer(Deaf(), "out", IDS).notes) == 1  # whatever the model does about it itself
    assert (
        gram_of_layer(Deaf(), "out", [(IDS, torch.zeros(2))]).positions == 8
    )  # labels, as nothing else fits


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(0, 4), "empty"),
        ([], "empty"),
        (torch.tensor(1.0), "first axis"),
        (5, "iterable"),
        (["image"], "a str"),
        (np.array([None]), "array of object"),
        ([{"z": torch.zeros(1, 4)}], "hold 'z', which the model's forward has no place for; it takes x"),
        (torch.full((2, 4), float("nan")), "not finite"),
        (torch.zeros(2, 3, 5), "cannot run on data of shape"),
        (torch.zeros(2, 4, dtype=torch.int64), "cannot run on data"),
    ],
)
def test_bad_data(net, data, message):
    with pytest.raises(InputError, match=message):
        gram_of_layer(net, "shared", data)


def test_a_layer_that_is_never_called(net):
    with pytest.raises(InputError, match="never called"):
        gram_of_layer(net, "unused", torch.zeros(2, 4))


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_bad_batch_size(net, size):
    with pytest.raises(InputError, match="batch size"):
        gram_of_layer(net, "shared", torch.zeros(2, 4), batch_size=size)


def test_layers_are_found_by_name(net):
    assert layer_names(net) == ["shared", "unused", "head.1"]
    assert find_layer(net, "head.1").module is net.head[1]
    with pytest.raises(
        InputError, match=r"no layer 'shard'; did you mean 'shared' \(there are shared, unused"
    ):
        find_layer(net, "shard")
    with pytest.raises(InputError, match="is a BatchNorm1d, but bounds exist for Linear"):
        find_layer(net, "norm")
    with pytest.raises(InputError, match=r"is a Sequential.*did you mean 'head.1'"):
        find_layer(net, "head")
    with pytest.raises(InputError, match="no such layer"):
        find_layer(nn.ReLU(), "relu")


def test_layers_that_compute_something_else_are_refused():
    class Scaled(nn.Conv2d):
        def _conv_forward(self, inputs, weight, bias):
            return super()._conv_forward(inputs, 2 * weight, bias)

    class Renamed(nn.Linear):
        pass

    model = nn.ModuleDict(
        {"a": Scaled(1, 1, 1), "b": Renamed(1, 1), "c": nn.Bilinear(1, 1, 1), "d": nn.Embedding(1, 1)}
    )
    assert layer_names(model) == ["b"]
    for name in "acd":
        with pytest.raises(InputError, match="bounds exist for"):
            find_layer(model, name)
    with pytest.raises(InputError, match="no weights yet"):
        find_layer(nn.LazyLinear(3), "")
    with pytest.raises(InputError, match="no weights yet"):
        find_layer(nn.Linear(2, 2, device="meta"), "")


def test_weights_that_are_not_finite():
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match="weight of layer ''"):
        _ = Layer("", module).weight


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Linear(64, 10), "Linear 64->10"),
        (nn.Conv2d(8, 16, 3, stride=2, padding=1), "Conv2d 8->16, 3x3, stride 2, padding 1"),
        (nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8), "Conv2d 8->8, 1x3, padding 0x1, groups 8"),
        (nn.Conv2d(1, 1, 3, padding="same", dilation=2), "Conv2d 1->1, 3x3, padding same, dilation 2"),
        (
            nn.Conv1d(1, 2, 3, padding=1, padding_mode="reflect"),
            "Conv1d 1->2, kernel 3, reflect padding 1",
        ),
        (nn.Conv3d(1, 2, 3, padding="valid"), "Conv3d 1->2, 3x3x3"),
    ],
)
def test_description(module, words):
    assert Layer("", module).description == words


def test_layers_inside_a_fused_transformer_block_are_reached():
    block = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
    found = gram_of_layer(block, "linear1", torch.randn(3, 5, 8))
    assert found.positions == 15


def double_linear():
    return nn.Sequential(nn.Linear(5, 3)).double()


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        ([1e-200] * 5, "as small as .*e-2.*rescale"),
        ([1.0, 1.0, 1e-170, 1.0, 1.0], "as small as .*e-170.*rescale"),
        ([1e200] * 5, "as large as .*rescale"),
    ],
)
def test_inputs_whose_squares_are_lost_do_not_pass_for_zero(factor, words):
    data = torch.ones(9, 5, dtype=torch.float64) * torch.tensor(factor, dtype=torch.float64)
    with pytest.raises(InputError, match=words):
        gram_of_layer(double_linear(), "0", data)


def test_inputs_of_zero_and_the_least_of_float32_are_no_loss():
    data = torch.tensor([[0.0, 1.0, 1e-45, -1.0, 2.0]], dtype=torch.float32)
    gram = gram_of_layer(double_linear(), "0", data).grams[0].matrix
    assert gram[2, 2] > 0.0
    assert gram[0, 0] == 0.0


@pytest.mark.parametrize(
    ("model", "name", "data", "words"),
    [
        (None, "0", torch.ones(2, 5), "must be a torch.nn.Module, not a NoneType"),
        (nn.Linear(5, 3), None, torch.ones(2, 5), "by its dotted name, not a NoneType"),
        (nn.Linear(5, 3), "", torch.ones(2, 5).to_sparse(), "sparse, nested or meta"),
        (nn.Linear(5, 3, dtype=torch.complex64), "", torch.ones(2, 5), "complex weights"),
        (nn.Linear(5, 3), "", torch.ones(2, 5, dtype=torch.complex64), "is complex"),
    ],
)
def test_what_is_no_model_layer_or_data_of_real_numbers_is_refused(model, name, data, words):
    with pytest.raises(InputError, match=words):
        gram_of_layer(model, name, data)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_channels_is_refused():
    with pytest.raises(InputError, match=r"no weights: their shape is \(0, 5\)"):
        find_layer(nn.Sequential(nn.Linear(5, 0)), "0")


def test_another_linear_is_called_by_its_full_name():
    class Linear(nn.Module):
        pass

    with pytest.raises(InputError, match=r"is a \w*test_nn_layers\..*Linear, but"):
        find_layer(nn.Sequential(Linear()), "0")


class Conv1D(nn.Module):
    """As GPT-2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.nf = 3
        self.weight, self.bias = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Linear(5, 3), ""),
        (Conv1D(), ""),
        (nn.Conv2d(4, 6, (2, 3), groups=2), ""),
        (nn.ConvTranspose1d(4, 6, 3), ""),
        (nn.ConvTranspose2d(4, 6, (2, 3), groups=2), ""),
        (nn.ConvTranspose3d(4, 2, (2, 3, 1)), ""),
        (nn.MultiheadAttention(4, 2), "k_proj"),
        (nn.MultiheadAttention(4, 2, kdim=3, vdim=5), "v_proj"),
        (nn.MultiheadAttention(4, 2), "out_proj"),
    ],
)
def test_weights_are_put_back_where_they_come_from(module, name):
    layer = find_layer(module, name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    weight = layer.weight.copy()
    layer.replace_weight(2.0 * weight)
    assert np.array_equal(layer.weight, 2.0 * weight)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert len(changed) == 1
    layer.replace_weight(weight)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Mixture(nn.Module):
    """Experts that are modules, as many layers."""

    def __init__(self, experts):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(experts))

    def forward(self, x):
        rows = x.reshape(-1, 4)
        return sum(expert(rows) for expert in self.experts)


def test_many_layers_take_one_pass_over_the_names_of_the_model(monkeypatch):
    """However many are asked for: looking them up costs no more passes than looking up one."""
    passes = []
    named = nn.Module.named_modules

    def counted(self, *args, **kwargs):
        if self is model:
            passes.append(1)
        return named(self, *args, **kwargs)

    data = {"x": torch.ones(2, 3, 4)}
    mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    found = []
    for experts in (1, 6):
        model = Mixture(experts)
        names = layer_names(model)
        monkeypatch.setattr(nn.Module, "named_modules", counted)
        passes.clear()
        assert (
            [layer.name for layer in find_layers(model, names).values()]
            == names
            == select_layers(model, names)
        )
        grams = grams_of_layers(model, names, data, position_mask=mask)
        found.append(len(passes))
        assert len(grams) == 2 * experts
    assert found[0] == found[1]


def test_the_entrance_of_an_expert_behind_wrappers():
    wrapped = nn.Module()
    wrapped._orig_mod = Mixture(2)
    inner = nn.Module()
    inner._checkpoint_wrapped_module = wrapped._orig_mod.experts[1]
    wrapped._orig_mod.experts[1] = inner
    assert module_of(wrapped, "") is wrapped._orig_mod
    assert module_of(wrapped, "experts.1") is inner._checkpoint_wrapped_module
    assert module_of(wrapped, "experts.1.0") is inner._checkpoint_wrapped_module[0]
