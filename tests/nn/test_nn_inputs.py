"""Batches by name, masks of positions, and layers that are more or other than a Linear."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn import find_layer, gram_of_layer, grams_of_layers, layer_names
from pvqbounds.nn.layers import layer_sizes, plain_layer_names, select_layers

IDS = torch.tensor([[3, 4, 5, 0], [7, 8, 0, 0], [1, 2, 3, 4]])
MASK = (IDS > 0).long()


class Conv1D(nn.Module):
    """As in GPT-2: the weight has an input a row."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, self.nx), self.weight).view(*x.shape[:-1], self.nf)


class Encoder(nn.Module):
    """A transformer as Hugging Face writes them: named inputs, a mask, outputs that nobody looks at."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 8, padding_idx=0)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.mlp = Conv1D(6, 8)
        self.pooler = nn.Linear(6, 3)
        self.double()

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None, **kwargs):
        x = self.embed(input_ids)
        scores = self.query(x) @ self.key(x).mT
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask[:, None] == 0, -math.inf)
        x = self.mlp(scores.softmax(-1) @ x)
        return {"pooled": self.pooler(x[:, 0])}


def real_tokens(model, layer):
    """The sum of XᵀX over samples that are run alone and without padding, and their number."""
    parts = [
        gram_of_layer(model, layer, [{"input_ids": ids[m > 0][None]}])
        for ids, m in zip(IDS, MASK, strict=True)
    ]
    count = sum(part.positions for part in parts)
    return sum(part.grams[0].matrix * part.positions for part in parts) / count, count


@pytest.mark.parametrize("layer", ["query", "mlp", "pooler"])
def test_padded_positions_stay_out(layer):
    model = Encoder()
    expected, count = real_tokens(model, layer)
    forms = (
        {"input_ids": IDS, "attention_mask": MASK},
        {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy(), "label": np.zeros(3)},
        [{"input_ids": IDS.tolist(), "attention_mask": MASK.bool()}],
        [({"input_ids": IDS, "attention_mask": MASK}, torch.zeros(3))],
    )
    for data in forms:
        found = gram_of_layer(model, layer, data, batch_size=2)
        assert found.positions == count == (3 if layer == "pooler" else 9)
        np.testing.assert_allclose(found.grams[0].matrix, expected, rtol=1e-12, atol=1e-15)
        assert found.notes == ()


def test_a_position_mask_has_the_last_word_and_may_weigh():
    model = Encoder()
    weights = torch.tensor([[1.0, 0.5, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    x = model.embed(IDS).detach()
    rows = x.reshape(-1, 8)
    expected = ((rows.T * weights.reshape(-1)) @ rows / weights.sum()).numpy()
    for found in (
        gram_of_layer(model, "query", IDS, position_mask=weights),
        gram_of_layer(model, "query", [{"input_ids": IDS, "attention_mask": MASK, "position_mask": weights}]),
        gram_of_layer(model, "query", {"input_ids": IDS}, position_mask=weights, batch_size=2),
    ):
        np.testing.assert_allclose(found.grams[0].matrix, expected, rtol=1e-12)
        assert found.positions == 4
        assert any("weights" in note for note in found.notes)
    plain = gram_of_layer(model, "query", IDS, position_mask=MASK)
    np.testing.assert_allclose(plain.grams[0].matrix, real_tokens(model, "query")[0], rtol=1e-12)
    with pytest.raises(InputError, match="none below 0"):
        gram_of_layer(model, "query", IDS, position_mask=-weights)
    with pytest.raises(InputError, match="same samples"):
        gram_of_layer(model, "query", IDS, position_mask=weights[:2])
    with pytest.raises(InputError, match="give batches that hold 'position_mask'"):
        gram_of_layer(model, "query", [IDS], position_mask=weights)


def test_a_position_mask_that_fits_nothing_is_refused():
    for mask in (torch.ones(3, 7), torch.ones(3, 4, 2)):
        with pytest.raises(InputError, match=r"has shape .* fits no positions of layer 'query'"):
            gram_of_layer(Encoder(), "query", IDS, position_mask=mask)
    found = gram_of_layer(Encoder(), "pooler", IDS, position_mask=MASK)  # a value for a sample
    assert found.positions == 3


def test_several_layers_take_one_pass():
    model, calls = Encoder(), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    data = {"input_ids": IDS, "attention_mask": MASK}
    names = ["query", "mlp", "pooler"]
    found = grams_of_layers(model, names, data)
    assert len(calls) == 1
    for name in names:
        np.testing.assert_array_equal(
            found[name].grams[0].matrix, gram_of_layer(model, name, data).grams[0].matrix
        )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"input_ids": IDS, "atention_mask": MASK}], "'atention_mask'.* did you mean 'attention_mask'"),
        ([{"input_ids": IDS, "attention_mask": MASK - 1}], "other than 0 and 1"),
        ([{"attention_mask": MASK, "input_ids": "text"}], "cannot run"),
        ([{"labels": None}], "no tensor"),
        ({"input_ids": IDS, "attention_mask": MASK[:2]}, "input_ids 3, attention_mask 2"),
        ([{"input_ids": [[1, 2], [3]]}], "not a list"),
    ],
)
def test_dictionaries_that_do_not_fit(data, words):
    with pytest.raises(InputError, match=words):
        gram_of_layer(Encoder(), "query", data)


def test_masks_that_do_not_tell_are_noted():
    class Wide(Encoder):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids, attention_mask[:, 0])

    wide = MASK[:, None].expand(3, 4, 4)
    found = gram_of_layer(Wide(), "query", {"input_ids": IDS, "attention_mask": wide})
    assert any("does not say which positions are padded" in note for note in found.notes)

    class Routed(Encoder):
        def forward(self, input_ids, attention_mask=None):
            return self.query(self.embed(input_ids).reshape(-1, 8)[:5])

    found = gram_of_layer(Routed(), "query", {"input_ids": IDS, "attention_mask": MASK})
    assert any("do not fit the positions of layer 'query' (5)" in note for note in found.notes)


class Pair(nn.Module):
    """An encoder and a decoder that looks at it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.encode, self.decode, self.cross = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None, decoder_attention_mask=None):
        states = self.encode(self.embed(input_ids))
        return self.decode(self.embed(decoder_input_ids)).sum(1) + self.cross(states).sum(1)


def test_encoder_and_decoder_have_a_mask_each():
    later = torch.tensor([[1, 2], [3, 4], [5, 0]])
    data = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": later}
    found = grams_of_layers(Pair(), ["encode", "decode", "cross"], data)
    assert [found[name].positions for name in ("encode", "decode", "cross")] == [9, 6, 9]
    found = grams_of_layers(Pair(), ["decode"], data | {"decoder_attention_mask": (later > 0).long()})
    assert found["decode"].positions == 5
    with pytest.raises(InputError, match="by 'attention_mask' or by 'decoder_input_ids'"):
        gram_of_layer(Pair(), "decode", data | {"decoder_input_ids": IDS})
    with pytest.raises(InputError, match="or by 'decoder_attention_mask'"):
        gram_of_layer(Pair(), "decode", data | {"decoder_input_ids": IDS, "decoder_attention_mask": 1 - MASK})


# ----------------------------------------------------------------------------- kinds of layers


@st.composite
def transposed_convolutions(draw):
    """A random transposed convolution in float64 and an input."""
    dimensions = draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    groups, stride, dilation = draw(st.integers(1, 3)), sizes(1, 3), sizes(1, 2)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dimensions - 1](
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        sizes(1, 3),
        stride=stride,
        padding=sizes(0, 2),
        output_padding=extra,
        dilation=dilation,
        groups=groups,
        bias=False,
        dtype=torch.float64,
    )
    torch.manual_seed(draw(st.integers(0, 2**16)))
    lead = () if draw(st.integers(0, 4)) == 0 else (draw(st.integers(1, 3)),)
    return layer, torch.randn(*lead, layer.in_channels, *sizes(5, 6), dtype=torch.float64)


@settings(max_examples=80)
@given(transposed_convolutions())
def test_rows_of_a_transposed_convolution_are_its_own(case):
    module, x = case
    layer = find_layer(module, "")
    with torch.no_grad():
        y = module(x)
    y = y if y.dim() == module.weight.dim() else y.unsqueeze(0)
    kind = layer.kind
    assert kind.places(x) == (len(y), *y.shape[2:])
    rows = kind.rows(kind.batch_first(x))
    groups = torch.from_numpy(layer.weight.copy()).unflatten(0, (layer.groups, -1))
    outputs = (rows @ groups.mT).transpose(0, 1).flatten(1)
    torch.testing.assert_close(outputs, y.movedim(1, -1).reshape(outputs.shape), rtol=1e-10, atol=1e-12)


def test_a_transposed_convolution_with_a_size_of_its_own_is_refused():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose1d(1, 1, 3, stride=2)

        def forward(self, x):
            return self.up(x, output_size=[x.shape[-1] * 2 + 2])

    with pytest.raises(InputError, match="output_size"):
        gram_of_layer(Sized(), "up", torch.randn(2, 1, 5))


def test_conv1d_of_gpt2_has_its_weight_turned():
    module = nn.Sequential(Conv1D(4, 4))
    layer = find_layer(module, "0")
    np.testing.assert_allclose(layer.weight, module[0].weight.detach().numpy().T, rtol=1e-6)
    assert layer.description == "Conv1D 4->4"

    class Other(Conv1D):
        def forward(self, x):
            return 2.0 * super().forward(x)

    assert layer_names(nn.Sequential(Other(4, 4))) == []


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 7}])
def test_projections_of_attention(batch_first, sizes):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, batch_first=batch_first, dtype=torch.float64, **sizes)
    with torch.no_grad():
        attention.in_proj_bias.normal_()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, query, key, value, key_padding_mask=None):
            return self.attention(query, key, value, key_padding_mask=key_padding_mask)[0]

    model = Model()
    names = [f"attention.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert layer_names(model) == names
    assert plain_layer_names(model) == []
    q, k, v = (
        torch.randn(2, n, d, dtype=torch.float64)
        for n, d in ((3, 6), (4, sizes.get("kdim", 6)), (4, sizes.get("vdim", 6)))
    )
    mask = torch.tensor([[False, False, False, True], [False] * 4])
    given = (q, k, v) if batch_first else tuple(x.transpose(0, 1) for x in (q, k, v))
    data = [dict(zip(("query", "key", "value"), given, strict=True)) | {"key_padding_mask": mask}]
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = grams_of_layers(model, names, data)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert [found[name].positions for name in names] == [6, 7, 7, 6]
    for name, rows in (("q", q.reshape(6, -1)), ("k", k[~mask]), ("v", v[~mask])):
        expected = (rows.T @ rows / len(rows)).numpy()
        np.testing.assert_allclose(found[f"attention.{name}_proj"].grams[0].matrix, expected, rtol=1e-12)
    # attention written out
    w = {n: torch.from_numpy(find_layer(model, f"attention.{n}_proj").weight.copy()) for n in ("q", "k", "v")}
    bias = attention.in_proj_bias.detach().chunk(3)
    heads = [
        (x @ w[n].T + b).unflatten(-1, (2, 3)).transpose(1, 2)
        for x, n, b in zip((q, k, v), "qkv", bias, strict=True)
    ]
    inner = nn.functional.scaled_dot_product_attention(*heads, attn_mask=~mask[:, None, None])
    rows = inner.transpose(1, 2).reshape(6, 6).detach()
    expected = (rows.T @ rows / 6).numpy()
    np.testing.assert_allclose(found["attention.out_proj"].grams[0].matrix, expected, rtol=1e-10)


def test_masks_reach_the_layers_of_torchs_transformer():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    model = nn.TransformerEncoder(block, 2).double()
    x, padded = torch.randn(3, 4, 8, dtype=torch.float64), MASK == 0
    names = ["layers.0.linear1", "layers.1.self_attn.out_proj", "layers.1.self_attn.q_proj"]
    found = grams_of_layers(model, names, [{"src": x, "src_key_padding_mask": padded}])
    for name in names:
        parts = [gram_of_layer(model, name, one[~p][None]) for one, p in zip(x, padded, strict=True)]
        expected = sum(part.grams[0].matrix * part.positions for part in parts) / 9
        np.testing.assert_allclose(found[name].grams[0].matrix, expected, rtol=1e-11, atol=1e-14)


def test_experts_of_a_mixture_have_their_own_inputs():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            chosen = (x[:, 0] > 0).long()
            return torch.stack([self.experts[int(c)](row) for c, row in zip(chosen, x, strict=True)])

    x = torch.randn(20, 4)
    found = grams_of_layers(Mixture(), ["experts.0", "experts.1"], x)
    assert [g.positions for g in found.values()] == [int((x[:, 0] <= 0).sum()), int((x[:, 0] > 0).sum())]
    with pytest.raises(InputError, match=r"'experts\.2' is never called"):
        gram_of_layer(Mixture(), "experts.2", x)


def test_checkpointed_and_compiled_models_are_read_as_written():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    plain = nn.Sequential(Block(), nn.Linear(4, 2))
    x = torch.randn(6, 4)
    expected = gram_of_layer(plain, "1", x).grams[0].matrix
    compiled = torch.compile(plain, backend="eager")
    compiled(x)
    assert layer_names(compiled) == ["0.inner", "1"]
    for name in ("1", "_orig_mod.1"):
        np.testing.assert_array_equal(gram_of_layer(compiled, name, x).grams[0].matrix, expected)
    parts = nn.Sequential(torch.compile(plain[0], backend="eager"), plain[1])
    parts(x)
    assert gram_of_layer(parts, "0.inner", x).positions == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_in_words():
    with pytest.raises(InputError, match="TorchScript"):
        find_layer(torch.jit.script(nn.Linear(2, 2)), "")


def test_layers_by_pattern():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Conv1d(1, 2, 3))
    assert layer_sizes(model) == [("0", "Linear 2->3", 6), ("2", "Conv1d 1->2, kernel 3", 6)]
    assert select_layers(model, ["2", "*"]) == ["2", "0"]
    with pytest.raises(InputError, match="No layer is called like 'x\\*'"):
        select_layers(model, ["x*"])


# ------------------------------------------------------------------- the libraries, where they are


PACKAGES = Path("/tmp/pkgs")


@pytest.fixture
def transformers(monkeypatch):
    """The package, wherever it is."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if PACKAGES.is_dir():
        monkeypatch.setattr(sys, "path", [*sys.path, str(PACKAGES)])
    pytest.importorskip("transformers")
    return importlib.import_module("transformers")


def test_an_encoder_of_transformers(transformers):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
    )
    model = transformers.BertModel(config).double()
    data = {"input_ids": IDS, "attention_mask": MASK}
    names = ["encoder.layer.1.attention.self.query", "encoder.layer.1.output.dense"]
    found = grams_of_layers(model, names, data)
    for name in names:
        expected, count = real_tokens(model, name)
        assert found[name].positions == count
        np.testing.assert_allclose(found[name].grams[0].matrix, expected, rtol=1e-12, atol=1e-13)


def test_an_encoder_in_single_precision_has_the_gram_of_its_own_real_rows(transformers):
    """Sums are exact to 1e-12 on what the layer was given; what it was given the model rounds to float32."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    model = transformers.BertModel(config).eval()
    lengths = torch.tensor([3, 17, 9, 30, 24, 1])
    ids, mask = torch.randint(1, 50, (6, 30)), (torch.arange(30) < lengths[:, None]).long()
    batches = [{"input_ids": ids[i : i + 2], "attention_mask": mask[i : i + 2]} for i in (0, 2, 4)]
    alone = [{"input_ids": row[:n][None]} for row, n in zip(ids, lengths, strict=True)]
    for name in ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense"):
        rows, kept = [], []
        layer = model.get_submodule(name)
        handle = layer.register_forward_pre_hook(lambda _, args, rows=rows: rows.append(args[0]))
        with torch.no_grad():
            for batch in batches:
                model(**batch)
                kept.append(rows.pop()[batch["attention_mask"] > 0].double())
        handle.remove()
        own = torch.cat(kept)
        expected = (own.T @ own / len(own)).numpy()
        found = gram_of_layer(model, name, batches)
        assert found.positions == int(lengths.sum()) == len(own)
        np.testing.assert_allclose(found.grams[0].matrix, expected, rtol=1e-12, atol=1e-12 * expected.max())
        single = gram_of_layer(model, name, alone).grams[0].matrix
        assert np.abs(single - expected).max() < 1e-5 * expected.max()
        double = [gram_of_layer(model.double(), name, each).grams[0].matrix for each in (batches, alone)]
        model.float()
        np.testing.assert_allclose(double[0], double[1], rtol=1e-12, atol=1e-12 * expected.max())


def test_gpt2_of_transformers(transformers):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).double()
    names = select_layers(model, ["*.c_attn", "*.mlp.c_proj"])
    found = grams_of_layers(model, names, {"input_ids": IDS, "attention_mask": MASK, "labels": IDS})
    assert find_layer(model, names[0]).weight.shape == (24, 8)
    for name in names:
        expected, count = real_tokens(model, name)
        assert found[name].positions == count
        np.testing.assert_allclose(found[name].grams[0].matrix, expected, rtol=1e-12, atol=1e-13)


def test_t5_of_transformers(transformers):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=9, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    names = [
        "encoder.block.0.layer.0.SelfAttention.q",
        "decoder.block.0.layer.1.EncDecAttention.k",
        "lm_head",
    ]
    data = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.ones(3, 2, dtype=torch.long)}
    found = grams_of_layers(model, names, data)
    assert [found[name].positions for name in names] == [9, 9, 6]


class Turned(Encoder):
    """Positions before samples inside, with no attention of torch's own to say so; a gate a head."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(2, 3).double()

    def forward(self, input_ids=None, attention_mask=None):
        x = self.embed(input_ids)
        self.query(x.transpose(0, 1))
        self.key(x)
        self.gate(x.unflatten(-1, (4, 2)).transpose(1, 2))  # (samples, heads, positions, 2)


@pytest.mark.parametrize("listed", [False, True])
def test_as_many_samples_as_positions_do_not_turn_a_mask(listed):
    ids = torch.cat([IDS, IDS[1:2]])
    data = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    found = grams_of_layers(Turned(), ["query", "key"], [data] if listed else data)
    assert any("do not fit the positions of layer 'query'" in note for note in found["query"].notes)
    assert found["query"].positions == 16
    rows = Turned().embed(ids[ids > 0]).detach()
    assert found["key"].notes == ()
    np.testing.assert_allclose(found["key"].grams[0].matrix, (rows.T @ rows / len(rows)).numpy(), atol=1e-15)


def test_as_many_heads_as_positions_are_told():
    data = {"input_ids": IDS, "attention_mask": MASK}
    found = gram_of_layer(Turned(), "gate", data)
    assert found.positions == 48
    assert any("do not fit the positions of layer 'gate'" in note for note in found.notes)
    fewer = {name: value[:, :3] for name, value in data.items()}
    found = gram_of_layer(Turned(), "gate", fewer)
    assert (found.positions, found.notes) == (4 * int(MASK[:, :3].sum()), ())


def test_a_forward_of_an_attentions_own_stays():
    model = nn.Module()
    model.attn = nn.MultiheadAttention(4, 2, batch_first=True).double()
    model.forward = lambda x: model.attn(x, x, x)[0]
    model.attn.forward = own = model.attn.forward
    gram_of_layer(model, "attn.out_proj", torch.randn(2, 3, 4, dtype=torch.float64))
    assert vars(model.attn)["forward"] is own
