import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from volo.token_label.sampling import sample_cells

NO_FRAMES = np.empty((1, 0, 3, 3))


def crop(left, top, width, height):
    return np.array([[width, 0, left], [0, height, top], [0, 0, 1.0]])


def turn(degrees, zoom=1.0):
    """Turn about the middle; a zoom above 1 shows more than the image."""
    a = np.deg2rad(degrees)
    turned = zoom * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turned
    matrix[:2, 2] = 0.5 - turned @ [0.5, 0.5]
    return matrix


SHEAR = np.array([[0.5, 0.3, 0.1], [-0.2, 0.7, 0.25], [0, 0, 1]])
MIRROR = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])


def dense(matrices, frames, grid, map_size):
    """The weights of all cells of the map, (B, R * C, h * w)."""
    cells, weights = sample_cells(matrices, frames, grid, map_size)
    shape = (*cells.shape[:2], map_size[0] * map_size[1])
    return torch.zeros(shape).scatter_add_(2, cells, weights)


def by_brute_force(matrix, frames, grid, map_size):
    """Every sample point of every token on its own, through grid_sample."""
    height, width = map_size
    edges = matrix[:2, :2] * [[width], [height]] / [grid[1], grid[0]]
    right, down = np.ceil(np.linalg.norm(edges, axis=0) - 1e-4).clip(1).astype(int)
    unit = torch.eye(height * width).view(1, -1, height, width)
    expected = torch.zeros(grid[0] * grid[1], height * width)
    for token, (row, column) in enumerate(np.ndindex(grid)):
        for j, i in np.ndindex(down, right):
            u = (column + (i + 0.5) / right) / grid[1]
            v = (row + (j + 0.5) / down) / grid[0]
            seen = [(frame @ [u, v, 1])[:2] for frame in frames]
            x, y = (matrix @ [u, v, 1])[:2]
            beyond = max(-x * width, (x - 1) * width, -y * height, (y - 1) * height)
            if beyond > 0.5 or any(p.min() < 0 or p.max() > 1 for p in seen):
                continue
            point = torch.tensor([[[[2 * x - 1, 2 * y - 1]]]]).float()
            found = F.grid_sample(
                unit, point, padding_mode='border', align_corners=False
            )
            expected[token] += found.flatten() / (right * down)
    return expected


@pytest.mark.parametrize('grid', [(1, 1), (3, 5), (9, 20)])
@pytest.mark.parametrize(
    'box', [(0.13, 0.4, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0), (0.7, 0.01, 0.12, 0.9)]
)
def test_weights_of_cells_are_roi_aligns(box, grid):
    # One cell at a time: a map of unit vectors shows the weights.
    found = dense(crop(*box)[None], NO_FRAMES, grid, (6, 9))[0]
    unit = torch.eye(54).view(1, 54, 6, 9)
    left, top, width, height = box
    region = torch.tensor(
        [[0.0, left * 9, top * 6, (left + width) * 9, (top + height) * 6]]
    )
    region[:, 1:] -= 0.5
    expected = roi_align(unit, region, grid)[0].flatten(1).T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    'matrix',
    [turn(30), turn(77, 1.6), turn(200, 0.3), SHEAR, MIRROR, MIRROR @ turn(90)],
    ids=['turned', 'zoomed out', 'zoomed in', 'sheared', 'mirrored', 'transposed'],
)
@pytest.mark.parametrize('framed', [False, True])
@pytest.mark.parametrize('map_size', [(6, 9), (1, 2)])
def test_weights_of_any_affine_map(matrix, framed, map_size):
    # A frame that is none of the edges of the map.
    frames = np.array([crop(0.2, -0.1, 0.9, 1.0)] if framed else []).reshape(-1, 3, 3)
    found = dense(matrix[None], frames[None], (2, 3), map_size)[0]
    expected = by_brute_force(matrix, frames, (2, 3), map_size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('matrix', [turn(30, 0.6), SHEAR, crop(0.2, 0.3, 0.5, 0.4)])
def test_the_mean_lies_in_the_middle_of_the_token(matrix):
    """A map that rises evenly has the value of a token's middle as its mean."""
    weights = dense(matrix[None], NO_FRAMES, (3, 4), (20, 30))[0].view(12, 20, 30)
    x = (weights.sum(1) * (torch.arange(30) + 0.5) / 30).sum(1)
    y = (weights.sum(2) * (torch.arange(20) + 0.5) / 20).sum(1)
    rows, columns = np.indices((3, 4)).reshape(2, -1)
    middles = matrix @ [(columns + 0.5) / 4, (rows + 0.5) / 3, np.ones(12)]
    np.testing.assert_allclose(torch.stack([x, y]), middles[:2], atol=1e-5)


def test_images_of_a_batch_are_independent():
    matrices = np.stack([turn(30), crop(0.4, 0.4, 0.1, 0.1), turn(5, 1.8)])
    frames = np.stack([np.eye(3), crop(0.5, 0, 1, 1), np.eye(3)])[:, None]
    together = dense(matrices, frames, (4, 3), (7, 8))
    for i in range(3):
        alone = dense(matrices[i, None], frames[i, None], (4, 3), (7, 8))
        torch.testing.assert_close(together[i], alone[0], atol=1e-6, rtol=1e-5)


def test_points_outside_have_no_weight():
    # The right half of the image lies to the left of the frame.
    turned = np.eye(3)[None]
    frame = np.eye(3)[None, None].copy()
    frame[..., 0, 2] = 0.5
    _, weights = sample_cells(turned, frame, (4, 4), (8, 8))
    total = weights.sum(-1).view(4, 4)
    torch.testing.assert_close(total, torch.tensor([[1.0, 1, 0, 0]]).expand(4, 4))
    away = np.array([[[1, 0, 2], [0, 1, 0], [0, 0, 1]]])
    assert sample_cells(away, NO_FRAMES, (4, 4), (8, 8))[1].sum() == 0


@pytest.mark.parametrize('degrees, zoom', [(0, 1.25), (30, 1.0), (45, 1.5)])
def test_weights_sum_to_the_share_that_shows_the_image(degrees, zoom):
    matrix = turn(degrees, zoom)
    total = dense(matrix[None], matrix[None, None], (4, 4), (64, 64))[0].sum(1)
    # 200 x 200 points a token, for its part by area.
    side = (np.arange(800) + 0.5) / 800
    u, v = np.meshgrid(side, side)
    points = (matrix @ [u.ravel(), v.ravel(), np.ones(u.size)])[:2]
    inside = ((points >= 0) & (points <= 1)).all(0).reshape(4, 200, 4, 200)
    area = inside.mean((1, 3)).ravel()
    assert area.min() < 0.9
    np.testing.assert_allclose(total, area, atol=0.03)


def test_edge_cells_extend_half_a_cell():
    # Four cells, and tokens of a quarter of a cell on the left of them.
    matrix = crop(-0.25, 0, 0.25, 1)[None]
    total = dense(matrix, NO_FRAMES, (1, 4), (1, 4))[0]
    expected = torch.zeros(4, 4)
    expected[2:, 0] = 1
    torch.testing.assert_close(total, expected)
