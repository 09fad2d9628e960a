"""How the picture attends to itself, by the pack and from the whole matrix: some cells' rows, and their gradient."""

import torch

SELF = frozenset({"self_rows"})


def cells_of(grid):
    """Some cells of both images: corners, one twice, one from the middle."""
    h, w = grid
    return torch.tensor([[0, w - 1, h // 2 * w + w // 2, 3, 3], [h * w - 1, 1, w, 2, h * w - w]])


def functional(maps):
    """A fixed random number made of all of them, with a gradient of ordinary size."""
    return (maps * torch.randn(maps.shape, generator=torch.Generator().manual_seed(7))).sum() * 100


def rows(attention, grid):
    return attention.self_rows(cells_of(grid))


def naive_rows(run, chosen, fine, grid):
    found = [one.image.gather(1, cells_of(grid)[..., None].expand(-1, -1, one.image.shape[2])) for one in chosen]
    return (sum(found) / len(found)).unflatten(2, grid)


def agree(found, wanted):
    assert found[0].shape == wanted[0].shape
    assert float((found[0] - wanted[0]).abs().max()) <= 1e-5
    assert float((found[1] - wanted[1]).norm() / wanted[1].norm()) <= 1e-5
