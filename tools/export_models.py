#!/usr/bin/env python3
"""Exports models from PyTorch as their users do, with random weights from a fixed seed; nothing is downloaded.

    tools/make_export_venv.sh                           once: PyTorch, timm, transformers, onnxscript in .venv-export
    .venv-export/bin/python tools/export_models.py      every form, into .models/exports (2 GB)
    ... tools/export_models.py --only 'deit*' --force   those that fit the pattern, again

A file is named MODEL-EXPORTER-OPSET.onnx, with "-batch" where the batch is a dynamic axis and "-plain" where attention
is written out instead of scaled_dot_product_attention. Exporters: "script" traces to TorchScript, "dynamo" uses
torch.export and onnxscript. Beside each file stands MODEL....inputs.json: the shapes to run it on.
A form that PyTorch itself cannot export is named and left out.
"""
import argparse
import dataclasses
import fnmatch
import json
import pathlib
import sys
import warnings

try:
    import onnx
    import onnxscript  # noqa: F401  (the dynamo exporter imports it late)
    import timm
    import torch
    import transformers
    from torch import nn
except ImportError as error:
    print(f"export_models: {error}; run tools/make_export_venv.sh and use .venv-export/bin/python", file=sys.stderr)
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEED = 20


class FirstOutputs(nn.Module):
    """transformers returns dictionaries; exporters want tensors."""

    def __init__(self, model, *names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, pixels):
        outputs = self.model(pixel_values=pixels)
        return tuple(outputs[name] for name in self.names)


class Mixer(nn.Module):
    """A block of SVTR: attention over all places of a text line, or over a window of neighbours only."""

    def __init__(self, channels, heads, window=None):
        super().__init__()
        self.heads, self.window = heads, window
        self.norm1, self.norm2 = nn.LayerNorm(channels, eps=1e-6), nn.LayerNorm(channels, eps=1e-6)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def near(self, height, width):
        places = torch.arange(height * width)
        row, column = places // width, places % width
        far = (row[:, None] - row[None]).abs().gt(self.window[0] // 2) | \
            (column[:, None] - column[None]).abs().gt(self.window[1] // 2)
        return torch.zeros(far.shape).masked_fill(far, float("-inf"))

    def forward(self, x, height, width):
        batch, tokens, channels = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, channels // self.heads) \
            .permute(2, 0, 3, 1, 4)
        weights = (q * (channels // self.heads) ** -0.5) @ k.transpose(-2, -1)
        if self.window is not None:
            weights = weights + self.near(height, width)
        mixed = (weights.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, channels)
        x = x + self.proj(mixed)
        return x + self.mlp(self.norm2(x))


class Recognizer(nn.Module):
    """Reads a text line as SVTR does (Du et al. 2022): stem, local then global mixing while the height shrinks, CTC head."""

    def __init__(self, letters=97, channels=(64, 128, 192), heads=(2, 4, 6), depth=2):
        super().__init__()
        half = channels[0] // 2
        self.stem = nn.Sequential(nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.GELU(),
                                  nn.Conv2d(half, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.GELU())
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for index, (c, h) in enumerate(zip(channels, heads)):
            window = (7, 11) if index == 0 else None
            self.stages.append(nn.ModuleList([Mixer(c, h, window) for _ in range(depth)]))
            following = channels[index + 1] if index + 1 < len(channels) else c
            self.merges.append(nn.Sequential(nn.Conv2d(c, following, 3, (2, 1), 1), nn.BatchNorm2d(following)))
        self.last = nn.Sequential(nn.Conv2d(channels[-1], 192, 1), nn.Hardswish())
        self.letters = nn.Linear(192, letters)

    def forward(self, x):
        x = self.stem(x)
        for blocks, merge in zip(self.stages, self.merges):
            batch, channels, height, width = x.shape
            tokens = x.flatten(2).transpose(1, 2)
            for block in blocks:
                tokens = block(tokens, height, width)
            x = merge(tokens.transpose(1, 2).reshape(batch, channels, height, width))
        return self.letters(self.last(x.mean(2, keepdim=True)).squeeze(2).transpose(1, 2)).log_softmax(-1)


def clip_tower():
    config = transformers.CLIPVisionConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=8,
                                           num_attention_heads=6, projection_dim=256, image_size=224, patch_size=32)
    return FirstOutputs(transformers.CLIPVisionModelWithProjection(config), "image_embeds", "last_hidden_state")


def detr():
    backbone = transformers.ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 2, 2],
                                         layer_type="basic", out_features=["stage4"])
    config = transformers.DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                                     backbone_config=backbone, encoder_layers=3, decoder_layers=3, num_queries=50,
                                     d_model=256, encoder_ffn_dim=1024, decoder_ffn_dim=1024, num_labels=20)
    return FirstOutputs(transformers.DetrForObjectDetection(config), "logits", "pred_boxes")


def from_timm(name):
    return lambda: timm.create_model(name, pretrained=False)


PICTURE = (1, 3, 224, 224)
MODELS = {  # name: (model, shape of the input)
    "vit_b16": (from_timm("vit_base_patch16_224"), PICTURE),
    "deit_ti": (from_timm("deit_tiny_patch16_224"), PICTURE),
    "swin_t": (from_timm("swin_tiny_patch4_window7_224"), PICTURE),
    "clip_b16": (from_timm("vit_base_patch16_clip_quickgelu_224"), PICTURE),
    "clip": (clip_tower, PICTURE),
    "detr": (detr, (1, 3, 256, 320)),
    "svtr": (Recognizer, (1, 3, 32, 160)),
}


@dataclasses.dataclass(frozen=True)
class Form:
    model: str
    exporter: str
    opset: int
    batch: bool = False  # the batch is a dynamic axis
    plain: bool = False  # attention written out

    @property
    def name(self):
        return f"{self.model}-{self.exporter}-{self.opset}{'-batch' * self.batch}{'-plain' * self.plain}"


# scaled_dot_product_attention has no TorchScript form before opset 14.
FORMS = [
    Form("deit_ti", "script", 13, plain=True), Form("deit_ti", "script", 17), Form("deit_ti", "script", 17, plain=True),
    Form("deit_ti", "script", 17, batch=True), Form("deit_ti", "script", 18), Form("deit_ti", "script", 20),
    Form("deit_ti", "dynamo", 18), Form("deit_ti", "dynamo", 20), Form("deit_ti", "dynamo", 18, plain=True),
    Form("deit_ti", "dynamo", 18, batch=True),
    Form("vit_b16", "script", 17), Form("vit_b16", "dynamo", 18),
    Form("swin_t", "script", 17), Form("swin_t", "script", 17, batch=True), Form("swin_t", "script", 20, plain=True),
    Form("swin_t", "dynamo", 18), Form("swin_t", "dynamo", 20, batch=True),
    Form("clip_b16", "script", 17), Form("clip", "script", 17), Form("clip", "script", 17, batch=True),
    Form("clip", "dynamo", 18), Form("clip", "dynamo", 20, batch=True),
    Form("detr", "script", 17), Form("detr", "script", 17, batch=True), Form("detr", "dynamo", 18),
    Form("svtr", "script", 13), Form("svtr", "script", 17, batch=True), Form("svtr", "dynamo", 18),
]


def make(name):
    """The model, every parameter moved off its initial value: no gain of 1, bias of 0 or layer of zeros hides a mistake."""
    torch.manual_seed(SEED)
    model = MODELS[name][0]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def export(form, target):
    timm.layers.set_fused_attn(not form.plain)
    model, shape = make(form.model), MODELS[form.model][1]
    # A traced batch of 1 would be taken for a constant.
    example = torch.rand((2 if form.batch else shape[0], *shape[1:]), generator=torch.Generator().manual_seed(SEED))
    outputs = model(example)
    names = [f"output{index}" for index in range(len(outputs))] if isinstance(outputs, tuple) else ["output0"]
    arguments = {"opset_version": form.opset, "input_names": ["pixels"], "output_names": names}
    if form.exporter == "dynamo":
        shapes = ({0: torch.export.Dim("batch")},) if form.batch else None
        torch.onnx.export(model, (example,), str(target), dynamo=True, dynamic_shapes=shapes, verbose=False, **arguments)
    else:
        axes = {name: {0: "batch"} for name in ["pixels", *names]} if form.batch else None
        torch.onnx.export(model, (example,), str(target), dynamo=False, dynamic_axes=axes, **arguments)
    written = {entry.domain: entry.version for entry in onnx.load(target, load_external_data=False).opset_import}[""]
    if written != form.opset:
        raise ValueError(f"PyTorch wrote opset {written} where {form.opset} was asked for")
    shapes = [list(shape), [3, *shape[1:]]] if form.batch else [list(shape)]
    target.with_suffix(".inputs.json").write_text(json.dumps({"pixels": shapes}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names to export, e.g. 'deit*'")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".models/exports")
    parser.add_argument("--force", action="store_true", help="export what is there again")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    left_out = []
    for form in FORMS:
        target = args.out / f"{form.name}.onnx"
        if not fnmatch.fnmatch(form.name, args.only) or (target.with_suffix(".inputs.json").exists() and not args.force):
            continue
        print(form.name, file=sys.stderr, flush=True)
        try:
            export(form, target)
        except Exception as error:  # whatever PyTorch raises: the other forms are still wanted
            for part in (target, target.with_name(target.name + ".data")):
                part.unlink(missing_ok=True)
            left_out.append(f"{form.name}: left out, {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
            print(left_out[-1], file=sys.stderr, flush=True)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
