"""Threads that wait for each other, memory that is guarded, and what a wrong kernel is told."""

from __future__ import annotations

import numpy as np
import pytest
from cuda import emulator, ptx_kernels

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle_to_ptx()), reason=said)

PARAMS = ".param .u64 p0, .param .u64 p1"
START = """
.reg .b64 %q<9>; .reg .b32 %r<20>; .reg .pred %p<9>; .reg .b32 %tid;
ld.param.u64 %q0, [p0]; ld.param.u64 %q1, [p1]; mov.u32 %tid, %tid.x;
mad.wide.u32 %q2, %tid, 4, %q0; mad.wide.u32 %q3, %tid, 4, %q1;
"""


def kernel(name: str, body: str, variables: str = "") -> str:
    """A kernel whose thread t finds &p0[t] in %q2 and &p1[t] in %q3 (32-bit elements)."""
    return f"{variables}\n.visible .entry {name}({PARAMS}) {{ {START} {body} ret; }}"


KERNELS = "\n".join(
    [
        kernel(
            "shuffles",
            """ld.global.b32 %r0, [%q3];
            shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1;
            shfl.sync.up.b32 %r2|%p0, %r0, 3, 0, -1;
            shfl.sync.down.b32 %r3|%p1, %r0, 3, 31, -1;
            shfl.sync.idx.b32 %r4, %r0, 2, 0x181f, -1;
            shl.b32 %r1, %r1, 0; mad.lo.s32 %r1, %r2, 100, %r1; mad.lo.s32 %r1, %r3, 10000, %r1;
            mad.lo.s32 %r1, %r4, 1000000, %r1; @!%p0 add.s32 %r1, %r1, 500; @!%p1 add.s32 %r1, %r1, 50000;
            st.global.b32 [%q2], %r1;""",
        ),
        kernel(
            "votes",
            """and.b32 %r0, %tid, 3; setp.eq.s32 %p0, %r0, 1;
            setp.lt.u32 %p1, %tid, 16; @%p1 bra LOW;
            vote.sync.ballot.b32 %r1, %p0, 0xFFFF0000; bra DONE;
            LOW: vote.sync.ballot.b32 %r1, %p0, 0x0000FFFF;
            DONE: redux.sync.add.s32 %r2, %r0, -1; match.any.sync.b32 %r3, %r0, -1;
            xor.b32 %r1, %r1, %r2; xor.b32 %r1, %r1, %r3; st.global.b32 [%q2], %r1;""",
        ),
        kernel(
            "reversal",  # through shared memory; half of the threads leave before the second barrier
            """mov.u32 %r0, buffer; shl.b32 %r1, %tid, 2; add.s32 %r2, %r0, %r1;
            ld.global.b32 %r3, [%q3]; st.shared.b32 [%r2], %r3; bar.sync 0;
            setp.ge.u32 %p0, %tid, 128; @%p0 ret;
            xor.b32 %r1, %r1, 1020; add.s32 %r2, %r0, %r1; ld.shared.b32 %r3, [%r2]; bar.sync 0;
            st.global.b32 [%q2], %r3;""",
            ".shared .align 4 .b8 buffer[1024];",
        ),
        kernel(
            "counts",
            """atom.global.add.u32 %r0, [%q0], 1; red.global.max.u32 [%q0+4], %r0;
            and.b32 %r1, %tid, 1; setp.eq.s32 %p0, %r1, 1; bar.red.popc.u32 %r2, 0, %p0;
            setp.eq.s32 %p1, %tid, 0; @%p1 st.global.b32 [%q0+8], %r2;
            bar.red.and.pred %p2, 0, %p0; selp.b32 %r3, 1, 0, %p2; @%p1 st.global.b32 [%q0+12], %r3;""",
        ),
        kernel(
            "turns",  # each block waits for the one after it, which must be started meanwhile
            """mov.u32 %r0, %ctaid.x; mov.u32 %r5, %nctaid.x; sub.s32 %r5, %r5, 1; sub.s32 %r5, %r5, %r0;
            WAIT: ld.global.acquire.gpu.b32 %r1, [%q0]; setp.ne.s32 %p0, %r1, %r5; @%p0 bra WAIT;
            add.s32 %r1, %r1, 1; st.global.release.gpu.b32 [%q0], %r1;""",
        ),
        kernel(
            "late",  # cp.async: old bytes before the wait, new ones and zeros after it
            """mov.u32 %r0, pieces; shl.b32 %r1, %tid, 4; add.s32 %r0, %r0, %r1; cvt.u64.u32 %q4, %r1;
            add.s64 %q5, %q1, %q4; mov.b32 %r2, 7; st.shared.b32 [%r0], %r2; st.shared.b32 [%r0+12], %r2;
            cp.async.ca.shared.global [%r0], [%q5], 16, 8; cp.async.commit_group;
            ld.shared.b32 %r3, [%r0]; cp.async.wait_group 0;
            ld.shared.b32 %r4, [%r0]; ld.shared.b32 %r5, [%r0+12];
            mad.lo.s32 %r3, %r4, 100, %r3; mad.lo.s32 %r3, %r5, 10000, %r3; st.global.b32 [%q2], %r3;""",
            ".shared .align 16 .b8 pieces[512];",
        ),
        kernel(
            "switches",
            """and.b32 %r0, %tid, 3; brx.idx %r0, LIST; LIST: .branchtargets A, B, C, A;
            A: mov.b32 %r1, 10; bra END; B: mov.b32 %r1, 20; bra END; C: mov.b32 %r1, 30;
            END: { .param .b32 x; .param .b32 y; st.param.b32 [x], %r1; call (y), twice, (x);
            ld.param.b32 %r2, [y]; } st.global.b32 [%q2], %r2;""",
            """.func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %r<3>; ld.param.b32 %r0, [in];
            add.s32 %r1, %r0, %r0; st.param.b32 [out], %r1; ret; }""",
        ),
        kernel(
            "dynamic",
            """mov.u32 %r0, room; shl.b32 %r1, %tid, 2; add.s32 %r0, %r0, %r1;
            st.shared.b32 [%r0], %tid; ld.shared.b32 %r2, [%r0]; st.global.b32 [%q2], %r2;""",
            ".extern .shared .align 16 .b8 room[];",
        ),
        kernel("beyond", "ld.global.b32 %r0, [%q1+1048576]; st.global.b32 [%q2], %r0;"),
        kernel("unaligned", "ld.global.b64 %q4, [%q1+4]; st.global.b64 [%q0], %q4;"),
        kernel("generic_host", "mov.b64 %q4, 4096; ld.b32 %r0, [%q4]; st.global.b32 [%q2], %r0;"),
        kernel("stuck", "setp.eq.s32 %p0, %tid, 0; @%p0 bar.sync 1, 64; bar.sync 0;"),
        kernel(
            "apart",
            """setp.lt.u32 %p0, %tid, 16; @%p0 bra LOW; vote.sync.ballot.b32 %r1, %p0, -1; bra END;
            LOW: redux.sync.add.s32 %r1, %tid, -1; END: st.global.b32 [%q2], %r1;""",
        ),
        kernel(
            "uninitialized",
            "mov.u32 %r0, object; mbarrier.arrive.shared::cta.b64 _, [%r0];",
            ".shared .align 8 .b64 object;",
        ),
        kernel(
            "races",  # a barrier is missing
            """mov.u32 %r0, slots; shl.b32 %r1, %tid, 2; add.s32 %r2, %r0, %r1; add.s32 %r3, %tid, 1;
            st.shared.b32 [%r2], %r3; xor.b32 %r1, %r1, 4; add.s32 %r2, %r0, %r1; ld.shared.b32 %r3, [%r2];
            st.global.b32 [%q2], %r3;""",
            ".shared .align 4 .b8 slots[128];",
        ),
        kernel("traps", "setp.eq.s32 %p0, %tid, 3; @%p0 trap;"),
    ]
)


@pytest.fixture(scope="module")
def launcher() -> ptx_kernels.Launcher:
    ptx_kernels.load(KERNELS)
    return ptx_kernels.Launcher()


def run(launcher, name, *, threads=32, shared=0, blocks=1, source=None):
    out = np.zeros(max(threads, 8), np.int32)
    given = np.arange(1, threads + 1, dtype=np.int32) if source is None else source
    launcher(name, out, given, block=(threads, 1, 1), grid=(blocks, 1, 1), shared=shared)
    return out


def test_shuffles_and_their_predicates(launcher):
    lane = np.arange(32)
    butterfly, up = (lane ^ 5) + 1, np.where(lane >= 3, lane - 2, lane + 1)
    down = np.where(lane <= 28, lane + 4, lane + 1)
    segment = lane // 8 * 8 + 3
    want = butterfly + 100 * up + 10_000 * down + 1_000_000 * segment
    want += np.where(lane < 3, 500, 0) + np.where(lane > 28, 50_000, 0)
    assert np.array_equal(run(launcher, "shuffles"), want)


def test_votes_of_diverged_halves_meet_again(launcher):
    lane = np.arange(32)
    ballot = np.where(lane < 16, 0x2222, 0x22220000)
    want = ballot ^ 48 ^ (0x11111111 << lane % 4)
    assert np.array_equal(run(launcher, "votes"), want.astype(np.uint32).view(np.int32))


def test_barriers_do_not_wait_for_threads_that_left(launcher):
    want = np.zeros(256, np.int32)
    want[:128] = np.arange(256, 128, -1)
    assert np.array_equal(run(launcher, "reversal", threads=256), want)


def test_atomics_and_barrier_reductions(launcher):
    assert run(launcher, "counts", threads=96)[:4].tolist() == [96, 95, 48, 0]


def test_a_block_that_waits_for_a_later_one(launcher):
    assert run(launcher, "turns", threads=1, blocks=5)[0] == 5


def test_asynchronous_copies_are_as_late_as_the_wait_allows(launcher):
    source = np.arange(1, 129, dtype=np.int32)
    want = 7 + 100 * source[::4]  # and the fourth word is zero
    assert np.array_equal(run(launcher, "late", source=source), want)


def test_computed_branches_and_calls(launcher):
    assert run(launcher, "switches")[:4].tolist() == [20, 40, 60, 20]


def test_dynamic_shared_memory_ends_where_the_launch_said(launcher):
    assert np.array_equal(run(launcher, "dynamic", shared=128), np.arange(32))
    with pytest.raises(AssertionError, match=r"thread \(31,0,0\).*shared address"):
        run(launcher, "dynamic", shared=124)


@pytest.mark.parametrize(
    "name, message",
    [
        ("beyond", "error 700.*kernel beyond.*access to 0x3"),
        ("unaligned", "error 716.*access of 8 bytes"),
        ("generic_host", "error 700.*no device memory"),
        ("stuck", "error 702.*no thread can go on\n.*lane 0 waits at PTX line .*barrier"),
        ("apart", "error 719.*different instructions"),
        ("uninitialized", "error 719.*not initialized"),
        ("traps", r"error 719.*thread \(3,0,0\).*trap"),
    ],
)
def test_wrong_kernels_are_told_where(launcher, name, message):
    with pytest.raises(AssertionError, match=message):
        run(launcher, name)
    assert run(launcher, "switches")[0] == 20, "the device works again"


def test_a_missing_barrier_is_seen_by_the_order_of_threads(launcher):
    forward = run(launcher, "races")
    launcher.gpu.cuda.fake_cuda_order(1)
    try:
        backward = run(launcher, "races")
    finally:
        launcher.gpu.cuda.fake_cuda_order(0)
    lane = np.arange(32)
    assert np.array_equal(forward, np.where(lane % 2, lane, -1)), "even lanes came too early"
    assert np.array_equal(backward, np.where(lane % 2, -1, lane + 2))


def test_launches_the_hardware_refuses(launcher):
    for wrong in ({"threads": 1025}, {"blocks": 0}, {"shared": 228 << 10}):
        with pytest.raises(AssertionError, match=r"error [19]:"):
            run(launcher, "switches", **wrong)
