"""Cards of the bundled systems: licences, pretraining data and sizes by checkpoint, from model cards and papers.

Parameters are those of the network without a head, counted on the class that the harness runs. Whether a corpus of
acted emotions was seen is `no` where all training data is known and none is one, and `unknown` for data collected from
the web.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from blemore_harness.hookspecs import Card

CODE = "Apache-2.0"
"""Licence of the code of all bundled systems."""

NO_WEIGHTS = Card(CODE, "none", "none", "no", (), 0, False)
"""Of a system without pretrained weights."""

UNKNOWN = Card(CODE, "unknown", "unknown", "unknown", (), None, False)
"""Of a checkpoint that is not in `CARDS`."""


def _card(
    licence: str, data: str, acted: Literal["yes", "no", "unknown"], parameters: int | None, source: str
) -> Card:  # fmt: skip
    return Card(CODE, licence, data, acted, (), parameters, False, source)


_LIBRISPEECH = "LibriSpeech: 960 h of read speech, without labels"
_WAVLM = _card(
    "unclear: CC-BY-SA-3.0 in the model card, MIT in the repository",
    "94,000 h of speech: Libri-Light, GigaSpeech, VoxPopuli, without labels", "no", 315_453_120, "arXiv 2110.13900",
)  # fmt: skip
_HUBERT = _card(
    "Apache-2.0", "Libri-Light: 60,000 h of read speech, without labels", "no", 315_438_720, "arXiv 2106.07447"
)
_CLIP = _card("MIT", "400 million pairs of image and text from the web", "unknown", 87_849_216, "arXiv 2103.00020")
_DINOV2 = _card("Apache-2.0", "LVD-142M: images from the web, without labels", "unknown", None, "arXiv 2304.07193")
_DINOV3 = _card(
    "DINOv3 licence (gated)", "LVD-1689M: images from the web, without labels", "unknown", None, "arXiv 2508.10104"
)
_IMAGEBIND = _card(
    "CC-BY-NC-SA-4.0", "images and texts from the web, AudioSet, SUN RGB-D, LLVIP, Ego4D", "unknown", 632_829_440,
    "arXiv 2305.05665",
)  # fmt: skip
_VIDEOMAEV2 = _card(
    "CC-BY-NC-4.0", "1.35 million videos of several sources, then Kinetics-710 with labels", "unknown", 1_011_610_752,
    "arXiv 2303.16727",
)  # fmt: skip
_HICMAE = _card(
    "unknown (none of their own; upstream code: MIT)", "VoxCeleb2: interviews, without labels", "no", 80_780_308,
    "arXiv 2401.05698",
)  # fmt: skip
_EMPATHIC_FACE = _card(
    "CC-BY-4.0 (regressors), Apache-2.0 (SigLIP 2)",
    "WebLI: images and texts from the web; then EmoNet-Face: synthetic faces with labels of 40 emotions", "unknown",
    None, "arXiv 2505.20033",
)  # fmt: skip
_QWEN3_VL = _card(
    "Apache-2.0", "that of Qwen3-VL (not public), then contrastive pairs", "unknown", None,
    "model card of Qwen/Qwen3-VL-Embedding-2B",
)  # fmt: skip

_WHISPER = _card("MIT", "680,000 h of speech from the web, with transcripts", "unknown", None, "arXiv 2212.04356")
_CLAP = _card(
    "Apache-2.0", "LAION-Audio-630K and AudioSet: sounds from the web, with captions", "unknown", None,
    "arXiv 2211.06687",
)  # fmt: skip
_TALENT = ("LAION's Got Talent (synthetic)",)

AUDIO_OF_IMAGEBIND = "nielsr/imagebind-huge, audio"
"""Name of the audio encoder in the released file, whose image encoder has a card of its own."""

CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "facebook/wav2vec2-large": _card("Apache-2.0", _LIBRISPEECH, "no", 315_428_992, "arXiv 2006.11477"),
        "facebook/wav2vec2-base": _card("Apache-2.0", _LIBRISPEECH, "no", 94_371_712, "arXiv 2006.11477"),
        "facebook/w2v-bert-2.0": _card(
            "MIT", "4.5 million hours of speech, without labels", "unknown", 580_493_120, "arXiv 2312.05187"
        ),
        "alkiskoudounas/voc2vec": _card(
            "Apache-2.0", "125 h of non-verbal vocalisations from ten open datasets, without labels", "unknown",
            94_371_712, "arXiv 2502.16298",
        ),
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim": _card(
            "CC-BY-NC-SA-4.0",
            "Libri-Light, Common Voice, Switchboard, Fisher; then MSP-Podcast (not acted) with labels of emotion", "no",
            164_284_032, "arXiv 2203.07378",
        ),
        "microsoft/wavlm-large": _WAVLM,
        "WavLM_large": _WAVLM,
        "facebook/hubert-large-ll60k": _HUBERT,
        "HuBERT_large": _HUBERT,
        "openai/clip-vit-base-patch32": _CLIP,
        "CLIP": _CLIP,
        "facebook/dinov2-base": replace(_DINOV2, parameters=86_580_480),
        "DINOv2": _DINOV2,
        "facebook/dinov3-vitb16-pretrain-lvd1689m": replace(_DINOV3, parameters=85_660_416),
        "timm/vit_base_patch16_dinov3.lvd1689m": replace(_DINOV3, parameters=85_660_416),
        "DINOv3": _DINOV3,
        "nielsr/imagebind-huge": _IMAGEBIND,
        "ImageBind": _IMAGEBIND,
        "OpenGVLab/VideoMAE2": _VIDEOMAEV2,
        "VideoMAEv2": _VIDEOMAEV2,
        "swin3d_b_1k-24f7c7c6.pth": _card(
            "unknown (torchvision's code: BSD-3-Clause)", "ImageNet-1K, then Kinetics-400, with labels", "no",
            87_638_984, "arXiv 2106.13230",
        ),
        "VideoSwin": replace(
            UNKNOWN, pretraining="unknown: a network that was not released, fine-tuned on 13 classes",
            source="arXiv 2106.13230",
        ),
        "facebook/vjepa2-vitl-fpc64-256": _card(
            "MIT", "VideoMix22M: Something-Something, Kinetics, HowTo100M, YT-Temporal-1B, ImageNet, without labels",
            "unknown", 303_885_312, "arXiv 2506.09985",
        ),
        "microsoft/xclip-base-patch32": _card(
            "MIT", "400 million pairs of image and text from the web, then Kinetics-400 with labels", "unknown",
            126_459_649, "arXiv 2208.02816",
        ),
        "google/videoprism-base-f16r288": _card(
            "Apache-2.0", "36 million videos with captions and 582 million clips with noisy texts, not public",
            "unknown", 114_365_184, "arXiv 2402.13217",
        ),
        "timm/vit_pe_core_base_patch16_224.fb": _card(
            "Apache-2.0", "5.4 billion pairs of image and text from the web, then 22 million videos with captions",
            "unknown", 92_886_528, "arXiv 2504.13181",
        ),
        "laion/Empathic-Insight-Face-Small": _EMPATHIC_FACE,
        "laion/Empathic-Insight-Face-Large": _EMPATHIC_FACE,
        "google/embeddinggemma-2": _card(
            "Apache-2.0", "unknown: texts, images, audio and video, mostly from the web", "unknown", None,
            "model card of google/embeddinggemma-2",
        ),
        "BidirLM/BidirLM-Omni-2.5B-Embedding": _card(
            "Apache-2.0", "unknown: continued from language, vision and audio models", "unknown", None,
            "model card of BidirLM/BidirLM-Omni-2.5B-Embedding",
        ),
        "LCO-Embedding/LCO-Embedding-Omni-3B": _card(
            "Apache-2.0", "that of Qwen2.5-Omni (not public), then contrastive pairs", "unknown", None,
            "model card of LCO-Embedding/LCO-Embedding-Omni-3B",
        ),
        "Haon-Chen/e5-omni-7B": _card(
            "MIT", "that of Qwen2.5-Omni (not public), then pairs such as those of MSR-VTT and AudioCaps", "unknown",
            None, "arXiv 2601.03666",
        ),
        "Tevatron/OmniEmbed-v0.1": _card(
            "MIT", "that of Qwen2.5-Omni (not public), then pairs such as those of MSR-VTT and AudioCaps", "unknown",
            None, "model card of Tevatron/OmniEmbed-v0.1",
        ),
        "Qwen/Qwen3-VL-Embedding-2B": _QWEN3_VL,
        "Qwen/Qwen3-VL-Embedding-8B": _QWEN3_VL,
        "MCG-NJU/videomae-base-finetuned-kinetics": _card(
            "CC-BY-NC-4.0", "Kinetics-400, at last with labels", "no", 86_225_664, "arXiv 2203.12602"
        ),
        "facebook/timesformer-base-finetuned-k600": _card(
            "CC-BY-NC-4.0", "ImageNet-21K, then Kinetics-600, with labels", "no", 121_258_752, "arXiv 2102.05095"
        ),
        "checkpoint-99.pth": _HICMAE,
        "HiCMAE": _HICMAE,
        "cyinen/S4D": _card(
            "Apache-2.0", "VoxCeleb2 (interviews) and AffectNet (images from the web), without labels", "no",
            100_512_877, "arXiv 2409.06154",
        ),
        "openai/whisper-tiny": replace(_WHISPER, parameters=8_208_384),
        "openai/whisper-base": replace(_WHISPER, parameters=20_590_592),
        "openai/whisper-small": replace(_WHISPER, parameters=88_154_112),
        "openai/whisper-medium": replace(_WHISPER, parameters=307_216_384),
        "openai/whisper-large-v3": replace(
            _WHISPER, pretraining="5 million hours of speech from the web, with transcripts, 80 % of them by a model",
            parameters=636_968_960,
        ),
        "Qwen/Qwen2-Audio-7B": _card(
            "Apache-2.0", "speech, sounds and music of sources that are not published, with instructions", "unknown",
            7_757_987_840, "arXiv 2407.10759",
        ),
        "laion/clap-htsat-unfused": replace(_CLAP, parameters=28_190_872),
        "laion/larger_clap_general": _CLAP,
        "laion/larger_clap_music_and_speech": _CLAP,
        AUDIO_OF_IMAGEBIND: replace(_IMAGEBIND, parameters=86_235_648),
        "laion/Empathic-Insight-Voice-Small": replace(
            _card(
                "CC-BY-4.0", "as Whisper small; then 5,000 h of synthetic acted speech and 5,000 h of speech from the "
                "web, with emotion labels of a model", "yes", 3_037_548_072, "arXiv 2506.09827",
            ),
            acted_corpora=_TALENT,
        ),
        "laion/BUD-E-Whisper": replace(
            _card(
                "CC-BY-4.0", "as Whisper small; then 5,000 h of synthetic acted speech and 5,000 h of speech from the "
                "web, with captions of a model", "yes", 88_154_112, "arXiv 2506.09827",
            ),
            acted_corpora=_TALENT,
        ),
        "facial-emotion-recognition": _card(
            "MIT (of the package)", "photographs of faces with labels of 7 expressions; which ones is not documented "
            "(the package cites FER-2013)", "unknown", 2_750_151, "facial-emotion-recognition 0.3.4 on PyPI",
        ),
        "OpenFace_3": replace(UNKNOWN, weights_licence="research only", source="arXiv 2506.02891"),
    }
)  # fmt: skip
"""By name of a checkpoint, and by name of a released feature set."""


def card_of(checkpoint: str) -> Card:
    """Return the card of a checkpoint or of a released feature set; of small random networks that of no weights.

    Of any other all is unknown but the code: a local file may be a checkpoint that was trained further.
    """
    if checkpoint in ("random", "random-small"):
        return NO_WEIGHTS
    return CARDS.get(checkpoint, UNKNOWN)


def fusion_card(source: str | None = None) -> Card:
    """Return the card of a fusion, which has no pretrained weights."""
    return replace(NO_WEIGHTS, source=source)
