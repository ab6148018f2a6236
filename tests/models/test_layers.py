import pytest
import torch
import torch.nn.functional as F

from volo.models.layers import (
    Block,
    ClassBlock,
    OutlookAttention,
    SelfAttention,
    TokenLinear,
)


def test_self_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    module = SelfAttention(8, num_heads=2).double()
    x = torch.randn(2, 3, 2, 8, dtype=torch.float64)
    tokens = x.reshape(2, 6, 8)
    query, key, value = (tokens @ module.qkv.weight.T).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 4**0.5
        heads.append(scores.softmax(dim=-1) @ value[..., part])
    expected = module.proj(torch.cat(heads, dim=-1)).reshape(2, 3, 2, 8)
    torch.testing.assert_close(module(x), expected)


def test_class_block_changes_the_class_token_alone():
    torch.manual_seed(0)
    block = ClassBlock(8, num_heads=2, mlp_ratio=2)
    cls_token, tokens = torch.randn(2, 1, 8), torch.randn(2, 5, 8)
    before = tokens.clone()
    updated = block(cls_token, tokens)
    assert updated.shape == (2, 1, 8)
    assert torch.equal(tokens, before)
    # It does look at the tokens, in no particular order.
    assert not torch.allclose(updated, block(cls_token, tokens * 2))
    torch.testing.assert_close(updated, block(cls_token, tokens.flip(1)))


@pytest.mark.parametrize('attention', [SelfAttention, OutlookAttention])
def test_attention_dropout_is_for_training(attention):
    torch.manual_seed(0)
    module = attention(8, num_heads=2, attn_drop_rate=0.5)
    x = torch.randn(1, 4, 4, 8)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_drop_path_skips_both_branches_in_training():
    block = Block(SelfAttention(8, 2), 8, mlp_ratio=2, drop_path_rate=0.999999)
    x = torch.randn(4, 2, 2, 8)
    torch.testing.assert_close(block(x), x)
    block.eval()
    assert not torch.allclose(block(x), x)


@pytest.mark.parametrize('bias', [True, False])
def test_a_linear_layer_of_tokens_is_a_linear_layer(bias):
    torch.manual_seed(0)
    layer = TokenLinear(6, 10, bias=bias)
    x = torch.randn(2, 3, 5, 6, requires_grad=True)
    wanted = [x, *layer.parameters()]
    expected = F.linear(x, layer.weight, layer.bias)
    ours = layer(x)
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, expected)
    for gradients in zip(
        torch.autograd.grad(ours.sin().sum(), wanted),
        torch.autograd.grad(expected.sin().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(*gradients)


def test_blocks_pass_tokens_on_without_a_copy():
    x = torch.randn(2, 4, 6, 8)
    for attn in (OutlookAttention(8, 2), SelfAttention(8, 2)):
        assert Block(attn, 8, 3.0)(x).is_contiguous()
