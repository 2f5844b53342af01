"""ONNX, .npy, .npz and PNG in Python's standard library: just enough to make what the tests feed and read what they get."""
import array
import io
import math
import struct
import zipfile
import zlib

# ---- ONNX: protobuf messages by field number (onnx.proto).

FLOAT, UINT8, INT64 = 1, 2, 7


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """An int as varint; str, bytes as length-delimited; a list as the field repeated."""
    if isinstance(value, list):
        return b"".join(field(number, item) for item in value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name, dims, dtype=FLOAT):
    """dims: numbers, or names for dynamic sizes."""
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, shape)))


def float_tensor(name, dims, values):
    return field(1, list(dims)) + field(2, FLOAT) + field(8, name) + field(9, struct.pack(f"<{len(values)}f", *values))


def external_tensor(name, dims, **entries):
    listed = [field(1, key) + field(2, str(value)) for key, value in entries.items()]
    return field(1, list(dims)) + field(2, FLOAT) + field(8, name) + field(13, listed) + field(14, 1)


def int_attribute(name, value):
    return field(1, name) + field(3, value) + field(20, 2)


def ints_attribute(name, values):
    return field(1, name) + field(8, list(values)) + field(20, 7)


def node(op, inputs, outputs, name="", attributes=(), domain=""):
    return (field(1, list(inputs)) + field(2, list(outputs)) + field(3, name or f"{op}_{outputs[0]}") + field(4, op)
            + field(5, list(attributes)) + (field(7, domain) if domain else b""))


def model(nodes, inputs, outputs, initializers=(), opset=17):
    graph = (field(1, list(nodes)) + field(2, "graph") + field(5, list(initializers)) + field(11, list(inputs))
             + field(12, list(outputs)))
    return field(1, 8) + field(2, "octavo tests") + field(8, field(2, opset)) + field(7, graph)


# ---- NumPy's formats. Arrays are (dims, flat list of floats).


def npy_bytes(dims, values, descr="<f4"):
    codes = {"<f4": "f", "<f8": "d", "<i8": "q"}
    shape = "(" + "".join(f"{d}," for d in dims) + ")"
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    data = struct.pack(f"<{len(values)}{codes[descr]}", *values)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def read_npy(path):
    data = path.read_bytes()
    assert data[:6] == b"\x93NUMPY", path
    length = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + length].decode(), {"__builtins__": {}})  # our own file, a dict literal
    assert not header["fortran_order"]
    values = array.array({"<f4": "f", "<f8": "d", "<i8": "q", "|b1": "B"}[header["descr"]])
    values.frombytes(data[10 + length:])
    assert len(values) == math.prod(header["shape"])
    return list(header["shape"]), list(values)


def npz_bytes(arrays):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (dims, values) in arrays.items():
            archive.writestr(f"{name}.npy", npy_bytes(dims, values))
    return out.getvalue()


# ---- PNG.

GREY, RGB, RGBA = 0, 2, 6


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bytes(width, height, color, depth, rows):
    """rows: one bytes object per row, unfiltered."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def read_png(path):
    """(width, height, channels, bytes) of an 8-bit PNG without interlacing."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        at += 12 + length
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and interlace == 0
            channels = {GREY: 1, RGB: 3, RGBA: 4}[color]
        if kind == b"IDAT":
            packed += body
    raw = zlib.decompress(packed)
    stride = width * channels
    pixels, above = bytearray(), bytearray(stride)
    for y in range(height):
        kind = raw[y * (stride + 1)]
        row = bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        if kind != 0:
            for i in range(stride):
                left = row[i - channels] if i >= channels else 0
                corner = above[i - channels] if i >= channels else 0
                guess = {1: left, 2: above[i], 3: (left + above[i]) // 2, 4: paeth(left, above[i], corner)}[kind]
                row[i] = (row[i] + guess) & 255
        pixels += row
        above = row
    return width, height, channels, bytes(pixels)
