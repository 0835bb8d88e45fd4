"""Standard architectures with seeded random weights, as torch modules and as ONNX files.

Nothing is downloaded: speed does not depend on the numbers, as long as they are no extremes. Statistics of
normalizations are random too, so that folding them into weights is not the identity.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bolt.errors import ModelError

_SEED = 0
_PIXELS = 224
_TOKENS = 128
_GPT_TOKENS = 64
_OPSET = 18
_REPVGG_DEPTHS = (1, 2, 4, 14, 1)
_EXPORT_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One architecture.

    Attributes:
        build: the torch module; called with the module torch.
        inputs: (name, what it holds, its dims after the batch).
        needs: Python modules beside torch.
    """

    build: Callable[[Any], Any]
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    needs: tuple[str, ...] = ()


def _torchvision(name: str) -> Callable[[Any], Any]:
    def build(torch: Any) -> Any:
        return getattr(importlib.import_module("torchvision.models"), name)(weights=None)

    return build


def _repvgg(*widths: int) -> Callable[[Any], Any]:
    """RepVGG as it is deployed: every block is one 3x3 convolution with a bias, then ReLU."""

    def build(torch: Any) -> Any:
        layers, last = [], 3
        for width, depth in zip(widths, _REPVGG_DEPTHS, strict=True):
            for index in range(depth):
                layers += [torch.nn.Conv2d(last, width, 3, 2 if index == 0 else 1, 1), torch.nn.ReLU()]
                last = width
        head = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(last, 1000))
        return torch.nn.Sequential(*layers, *head)

    return build


def _bert_base(torch: Any) -> Any:
    transformers = importlib.import_module("transformers")
    model = transformers.BertModel(transformers.BertConfig())

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        """The last hidden state alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return Encoder()


def _gpt2(torch: Any) -> Any:
    transformers = importlib.import_module("transformers")
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())

    class Decoder(torch.nn.Module):  # type: ignore[misc]
        """Logits of a whole prompt, without a cache."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any) -> Any:
            return self.model(input_ids=input_ids, use_cache=False).logits

    return Decoder()


_IMAGE = (("x", "normal", (3, _PIXELS, _PIXELS)),)
_TEXT = (("input_ids", "tokens", (_TOKENS,)), ("attention_mask", "ones", (_TOKENS,)))
_PROMPT = (("input_ids", "tokens", (_GPT_TOKENS,)),)


def _images(name: str) -> Model:
    return Model(build=_torchvision(name), inputs=_IMAGE, needs=("torchvision",))


MODELS: Mapping[str, Model] = {
    "resnet18": _images("resnet18"),
    "resnet50": _images("resnet50"),
    "vgg16": _images("vgg16"),
    "vgg19": _images("vgg19"),
    "repvgg_a0": Model(build=_repvgg(48, 48, 96, 192, 1280), inputs=_IMAGE),
    "repvgg_b0": Model(build=_repvgg(64, 64, 128, 256, 1280), inputs=_IMAGE),
    "mobilenetv2": _images("mobilenet_v2"),
    "mobilenetv3_large": _images("mobilenet_v3_large"),
    "efficientnet_b0": _images("efficientnet_b0"),
    "resnext50": _images("resnext50_32x4d"),
    "densenet121": _images("densenet121"),
    "convnext_tiny": _images("convnext_tiny"),
    "vit_base": _images("vit_b_16"),
    "bert_base": Model(build=_bert_base, inputs=_TEXT, needs=("transformers",)),
    "gpt2": Model(build=_gpt2, inputs=_PROMPT, needs=("transformers",)),
}

_RECIPES: Mapping[str, Callable[[np.random.Generator, Sequence[int]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape, np.float32),
    "tokens": lambda rng, shape: rng.integers(5, 30000, shape),
    "ones": lambda rng, shape: np.ones(shape, np.int64),
}


def feeds(name: str, batch: int) -> dict[str, np.ndarray]:
    """Seeded inputs."""
    rng = np.random.default_rng(_SEED)
    return {key: _RECIPES[kind](rng, (batch, *dims)) for key, kind, dims in MODELS[name].inputs}


def module(name: str) -> Any:
    """The torch module of a model, the same in every process.

    Raises:
        ModelError: a package it needs is missing.
    """
    _check_packages(name)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch = importlib.import_module("torch")
    torch.manual_seed(_SEED)
    made = MODELS[name].build(torch).eval()
    with torch.no_grad():
        for part in made.modules():
            _randomize(torch, part)
    return made


def _check_packages(name: str) -> None:
    for package in ("torch", *MODELS[name].needs):
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"{name} needs the package {package}; pip install {package}")


def _randomize(torch: Any, part: Any) -> None:
    """Statistics and scales as training leaves them; products that keep the size of their values."""
    if isinstance(part, torch.nn.BatchNorm2d):
        part.running_mean.normal_(0, 0.1)
        part.running_var.uniform_(0.5, 1.5)
        part.weight.uniform_(0.3, 0.9)
        part.bias.normal_(0, 0.1)
    elif isinstance(part, torch.nn.LayerNorm):
        part.weight.uniform_(0.5, 1.5)
        part.bias.normal_(0, 0.1)
    elif isinstance(part, torch.nn.Linear):
        torch.nn.init.normal_(part.weight, std=part.in_features**-0.5)
    elif isinstance(part, torch.nn.Conv2d):
        torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


def place(name: str, batch: int, folder: Path) -> Path:
    """Where the model's ONNX file of a batch size is; `MODEL.pt2` beside it is what PyTorch runs.

    Raises:
        ModelError: torch, whose version is part of the path, is missing.
    """
    _check_packages(name)
    return folder / _version() / f"{name}-{batch}.onnx"


def export_apart(name: str, batch: int, folder: Path) -> Path:
    """`export` in a process of its own: torch and the model's weights leave no trace in this one.

    Raises:
        ModelError: a package is missing, or torch can't export it.
    """
    path = place(name, batch, folder)
    if path.exists():
        return path
    command = [sys.executable, "-m", "benchmarks.random_models", name, str(batch), str(folder)]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=_EXPORT_LIMIT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"exporting {name} did not end within {_EXPORT_LIMIT_S:.0f} s") from error
    if done.returncode or not path.exists():
        said = " / ".join(done.stderr.strip().splitlines()[-2:]) or "no message"
        raise ModelError(f"exporting {name} failed: {said}")
    return path


def export(name: str, batch: int, folder: Path) -> Path:
    """The model's ONNX file for a batch size, made unless it is there.

    Raises:
        ModelError: a package is missing, or torch can't export it.
    """
    path = place(name, batch, folder)
    if path.exists():
        return path
    model, torch = module(name), importlib.import_module("torch")
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = {key: torch.from_numpy(array) for key, array in feeds(name, batch).items()}
    draft = path.with_suffix(".part")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    errors = []
    for exporter in (_by_dynamo, _by_tracing):
        try:
            with torch.no_grad():
                exporter(torch, model, inputs, draft)
        except Exception as error:  # the exporters raise whatever the model's code makes them
            errors.append(f"{type(error).__name__}: {str(error)[:300]}")
            continue
        draft.rename(path)
        return path
    raise ModelError(f"torch can't export {name}: {'; then '.join(errors)}")


def _version() -> str:
    """Of what decides about the weights: a file of other weights must not be taken for this one."""
    torch = importlib.metadata.version("torch")
    return hashlib.sha256(Path(__file__).read_bytes() + torch.encode()).hexdigest()[:12]


def _by_dynamo(torch: Any, model: Any, inputs: Mapping[str, Any], path: Path) -> None:
    program = torch.export.export(model, tuple(inputs.values()))
    torch.onnx.export(
        program, (), str(path), dynamo=True, external_data=False, verbose=False,
        input_names=list(inputs), opset_version=_OPSET,
    )  # fmt: skip
    torch.export.save(program, path.with_suffix(".pt2"))


def _by_tracing(torch: Any, model: Any, inputs: Mapping[str, Any], path: Path) -> None:
    torch.onnx.export(
        model, tuple(inputs.values()), str(path), dynamo=False, input_names=list(inputs), opset_version=17
    )


def main() -> None:
    """`python -m benchmarks.random_models NAME BATCH FOLDER`."""
    name, batch, folder = sys.argv[1:]
    export(name, int(batch), Path(folder))


if __name__ == "__main__":
    main()
