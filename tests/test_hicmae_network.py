"""The network of HiCMAE against its published counts and names, and against a literal loop over its formulas."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from blemore_harness.networks import seeded  # noqa: E402
from blemore_plugins.hicmae.network import HiCMAE  # noqa: E402
from blemore_plugins.hicmae.shape import HEAD_WIDTH, Shape  # noqa: E402
from blemore_plugins.s4d.network import count_parameters  # noqa: E402

pytestmark = pytest.mark.encoders

TINY = Shape(dim=128, depth=3, fusion=2, mlp=2, image=32, patch=16, sound_patch=32, classes=6)


def make_network(shape: Shape = TINY) -> HiCMAE:
    """A network in which nothing is at its start: every bias, norm and weight of a layer is drawn."""
    with seeded(5):
        network = HiCMAE(shape)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    return network.eval()


def make_inputs(chunks: int = 2, shape: Shape = TINY) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randn(chunks, 3, 16, shape.image, shape.image, generator=generator)
    return pictures, torch.randn(chunks, 1, 256, 128, generator=generator)


def expected_names() -> dict[str, tuple[int, ...]]:
    """The list of the reference, written out: names and shapes of a fine-tuned base model with six classes."""
    names: dict[str, tuple[int, ...]] = {"video_layer_weights": (10,), "audio_layer_weights": (10,)}

    def pair(name: str, weight: tuple[int, ...]) -> None:
        names.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    def plain(block: str) -> None:
        pair(f"{block}.norm1", (512,))
        pair(f"{block}.norm2", (512,))
        names.update({f"{block}.attn.{bias}_bias": (512,) for bias in "qv"})
        names[f"{block}.attn.qkv.weight"] = (1536, 512)
        pair(f"{block}.attn.proj", (512, 512))
        pair(f"{block}.mlp.fc1", (2048, 512))
        pair(f"{block}.mlp.fc2", (512, 2048))

    pair("encoder.patch_embed.proj", (512, 3, 2, 16, 16))
    pair("encoder_audio.patch_embed.proj", (512, 1, 16, 16))
    for encoder in ("encoder", "encoder_audio"):
        pair(f"{encoder}.norm", (512,))
        for number in range(10):
            plain(f"{encoder}.blocks.{number}")
    for blocks in ("blocks", "blocks_audio"):
        for number in range(2):
            block = f"encoder_fusion.{blocks}.{number}"
            plain(block)
            names.update({f"{block}.cross_attn.{bias}_bias": (512,) for bias in "qv"})
            names |= {f"{block}.cross_attn.q.weight": (512, 512), f"{block}.cross_attn.kv.weight": (1024, 512)}
            pair(f"{block}.cross_attn.proj", (512, 512))
            pair(f"{block}.cross_norm1", (512,))
            pair(f"{block}.cross_norm2", (512,))
    for norm in ("encoder_fusion.norm", "encoder_fusion.norm_audio"):
        pair(norm, (512,))
    pair("fc_norm", (2048,))
    pair("head", (6, 2048))
    return names


def test_names_and_counts_are_those_of_the_released_model():
    with torch.device("meta"):
        network = HiCMAE(Shape(classes=6))
    found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == expected_names()
    assert len(found) == 370
    assert count_parameters([network]) == 80_792_602
    assert (Shape().video_tokens, Shape().audio_tokens, Shape().heads, Shape().features) == (800, 128, 8, 2048)


# A literal network: one head, one layer, one token at a time where order matters.


def attend(state: dict[str, Tensor], name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of projected (tokens, dim), head by head."""
    outputs = []
    for start in range(0, query.shape[1], HEAD_WIDTH):
        part = slice(start, start + HEAD_WIDTH)
        scores = query[:, part] @ key[:, part].T / math.sqrt(HEAD_WIDTH)
        outputs.append(scores.softmax(dim=1) @ value[:, part])
    return torch.cat(outputs, dim=1) @ state[f"{name}.proj.weight"].T + state[f"{name}.proj.bias"]


def norm(state: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    centred = tokens - tokens.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attend_self(state: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    query, key, value = (tokens @ part.T for part in state[f"{name}.qkv.weight"].chunk(3))
    return attend(state, name, query + state[f"{name}.q_bias"], key, value + state[f"{name}.v_bias"])


def attend_other(state: dict[str, Tensor], name: str, tokens: Tensor, other: Tensor) -> Tensor:
    query = tokens @ state[f"{name}.q.weight"].T + state[f"{name}.q_bias"]
    key, value = (other @ part.T for part in state[f"{name}.kv.weight"].chunk(2))
    return attend(state, name, query, key, value + state[f"{name}.v_bias"])


def mlp(state: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    hidden = tokens @ state[f"{name}.fc1.weight"].T + state[f"{name}.fc1.bias"]
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return hidden @ state[f"{name}.fc2.weight"].T + state[f"{name}.fc2.bias"]


def plain(state: dict[str, Tensor], block: str, tokens: Tensor) -> Tensor:
    tokens = tokens + attend_self(state, f"{block}.attn", norm(state, f"{block}.norm1", tokens))
    return tokens + mlp(state, f"{block}.mlp", norm(state, f"{block}.norm2", tokens))


def fuse(state: dict[str, Tensor], block: str, tokens: Tensor, other: Tensor) -> Tensor:
    own, others = norm(state, f"{block}.cross_norm1", tokens), norm(state, f"{block}.cross_norm2", other)
    return plain(state, block, tokens + attend_other(state, f"{block}.cross_attn", own, others))


def sinusoid(position: int, dim: int) -> Tensor:
    angles = [position / 10000 ** (2 * (column // 2) / dim) for column in range(dim)]
    values = [math.cos(angle) if column % 2 else math.sin(angle) for column, angle in enumerate(angles)]
    return torch.tensor(values, dtype=torch.float64)


def literal_features(state: dict[str, Tensor], picture: Tensor, sound: Tensor, shape: Shape) -> Tensor:
    """The features of one chunk in float64."""
    layers = {}
    convolved = {
        "encoder": F.conv3d(
            picture[None], state["encoder.patch_embed.proj.weight"], stride=(2, shape.patch, shape.patch)
        ),
        "encoder_audio": F.conv2d(
            sound[None], state["encoder_audio.patch_embed.proj.weight"], stride=shape.sound_patch
        ),
    }
    for name, grid in convolved.items():
        tokens = grid[0].flatten(1).T + state[f"{name}.patch_embed.proj.bias"]
        tokens = torch.stack([token + sinusoid(place, shape.dim) for place, token in enumerate(tokens)])
        layers[name] = []
        for number in range(shape.depth):
            tokens = plain(state, f"{name}.blocks.{number}", tokens)
            layers[name].append(norm(state, f"{name}.norm", tokens))
    video, audio = layers["encoder"][-1], layers["encoder_audio"][-1]
    for number in range(shape.fusion):
        before = video, audio
        video = fuse(state, f"encoder_fusion.blocks.{number}", before[0], before[1])
        audio = fuse(state, f"encoder_fusion.blocks_audio.{number}", before[1], before[0])
    pooled = []
    for name, modality in (("encoder", "video"), ("encoder_audio", "audio")):
        powers = state[f"{modality}_layer_weights"].exp()
        pooled.append(sum(p * layer.mean(dim=0) for p, layer in zip(powers, layers[name], strict=True)) / powers.sum())
    pooled.append(norm(state, "encoder_fusion.norm", video).mean(dim=0))
    pooled.append(norm(state, "encoder_fusion.norm_audio", audio).mean(dim=0))
    return norm(state, "fc_norm", torch.cat(pooled))


def test_features_and_logits_are_those_of_a_literal_network():
    network = make_network()
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    pictures, sound = make_inputs()
    with torch.no_grad():
        features, logits = network.embed(pictures, sound), network(pictures, sound)
    assert features.shape == (2, 512)
    for number in range(2):
        expected = literal_features(state, pictures[number].double(), sound[number].double(), TINY)
        torch.testing.assert_close(features[number].double(), expected, rtol=2e-5, atol=2e-5)
        torch.testing.assert_close(
            logits[number].double(), state["head.weight"] @ expected + state["head.bias"], rtol=2e-5, atol=2e-5
        )


def test_sound_looks_at_the_pictures_of_before_the_layer():
    network = make_network()
    first = network.encoder_fusion.blocks[0]
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        video, audio = (torch.randn(1, tokens, 128, generator=generator) for tokens in (8, 4))
        _, before = network.encoder_fusion(video, audio)
        for number in range(2):
            seen = []
            hook = network.encoder_fusion.blocks_audio[number].register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(given[1].clone())
            )
            network.encoder_fusion(video, audio)
            hook.remove()
            expected = video if number == 0 else first(video, audio)
            assert torch.equal(seen[0], expected)
        # With one layer the audio never learns what the pictures became.
        alone = make_network(Shape(**{**vars(TINY), "fusion": 1}))
        _, expected = alone.encoder_fusion(video, audio)
        alone.encoder_fusion.blocks[0].mlp.fc2.bias += 5
        assert torch.equal(alone.encoder_fusion(video, audio)[1], expected)
        # With two it does.
        first.mlp.fc2.bias[:64] += 5
        assert not torch.allclose(network.encoder_fusion(video, audio)[1], before)


def test_fresh_layer_weights_give_the_mean_over_layers_and_a_plain_last_norm():
    with seeded(1):
        network = HiCMAE(Shape(**{**vars(TINY), "classes": 0})).eval()
    pictures, sound = make_inputs(1)
    with torch.no_grad():
        features = network(pictures, sound)
        _, means = network.encoder(pictures)
        video, audio = network.encoder(pictures)[0], network.encoder_audio(sound)[0]
        fused = network.encoder_fusion(video, audio)
        joined = torch.cat(
            [means.mean(1), network.encoder_audio(sound)[1].mean(1), fused[0].mean(1), fused[1].mean(1)], dim=1
        )
    expected = (joined - joined.mean()) / (joined.var(unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_every_parameter_is_used():
    network = make_network()
    pictures, sound = make_inputs()
    generator = torch.Generator().manual_seed(1)
    logits = network(pictures, sound)
    (logits * torch.randn(logits.shape, generator=generator)).sum().backward()
    idle = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().max() > 1e-9]
    assert idle == []
