"""The compiled loops of the NF4 quantizer: numba over single LLVM vector operations, where numba has only loops.

A weight comes as its raw bits, and the integer type says which: uint16 is bfloat16, int16 is float16, uint32 is
float32. All but `_table_codes` is portable LLVM, lowered to whatever the processor has; floating point is strict IEEE.
What is compiled is kept on disk and looked up by this file's own age, so intrinsics and loops share one file.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from verify.nf4.codebook import THRESHOLDS_F32

Bits = NDArray[Any]
Codes = NDArray[np.uint8]
Scales = NDArray[np.float32]

_I8, _I16, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_LOOKAHEAD = 4096
"""Bytes between a load and the prefetch issued with it: the hardware's own prefetcher stops at each 4 KiB page."""
_F16_REBIAS = 2.0**112
"""A float16's bits, shifted into a float32's place, name a value this much too small (subnormals included, exactly)."""


def _features() -> str:
    return str(config.CPU_FEATURES) if config.CPU_NAME else str(binding.get_host_cpu_features().flatten())


HAS_BYTE_TABLES = all(f"+{name}" in _features().split(",") for name in ("avx512bw", "avx512vbmi"))
"""Whether the processor looks up 64 bytes in a table of 64 at once (AVX-512 VBMI), which `_table_codes` needs."""

SMALLEST_SCALE = np.float32(1e-38)
"""bitsandbytes clamps the scale here, so that an all-zero block divides by something."""
REACH = 0x380
"""How far below the scale the table tells values apart, in bfloat16 steps: 7 octaves. The innermost threshold, 0.0398,
is 4.7 octaves below."""
# scales that the table serves: 8 octaves above the subnormals, and up to 2¹²⁶, beyond which 1/s is subnormal
_TABLE_FROM, _TABLE_TO = 0x480, 0x7E80


def _vector(element: ir.Type, lanes: int) -> ir.VectorType:
    return ir.VectorType(element, lanes)


def _all(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _load(context: Any, builder: Any, array_type: Any, array: Any, index: Any, lanes: int) -> Any:
    element = context.get_data_type(array_type.dtype)
    pointer = _address(context, builder, array_type, array, index)
    vector = builder.bitcast(pointer, _vector(element, lanes).as_pointer())
    return builder.load(vector, align=element.width // 8)


def _call(builder: Any, name: str, result: ir.Type, arguments: list[Any]) -> Any:
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    undefined = ir.Constant(_vector(value.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, _all(_vector(_I32, lanes), 0))


def _magnitude_mask(element: ir.IntType) -> int:
    return int(2 ** (element.width - 1) - 1)


def _floats(builder: Any, dtype: Any, bits: Any) -> Any:
    """Convert a vector of raw bits to float32, exactly."""
    lanes = bits.type.count
    wide, floats = _vector(_I32, lanes), _vector(_F32, lanes)
    if dtype == types.uint32:
        return builder.bitcast(bits, floats)
    if dtype == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(bits, wide), _all(wide, 16)), floats)
    word = builder.zext(bits, wide)
    magnitude = builder.shl(builder.and_(word, _all(wide, 0x7FFF)), _all(wide, 13))
    magnitude = builder.fmul(builder.bitcast(magnitude, floats), _all(floats, _F16_REBIAS))
    sign = builder.shl(builder.and_(word, _all(wide, 0x8000)), _all(wide, 16))
    return builder.bitcast(builder.or_(builder.bitcast(magnitude, wide), sign), floats)


def _ladder(builder: Any, x: Any) -> Any:
    """Return the number of thresholds strictly below each x, as i8: a binary search by comparison and selection."""
    codes = _vector(_I8, x.type.count)
    left = [_all(x.type, float(threshold)) for threshold in THRESHOLDS_F32]
    code = _all(codes, 0)
    while left:
        middle = len(left) // 2
        above = builder.fcmp_ordered(">", x, left[middle])
        code = builder.or_(code, builder.select(above, _all(codes, middle + 1), _all(codes, 0)))
        pairs = zip(left[middle + 1 :], left[:middle], strict=True)
        left = [builder.select(above, high, low) for high, low in pairs]
    return code


def _largest(lanes: int, *, prefetch: bool = False) -> Any:
    """Make `largest(bits, start)`: the largest magnitude (bits without sign) of `lanes` values, as an unsigned int.

    Magnitudes of one type order as integers; from the type's infinity on, a value is not finite.
    """

    @intrinsic
    def intrinsic_largest(_typing: Any, bits: Any, start: Any) -> Any:
        unsigned = types.uint32 if bits.dtype == types.uint32 else types.uint16

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = _load(context, builder, signature.args[0], arguments[0], arguments[1], lanes)
            if prefetch:
                pointer = _address(context, builder, signature.args[0], arguments[0], arguments[1])
                pointer = builder.bitcast(pointer, _I8.as_pointer())
                for line in range(0, lanes * values.type.element.width // 8, 64):
                    ahead = builder.gep(pointer, [ir.Constant(_I64, _LOOKAHEAD + line)])
                    # a read (0), not kept once used (0), of data (1); past the end of the array it does nothing
                    flags = [ir.Constant(_I32, flag) for flag in (0, 0, 1)]
                    _call(builder, "llvm.prefetch.p0", ir.VoidType(), [ahead, *flags])
            element = values.type.element
            magnitudes = builder.and_(values, _all(values.type, _magnitude_mask(element)))
            return _call(builder, f"llvm.vector.reduce.umax.v{lanes}i{element.width}", element, [magnitudes])

        return unsigned(bits, start), generate

    return intrinsic_largest


def _ladder_codes(lanes: int, *, divide: bool = False) -> Any:
    """Make `ladder_codes(bits, start, by, codes)`: code `lanes` values from `start` after scaling them by float32 `by`.

    x is the float32 product with `by`, or the quotient. This is the definition itself (docs/nf4.md).
    """

    @intrinsic
    def intrinsic_codes(_typing: Any, bits: Any, start: Any, by: Any, codes: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = _load(context, builder, signature.args[0], arguments[0], arguments[1], lanes)
            weights = _floats(builder, signature.args[0].dtype, values)
            scale = _spread(builder, arguments[2], lanes)
            x = builder.fdiv(weights, scale) if divide else builder.fmul(weights, scale)
            pointer = _address(context, builder, signature.args[3], arguments[3], arguments[1])
            code = _ladder(builder, x)
            builder.store(code, builder.bitcast(pointer, code.type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(bits, start, by, codes), generate

    return intrinsic_codes


@intrinsic
def _as_float(_typing: Any, dtype_of: Any, magnitude: Any) -> Any:
    """Convert one magnitude to float32; the array `dtype_of` says of which type it is."""

    def generate(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = _spread(builder, arguments[1], 1)
        return builder.extract_element(_floats(builder, signature.args[0].dtype, bits), ir.Constant(_I32, 0))

    return types.float32(dtype_of, magnitude), generate


@intrinsic
def _table_codes(_typing: Any, bits: Any, start: Any, base: Any, tables: Any, row: Any, codes: Any) -> Any:
    """Code 64 bfloat16 values by table: `_table_codes(bits, start, base, tables, row, codes)`.

    Magnitudes count from `base` (uint16), everything below being 0. Their upper bits and the sign pick one of 64
    buckets of 32 neighbouring values; the three tables of uint8 `[64]` from `tables[row]` hold each bucket's code up
    to its cut, its code above, and 8 times the cut. `codes[start:]` must be aligned to 64 bytes: it is written past
    the caches, so a `_fence()` must follow before another thread reads it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not HAS_BYTE_TABLES or signature.args[0].dtype != types.uint16:
            return context.get_dummy_value()  # never reached: no tables are passed
        values = _load(context, builder, signature.args[0], arguments[0], arguments[1], 64)
        magnitudes = builder.and_(values, _all(values.type, 0x7FFF))
        above = _call(builder, "llvm.usub.sat.v64i16", values.type, [magnitudes, _spread(builder, arguments[2], 64)])
        sign = builder.and_(builder.lshr(values, _all(values.type, 2)), _all(values.type, 0x2000))
        # high byte: sign and bucket (6 bits); low byte: 8 times the place within the bucket
        pairs = builder.bitcast(builder.or_(builder.shl(above, _all(values.type, 3)), sign), _vector(_I8, 128))
        bytes64, lanes64 = _vector(_I8, 64), _vector(_I32, 64)
        undefined = ir.Constant(pairs.type, ir.Undefined)
        place = builder.shuffle_vector(pairs, undefined, ir.Constant(lanes64, list(range(0, 128, 2))))
        bucket = builder.shuffle_vector(pairs, undefined, ir.Constant(lanes64, list(range(1, 128, 2))))

        def looked_up(table: int) -> Any:
            first = builder.add(arguments[4], ir.Constant(_I64, 64 * table))
            entries = _load(context, builder, signature.args[3], arguments[3], first, 64)
            return _call(builder, "llvm.x86.avx512.permvar.qi.512", bytes64, [entries, bucket])

        code = builder.select(builder.icmp_unsigned(">", place, looked_up(2)), looked_up(1), looked_up(0))
        pointer = _address(context, builder, signature.args[5], arguments[5], arguments[1])
        store = builder.store(code, builder.bitcast(pointer, bytes64.as_pointer()), align=64)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.void(bits, start, base, tables, row, codes), generate


@intrinsic
def _fence(_typing: Any) -> Any:
    """Order the stores of `_table_codes` before whatever follows."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


_largest_of_64 = _largest(64, prefetch=True)
_largest_of_32 = _largest(32)
_largest_of_1 = _largest(1)
_ladder_32 = _ladder_codes(32)
_ladder_1 = _ladder_codes(1)
_ladder_1_divided = _ladder_codes(1, divide=True)


@njit(cache=True, nogil=True, error_model="numpy")
def _largest_magnitude(bits: Bits, start: int, end: int) -> Any:
    best = _largest_of_1(bits, start)
    at = start
    while at + 64 <= end:
        best = max(best, _largest_of_64(bits, at))
        at += 64
    if at + 32 <= end:
        best = max(best, _largest_of_32(bits, at))
        at += 32
    while at < end:
        best = max(best, _largest_of_1(bits, at))
        at += 1
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def _code_by_ladder(bits: Bits, start: int, end: int, reciprocal: Any, codes: Codes) -> None:
    at = start
    while at + 32 <= end:
        _ladder_32(bits, at, reciprocal, codes)
        at += 32
    while at < end:
        _ladder_1(bits, at, reciprocal, codes)
        at += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _quantize_block(
    bits: Bits, codes: Codes, absmax: Scales, block: int, start: int, end: int, whole: bool, infinity: int
) -> int:
    """Quantize one block by the definition; return the flat index of its first value that is not finite, or -1."""
    most = _largest_magnitude(bits, start, end)
    if most >= infinity:
        while _largest_of_1(bits, start) < infinity:
            start += 1
        return start
    scale: Any = _as_float(bits, most)
    by = max(scale, SMALLEST_SCALE)
    if whole:
        absmax[block] = scale
        _code_by_ladder(bits, start, end, np.float32(1) / by, codes)
    else:
        # as in the reference, a short last block keeps the clamped scale, and divides where others multiply
        absmax[block] = by
        for at in range(start, end):
            _ladder_1_divided(bits, at, by, codes)
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def quantize_range(
    bits: Bits, codes: Codes, absmax: Scales, first: int, last: int, block_size: int, infinity: int
) -> int:
    """Quantize blocks `first` to `last`; return the flat index of the first value that is not finite, or -1."""
    for block in range(first, last):
        start = block * block_size
        end = min(start + block_size, bits.size)
        bad: int = _quantize_block(bits, codes, absmax, block, start, end, start + block_size == end, infinity)
        if bad >= 0:
            return bad
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def quantize_range_by_table(
    bits: Bits, codes: Codes, absmax: Scales, first: int, last: int, block_size: int, infinity: int, tables: Codes
) -> int:
    """Do the same by table where it serves: for bfloat16, whole blocks of a multiple of 64, aligned `codes`."""
    for block in range(first, last):
        start = block * block_size
        end = start + block_size
        most = _largest_of_64(bits, start)
        for at in range(start + 64, end, 64):
            most = max(most, _largest_of_64(bits, at))
        if _TABLE_FROM <= most <= _TABLE_TO:
            absmax[block] = _as_float(bits, most)
            base = np.uint16(most - REACH)
            row = np.int64(most & 127) * 192
            for at in range(start, end, 64):
                _table_codes(bits, at, base, tables, row, codes)
        else:
            bad: int = _quantize_block(bits, codes, absmax, block, start, end, True, infinity)
            if bad >= 0:
                return bad
    _fence()
    return -1
