"""Random weights in the layouts and sizes in which the default weights of frozen encoders were released.

Sizes are read off a library's own named network (made on the meta device, which takes no memory), a configuration class
whose defaults are the released model, or the encoder's own code. Only those of Whisper and of ImageBind's audio encoder
are written down here, because no library names them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from blemore_harness.networks import seeded
from blemore_plugins import vision
from blemore_plugins.hub import quiet_transformers
from blemore_plugins.s4d.shape import Shape
from blemore_plugins.speech.imagebind import HEADS, ImageBindAudio
from blemore_plugins.speech.options import AudeeringOptions, parse_layers
from blemore_plugins.vision import imagebind, videomae


def timm_network(name: str) -> Any:
    """Return one of timm's vision transformers without weights."""
    import timm

    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


def timm_sizes(name: str) -> dict[str, Any]:
    """Read the sizes of one of timm's vision transformers, in transformers' words."""
    network = timm_network(name)
    block = network.blocks[0]
    return {
        "hidden_size": network.embed_dim,
        "num_hidden_layers": len(network.blocks),
        "num_attention_heads": block.attn.num_heads,
        "patch_size": network.patch_embed.patch_size[0],
        "image_size": network.patch_embed.img_size[0],
    }


def torchaudio_sizes(name: str) -> dict[str, Any]:
    """Read the sizes of one of torchaudio's speech networks, in transformers' words."""
    import torchaudio

    with torch.device("meta"):
        network = getattr(torchaudio.models, name)()
    layers = network.encoder.transformer.layers
    first = network.feature_extractor.conv_layers[0]
    stable = bool(layers[0].layer_norm_first)
    return {
        "hidden_size": network.encoder.feature_projection.projection.out_features,
        "num_hidden_layers": len(layers),
        "num_attention_heads": layers[0].attention.num_heads,
        "intermediate_size": layers[0].feed_forward.intermediate_dense.out_features,
        "do_stable_layer_norm": stable,
        "feat_extract_norm": "group" if isinstance(first.layer_norm, torch.nn.GroupNorm) else "layer",
        "conv_bias": first.conv.bias is not None,
    }


def write_model(folder: Path, network: str, **sizes: Any) -> Path:
    """Write a folder of transformers' layout; sizes that are not given are the configuration's own."""
    import transformers

    kind = getattr(transformers, network)
    with quiet_transformers(), seeded(0):
        kind(kind.config_class(**sizes)).save_pretrained(folder)
    return folder


def write_speech(folder: Path, network: str, like: str, **changed: Any) -> Path:
    """Write a network that hears waves, as large as one of torchaudio's, and its feature extractor's settings."""
    import transformers

    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return write_model(folder, network, **(torchaudio_sizes(like) | changed))


def write_audio(folder: Path) -> Path:
    """Write w2v-BERT 2.0, whose sizes are its configuration's defaults."""
    import transformers

    transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return write_model(folder, "Wav2Vec2BertModel")


def write_whisper(folder: Path, width: int, depth: int) -> Path:
    """Write a Whisper model, whose decoder is not used."""
    import transformers

    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return write_model(
        folder, "WhisperModel", d_model=width, encoder_layers=depth, encoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width, decoder_layers=0,
    )  # fmt: skip


def write_clap(folder: Path) -> Path:
    """Write CLAP, whose sizes are its configuration's defaults."""
    import transformers

    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return write_model(folder, "ClapModel")


def write_qwen2_audio(folder: Path) -> Path:
    """Write the audio encoder of Qwen2-Audio, whose sizes are its configuration's defaults."""
    import transformers
    from safetensors.torch import save_file

    transformers.WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    config = transformers.Qwen2AudioConfig()
    config.save_pretrained(folder)
    with seeded(0):
        encoder = transformers.Qwen2AudioEncoder(config.audio_config)
    weights = {f"audio_tower.{name}": tensor for name, tensor in encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_imagebind_audio(folder: Path) -> Path:
    """Write the audio encoder of ImageBind huge: 12 layers of 768."""
    with torch.device("meta"):
        network = ImageBindAudio(768, 12, HEADS, vision.ImageBindEncoder.width or 0)
    return write_tensors(folder / "imagebind_huge.pth", network)


def write_audeering(folder: Path) -> Path:
    """Write wav2vec2-large-robust with as many layers as the encoder takes, to which the released one was cut."""
    layers = parse_layers(AudeeringOptions().layers)
    return write_speech(folder, "Wav2Vec2Model", "wav2vec2_large_lv60k", num_hidden_layers=max(layers or (0,)))


def write_dinov2(folder: Path) -> Path:
    """Write DINOv2 base."""
    return write_model(folder, "Dinov2Model", **timm_sizes("vit_base_patch14_dinov2"))


def write_dinov3(folder: Path) -> Path:
    """Write DINOv3 base."""
    name = "vit_base_patch16_dinov3"
    network, sizes = timm_network(name), timm_sizes(name)
    return write_model(
        folder,
        "DINOv3ViTModel",
        **sizes,
        intermediate_size=network.blocks[0].mlp.fc1.out_features,
        num_register_tokens=network.num_prefix_tokens - 1,
    )


def write_imagebind(folder: Path) -> Path:
    """Write ImageBind huge: a ViT-H of patches of 14, its stem seeing each picture twice."""
    sizes = timm_sizes("vit_huge_patch14_224")
    tokens = (sizes["image_size"] // sizes["patch_size"]) ** 2 + 1
    width = vision.ImageBindEncoder.width or 0
    with torch.device("meta"):
        network = imagebind.ImageBindVision(
            sizes["hidden_size"], sizes["num_hidden_layers"], imagebind.HEADS, tokens, 2, sizes["patch_size"], width
        )
    return write_tensors(folder / "imagebind.pth", network)


def write_videomaev2(folder: Path) -> Path:
    """Write VideoMAE V2 giant: a ViT-g of patches of 14."""
    giant = timm_network("vit_giant_patch14_224")
    patch = giant.patch_embed.patch_size[0]
    shape = Shape(
        dim=giant.embed_dim, depth=len(giant.blocks), image=videomae.SIDE, frames=videomae.FRAMES, patch=patch
    )
    with torch.device("meta"):
        network = videomae.VideoVit(shape, giant.blocks[0].mlp.fc1.out_features)
    return write_tensors(folder / "videomaev2.pth", network)


def write_videoswin(folder: Path) -> Path:
    """Write torchvision's Video Swin base."""
    from torchvision.models.video import swin3d_b

    with seeded(0):
        network = swin3d_b(weights=None)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "swin3d_b.pth")
    return folder / "swin3d_b.pth"


def write_processor(folder: Path, name: str, **settings: Any) -> Path:
    """Write the preprocessing of images or videos beside a model; returns the folder."""
    alike = {"do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False}
    (folder / name).write_text(json.dumps(alike | settings), encoding="utf-8")
    return folder


def write_xclip(folder: Path) -> Path:
    """Write X-CLIP base of patches of 32."""
    import transformers

    side = transformers.XCLIPVisionConfig().image_size
    crop = {"do_center_crop": True, "crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    write_model(folder, "XCLIPModel")
    return write_processor(folder, "preprocessor_config.json", image_processor_type="VideoMAEImageProcessor", **crop)


def write_videoprism(folder: Path) -> Path:
    """Write VideoPrism base."""
    import transformers

    side = transformers.VideoPrismVisionConfig().image_size
    write_model(folder, "VideoPrismVisionModel")
    return write_processor(
        folder, "video_preprocessor_config.json", video_processor_type="LlavaOnevisionVideoProcessor",
        size={"height": side, "width": side},
    )  # fmt: skip


def write_frames(folder: Path) -> Path:
    """Write the default network of `frames`, in timm's layout."""
    from blemore_plugins.vision.options import FramesOptions

    name = FramesOptions().model.removeprefix("timm/").partition(".")[0]
    network = timm_network(name)
    write_tensors(folder / "pytorch_model.bin", network)
    kept = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "classifier", "fixed_input_size")
    settings = {key: network.pretrained_cfg[key] for key in kept}
    content = {"architecture": name, "num_classes": 0, "pretrained_cfg": {**settings, "num_classes": 0}}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_empathic_face(folder: Path) -> Path:
    """Write the vision network of SigLIP 2 so400m, with the 40 small regressors in the same folder."""
    from blemore_plugins.vision.empathic import EMOTIONS

    sizes = timm_sizes("vit_so400m_patch16_siglip_384")
    hidden = timm_network("vit_so400m_patch16_siglip_384").blocks[0].mlp.fc1.out_features
    side = sizes["image_size"]
    write_model(folder, "SiglipVisionModel", **sizes, intermediate_size=hidden)
    draw = torch.Generator().manual_seed(0)
    widths = (sizes["hidden_size"], 128, 32, 1)
    for name in EMOTIONS:
        tensors = {}
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            tensors[f"layers.{3 * number}.weight"] = torch.randn(after, before, generator=draw) * before**-0.5
            tensors[f"layers.{3 * number}.bias"] = torch.zeros(after)
        torch.save(tensors, folder / f"model_{name}_best.pth")
    return write_processor(
        folder, "preprocessor_config.json", image_processor_type="SiglipImageProcessor",
        size={"height": side, "width": side},
    )  # fmt: skip


def write_expression(folder: Path) -> Path:
    from blemore_plugins.vision.expression import HIDDEN, WIDTHS, make_network

    with torch.device("meta"):
        network = make_network(WIDTHS, HIDDEN)
    return write_tensors(folder / "model.pkl", network)


def write_tensors(path: Path, network: torch.nn.Module) -> Path:
    """Write random weights for a network on the meta device: norms as they begin, all others small."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, empty in network.state_dict().items():
        tensor = torch.empty(empty.shape, dtype=torch.float32)
        norm = name.endswith((".weight", ".running_var")) and empty.ndim == 1
        tensors[name] = tensor.fill_(1) if norm else tensor.normal_(std=0.02, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "wav2vec2": lambda folder: write_speech(folder, "Wav2Vec2Model", "wav2vec2_large"),
    "wav2vec2-512": lambda folder: write_speech(folder, "Wav2Vec2Model", "wav2vec2_large"),
    "voc2vec": lambda folder: write_speech(folder, "Wav2Vec2Model", "wav2vec2_base"),
    "audeering-dim": write_audeering,
    "audio": write_audio,
    "wavlm": lambda folder: write_speech(folder, "WavLMModel", "wavlm_large"),
    "hubert": lambda folder: write_speech(folder, "HubertModel", "hubert_large"),
    "whisper": lambda folder: write_whisper(folder, 1024, 24),
    "empathic-voice": lambda folder: write_whisper(folder, 768, 12),
    "clap": write_clap,
    "qwen2-audio": write_qwen2_audio,
    "imagebind-audio": write_imagebind_audio,
    "clip": lambda folder: write_model(folder, "CLIPVisionModelWithProjection"),
    "dinov2": write_dinov2,
    "dinov3": write_dinov3,
    "imagebind": write_imagebind,
    "videomaev2": write_videomaev2,
    "videoswin": write_videoswin,
    "vjepa2": lambda folder: write_model(folder, "VJEPA2Model"),
    "xclip": write_xclip,
    "videoprism": write_videoprism,
    "frames": write_frames,
    "empathic-face": write_empathic_face,
    "expression": write_expression,
}
"""How the weights of each encoder are made: into an empty folder, giving what its option `model` is to name."""
