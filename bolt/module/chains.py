"""The call of a chain in a generated `run`: its tables, in the words of `templates/include/bolt/chain.h`."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.chain import Chain, Link

HEADER = "bolt/chain.h"

_IN_MEMORY = -1


def chain_lines(
    chain: Chain, images: str, kernels: Sequence[str], addresses: Sequence[Sequence[str]], alignment: int
) -> list[str]:
    """The statements that run `chain`; `context`, `scratch` and `size` are at hand.

    Args:
        images: how many images there are.
        kernels: function of each link.
        addresses: of each link, where its operands are; of what stays inside the chain it does not matter.
        alignment: bytes at whose multiples kept images start.
    """
    at, rows = chain.offsets(alignment), chain.capacities()
    lines, table = [], []
    for i, (link, kernel) in enumerate(zip(chain.links, kernels, strict=True)):
        makers = _makers(chain, i)
        given = [
            a if maker == _IN_MEMORY else "nullptr" for a, maker in zip(addresses[i], makers, strict=True)
        ]
        counts_input = [str(int(slot.operand == 1)) for slot in link.spec.dynamic()]
        lines += [
            f"static const BoltChainOperand o{i}[] = {{{_operands(link, makers)}}};",
            f"static const uint8_t f{i}[] = {{{', '.join(counts_input)}}};",
            f"char* const a{i}[] = {{{', '.join(given)}}};",
        ]
        fields = (kernel, f"o{i}", len(makers), len(counts_input), f"f{i}", *_rows(link))
        table.append(_braced(*fields, *_place(link, at[i], rows[i])))
    pointers = [f"a{i}" for i in range(len(chain.links))]
    return [
        *lines,
        f"static const BoltLink links[] = {_braced(*table)};",
        f"const BoltChain chain = {_braced('links', len(table), images, chain.strip, at[-1])};",
        f"char* const* const addresses[] = {_braced(*pointers)};",
    ]


def _makers(chain: Chain, index: int) -> list[int]:
    """For each operand of a link, which link makes it inside the chain."""
    count = len(chain.links[index].moves)
    makers = [_IN_MEMORY] * count
    if index + 1 < len(chain.links):
        makers[0] = index
    if index:
        makers[1] = index - 1
    return makers


def _operands(link: Link, makers: Sequence[int]) -> str:
    sizes = [operand.dtype.size_bytes for operand in link.spec.operands]
    rows = zip(link.moves, sizes, makers, strict=True)
    return ", ".join(_braced(image * size, row * size, maker) for (image, row), size, maker in rows)


def _rows(link: Link) -> tuple[int, ...]:
    window = link.window
    return link.quantum, link.rows, link.input_rows, window.stride, window.before, window.extent


def _place(link: Link, at: int, rows: int) -> tuple[int, ...]:
    """Where the kept rows of a link lie; nothing for the last link."""
    kept, size = link.kept, link.spec.out.dtype.size_bytes
    if kept is None:
        return (0,) * 7
    sizes = (kept.pitch * size, kept.lead * size, kept.width * size)
    return at, *sizes, rows, kept.border, int(kept.is_sparse)


def _braced(*values: object) -> str:
    return f"{{{', '.join(map(str, values))}}}"
