"""The exception tree. Every message says what went wrong, where, and what to do next.

    BoltError
    ├── ModelError        the ONNX file can't be read, is invalid, or an input does not fit it
    ├── TargetError       the machine or the requested target can't do this
    ├── ToolchainError    no usable compiler
    │   └── CompileError  a compiler run failed (command, exit code, last lines of stderr)
    ├── ModuleError       a compiled module could not be loaded, or its run failed
    ├── ArtifactError     a package is missing, damaged, tampered with, or made for something else
    ├── VerifyError       results differ from the reference by more than the tolerance table allows
    │   └── KernelError   every kernel for one computation failed when it was tried
    └── RuntimeMissing    onnxruntime is not installed, or too old

An expected "no" (this node is not supported, this candidate is slower) is not an exception:
it is a `bolt.report.Rejection`, a value.
"""


class BoltError(Exception):
    """Base of everything bolt raises on purpose."""

    exit_code = 1


class ModelError(BoltError):
    """The ONNX model, or an input given to it, is at fault."""

    exit_code = 3


class TargetError(BoltError):
    """The machine, or the requested target, can't do what was asked."""

    exit_code = 4


class ToolchainError(BoltError):
    """No usable compiler was found."""

    exit_code = 5


class CompileError(ToolchainError):
    """A compiler run failed; the message carries the command, the exit code and its last lines."""


class ModuleError(BoltError):
    """A compiled module can't be loaded, or reported an error from `run`."""

    exit_code = 6


class ArtifactError(BoltError):
    """An artifact is missing, damaged, tampered with, or made for another machine or version."""

    exit_code = 7


class VerifyError(BoltError):
    """A result is further from the reference than the tolerance table allows."""

    exit_code = 8


class KernelError(VerifyError):
    """Every kernel for a spec crashed, did not end, or computed something else."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key
        """Of the spec."""


class RuntimeMissing(BoltError):
    """onnxruntime is not installed, or is older than bolt can use."""

    exit_code = 9
