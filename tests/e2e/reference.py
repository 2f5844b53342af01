"""ONNX Runtime's outputs, and Segment Anything's pre- and postprocessing in NumPy: what Octavo is judged against."""
import sys

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from PIL import Image
except ImportError as error:
    print(f"SKIP: {error} (run tools/make_venv.sh)")
    sys.exit(77)

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def open_session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session, inputs):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def sqnr_db(reference, output):
    reference, output = reference.astype(np.float64), output.astype(np.float64)
    assert reference.shape == output.shape, (reference.shape, output.shape)
    noise = ((reference - output) ** 2).sum()
    return 10 * np.log10((reference**2).sum() / noise) if noise > 0 else np.inf


def load_rgb(path):
    return Image.open(path).convert("RGB")


class Frame:
    """A picture within SAM's square: the longer side becomes the frame's, the rest is padding."""

    def __init__(self, picture, side):
        self.side = side
        self.original = picture.size
        scale = side / max(picture.size)
        self.size = [int(length * scale + 0.5) for length in picture.size]
        self.scale = [new / old for new, old in zip(self.size, picture.size)]
        pixels = np.asarray(picture.resize(self.size, Image.Resampling.BILINEAR), np.float32)
        padded = np.zeros((side, side, 3), np.float32)
        padded[: self.size[1], : self.size[0]] = (pixels - MEAN) / STD
        self.tensor = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])

    def coordinates(self, points):
        """(P, 2) in pixels of the picture -> (1, P, 2) in the frame."""
        return (np.asarray(points, np.float64) * self.scale).astype(np.float32)[None]

    def mask(self, logits):
        """(h, w) logits -> booleans of the picture's size."""
        full = resize_plane(logits, self.side, self.side)[: self.size[1], : self.size[0]]
        return resize_plane(full, self.original[1], self.original[0]) > 0


def taps(size, out_size):
    """Two taps per output, half-pixel centres, edges clamped: PyTorch's bilinear with align_corners=False."""
    centre = np.maximum((np.arange(out_size, dtype=np.float64) + 0.5) * size / out_size - 0.5, 0)
    low = np.minimum(centre.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), (centre - low).astype(np.float32)


def resize_plane(plane, height, width):
    low, high, weight = taps(plane.shape[0], height)
    rows = plane[low] * (1 - weight[:, None]) + plane[high] * weight[:, None]
    low, high, weight = taps(plane.shape[1], width)
    return rows[:, low] * (1 - weight) + rows[:, high] * weight


class Sam:
    def __init__(self, encoder, decoder, side):
        self.encoder, self.decoder, self.side = open_session(encoder), open_session(decoder), side

    def encode(self, picture):
        self.frame = Frame(picture, self.side)
        name = self.encoder.get_inputs()[0].name
        (self.embeddings,) = self.encoder.run(None, {name: self.frame.tensor})

    def predict(self, points, labels):
        """One prompt: its mask and predicted IoU. Mask 0 answers a box, the best of the others points."""
        outputs = run(self.decoder, {
            "image_embeddings": self.embeddings,
            "point_coords": self.frame.coordinates(points),
            "point_labels": np.array([labels], np.float32),
        })
        scores = outputs["iou_predictions"][0]
        chosen = 0 if 2 in labels else 1 + int(np.argmax(scores[1:]))
        return self.frame.mask(outputs["masks"][0, chosen]), float(scores[chosen])

    def predict_box(self, box):
        return self.predict([box[:2], box[2:]], [2, 3])
