import numpy as np
import torch

from volo.models.mix_token import draw_mix_mask, mix_tokens


def test_the_mask_is_a_box_of_random_size():
    np.random.seed(0)
    shares = []
    for _ in range(500):
        mask = draw_mix_mask((14, 10))
        assert mask.shape == (14, 10)
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        if len(rows):
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all() and box.sum() == mask.sum()
        shares.append(mask.float().mean().item())
    # Uniform from 0 to 1, except that edges and rounding down make boxes smaller.
    assert 0.2 < np.mean(shares) < 0.4
    assert min(shares) == 0 and max(shares) > 0.65


def test_alpha_shapes_the_shares():
    np.random.seed(0)
    few = [draw_mix_mask((14, 14), 100.0).float().mean() for _ in range(100)]
    assert max(few) < 0.65


def test_tokens_under_the_mask_come_from_the_other_sample():
    tokens = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 6, 2)
    mask = torch.tensor([[True, False, False], [False, False, True]])
    mixed = mix_tokens(tokens, mask)
    assert (mixed[0, :2, :2] == 2).all() and (mixed[0, 2:, 4:] == 2).all()
    assert (mixed[0, :2, 2:] == 0).all() and (mixed[0, 2:, :4] == 0).all()
    assert (mixed[1] == 1).all()
    assert (mixed[2, :2, :2] == 0).all()
