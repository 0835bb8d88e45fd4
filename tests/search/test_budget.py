"""Spreading a budget."""

from bolt.search.budget import FIRST, LATER, Clock, Piece, Schedule


def drain(schedule):
    pieces = []
    while piece := schedule.next():
        pieces.append(piece)
    return pieces


def test_every_candidate_is_handed_out_once():
    counts = [1, FIRST, FIRST + 1, 40, 0]
    pieces = drain(Schedule([3.0, 1.0, 9.0, 2.0, 5.0], counts))
    for index, count in enumerate(counts):
        covered = [i for p in pieces if p.index == index for i in range(p.start, p.stop)]
        assert covered == list(range(count))


def test_the_heaviest_spec_comes_first_and_its_later_pieces_wait():
    pieces = drain(Schedule([1.0, 2.0], [FIRST + LATER, FIRST + LATER]))
    assert [p.index for p in pieces] == [1, 0, 1, 0]
    pieces = drain(Schedule([1.0, 100.0], [FIRST, FIRST + LATER]))
    assert [p.index for p in pieces] == [1, 1, 0]


def test_a_fruitless_piece_lets_others_go_first():
    schedule = Schedule([1.0, 4.0], [FIRST, FIRST + LATER])
    assert schedule.next() == Piece(1, 0, FIRST)
    schedule.fruitless(1)
    assert schedule.next() == Piece(0, 0, FIRST)
    assert schedule.left == LATER


def test_the_clock():
    ticks = iter([10.0, 12.5, 14.0])
    clock = Clock(5.0, now=lambda: next(ticks))
    assert clock.spent_s == 2.5
    assert clock.left_s == 1.0
