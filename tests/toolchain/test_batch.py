"""Which CUDA sources share a translation unit, and how much memory compilers are let have."""

import threading
import time

from bolt.kernels.family import Source
from bolt.toolchain.batch import CUTLASS_2, CUTLASS_3, HOST, PLAIN, Batch, batches, cost, seconds, singles
from bolt.toolchain.memory import Gate, available_bytes

CUTLASS = '// Title\n#include "cutlass/gemm/device/gemm.h"\n#include <cuda_fp16.h>\n\n'


def cuda(name, head=CUTLASS, body="int f();"):
    return Source(name=name, text=f"{head}{body}\n", language="cuda")


def names(found):
    return [[s.name for s in batch.sources] for batch in found]


def test_sources_with_equal_includes_are_one_translation_unit():
    text = batches([cuda("b"), cuda("a", body="int g();")])[0].source.text
    assert text == (
        '#include "cutlass/gemm/device/gemm.h"\n#include <cuda_fp16.h>\n'
        "namespace a {\nint g();\n}  // namespace a\n\nnamespace b {\nint f();\n}  // namespace b\n"
    )


def test_a_text_that_has_its_namespace_gets_no_other():
    body = "namespace a {\nint f();\n}"
    assert batches([cuda("a", body=body), cuda("b")])[0].source.text.count("namespace a {") == 1


def test_forward_declarations_stay_global():
    head = "#include <stdint.h>\nstruct CUstream_st;  // a stream\n"
    text = batches([cuda("a", head), cuda("b", head)])[0].source.text
    assert text.index("struct CUstream_st;") < text.index("namespace a")


def test_what_cannot_share_stays_alone():
    define = cuda("m", body="#define N 1\nint f();")
    late = cuda("n", body='int f();\n#include "x.h"')
    other = cuda("o", head='#include "cutlass/cutlass.h"\n')
    host = Source(name="h", text=CUTLASS)
    found = batches([cuda("a"), define, late, other, host, cuda("b")])
    assert sorted(names(found)) == [["a", "b"], ["h"], ["m"], ["n"], ["o"]]


def test_without_cutlass_different_includes_are_put_together():
    (batch,) = batches(
        [cuda("a", "#include <x.h>\n#include <y.h>\n"), cuda("b", "#include <z.h>\n#include <x.h>\n")]
    )
    assert batch.source.text.startswith("#include <x.h>\n#include <y.h>\n#include <z.h>\nnamespace a {")


def test_one_source_is_compiled_as_it_is():
    one = cuda("a")
    assert batches([one])[0].source is one
    assert names(singles([one, cuda("b")])) == [["a"], ["b"]]


def test_batches_are_even_and_depend_on_the_set_alone():
    sources = [cuda(f"k{i:02}") for i in range(13)]
    found = names(batches(sources))
    assert [len(batch) for batch in found] == [4, 4, 5]
    assert names(batches(sources[::-1])) == found
    assert len({batch.source.name for batch in batches(sources)}) == 3


def test_costs_follow_what_a_source_includes():
    rows = {
        cost(Source(name="f", text="int f();")): HOST,
        cost(cuda("a", head="#include <cuda_fp16.h>\n")): PLAIN,
        cost(cuda("a")): CUTLASS_2,
        cost(cuda("a", head='#include "cutlass/gemm/collective/collective_builder.hpp"\n')): CUTLASS_3,
    }
    assert all(found is row for found, row in rows.items())
    assert seconds([cuda("a"), cuda("a"), cuda("b")]) == 2 * CUTLASS_2.seconds


def test_a_full_batch_takes_the_memory_of_its_row():
    full = Batch(tuple(cuda(f"k{i}") for i in range(CUTLASS_2.batch)))
    assert full.bytes == CUTLASS_2.batch_bytes
    assert Batch((cuda("a"),)).bytes == CUTLASS_2.bytes
    assert names(full.alone) == [[f"k{i}"] for i in range(CUTLASS_2.batch)]


def test_the_gate_lets_in_what_fits_and_always_one():
    gate, together, most = Gate(10), [], []

    def job(size):
        with gate.taken(size):
            together.append(size)
            most.append(sum(together))
            time.sleep(0.01)
            together.remove(size)

    threads = [threading.Thread(target=job, args=(size,)) for size in (6, 6, 4, 4, 25, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert max(size for size in most if size != 25) <= 10
    assert not [total for total in most if total > 25]


def test_free_memory_is_known():
    assert available_bytes() > 1 << 20
