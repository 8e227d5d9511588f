"""The S4D network against its documented layout, and its experts against a literal per-token reference."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from blemore_plugins.s4d.network import MixtureOfExperts, S4DViTMoE, build_network, count_parts, load_balance, sinusoids  # noqa: E402
from blemore_plugins.s4d.shape import Routing, Shape  # noqa: E402

pytestmark = pytest.mark.encoders

SMALL = Shape(dim=64, depth=3, first_expert=1, image=32, frames=4, adapter=16, routing=Routing(experts=4))


def documented_layout(classes: int) -> dict[str, tuple[int, ...]]:
    """Write out section 1.3 of the fact sheet."""
    layout: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (768, 3, 2, 16, 16),
        "patch_embed.proj.bias": (768,),
        "fc_norm.weight": (768,),
        "fc_norm.bias": (768,),
        "head.image.weight": (7, 768),
        "head.image.bias": (7,),
        "head.video.weight": (classes, 768),
        "head.video.bias": (classes,),
    }
    for index in range(12):
        block = f"blocks.{index}"
        for norm in ("norm1", "norm2"):
            layout |= {f"{block}.{norm}.weight": (768,), f"{block}.{norm}.bias": (768,)}
        layout |= {f"{block}.attn.q_bias": (768,), f"{block}.attn.v_bias": (768,)}
        layout |= {f"{block}.attn.qkv.weight": (2304, 768)}
        layout |= {f"{block}.attn.proj.weight": (768, 768), f"{block}.attn.proj.bias": (768,)}
        layout |= {f"{block}.mlp.fc1.weight": (3072, 768), f"{block}.mlp.fc1.bias": (3072,)}
        layout |= {f"{block}.mlp.fc2.weight": (768, 3072), f"{block}.mlp.fc2.bias": (768,)}
        if index < 6:
            continue
        for linear in ("topkroute_linear", "noise_linear"):
            name = f"{block}.moe_layer.router.{linear}"
            layout |= {f"{name}.weight": (8, 768), f"{name}.bias": (8,)}
        for expert in range(8):
            name = f"{block}.moe_layer.experts.{expert}"
            layout |= {f"{name}.fc1.weight": (192, 768), f"{name}.fc1.bias": (192,)}
            layout |= {f"{name}.fc2.weight": (768, 192), f"{name}.fc2.bias": (768,)}
    return layout


@pytest.mark.slow
def test_state_dict_is_the_released_layout():
    with torch.device("meta"):
        network = S4DViTMoE(Shape())
    found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(found) == 380
    assert found == documented_layout(6)


def test_parameter_counts_are_the_sheets():
    with torch.device("meta"):
        network = S4DViTMoE(Shape())
    assert count_parts(network) == {
        "patch embedding": 1_180_416,
        "lower blocks": 42_522_624,
        "upper blocks without experts": 42_522_624,
        "experts": 14_201_856,
        "routers": 73_824,
        "fc_norm": 1_536,
        "head.video": 4_614,
        "head.image": 5_383,
        "total": 100_512_877,
    }
    plain, with_experts = network.blocks[5], network.blocks[6]
    assert sum(p.numel() for p in plain.parameters()) == 7_087_104
    assert sum(p.numel() for p in plain.attn.parameters()) == 2_361_600
    assert sum(p.numel() for p in plain.mlp.parameters()) == 4_722_432
    assert sum(p.numel() for p in with_experts.moe_layer.parameters()) == 2_379_280
    assert sum(p.numel() for p in with_experts.moe_layer.experts.parameters()) == 2_366_976
    assert sum(p.numel() for p in with_experts.moe_layer.router.parameters()) == 12_304


def test_position_table_is_the_written_formula():
    table = sinusoids(800, 768)
    assert table.shape == (800, 768)
    for position, column in [(0, 0), (0, 1), (1, 0), (1, 1), (17, 6), (799, 766), (799, 767), (512, 101)]:
        angle = position / 10000 ** (2 * (column // 2) / 768)
        expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        assert float(table[position, column]) == pytest.approx(expected, abs=1e-7)


def test_patch_embedding_is_its_convolution():
    network = build_network(SMALL, seed=1)
    clips = torch.randn(2, 3, 4, 32, 48, generator=torch.Generator().manual_seed(2))
    expected = network.patch_embed.proj(clips).flatten(2).transpose(1, 2)
    torch.testing.assert_close(network.patch_embed(clips), expected, rtol=1e-4, atol=1e-5)


def test_attention_is_the_textbook_formula():
    attention = build_network(SMALL, seed=1).blocks[0].attn
    with torch.no_grad():
        attention.q_bias.copy_(torch.linspace(-1, 1, 64))
        attention.v_bias.copy_(torch.linspace(2, -2, 64))
    tokens = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))
    query_weight, key_weight, value_weight = attention.qkv.weight.split(64)
    query = (tokens @ query_weight.T + attention.q_bias) * 64**-0.5
    key, value = tokens @ key_weight.T, tokens @ value_weight.T + attention.v_bias
    mixed = (query @ key.transpose(1, 2)).softmax(-1) @ value
    expected = mixed @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-4, atol=1e-6)


def literal_experts(layer: MixtureOfExperts, tokens: torch.Tensor, noise: torch.Tensor | None, capacity: float):
    """Do what the sheet says, token by token in batch-major order."""
    router, routing = layer.router, layer.routing
    clips, count = tokens.shape[:2]
    limit = int(clips * count * routing.top / routing.experts * capacity) if capacity else None
    served = [0] * routing.experts
    out = torch.zeros_like(tokens)
    loss = 0.0
    for clip in range(clips):
        chosen_share, logit_mean = [0.0] * routing.experts, torch.zeros(routing.experts)
        for place in range(count):
            token = tokens[clip, place]
            logits = router.topkroute_linear.weight @ token + router.topkroute_linear.bias
            if noise is not None:
                scale = torch.log1p(torch.exp(router.noise_linear.weight @ token + router.noise_linear.bias))
                logits = logits + noise[clip, place] * scale
            logit_mean += logits / count
            best = sorted(range(routing.experts), key=lambda e: -float(logits[e]))[: routing.top]
            kept = torch.full((routing.experts,), -math.inf)
            kept[best] = logits[best]
            weights = kept.softmax(0)
            for expert in best:
                chosen_share[expert] += 1 / count
                served[expert] += 1
                if limit is None or served[expert] <= limit:
                    module = layer.experts[expert]
                    hidden = torch.nn.functional.gelu(module.fc1.weight @ token + module.fc1.bias)
                    out[clip, place] += weights[expert] * (module.fc2.weight @ hidden + module.fc2.bias)
        products = [chosen_share[e] * float(logit_mean[e]) for e in range(routing.experts)]
        loss += routing.experts**2 * sum(products) / routing.experts / clips
    return out, loss


@pytest.mark.parametrize("capacity", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("noisy", [False, True])
def test_experts_are_the_literal_rule(capacity: float, noisy: bool):
    routing = Routing(experts=4, top=2, noise=noisy, capacity=capacity)
    torch_generator = torch.Generator().manual_seed(5)
    layer = MixtureOfExperts(12, 6, routing)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_generator))
    tokens = torch.randn(3, 7, 12, generator=torch_generator)
    noise = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(9)) if noisy else None
    with torch.no_grad():
        found = layer(tokens, torch.Generator().manual_seed(9))
        expected, loss = literal_experts(layer, tokens, noise, capacity)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float(layer.balance) == pytest.approx(loss, rel=1e-4)


def test_gradients_of_experts_are_those_of_the_dense_sum():
    layer = build_network(SMALL, seed=4).blocks[1].moe_layer.double()
    tokens = torch.randn(2, 6, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    layer(tokens).square().sum().backward()
    found = [tokens.grad.clone(), *(p.grad.clone() for p in layer.experts.parameters())]
    tokens.grad = None
    layer.zero_grad()
    logits = layer.router(tokens, None)
    kept = torch.full_like(logits, -math.inf).scatter(-1, logits.topk(2).indices, logits.topk(2).values)
    dense = torch.stack([expert(tokens) for expert in layer.experts], dim=-1) * kept.softmax(-1).unsqueeze(-2)
    dense.sum(-1).square().sum().backward()
    expected = [tokens.grad, *(p.grad for p in layer.experts.parameters())]
    for one, other in zip(found, expected, strict=True):
        # Weights are float32 whatever the tokens are.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-9)


def test_balance_loss_prefers_even_use():
    even = torch.eye(4).repeat(3, 2, 1)
    uneven = torch.tensor([1.0, 0, 0, 0]).repeat(3, 8, 1)
    assert load_balance(even, even.topk(1).indices) < load_balance(uneven, uneven.topk(1).indices)


def test_without_noise_and_capacity_a_clip_does_not_depend_on_its_neighbours():
    network = build_network(SMALL, seed=0).eval()
    clips = torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together, alone = network(clips), torch.cat([network(clips[i : i + 1]) for i in range(3)])
        again = network(clips)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(together, again)


def test_noise_changes_the_answer_and_follows_its_generator():
    network = build_network(SMALL, seed=0).eval()
    network.set_routing(Routing(experts=4, noise=True))
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, other = (network(clips, torch.Generator().manual_seed(seed)) for seed in (1, 2))
        again = network(clips, torch.Generator().manual_seed(1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_pictures_go_to_the_image_head_as_one_repeated_tubelet():
    network = build_network(SMALL, seed=0).eval()
    picture = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    clip = torch.stack([picture, picture], dim=2)
    with torch.no_grad():
        expected = network.head["image"](network.upper(network.lower(clip)))
        assert network(picture).shape == (2, 7)
        torch.testing.assert_close(network(picture), expected)


def test_building_depends_on_the_seed_alone_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    one, same, other = (build_network(SMALL, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])
