"""What keeps a step from the machine's peak, told from its sizes and its kernel's family."""

from __future__ import annotations

from bolt.bench.layers import Layer

_WORTH_US = 5.0
_LANES = 16
_FEW = 8
_SHALLOW = 64

_FAMILIES = {
    "": "steps of a chain hand on what they make through the caches, a strip at a time",
    "cpu_attention": "softmax between its two products, whose sums are as short as a head is wide",
    "cpu_copy": "moves elements that don't lie one after another",
    "cpu_depthwise": "one product for every value read: loads, not products, are its limit",
    "cpu_depthwise_words": "one product for every value read: loads, not products, are its limit",
    "cpu_gather": "moves rows that don't lie one after another",
    "cpu_grouped": "groups narrower than a vector: lanes hold several groups, each value is spread first",
    "cpu_narrow_conv": "fewer columns than a vector has lanes",
    "cpu_narrow_gemm": "fewer columns than a vector has lanes",
    "cpu_norm": "few operations for each value read, a square root and a division among them",
    "cpu_pointwise": "exp, erf and divisions count as one operation each and take ten to thirty",
    "cpu_pool": "compares and adds, each of a value of its own",
    "cpu_reduce": "adds up, each of a value of its own",
    "cpu_resize": "moves elements that don't lie one after another",
    "cpu_softmax": "exp counts as one operation and takes about twenty",
    "cpu_winograd": "moving to and from transformed tiles takes as long as the products between",
}


def why(layer: Layer) -> str:
    """One reason, the first that holds."""
    if layer.us < _WORTH_US:
        return "shorter than 5 us: the call and the hand-over between threads count"
    if layer.mnk is None or layer.family not in ("cpu_conv", "cpu_gemm"):
        return _FAMILIES.get(layer.family, "not looked into")
    m, n, k = layer.mnk
    if m <= _FEW:
        return "so few rows that each weight is used once or twice: reading the weights is its limit"
    if n < _LANES:
        return "fewer columns than a vector has lanes"
    if k <= _SHALLOW:
        return "short sums: writing the output costs as much as its products"
    if n % _LANES:
        return "the last vector of columns is partly empty"
    return "not looked into"
