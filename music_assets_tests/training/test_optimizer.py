import pytest
import torch

from music_assets.models.registry import ARCHITECTURES, build, network_config
from music_assets.training.optimizer import Muon, build_optimizers, orthogonal, resolve_defaults
from music_assets.training.settings import TrainingSettings

SHAPES = ((24, 8), (8, 8), (8, 24), (24, 8))


def matrices():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_muon_moves_as_pytorchs_own():
    ours, theirs = matrices(), matrices()
    optimizer = Muon(ours, lr=0.01, weight_decay=0.1)
    other = torch.optim.Muon(theirs, 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        optimizer.step()
        other.step()
    for a, b, start in zip(ours, theirs, matrices(), strict=True):
        assert (a - b).norm() < 0.03 * (b - start).norm()  # both round to bfloat16, in another order


def test_orthogonal_brings_singular_values_near_one():
    x = torch.randn(5, 8, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(x))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_leaves_weights_without_a_gradient_and_refuses_vectors():
    (first, *_) = matrices()
    before = first.detach().clone()
    Muon([first], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(first, before)
    with pytest.raises(ValueError, match=r"not a weight of shape \(8,\)"):
        Muon([torch.nn.Parameter(torch.zeros(8))], lr=0.1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_weight_is_in_one_optimizer_at_the_rate_that_suits_it(architecture, name):
    network = build(network_config(architecture), 100)
    config = TrainingSettings(optimizer=name)
    groups = [group for one in build_optimizers(network, config) for group in one.param_groups]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    assert {group["lr"] for group in groups} == {resolve_defaults(config, "gpt").learning_rate}
    assert resolve_defaults(TrainingSettings(optimizer=name, learning_rate=0.5), "gpt").learning_rate == 0.5


def test_each_network_has_the_optimizer_that_suits_it():
    chosen = {
        name: resolve_defaults(TrainingSettings(), name).optimizer for name in ("gpt", "lstm", "gru", "pianoroll")
    }
    assert chosen == {"gpt": "adamw", "lstm": "muon", "gru": "muon", "pianoroll": "muon"}
    given = TrainingSettings(optimizer="muon", learning_rate=0.5)
    assert resolve_defaults(given, "gpt") == given
