"""Directories in ImageNet's layout, good and bad, and the embedded digits."""

from __future__ import annotations

import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("lightning_fabric")

from train_helpers import few_digits, recipe, tiny  # noqa: E402

from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.nn.images import centre_crop, decode  # noqa: E402
from pvqbounds.train.data import Corrupt, calibration_batches, check_head, digits_data, image_data  # noqa: E402
from pvqbounds.train.fit import fine_tune  # noqa: E402
from pvqbounds.train.images import random_box, random_crop  # noqa: E402
from pvqbounds.train.network_reconstruction import reconstruct_network  # noqa: E402
from pvqbounds.train.presets import Quantization  # noqa: E402


class Colours(torch.nn.Module):
    """Three classes of coloured images."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.head = torch.nn.Linear(4, classes)

    def forward(self, images):
        return self.head(torch.relu(self.conv(images)).mean((2, 3)))


@pytest.fixture
def root(tmp_path):
    """Four images of each of three classes to train on, two to test on."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 80, (20 + k, 30, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / f"{k}.{'png' if k % 2 else 'jpg'}")
    return tmp_path


def load(root, model=None, **values):
    settings = {"image_size": 16, "interpolation": "bilinear", "calibration_images": 6, "seed": 0}
    return image_data(root, **(settings | values), model=model or Colours())


def short(**values):
    return recipe(Quantization(bits=4), batch_size=6, epochs=2, image_size=16, **values)


def test_a_directory_is_trained_on(root):
    data = load(root)
    assert data.classes == ("blue", "green", "red")
    assert [len(part) for part in (data.train, data.test, data.calibration)] == [12, 6, 6]
    assert len(set(data.calibration.__getitems__(range(6)).labels.tolist())) == 3  # evenly drawn
    torch.manual_seed(0)  # whatever has happened in between: few initial weights train badly
    trained = fine_tune(Colours(), data, recipe(Quantization(), epochs=20, batch_size=6, learning_rate=0.2))
    assert trained.accuracy_after == 1.0
    assert not trained.corrupt


def test_missing_and_empty_folders(root):
    (root / "val" / "red" / "0.jpg").unlink()
    (root / "val" / "red" / "1.png").rename(root / "val" / "red" / "notes.txt")
    with pytest.raises(InputError, match=r"val/red has no images; add some or remove"):
        load(root)
    (root / "val" / "red" / "notes.txt").unlink()
    (root / "val" / "red").rmdir()
    with pytest.raises(InputError, match="val has no folder 'red'"):
        load(root)
    with pytest.raises(InputError, match=r"no folder .*train.*looked for in"):
        load(root / "train")
    (root / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="no class folders"):
        load(root / "empty")


def test_classes_must_match_the_head(root):
    data = load(root)
    with pytest.raises(InputError, match="3 classes, but the model's head has 5 outputs"):
        check_head(Colours(5), data)
    with pytest.raises(InputError, match=r"cannot run on images of shape \(3, 16, 16\)"):
        check_head(tiny(), data)
    check_head(tiny(), few_digits())


def test_corrupt_images_are_named_counted_and_left_out_only_when_told_to(root):
    (root / "train" / "red" / "0.jpg").write_bytes(b"not an image")
    whole = (root / "train" / "blue" / "2.jpg").read_bytes()
    (root / "train" / "blue" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "val" / "green" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of the first \d+ images cannot be decoded: .*green/1.png"):
        fine_tune(Colours(), load(root), short())
    (root / "val" / "green" / "1.png").unlink()
    with pytest.raises(InputError, match=r"red/0.jpg|blue/2.jpg"):
        fine_tune(Colours(), load(root), short())
    trained = fine_tune(Colours(), load(root), short(), skip_corrupt=True)
    assert len(trained.corrupt) == 2
    assert "red/0.jpg" in "".join(trained.corrupt)
    assert "blue/2.jpg" in "".join(trained.corrupt)


def test_calibration_images_are_no_exception(root):
    for path in (root / "train" / "red").iterdir():
        path.write_bytes(b"")
    data = load(root)
    with pytest.raises(InputError, match="cannot be decoded"):
        list(calibration_batches(data)())
    noted = Corrupt(skip=True)
    assert sum(len(batch) for batch in calibration_batches(data, corrupt=noted)()) == 4
    assert len(noted.names) == 2
    with pytest.raises(InputError, match="cannot be decoded"):
        reconstruct_network(Colours(), data, short())


def test_nothing_left_to_train_on(root):
    for path in (root / "train").rglob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="None of the"):
        fine_tune(Colours(), load(root), short(), skip_corrupt=True)


def test_workers_load_the_same_images(root):
    data = load(root)
    accuracies = []
    for workers in (0, 1):
        torch.manual_seed(0)
        trained = fine_tune(Colours(), data, short(), workers=workers)
        accuracies.append(trained.accuracy_before)
    assert accuracies[0] == accuracies[1]


def test_crops(tmp_path):
    torch.manual_seed(0)
    for width, height in ((40, 30), (5, 200), (1, 1)):
        for _ in range(50):
            left, top, right, bottom = random_box(width, height)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, :32] = 255
    image = Image.fromarray(pixels)
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    centre = centre_crop(8, "nearest", **plain)(image)
    assert centre.shape == (3, 8, 8)
    assert centre[:, :, :4].eq(1).all()
    assert centre[:, :, 4:].eq(0).all()
    assert random_crop(8, "bicubic")(image).shape == (3, 8, 8)
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((4, 4), 7, dtype=np.uint8)).save(grey)
    assert decode(str(grey)).mode == "RGB"


GREY = np.linspace(0.0, 1.0, 48).reshape(6, 8)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("8.png", np.rint(GREY * 255).astype(np.uint8)),
        ("16.png", np.rint(GREY * 65535).astype(np.uint16)),
        ("16.tif", np.rint(GREY * 65535).astype(np.uint16)),
        ("16.pgm", np.rint(GREY * 65535).astype(np.uint16)),
        ("float.tif", GREY.astype(np.float32)),
    ],
)
def test_grey_levels_of_every_width_are_the_same_image(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    pixels = np.asarray(decode(str(tmp_path / name)))
    assert pixels.shape == (6, 8, 3)
    np.testing.assert_allclose(pixels[..., 0], GREY * 255, atol=0.51)


def test_twelve_bits_and_white_at_zero(tmp_path):
    # TIFF by hand: one strip of two packed 12-bit levels, 0 and 4095; then 16 bits with white at zero
    def tiff(bits, photometric, strip):
        entries = [(256, 4, 2), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
                   (273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(strip))]  # fmt: skip
        body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        start = 8 + len(strip)
        return (
            struct.pack("<2sHI", b"II", 42, start)
            + strip
            + struct.pack("<H", len(entries))
            + body
            + b"\0" * 4
        )

    path = tmp_path / "x.tif"
    path.write_bytes(tiff(12, 1, b"\x00\x0f\xff"))
    assert np.asarray(decode(str(path)))[0, :, 0].tolist() == [0, 255]
    path.write_bytes(tiff(16, 0, b"\x00\x00\xff\xff"))
    assert np.asarray(decode(str(path)))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ((GREY * 65535).astype(np.int32), "not of 16 bits a pixel"),
        ((GREY * 255).astype(np.float32), "not 0 to 1"),
        ((GREY - 0.5).astype(np.float32), "not 0 to 1"),
        (np.where(GREY > 0.5, np.nan, GREY).astype(np.float32), "not 0 to 1"),
    ],
)
def test_numbers_without_a_known_white_are_refused(tmp_path, array, words):
    Image.fromarray(array).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=words):
        decode(str(tmp_path / "x.tif"))


def test_a_timm_model_names_its_statistics(root):
    model = Colours()
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    ours, theirs = (load(root, model=m).test.__getitems__([0]).inputs for m in (Colours(), model))
    assert theirs.min() >= -1.0
    assert theirs.max() <= 1.0
    assert not torch.allclose(ours, theirs)


def test_the_digits_are_those_of_the_bounds():
    from pvqbounds.nn.models import load_model

    data = digits_data()
    assert [len(part) for part in (data.train, data.test, data.calibration)] == [1437, 360, 256]
    torch.testing.assert_close(data.calibration.__getitems__(range(256)).inputs, load_model("digits").data)
