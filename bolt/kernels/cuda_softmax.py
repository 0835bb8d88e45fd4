"""`cuda_softmax`: softmax and log-softmax of rows: maximum, exponentials and their sum, one scaling pass."""

from __future__ import annotations

from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cuda_rows import CudaRows, Teams
from bolt.ops.rows import SoftmaxSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_LAST = {
    False: {
        "held": "power",
        "norm": "1.0f / sum",
        "from_held": "v * norm",
        "from_input": "vexp_nonpositive(v - top) * norm",
    },
    True: {
        "held": "shifted",
        "norm": "vlog(sum)",
        "from_held": "v - norm",
        "from_input": "(v - top) - norm",
    },
}
"""By `SoftmaxSpec.log`: what a row in registers keeps of the second pass, and the results of the third."""


class CudaSoftmax(CudaRows):
    """The family; see the module's docstring."""

    name = "cuda_softmax"
    op = "softmax"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, SoftmaxSpec)
        reason = cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: Teams, target: Target, name: str) -> str:
        assert isinstance(spec, SoftmaxSpec)
        return render("cuda_softmax.cu.jinja", {**self.context(spec, config, name), **_LAST[spec.log]})
