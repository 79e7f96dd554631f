"""Train the embedded digits network and write its weights and images.

Run it as ``python -m pvqbounds.nn.embedded.train``; it needs scikit-learn, which ships the
data (the 1797 8x8 images of the UCI "Optical Recognition of Handwritten Digits" test set).
The result on a given torch version and CPU is reproducible from the seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from pvqbounds.nn.embedded.network import DigitsCNN

SEED = 0
EPOCHS = 30
BATCH_SIZE = 64
CALIBRATION_IMAGES = 256  # a random sample of the training images
FOLDER = Path(__file__).parent


def main() -> None:
    """Train, report both accuracies, write ``digits_cnn.safetensors`` and ``digits_images.npz``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.manual_seed(SEED)
    data = load_digits()
    levels = data.images.astype(np.uint8)  # grey levels 0..16, whole numbers
    train_x, test_x, train_y, test_y = train_test_split(
        levels, data.target, test_size=360, random_state=SEED, stratify=data.target
    )
    x = torch.from_numpy(train_x).float().div(16).unsqueeze(1)
    y = torch.from_numpy(train_y)
    network = DigitsCNN()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * (len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(x))[: len(x) // BATCH_SIZE * BATCH_SIZE].view(-1, BATCH_SIZE):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2d}  loss {loss.item():.4f}")

    network.eval()
    for name, images, labels in (("train", train_x, train_y), ("test", test_x, test_y)):
        with torch.no_grad():
            scores = network(torch.from_numpy(images).float().div(16).unsqueeze(1))
        accuracy = (scores.argmax(1).numpy() == labels).mean()
        print(f"{name} accuracy {accuracy:.4f}")

    save_file(network.state_dict(), FOLDER / "digits_cnn.safetensors")
    chosen = np.random.default_rng(SEED).choice(len(train_x), CALIBRATION_IMAGES, replace=False)
    np.savez_compressed(
        FOLDER / "digits_images.npz",
        train=train_x,
        train_labels=train_y.astype(np.uint8),
        calibration=np.sort(chosen),  # rows of `train`
        test=test_x,
        test_labels=test_y.astype(np.uint8),
    )


if __name__ == "__main__":
    main()
