"""`cpu_softmax`: softmax and log-softmax of rows: maximum, exponentials and their sum, one scaling pass."""

from __future__ import annotations

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.rows import SoftmaxSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import F32


def _passes(spec: SoftmaxSpec) -> dict[str, str]:
    """What the second pass keeps in the output, and the third makes of it.

    Epilogue inputs may share the output's memory, and other types than fp32 would round twice: then the
    exponentials are computed again instead of being kept there.
    """
    if spec.log:
        acc = "(vload_upto(x + i, n) - top) - norm"
        return {"keep": "", "norm": "vlog(sum)", "acc": acc}
    norm = "1.0f / sum"
    if spec.extras or spec.out.dtype is not F32:
        return {"keep": "", "norm": norm, "acc": "vexp_nonpositive(vload_upto(x + i, n) - top) * norm"}
    return {"keep": "vstore_upto(y + i, e, n);", "norm": norm, "acc": "vload_upto(y + i, n) * norm"}


class CpuSoftmax(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_softmax"
    op = "softmax"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, SoftmaxSpec):
            return self.reject(spec, "not a softmax spec")
        reason = rowwise.unsupported(spec) or rowwise.unsupported_input(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, SoftmaxSpec)
        operands = range(len(spec.operands))
        context = rowwise.context(spec, rowwise.row_loops(spec, operands), operands, walk_name="at")
        k = argument_names(spec)[0]["dims"][-1]
        return render("cpu_softmax.cc.jinja", {"name": name, "k": k, **_passes(spec), **context})
