"""Models by name: the embedded one, one's own, and files that do not fit or cannot be trusted."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from pvqbounds.errors import InputError
from pvqbounds.nn import embedded, gram_of_layer, layer_names, load_model
from pvqbounds.nn.calibration import DataOptions, read_data, with_labels

OWN = """
import torch
calls = []
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
class Zoo:
    small = make
class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
def fails():
    raise ValueError("no such\\ntrick.")
def leaves():
    raise SystemExit(3)
def not_a_module():
    return 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a module of one's own and an input file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "unreadable.py").write_text("def make(:")
    np.save("inputs.npy", np.ones((4, 3), dtype=np.float32))
    return tmp_path


def test_the_embedded_network_knows_its_digits():
    loaded = load_model("digits")
    assert loaded.name == "digits"
    assert loaded.data.shape == (256, 1, 8, 8)
    assert float(loaded.data.min()) == 0.0
    assert float(loaded.data.max()) == 1.0
    assert layer_names(loaded.module) == ["block1.0", "block2.0", "block3.0", "block4.0", "block5.0", "head"]
    with np.load(Path(embedded.__path__[0]) / "digits_images.npz") as images, torch.no_grad():
        scores = loaded.module(torch.from_numpy(images["test"]).float().div(16).unsqueeze(1))
        assert (scores.argmax(1).numpy() == images["test_labels"]).mean() > 0.97


def test_a_model_of_ones_own(folder):
    loaded = load_model("own_models:make", data=Path("inputs.npy"))
    assert isinstance(loaded.module, nn.Sequential)
    assert loaded.data.shape == (4, 3)
    assert isinstance(load_model("own_models:Zoo.small", data=Path("inputs.npy")).module, nn.Sequential)


def test_weights_from_safetensors(folder):
    other = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    save_model(other, "w.safetensors")
    loaded = load_model("own_models:make", Path("w.safetensors"), Path("inputs.npy"))
    assert torch.equal(loaded.module[0].weight, other[0].weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("resnet19", "did you mean 'resnet18'"),
        ("", "There is no model ''"),
        ("digits:", "There is no model"),
        (":make", "There is no model"),
        ("own_models:nothing", "cannot be found .*nothing"),
        ("no_such_package:make", "cannot be found .*no_such_package"),
        ("own_models:fails", r"cannot be built \(ValueError: no such trick\)"),
        ("own_models:leaves", r"cannot be built \(SystemExit: 3\)"),
        ("unreadable:make", r"cannot be found \(SyntaxError: "),
        ("../own_models:make", r"cannot be found \(TypeError: "),
        ("own_models:not_a_module", "must return a torch.nn.Module, not a int"),
    ],
)
def test_names_that_lead_nowhere(folder, name, message):
    with pytest.raises(InputError, match=message) as caught:
        load_model(name, data=Path("inputs.npy"))
    assert "\n" not in str(caught.value)


def test_a_model_without_data(folder):
    with pytest.raises(InputError, match="comes without data"):
        load_model("own_models:make")


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_data_files(folder, suffix):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    path = folder / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, x)
    elif suffix == "npz":
        np.savez(path, inputs=x, labels=np.zeros(4))
    else:
        save_file({"images": torch.from_numpy(x)}, path)
    np.testing.assert_array_equal(load_model("digits", data=path).data.numpy(), x)


def test_one_array_by_the_name_of_another_input_is_not_the_first(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x, attention_mask=None):
            return self.fc(x)

    np.savez("mask.npz", attention_mask=np.ones((2, 3), dtype=np.float32))
    data = read_data(Path("mask.npz"), Model(), DataOptions())
    with pytest.raises(InputError, match=r"cannot run .* missing 1 required positional argument: 'x'"):
        gram_of_layer(Model(), "fc", data)
    np.savez("any.npz", pictures=np.ones((2, 3), dtype=np.float32))
    assert gram_of_layer(Model(), "fc", read_data(Path("any.npz"), Model(), DataOptions())).positions == 2


def test_an_array_of_one_number_is_no_data(folder):
    np.save("one.npy", np.array(3.0))
    loaded = load_model("own_models:make", data=Path("one.npy"))
    with pytest.raises(InputError, match="are one number"):
        gram_of_layer(loaded.module, "0", loaded.data)


@pytest.mark.parametrize("samples", [None, 2])
def test_a_position_mask_of_one_number_is_no_mask(folder, samples):
    np.save("mask.npy", np.array(1.0))
    options = DataOptions(position_mask=Path("mask.npy"), samples=samples)
    loaded = load_model("own_models:make", data=Path("inputs.npy"), options=options)
    with pytest.raises(InputError, match="but 'position_mask' is one number"):
        gram_of_layer(loaded.module, "0", loaded.data)


@pytest.mark.parametrize("arrays", [{"labels": 3.0}, {"labels": [0.0, 1.0], "input": 3.0}])
def test_inputs_and_labels_of_one_number(folder, arrays):
    """They are left for whoever takes batches, and refused there."""
    held = {"input": np.ones((2, 3), dtype=np.float32)} | {name: np.array(v) for name, v in arrays.items()}
    np.savez("x.npz", **held)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    data = with_labels(read_data(Path("x.npz"), module, DataOptions()), Path("x.npz"), module)
    assert data["labels"].shape == held["labels"].shape
    with pytest.raises(
        InputError, match=r"samples along their first axis, but '(labels|input)' is one number"
    ):
        gram_of_layer(module, "0", data)


def test_a_position_mask_without_data_is_not_dropped(folder):
    options = DataOptions(position_mask=Path("mask.npy"))
    with pytest.raises(InputError, match="belongs to calibration data"):
        load_model("digits", options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (DataOptions(samples=5), "A number of samples"),
        (DataOptions(samples=-5), "A number of samples"),
        (DataOptions(max_tokens=3), "A number of tokens"),
        (DataOptions(tokenizer=Path("none.json")), "A tokenizer"),
    ],
)
@pytest.mark.parametrize("name", ["digits", "own_models:make"])
def test_what_says_how_data_are_read_needs_data(folder, options, words, name):
    with pytest.raises(InputError, match=f"{words} belongs to calibration data in a file"):
        load_model(name, options=options, needs_data=False)


def test_data_that_are_held_out_are_read_as_said(folder):
    options = DataOptions(samples=3, seed=7)
    loaded = load_model("digits", held_out=Path("inputs.npy"), options=options)
    assert len(loaded.held_out) == 3
    assert len(loaded.data) == 256
    assert len(load_model("digits", options=DataOptions(seed=7)).data) == 256
    with pytest.raises(InputError, match="A position mask belongs"):
        load_model("digits", held_out=Path("inputs.npy"), options=DataOptions(position_mask=Path("mask.npy")))


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return Path("exploded").touch, ()


def hostile(folder: Path, kind: str) -> Path:
    path = folder / f"x.{kind.split()[0]}"
    if kind == "npy pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "npy objects":
        np.save(path, np.array([Bomb()]), allow_pickle=True)
    elif kind == "npz objects":
        np.savez(path, allow_pickle=True, inputs=np.array([Bomb()]))
    elif kind == "npz several":
        np.savez(path, a=np.ones(2), b=np.ones(2))
    elif kind == "npy text":
        np.save(path, np.array(["a"]))
    elif kind == "npy huge":  # announces 8 TB
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
            )
    elif kind.endswith("empty"):
        path.write_bytes(b"")
    elif kind == "safetensors header":
        path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("npy pickle", "damaged, or not a .npy"),
        ("npy objects", "damaged, or not a .npy"),
        ("npz objects", "pickled objects"),
        ("npz several", "does not fit the model: The data hold 'a'"),
        ("npy text", "real numbers"),
        ("npy huge", "damaged, or not"),
        ("npy empty", "damaged, or not"),
        ("npz empty", "damaged or not"),
        ("safetensors empty", "damaged or not"),
        ("safetensors header", "damaged or not"),
        ("npy missing", "There is no file"),
        ("pt file", "read from .npy or .npz or .safetensors or .txt files"),
    ],
)
def test_hostile_data_files(folder, kind, message):
    with pytest.raises(InputError, match=message):
        load_model("digits", data=hostile(folder, kind))
    assert not (folder / "exploded").exists()


def test_weights_that_do_not_fit(folder):
    def load(tensors):
        save_file(tensors, "w.safetensors")
        return load_model("own_models:make", Path("w.safetensors"), Path("inputs.npy"))

    good = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).state_dict()
    with pytest.raises(InputError, match=r"lacks '0.bias'"):
        load({name: tensor for name, tensor in good.items() if name != "0.bias"})
    with pytest.raises(InputError, match="unlike the model, 'more'"):
        load(good | {"more": torch.zeros(1)})
    with pytest.raises(InputError, match="does not hold the weights") as caught:
        load(good | {"0.weight": torch.zeros(5, 5)})
    assert "\n" not in str(caught.value)


def test_tied_weights_under_one_name_or_both(folder):
    w = torch.randn(5, 3)
    for names in (["head.weight"], ["embedding.weight"], ["head.weight", "embedding.weight"]):
        save_file({name: w.clone() for name in names}, "w.safetensors")
        module = load_model("own_models:Tied", Path("w.safetensors"), Path("inputs.npy")).module
        assert torch.equal(module.head.weight, w)
        assert module.head.weight is module.embedding.weight
    save_file({"head.weight": w, "embedding.weight": w + 1}, "w.safetensors")
    with pytest.raises(InputError, match=r"one tensor of the model, but .* holds two that differ"):
        load_model("own_models:Tied", Path("w.safetensors"), Path("inputs.npy"))
    save_file({"other": w}, "w.safetensors")
    with pytest.raises(InputError, match=r"lacks 'embedding.weight' and 1 more"):
        load_model("own_models:Tied", Path("w.safetensors"), Path("inputs.npy"))


GOOD = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).state_dict()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {f"module.{n}": t for n, t in GOOD.items()},
            "names begin with 'module[.]', which the model's do not",
        ),
        ({f"_orig_mod.{n}": t for n, t in GOOD.items()}, "begin with '_orig_mod.'"),
        ({f"model.net.{n}": t for n, t in GOOD.items()}, "begin with 'model.net.'"),
        (GOOD | {"0.weight": torch.ones(2, 3, dtype=torch.int8)}, "holds int8 where the model has floating"),
        (
            GOOD
            | {"0.weight": torch.ones(2, 3).to(torch.float8_e4m3fn), "0.weight_scale_inv": torch.ones(1)},
            "plain weights: '0.weight_scale_inv' holds scales",
        ),
        (
            {"0.qweight": torch.ones(1, 2, dtype=torch.int32), "0.scales": torch.ones(2)},
            "quantized '0.qweight'",
        ),
        ({"0.lora_A.weight": torch.ones(1, 3)}, "LoRA"),
    ],
)
def test_files_of_another_kind_of_weights_say_what_they_are(folder, tensors, message):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, "w.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        load_model("own_models:make", Path("w.safetensors"), Path("inputs.npy"))
    assert "\n" not in str(caught.value)


def test_the_models_own_prefix_is_named(folder):
    (folder / "wrapped_models.py").write_text(
        "import torch\nfrom own_models import make\n"
        "def make_wrapped():\n    return torch.nn.ModuleDict({'module': make()})\n"
    )
    save_file(GOOD, "w.safetensors")
    with pytest.raises(InputError, match=r"the model's names begin with 'module\.', which the file's do not"):
        load_model("wrapped_models:make_wrapped", Path("w.safetensors"), Path("inputs.npy"))


def test_whose_weights_they_are_is_noted(folder):
    assert "own_models:make was built with" in load_model("own_models:make", data=Path("inputs.npy")).note
    save_file(GOOD, "w.safetensors")
    assert load_model("own_models:make", Path("w.safetensors"), Path("inputs.npy")).note == ""
    assert load_model("digits").note == ""


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input_ids": np.ones(2), "attention_mask": np.ones(2)}, "hold '(input_ids|attention_mask)'"),
        ({"inputs": np.ones(2), "key_padding_mask": np.ones(2)}, "hold 'key_padding_mask'"),
        ({"inputs": np.ones(2), "token_type_ids": np.ones(2)}, "hold 'token_type_ids'"),
    ],
)
def test_a_mask_in_a_data_file_is_not_dropped(folder, arrays, message):
    np.savez("x.npz", **arrays)
    save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, "x.safetensors")
    for suffix in ("npz", "safetensors"):
        with pytest.raises(InputError, match=message):
            load_model("digits", data=Path(f"x.{suffix}"))


@pytest.mark.parametrize(
    "kind", ["safetensors empty", "safetensors header", "safetensors missing", "pt file"]
)
def test_weight_files_that_cannot_be_read(folder, kind):
    with pytest.raises(InputError):
        load_model("own_models:make", hostile(folder, kind), Path("inputs.npy"))


def test_inputs_by_name_from_a_file(folder):
    (folder / "named_models.py").write_text(
        "import torch\nclass Two(torch.nn.Linear):\n"
        "    def forward(self, ids, attention_mask=None):\n        return super().forward(ids)\n"
        "def make():\n    return Two(3, 2)\n"
    )
    x, mask = np.ones((4, 3), dtype=np.float32), np.ones(4)
    np.savez("x.npz", ids=x, attention_mask=mask, label=np.zeros(4))
    data = load_model("named_models:make", data=Path("x.npz")).data
    assert sorted(data) == ["attention_mask", "ids"]
    np.savez("y.npz", inputs=x, attention_mask=mask)
    options = DataOptions(samples=2)
    data = load_model("named_models:make", data=Path("y.npz"), options=options).data
    assert sorted(data) == ["attention_mask", "ids"]
    assert len(data["ids"]) == 2
    np.save("x.npy", x)
    np.save("mask.npy", mask)
    options = DataOptions(position_mask=Path("mask.npy"))
    data = load_model("named_models:make", data=Path("x.npy"), options=options).data
    assert sorted(data) == ["ids", "position_mask"]


@pytest.mark.parametrize("kind", ["pt", "bin", "safetensors", "parts", "torch parts", "checkpoint"])
def test_weights_of_every_kind(folder, kind):
    path = folder / f"w.{kind}"
    first = {name: tensor for name, tensor in GOOD.items() if name.startswith("0")}
    parts = (first, {name: tensor for name, tensor in GOOD.items() if name not in first})
    if kind in ("pt", "bin"):
        torch.save(GOOD, path)
    elif kind == "checkpoint":
        path = path.with_suffix(".ckpt")
        torch.save({"state_dict": dict(GOOD), "epoch": 3}, path)
    elif kind == "safetensors":
        save_file(GOOD, path)
    else:
        path.mkdir()
        end, save, index = (
            ("safetensors", save_file, "model.safetensors.index.json")
            if kind == "parts"
            else ("bin", torch.save, "pytorch_model.bin.index.json")
        )
        places = {name: f"{i}.{end}" for i, part in enumerate(parts) for name in part}
        for i, part in enumerate(parts):
            save(part, path / f"{i}.{end}")
        (path / index).write_text(json.dumps({"weight_map": places}))
    module = load_model("own_models:make", path, Path("inputs.npy")).module
    assert all(torch.equal(tensor, GOOD[name]) for name, tensor in module.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_no_weights_are(folder):
    def refused(path, words):
        with pytest.raises(InputError, match=words):
            load_model("own_models:make", path, Path("inputs.npy"))

    torch.save({"0.weight": Bomb()}, "bomb.pt")
    refused(Path("bomb.pt"), "more than tensors, which is never unpickled")
    assert not (folder / "exploded").exists()
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), "script.pt")
    refused(Path("script.pt"), "is TorchScript, whose code is not run")
    torch.save([1, 2], "list.pt")
    refused(Path("list.pt"), "must hold a state dictionary")
    (folder / "parts").mkdir()
    refused(Path("parts"), "holds no weights")
    index = folder / "parts" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"0.weight": "../w.safetensors"}}))
    refused(Path("parts"), "no file of its own folder")
    save_file(GOOD, folder / "parts" / "a.safetensors")
    index.write_text(json.dumps({"weight_map": {"other": "a.safetensors"}}))
    refused(Path("parts"), "names 'other' in a.safetensors, which lacks it")
    index.write_text("{}")
    refused(Path("parts"), "no index of weights")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_factory_of_torchscript_is_refused(folder):
    (folder / "script_models.py").write_text(
        "import torch\ndef make():\n    return torch.jit.script(torch.nn.Linear(2, 2))\n"
    )
    with pytest.raises(InputError, match="returns TorchScript"):
        load_model("script_models:make", data=Path("inputs.npy"))


def test_images_of_a_folder(folder):
    image = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(3):
            image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "images" / label / f"{number}.png")
    grey = np.full((30, 40), 65535, dtype=np.uint16)
    image.fromarray(grey).save(folder / "images" / "cat" / "deep.png")
    options = DataOptions(samples=7)
    loaded = load_model("own_models:make", data=folder / "images", options=options)
    for _ in range(2):  # they may be gone through again
        batches = list(loaded.data)
        assert sum(map(len, batches)) == 7
        assert batches[0].shape[1:] == (3, 224, 224)
    white = (1.0 - 0.485) / 0.229
    assert max(float(batch[:, 0].max()) for batch in batches) == pytest.approx(white, rel=1e-5)
    (folder / "images" / "cat" / "deep.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"deep\.png cannot be decoded"):
        list(loaded.data)


def test_text_needs_a_tokenizer(folder):
    (folder / "t.txt").write_text("hello world\n")
    with pytest.raises(InputError, match="which a tokenizer has to read"):
        load_model("own_models:make", data=Path("t.txt"))
    options = DataOptions(tokenizer=Path("none.json"))
    with pytest.raises(InputError, match=r"no tokenizer none\.json"):
        load_model("own_models:make", data=Path("t.txt"), options=options)


# ------------------------------------------------------------------- the libraries, where they are

PACKAGES = Path("/tmp/pkgs")


@pytest.fixture
def packages(monkeypatch):
    """Packages that lie beside the environment, if any do."""
    if PACKAGES.is_dir():
        monkeypatch.setattr(sys, "path", [*sys.path, str(PACKAGES)])


def test_text_in_pieces_with_masks(folder, packages):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"[UNK]": 1, "a": 2, "b": 3}, "[UNK]")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "t.txt").write_text("a b a b a\n\nb\na c\n")
    options = DataOptions(tokenizer=folder, max_tokens=3)
    (batch,) = load_model("own_models:make", data=Path("t.txt"), options=options).data
    assert sorted(map(tuple, batch["input_ids"].tolist())) == [(2, 1, 0), (2, 3, 2), (3, 0, 0), (3, 2, 0)]
    assert torch.equal(batch["attention_mask"], (batch["input_ids"] > 0).long())


def test_a_folder_of_transformers(folder, packages):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).to(torch.bfloat16)
    model.save_pretrained(folder / "gpt")
    np.savez("x.npz", input_ids=np.ones((2, 3), dtype=np.int64), attention_mask=np.ones((2, 3)))
    loaded = load_model(str(folder / "gpt"), data=Path("x.npz"))
    assert loaded.name == "gpt"
    assert loaded.note == ""
    weight = loaded.module.transformer.h[0].attn.c_attn.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.transformer.h[0].attn.c_attn.weight.float())
    (folder / "gpt" / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    with pytest.raises(InputError, match="no model 'NoSuchModel'"):
        load_model(str(folder / "gpt"), data=Path("x.npz"))


@pytest.mark.parametrize("named", ["AutoModel", "BertTokenizer", "BertConfig", "os"])
def test_a_folder_that_brings_code_is_not_asked_to_run_it(folder, packages, monkeypatch, named):
    pytest.importorskip("transformers")
    (folder / "evil").mkdir()
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    config = {"architectures": [named], "model_type": "evil", "auto_map": classes}
    (folder / "evil" / "config.json").write_text(json.dumps(config))
    (folder / "evil" / "code.py").write_text("from pathlib import Path; Path('exploded').touch()")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what anything that asks would be told
    with pytest.raises(InputError, match=f"no model '{named}'"):
        load_model(str(folder / "evil"))
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize(
    ("blocked", "use", "message"),
    [
        ("torch", "pvqbounds.nn.load_model", r"needs PyTorch .*pvqbounds\[nn\]"),
        ("safetensors", "pvqbounds.nn.load_model('digits')", r"needs safetensors .*pvqbounds\[nn\]"),
        ("torchvision", "pvqbounds.nn.load_model('resnet18')", "needs torchvision .*pip install torchvision"),
    ],
)
def test_missing_packages(blocked, use, message):
    code = (
        f"import sys; sys.modules[{blocked!r}] = None\n"
        "import pvqbounds.nn\n"
        "assert 'torch' not in sys.modules or sys.modules['torch'] is None\n"
        "from pvqbounds.errors import InputError\n"
        f"try: {use}\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.search(message, done.stdout)
