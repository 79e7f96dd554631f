"""Models on data, with labels and without."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from pvqbounds.errors import InputError  # noqa: E402
from pvqbounds.network.evaluation import evaluated  # noqa: E402


def linear(matrix) -> nn.Linear:
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(matrix))
    return layer


ONE = linear([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
OTHER = linear([[1.0, 0.0], [0.0, -1.0], [-1.0, -1.0]])
INPUTS = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-2.0, -1.0], [1.0, 2.0]])
LABELS = [0, 1, 2, 0]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = ONE

    def forward(self, x):
        return {"logits": self.inner(x)}


def test_accuracy_and_loss_of_labels():
    found = evaluated(ONE, [(INPUTS[:3], LABELS[:3]), (INPUTS[3:], LABELS[3:])])
    scores = INPUTS.numpy() @ ONE.weight.detach().numpy().T
    loss = np.mean(np.log(np.exp(scores).sum(1)) - scores[range(4), LABELS])
    assert (found.samples, found.accuracy) == (4, 0.75)
    assert found.loss == pytest.approx(loss)
    assert found.agreement is None
    by_name = evaluated(Named(), {"x": INPUTS, "labels": torch.tensor(LABELS)}, batch_size=3)
    assert by_name.loss == pytest.approx(loss)


def test_agreement_without_labels():
    found = evaluated(OTHER, INPUTS, ONE)
    assert (found.accuracy, found.loss) == (None, None)
    # only the second score differs: 0, 3 -> -3, -1 -> 1, 2 -> -2
    assert found.agreement == 0.5
    size = float((INPUTS @ ONE.weight.detach().T).square().sum())
    assert found.output_error == pytest.approx(4 * (9 + 1 + 4) / size)
    assert evaluated(ONE, INPUTS, ONE).output_error == 0.0


def test_modes_are_restored():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model.train()
    evaluated(model, INPUTS, model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 1, 2, 7], "classes from 0 to 2"),
        ([0.0, 1.0, 2.0, 0.0], "one whole number a sample"),
        ([0, 1], "do not fit outputs"),
    ],
)
def test_labels_that_are_none(labels, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluated(ONE, [(INPUTS, torch.tensor(labels))])
