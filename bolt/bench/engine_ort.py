"""ONNX Runtime's own CPU provider: as it comes, and with the settings that suit a model best."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from bolt.bench.opening import Bind, Call, Feeds, Noted, Opening
from bolt.ep.session import load_runtime
from bolt.errors import ModelError
from bolt.timing import Protocol, interleave

_TRIAL = Protocol(rounds=4, burst_s=0.04, warm_s=0.05, warm_calls=1, limit_s=3.0, least_rounds=2)
_GAIN = 1.01
"""A setting has to win by this much to be kept: fewer settings are easier to believe."""
_TRANSFORMER_SIGNS = ("LayerNormalization", "Softmax", "Erf")


def open_ort(opening: Opening) -> Bind:
    """With the settings it comes with."""
    return session_call(stock_session(opening.model, opening.threads))


def session_call(session: Any) -> Bind:
    """Binds inputs to `session.run`."""
    return lambda feeds: lambda: session.run(None, feeds)


def stock_session(model: Path, threads: int, *, optimized: bool = True) -> Any:
    """ONNX Runtime's own CPU provider; without its optimizations it is the reference for results.

    Raises:
        ModelError: it can't load the model.
    """
    level = "ORT_ENABLE_ALL" if optimized else "ORT_DISABLE_ALL"
    return _session(model, threads, Setting(name="", level=level))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a session is made.

    Attributes:
        name: for people; settings that are combined are joined by commas.
        level: of graph optimization.
        entries: configuration entries of the session.
        arena: whether it keeps freed memory.
        rewritten: whether its transformer optimizer changes the model first.
    """

    name: str
    level: str = "ORT_ENABLE_ALL"
    entries: Mapping[str, str] = field(default_factory=dict)
    arena: bool = True
    rewritten: bool = False

    def with_(self, other: Setting) -> Setting:
        """Both; what `other` names decides."""
        return Setting(
            name=f"{self.name}, {other.name}" if self.name else other.name,
            level=other.level if other.level != "ORT_ENABLE_ALL" else self.level,
            entries={**self.entries, **other.entries},
            arena=self.arena and other.arena,
            rewritten=self.rewritten or other.rewritten,
        )


DEFAULT = Setting(name="")
TRIED = (
    Setting(name="transformer optimizer", rewritten=True),
    Setting(name="extended optimizations", level="ORT_ENABLE_EXTENDED"),
    Setting(name="basic optimizations", level="ORT_ENABLE_BASIC"),
    Setting(name="denormals as zero", entries={"session.set_denormal_as_zero": "1"}),
    Setting(name="no spinning", entries={"session.intra_op.allow_spinning": "0"}),
    Setting(name="dynamic blocks", entries={"session.dynamic_block_base": "4"}),
    Setting(name="no arena", arena=False),
)
"""In the order they are tried, each on top of what has won so far."""


def open_best(opening: Opening) -> Bind:
    """With the fastest of `TRIED`, found on the inputs it is given; the note names it."""

    def bind(feeds: Feeds) -> Call:
        with tempfile.TemporaryDirectory(prefix="bolt-ort-") as folder:
            rewritten, problem = _rewritten(opening.model, Path(folder))
            settings = [s for s in TRIED if rewritten is not None or not s.rewritten]
            kept, call = _champion(opening, rewritten, settings, feeds)
        said = kept.name or "as it comes"
        return Noted(call, f"{said} ({problem})" if problem else said)

    return bind


def _champion(
    opening: Opening, rewritten: Path | None, settings: Sequence[Setting], feeds: Feeds
) -> tuple[Setting, Call]:
    """The settings that win one after the other, and the call with them."""
    kept, best = DEFAULT, _call(opening, None, DEFAULT, feeds)
    for setting in settings:
        tried = kept.with_(setting)
        try:
            challenger = _call(opening, rewritten, tried, feeds)
            challenger()
        except Exception:  # a setting that a model does not run with is no candidate
            continue
        samples = interleave({"best": best, "tried": challenger}, _TRIAL)
        if samples.ratio("tried", "best").median > _GAIN:
            kept, best = tried, challenger
    return kept, best


def _call(opening: Opening, rewritten: Path | None, setting: Setting, feeds: Feeds) -> Call:
    model = rewritten if setting.rewritten and rewritten else opening.model
    return session_call(_session(model, opening.threads, setting))(feeds)


def _session(model: Path, threads: int, setting: Setting) -> Any:
    ort = load_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, setting.level)
    options.enable_cpu_mem_arena = setting.arena
    for key, value in setting.entries.items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no common base
        raise ModelError(f"ONNX Runtime can't load {model}: {error}") from error


def _rewritten(model: Path, folder: Path) -> tuple[Path | None, str]:
    """The model after ONNX Runtime's transformer optimizer, or None and, where that is news, why."""
    graph = onnx.load(model, load_external_data=False).graph
    if not {node.op_type for node in graph.node} & set(_TRANSFORMER_SIGNS):
        return None, ""
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    place = folder / "rewritten.onnx"
    try:
        optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
        with contextlib.redirect_stdout(io.StringIO()):
            made = optimizer.optimize_model(str(model), model_type="bert", opt_level=0)
        made.save_model_to_file(str(place))
    except Exception as error:  # it raises whatever an unknown graph makes it
        return None, f"transformer optimizer: {(str(error) or repr(error)).splitlines()[0][:80]}"
    return place, ""
