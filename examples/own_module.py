"""Bounds for a layer of one's own torch.nn.Module: 4 bits against a quarter of the weights."""

import torch
from torch import nn

from pvqbounds.nn import layer_bounds, load_model


class Autoencoder(nn.Module):
    """Squeezes an 8x8 image through 16 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU())
        self.decoder = nn.Linear(16, 64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the pixels back, shape (batch, 64)."""
        return self.decoder(self.encoder(images))


images = load_model("digits").data  # any tensor, or any iterable of batches such as a DataLoader
torch.manual_seed(0)
model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(300):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(images), images.flatten(1)).backward()
    optimizer.step()

report = layer_bounds(model, "decoder", images, formats=["int4", "25%", "2:4"])
print(f"{report.layer}: {report.description}, {report.positions} positions")
for side in report.sides:
    low, high = side.sqnr_interval
    print(f"{side.format:6s} best SQNR {low:6.2f} .. {high:6.2f} dB ({side.status}, {side.lower_kind})")
    for name in side.methods:
        print(f"{'':6s} {name:15s} {side.method_sqnr(name):6.2f} dB")
for better, worse in report.verdict:
    print(f"provably better: {better} than {worse}")
