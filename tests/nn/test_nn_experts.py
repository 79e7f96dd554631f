"""Experts whose weights lie in one parameter: what each of them is given, against loops of one's own."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pvqbounds.errors import InputError
from pvqbounds.nn import find_layer, grams_of_layers, layer_bounds, layer_names, routing
from pvqbounds.nn.compressed import compressed_sides

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROUTES = torch.stack([torch.arange(40) % 2, torch.full((40,), 2)], 1)  # the last of four is never asked
SCORES = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Experts(nn.Module):
    """Four experts with a gate, in transformers' manner; an output a row, or an input a row."""

    def __init__(self, how: str, gate: bool = True):
        super().__init__()
        torch.manual_seed(2)
        inner, wide = (5, 10) if gate else (6, 6)
        turned = how in ("turned", "bmm")
        self.how, self.gate = how, gate
        up, down = (4, wide, 6), (4, 6, inner)
        shapes = [(a, c, b) if turned else (a, b, c) for a, b, c in (up, down)]
        self.register_parameter("gate_up_proj" if gate else "up_proj", nn.Parameter(torch.randn(shapes[0])))
        self.down_proj = nn.Parameter(torch.randn(shapes[1]))
        self.double()

    def act(self, h):
        return torch.relu(h[..., :5]) * h[..., 5:] if self.gate else torch.relu(h)

    def forward(self, x):
        up = self.gate_up_proj if self.gate else self.up_proj
        out = torch.zeros_like(x)
        if self.how == "bmm":  # every expert is given everything, times its score
            scores = torch.zeros(4, len(x), dtype=x.dtype)
            for place in range(2):
                scores[ROUTES[:, place], torch.arange(len(x))] = SCORES[:, place]
            hidden = torch.bmm(x * scores[..., None], up)
            return torch.bmm(self.act(hidden), self.down_proj).sum(0)
        if self.how == "gathered":
            hidden = torch.einsum("tkoi,ti->tko", up[ROUTES], x)
            return torch.einsum("tkoi,tki->to", self.down_proj[ROUTES], self.act(hidden))
        for number in torch.arange(4):
            tokens, place = torch.where(number == ROUTES)
            if self.how == "turned":
                h = self.act(x[tokens] @ up[number]) @ self.down_proj[number]
            else:
                h = functional.linear(
                    self.act(functional.linear(x[tokens], up[number])), self.down_proj[number]
                )
            out.index_add_(0, tokens, h * SCORES[tokens, place, None])
        return out


class Model(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.experts = experts

    def forward(self, x):
        return self.experts(x)


def rows_of(experts, number):
    """What an expert's two projections are given, from its routes alone."""
    tokens = torch.where((number == ROUTES).any(1))[0]
    inner = X[tokens]
    if experts.how == "bmm":
        inner = inner * SCORES[number == ROUTES][:, None]
    up = experts.gate_up_proj[number]
    return inner, experts.act(inner @ (up if experts.how in ("turned", "bmm") else up.T))


@pytest.mark.parametrize("how", ["plain", "turned", "bmm"])
def test_each_expert_has_the_gram_of_what_it_is_given(how):
    model = Model(Experts(how))
    names = [f"experts.{number}.{part}" for number in range(4) for part in ("gate_up_proj", "down_proj")]
    assert layer_names(model) == names
    before = model(X)
    found = grams_of_layers(model, names[:6], X)
    for number in range(3):
        inner, outer = (r.detach().numpy() for r in rows_of(model.experts, number))
        for part, rows in (("gate_up_proj", inner), ("down_proj", outer)):
            gram = found[f"experts.{number}.{part}"]
            positions = 40 if how == "bmm" else len(rows)
            assert gram.positions == positions
            np.testing.assert_allclose(gram.grams[0].matrix, rows.T @ rows / positions, atol=1e-13)
    assert torch.equal(model(X), before)  # as it was
    assert "forward" not in vars(model.experts)


def test_an_expert_that_no_token_reaches_is_refused_as_any_layer():
    with pytest.raises(InputError, match=r"'experts\.3\.down_proj' is never called"):
        grams_of_layers(Model(Experts("plain")), ["experts.3.down_proj"], X)


@pytest.mark.parametrize("how", ["plain", "turned"])
def test_bounds_speak_of_the_experts_own_output(how):
    model = Model(Experts(how))
    report = layer_bounds(model, "experts.1.down_proj", X, formats=["int3"], methods=["rtn"])
    side = report.sides[0]
    _, rows = rows_of(model.experts, 1)
    own = find_layer(model, "experts.1.down_proj")
    dense = model.experts.down_proj[1] if how == "plain" else model.experts.down_proj[1].T
    np.testing.assert_array_equal(own.weight, dense.detach().numpy())
    rows, dense = rows.detach(), dense.detach()
    best = torch.from_numpy(np.stack([s.bounds.weight for s in side.slices]))
    error = ((rows @ (best - dense).T) ** 2).mean(0).sum()
    assert side.error_upper == pytest.approx(error.item(), rel=1e-9)
    assert report.description == "down_proj 5->6 of expert 1"


def test_a_file_with_a_matrix_for_each_expert_is_read(tmp_path):
    model = Model(Experts("plain"))
    grid = (model.experts.down_proj[1].detach() / 0.25).round().clamp(-8, 7) * 0.25
    save_file({"experts.1.down_proj.weight": grid}, tmp_path / "w.safetensors")
    report = layer_bounds(model, "experts.1.down_proj", X, compressed=tmp_path / "w.safetensors", methods=[])
    _, rows = rows_of(model.experts, 1)
    error = ((rows @ (grid - model.experts.down_proj[1]).T) ** 2).mean(0).sum().item()
    assert report.sides[0].method_error("compressed") == pytest.approx(error, rel=1e-9)


def test_what_cannot_be_heard_is_refused():
    with pytest.raises(InputError, match="no product with the weights of one of its experts was seen"):
        grams_of_layers(Model(Experts("gathered")), ["experts.1.down_proj"], X)
    model = Model(Experts("plain", gate=False))  # square: nothing but products tells which way round
    model.experts.is_transposed = True
    with pytest.raises(InputError, match="its is_transposed should be False"):
        grams_of_layers(model, ["experts.1.up_proj"], X)
    assert "forward" not in vars(model.experts)


# ----------------------------------------------------------------------------- tokens that are padded


SAMPLES, LENGTH = 4, 10
TOKENS = X.reshape(SAMPLES, LENGTH, 6)
MASK = torch.ones(SAMPLES, LENGTH, dtype=torch.int64)
MASK[0, 7:] = MASK[1, 2:] = MASK[3, 9:] = 0
COUNTING = MASK.flatten().bool()


class Block(nn.Module):
    """Experts that are modules of two layers; the tokens of each are in an order of its own."""

    def __init__(self, chosen, scaled=False, chunk=None):
        super().__init__()
        torch.manual_seed(3)
        self.chunk = chunk
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in chosen
        )
        self.chosen, self.scaled = chosen, scaled
        self.double()

    def forward(self, x):
        flat = x.reshape(-1, 6) * (2.0 if self.scaled else 1.0)
        out = torch.zeros_like(flat)
        for expert, tokens in zip(self.experts, self.chosen, strict=True):
            for part in tokens.split(self.chunk or len(tokens)):
                out[part] += expert(flat[part])
        return out.reshape(x.shape)


class Masked(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.mlp = block

    def forward(self, x, attention_mask=None):
        return self.mlp(x)


CHOSEN = (
    torch.arange(39, -1, -1),  # as many as the mask has positions, the last one first
    torch.tensor([38, 8, 1, 25]),  # as many as there are samples
    torch.tensor([39, 0, 8, 9, 21, 22, 3]),
)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("number", range(3))
def test_padded_tokens_stay_out_of_experts_that_are_modules(number, scale):
    model, tokens = Masked(Block(CHOSEN)), CHOSEN[number]
    names = [f"mlp.experts.{number}.{place}" for place in (0, 2)]
    weights = MASK.double() * (scale if scale != 1.0 else 1)
    weights[2] *= 2.0 if scale != 1.0 else 1.0
    mask = {"attention_mask": MASK} if scale == 1.0 else {"position_mask": weights}
    found = grams_of_layers(model, names, {"x": TOKENS} | mask)
    counts = weights.flatten()[tokens]
    expert = model.mlp.experts[number]
    rows = [X[tokens], torch.relu(expert[0](X[tokens])).detach()]
    for name, each in zip(names, rows, strict=True):
        expected = (each.T * counts @ each / counts.sum()).numpy()
        assert found[name].positions == int((counts > 0).sum()) < len(tokens)
        np.testing.assert_allclose(found[name].grams[0].matrix, expected, rtol=1e-12, atol=1e-14)
        assert not any("padded" in note for note in found[name].notes)


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("first", [1, 8])
def test_equal_tokens_over_several_calls_of_an_expert(chunk, first):
    """However its tokens are cut into calls, each of them counts as its own position does."""
    x = torch.cat([TOKENS, 1.0 + TOKENS.flip(0)])  # none of them equal but those that follow
    x.view(-1, 6)[[1, 8, 9, 10, 41, 50]] = x.view(-1, 6)[first].clone()
    weights = torch.linspace(0.0, 2.0, 80, dtype=torch.float64).reshape(8, 10)
    weights[0, 1] = 0.0
    given = torch.tensor([50, 41, 10, 2, 9, 8, 1])  # each of the equal ones, and another
    model, names = Masked(Block((given,), chunk=chunk)), ["mlp.experts.0.0", "mlp.experts.0.2"]
    data = [{"x": part, "position_mask": each} for part, each in ((x, weights), (x, weights.flip(1)))]
    found = grams_of_layers(model, names, data)
    counts = (weights + weights.flip(1)).flatten()[given]
    rows = x.view(-1, 6)[given]
    expected = (rows.T * counts @ rows / counts.sum()).numpy()
    assert found[names[0]].notes == found[names[1]].notes
    np.testing.assert_allclose(found[names[0]].grams[0].matrix, expected, rtol=1e-12)
    positions = sum(int((each.flatten()[given] > 0).sum()) for each in (weights, weights.flip(1)))
    assert found[names[0]].positions == found[names[1]].positions == positions


def test_tokens_that_come_more_often_than_they_are_there():
    """The same expert twice: rows whose equals count alike are known, others are told."""
    x = TOKENS.clone()
    twice = torch.tensor([11, 12, 2, 11, 12, 2])
    name = "mlp.experts.0.0"
    found = grams_of_layers(Masked(Block((twice,), chunk=3)), [name], {"x": x, "attention_mask": MASK})[name]
    assert found.positions == 2 * int(COUNTING[twice[:3]].sum()) < 6
    assert not any("padded" in note for note in found.notes)
    x[1, 3] = x[0, 2]  # padded there, and not here
    twice = torch.tensor([13, 2, 2])
    found = grams_of_layers(Masked(Block((twice,), chunk=1)), [name], {"x": x, "attention_mask": MASK})[name]
    assert any("cannot be matched, one by one, with the tokens of its block" in note for note in found.notes)


class Called(nn.Module):
    """Calls its block by names, with a mask before the tokens."""

    def __init__(self):
        super().__init__()
        self.mlp = Named()

    def forward(self, x, attention_mask=None):
        return self.mlp(mask=attention_mask, shift=torch.ones(6, dtype=torch.float64), h=x)


class Named(Block):
    def __init__(self):
        super().__init__(CHOSEN)

    def forward(self, h, mask=None, shift=None):
        return super().forward(h)


def test_tokens_of_a_block_that_is_called_by_names():
    name = "mlp.experts.1.0"
    data = {"x": TOKENS, "attention_mask": MASK}
    found, wanted = (grams_of_layers(model, [name], data)[name] for model in (Called(), Masked(Named())))
    assert found.notes == wanted.notes == ()
    assert found.positions == int(COUNTING[CHOSEN[1]].sum())
    np.testing.assert_array_equal(found.grams[0].matrix, wanted.grams[0].matrix)


class Sorting(nn.Module):
    """Experts are given changed tokens, all of them in the shape of the mask, in an order of their own."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(6, 2).double()])

    def forward(self, x):
        order = x.sum(2).argsort(1)[..., None].expand_as(x)
        return self.experts[0](2.0 * x.gather(1, order))


@pytest.mark.parametrize("shape", [(SAMPLES, LENGTH), (SAMPLES, LENGTH + 1)])
def test_a_mask_of_the_shape_of_changed_tokens_is_not_believed(shape):
    name, mask = "mlp.experts.0", torch.zeros(shape, dtype=torch.int64)
    mask[:, :LENGTH] = MASK
    found = grams_of_layers(Masked(Sorting()), [name], {"x": TOKENS, "attention_mask": mask})[name]
    assert found.positions == SAMPLES * LENGTH
    (note,) = found.notes
    told = (
        "cannot be matched, one by one, with the tokens of its block"
        if shape == MASK.shape
        else "do not fit the positions of layer"
    )
    assert told in note
    words = "cannot be told" if shape == MASK.shape else "fits no positions of layer"
    with pytest.raises(InputError, match=words):
        grams_of_layers(Masked(Sorting()), [name], {"x": TOKENS, "position_mask": mask})


class Pair(nn.Module):
    """Two sequences of one shape with a mask each, of which the experts are given one."""

    def __init__(self):
        super().__init__()
        self.mlp, self.other = Block(CHOSEN), nn.Linear(6, 2).double()

    def forward(self, x, attention_mask=None, tgt=None, tgt_key_padding_mask=None):
        return self.mlp(x), self.other(x.mean(1))


def test_masks_that_differ_fail_the_layers_of_experts_alone():
    padding = torch.zeros(SAMPLES, LENGTH, dtype=torch.bool)
    padding[2, 5:] = True
    data = {"x": TOKENS, "attention_mask": MASK, "tgt": TOKENS, "tgt_key_padding_mask": padding}
    names, failed = ["mlp.experts.1.0", "mlp.experts.1.2", "other"], {}
    assert list(grams_of_layers(Pair(), names, data, failed=failed)) == ["other"]
    assert list(failed) == names[:2]
    for name, error in failed.items():
        assert f"The input of layer '{name}' may be masked by" in str(error)
    with pytest.raises(InputError, match=r"The input of layer 'mlp\.experts\.1\.2' may be masked by"):
        grams_of_layers(Pair(), names[1:], data)


def test_what_the_model_itself_refuses_has_no_circle_of_causes():
    with pytest.raises(InputError) as caught:
        grams_of_layers(nn.Sequential(nn.Linear(6, 2)), ["0"], torch.ones(3, 5))
    seen, error = [], caught.value
    while error is not None:
        assert error not in seen
        seen.append(error)
        error = error.__cause__


def test_tokens_are_looked_up_once_for_all_layers_of_an_expert(monkeypatch):
    looked, digests = [], routing._digests
    monkeypatch.setattr(routing, "_digests", lambda rows: looked.append(rows) or digests(rows))
    names = [f"mlp.experts.{number}.{place}" for number in range(3) for place in (0, 2)]
    found = grams_of_layers(Masked(Block(CHOSEN)), names, {"x": TOKENS, "attention_mask": MASK})
    assert len(found) == 6
    assert len(looked) == 1 + 3


def test_equal_tokens_of_which_one_is_padded():
    x = TOKENS.clone()
    x[1, 3] = x[0, 1]  # padded there, and not here
    both = torch.tensor([13, 1, 2])
    name = "mlp.experts.0.0"
    gram = grams_of_layers(Masked(Block((both,))), [name], {"x": x, "attention_mask": MASK})[name]
    rows = torch.stack([x[0, 1], x[0, 2]])
    assert gram.positions == 2
    np.testing.assert_allclose(gram.grams[0].matrix, (rows.T @ rows / 2).numpy(), rtol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1])
def test_equal_tokens_that_are_routed_differently_are_told(chunk):
    """A router that looks at positions gives the expert one of two equal tokens, padded or not."""
    x = TOKENS.clone()
    x[1, 3] = x[0, 1]  # padded there, and not here
    name = "mlp.experts.0.0"
    for reached in (1, 13):
        model = Masked(Block((torch.tensor([reached, 2]),), chunk=chunk))
        batches = [
            {"x": each, "attention_mask": MASK} for each in (x, TOKENS)
        ]  # told apart in the first alone
        found = grams_of_layers(model, [name], batches)[name]
        assert any("equal to the last bit" in note for note in found.notes)
        with pytest.raises(InputError, match="some reach its expert and others do not"):
            grams_of_layers(model, [name], {"x": x, "position_mask": MASK.double()})
        alike = grams_of_layers(model, [name], {"x": x, "attention_mask": torch.ones_like(MASK)})[name]
        assert alike.notes == ()
        assert not model.mlp._forward_hooks  # as it was


def test_tokens_that_were_changed_before_they_are_routed_are_told():
    name = "mlp.experts.0.0"
    data = {"x": TOKENS, "attention_mask": MASK}
    found = grams_of_layers(Masked(Block(CHOSEN, scaled=True)), [name], data)[name]
    assert found.positions == 40
    assert any("cannot be matched, one by one, with the tokens of its block" in note for note in found.notes)
    with pytest.raises(InputError, match="means cannot be told: what its expert is given cannot be matched"):
        grams_of_layers(
            Masked(Block(CHOSEN, scaled=True)), [name], {"x": TOKENS, "position_mask": MASK.double()}
        )
    whole = grams_of_layers(
        Masked(Block(CHOSEN, scaled=True)), [name], data | {"attention_mask": torch.ones_like(MASK)}
    )
    assert whole[name].notes == ()


class Routing(nn.Module):
    """A block around experts in one parameter, which looks up their tokens."""

    def __init__(self, experts):
        super().__init__()
        self.experts = experts

    def forward(self, x, attention_mask=None):
        return self.experts(x.reshape(-1, 6))


@pytest.mark.parametrize("how", ["plain", "turned"])
@pytest.mark.parametrize("number", range(3))
def test_padded_tokens_stay_out_of_experts_in_one_parameter(how, number):
    model = Routing(Experts(how))
    names = [f"experts.{number}.{part}" for part in ("down_proj", "gate_up_proj")]
    found = grams_of_layers(model, names, {"x": TOKENS, "attention_mask": MASK})
    alone = grams_of_layers(model, names[:1], {"x": TOKENS, "attention_mask": MASK})
    np.testing.assert_array_equal(alone[names[0]].grams[0].matrix, found[names[0]].grams[0].matrix)
    tokens = torch.where((number == ROUTES).any(1))[0]  # all of them reach the last
    inner, outer = (rows.detach()[COUNTING[tokens]] for rows in rows_of(model.experts, number))
    for name, rows in zip(names, (outer, inner), strict=True):
        assert found[name].positions == len(rows) == int(COUNTING[tokens].sum())
        np.testing.assert_allclose(
            found[name].grams[0].matrix, (rows.T @ rows / len(rows)).numpy(), atol=1e-13
        )
        assert found[name].notes == ()


class Chunked(nn.Module):
    """Two experts whose gate and up lie apart, called for a few tokens at a time."""

    def __init__(self, order):
        super().__init__()
        torch.manual_seed(3)
        self.order = order
        for name, shape in {"gate_proj": (2, 5, 6), "up_proj": (2, 5, 6), "down_proj": (2, 6, 5)}.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))

    def forward(self, x):
        out = []
        for number, part in enumerate(x.split(4)):
            inner = {name: functional.linear(part, getattr(self, name)[number % 2]) for name in self.order}
            hidden = torch.relu(inner["gate_proj"]) * inner["up_proj"]
            out.append(functional.linear(hidden, self.down_proj[number % 2]))
        return torch.cat(out)


@pytest.mark.parametrize("order", [("gate_proj", "up_proj"), ("up_proj", "gate_proj")])
def test_gate_and_up_are_masked_in_whatever_order_they_are_computed(order):
    model = Routing(Chunked(order))
    names = [f"experts.1.{part}" for part in ("gate_proj", "up_proj", "down_proj")]
    found = grams_of_layers(model, names, {"x": TOKENS, "attention_mask": MASK})
    given = torch.arange(40).reshape(-1, 4)[1::2].flatten()  # every other chunk is the second expert's
    rows = TOKENS.reshape(-1, 6)[given[COUNTING[given]]]
    experts = model.experts
    hidden = torch.relu(rows @ experts.gate_proj[1].T) * (rows @ experts.up_proj[1].T)
    for name, own in zip(names, (rows, rows, hidden.detach()), strict=True):
        assert found[name].positions == len(own)
        expected = (own.T @ own / len(own)).numpy()
        np.testing.assert_allclose(found[name].grams[0].matrix, expected, atol=1e-13)


def test_experts_that_are_given_scaled_tokens_are_told():
    model, name = Routing(Experts("bmm")), "experts.2.down_proj"
    found = grams_of_layers(model, [name], {"x": TOKENS, "attention_mask": MASK})[name]
    assert found.positions == 40
    assert any("cannot be matched, one by one, with the tokens of its block" in note for note in found.notes)


def test_transformers_mixtral():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.MixtralConfig(**sizes, **heads, num_local_experts=3, num_experts_per_tok=2)
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    experts = model.model.layers[0].mlp.experts
    calls = []
    handle = experts.register_forward_pre_hook(lambda module, args: calls.append(args))
    ids = torch.randint(0, 50, (3, 12))
    model(ids)
    handle.remove()
    hidden, routes, _ = calls[0]
    names = [
        f"model.layers.0.mlp.experts.{number}.{part}"
        for number in range(3)
        for part in ("gate_up_proj", "down_proj")
    ]
    assert [name for name in layer_names(model) if "experts" in name] == names
    found = grams_of_layers(model, names, {"input_ids": ids})
    for number in range(3):
        inner = hidden[(routes == number).any(1)]
        gate, up = (inner @ experts.gate_up_proj[number].T).chunk(2, dim=1)
        for part, rows in (("gate_up_proj", inner), ("down_proj", functional.silu(gate) * up)):
            gram = found[f"model.layers.0.mlp.experts.{number}.{part}"]
            rows = rows.detach().numpy()
            assert gram.positions == len(rows)
            np.testing.assert_allclose(gram.grams[0].matrix, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-9)


def test_gate_and_up_of_gpt_oss_that_a_file_has_apart(tmp_path):
    """Its forward pass takes every other channel for the gate, from the first on."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    config = transformers.GptOssConfig(**sizes, **heads, num_local_experts=2, num_experts_per_tok=1)
    torch.manual_seed(0)
    model = transformers.GptOssForCausalLM(config).eval()
    name = "model.layers.0.mlp.experts.1"
    both = model.model.layers[0].mlp.experts.gate_up_proj[1].detach()
    with torch.no_grad():
        both.copy_((both / 2**-6).round().clamp(-8, 7) * 2**-6)
    halves = {"gate_proj": both[:, ::2].T, "up_proj": both[:, 1::2].T}
    tensors = {f"{name}.{word}.weight": half.contiguous() for word, half in halves.items()}
    save_file(tensors, tmp_path / "w.safetensors")
    layer = find_layer(model, f"{name}.gate_up_proj")
    (side,) = compressed_sides(tmp_path / "w.safetensors", layer)
    np.testing.assert_array_equal(side.stored.weight, layer.weight)


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe", "GptOss"])
def test_files_as_transformers_writes_them(tmp_path, kind):
    """A matrix for each expert, with gate and up apart and under other names, or one tensor for all."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "num_experts_per_tok": 2}
    sizes |= (
        {"num_experts": 3, "moe_intermediate_size": 64} if kind == "Qwen3Moe" else {"num_local_experts": 3}
    )
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    experts = model.model.layers[0].mlp.experts
    dense = {name: p.detach().clone() for name, p in experts.named_parameters() if p.dim() == 3}
    with torch.no_grad():
        for p in experts.parameters():
            p.copy_((p / 2**-6).round().clamp(-8, 7) * 2**-6)
    rounded = {name: getattr(experts, name).detach().clone() for name in dense}
    model.save_pretrained(tmp_path / "w")
    with torch.no_grad():
        for name, weight in dense.items():
            getattr(experts, name).copy_(weight)
    data = {"input_ids": torch.randint(0, 50, (4, 16))}
    for name, weight in rounded.items():
        layer = f"model.layers.0.mlp.experts.1.{name}"
        report = layer_bounds(
            model, layer, data, compressed=tmp_path / "w", methods=[], out_channels=2, time_limit=1
        )
        gram = grams_of_layers(model, [layer], data)[layer].grams[0].matrix
        off = (weight[1] - dense[name][1]).double().numpy()
        off = (off.T if kind == "GptOss" else off)[:2]
        error = ((off @ gram) * off).sum()
        assert report.sides[0].method_error("compressed") == pytest.approx(error, rel=1e-9)
        assert not any("not near" in note for note in report.notes)


class Late(nn.Module):
    """Two experts that multiply all chunks by one projection before the other, or sort rows in between."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(4)
        self.how = how
        self.gate_up_proj = nn.Parameter(torch.randn(2, 10, 6, dtype=torch.float64))
        self.down_proj = nn.Parameter(torch.randn(2, 6, 5, dtype=torch.float64))

    def forward(self, x):
        out = torch.zeros_like(x)
        for number in range(2):
            tokens = torch.arange(number, len(x), 2)
            parts = tokens.split(len(tokens) // 2 if "chunks" in self.how else len(tokens))
            hidden = []
            for part in parts:
                gate, up = functional.linear(x[part], self.gate_up_proj[number]).chunk(2, dim=-1)
                hidden.append(functional.silu(gate) * up)
            order = list(range(len(parts)))[:: -1 if "backwards" in self.how else 1]
            for place in order:
                rows, own = hidden[place], parts[place]
                if self.how == "sorted":
                    best = rows.norm(dim=-1).argsort()
                    rows, own = rows[best], own[best]
                if self.how == "written over":
                    rows[:] = rows.flip(0)
                    own = own.flip(0)
                out[own] = functional.linear(rows, self.down_proj[number])
        return out


@pytest.mark.parametrize("how", ["chunks", "chunks backwards", "sorted", "written over"])
def test_rows_of_the_outer_projection_are_those_of_the_product_that_they_come_from(how):
    model, name = Routing(Late(how)), "experts.1.down_proj"
    found = grams_of_layers(model, [name], {"x": TOKENS, "attention_mask": MASK})[name]
    given = torch.arange(1, 40, 2)
    if "chunks" not in how:  # nobody knows which row is which
        assert found.positions == len(given)
        assert any("cannot be matched, one by one" in note for note in found.notes)
        return
    rows = TOKENS.reshape(-1, 6)[given[COUNTING[given]]]
    gate, up = (rows @ model.experts.gate_up_proj[1].T).chunk(2, dim=-1)
    own = (functional.silu(gate) * up).detach()
    assert found.positions == len(own)
    assert found.notes == ()
    np.testing.assert_allclose(found.grams[0].matrix, (own.T @ own / len(own)).numpy(), atol=1e-13)


def halved(forward):
    @functools.wraps(forward)
    def inner(self, x):
        return forward(self, x / 2)

    return inner


class Decorated(Experts):
    forward = halved(Experts.forward)


def test_a_decorator_of_the_forward_is_part_of_what_the_experts_compute():
    plain, decorated = Model(Experts("plain")), Model(Decorated("plain"))
    name = "experts.1.gate_up_proj"
    whole, half = (grams_of_layers(model, [name], X)[name] for model in (plain, decorated))
    np.testing.assert_array_equal(half.grams[0].matrix, whole.grams[0].matrix / 4)


def test_a_forward_of_a_modules_own_is_called_and_stays():
    model, name = Model(Experts("plain")), "experts.1.gate_up_proj"
    whole = grams_of_layers(model, [name], X)[name]
    model.experts.forward = own = lambda x: Experts.forward(model.experts, x / 2)
    half = grams_of_layers(model, [name], X)[name]
    np.testing.assert_array_equal(half.grams[0].matrix, whole.grams[0].matrix / 4)
    assert vars(model.experts)["forward"] is own
