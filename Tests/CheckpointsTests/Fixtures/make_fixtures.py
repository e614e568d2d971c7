#!/usr/bin/env python3
"""Makes the fixtures beside this file: checkpoints as torch.save and safetensors write them, and what they hold.

    python3 -m venv .venv && .venv/bin/pip install torch safetensors numpy
    .venv/bin/python make_fixtures.py

expected.json: for each file, each tensor's dtype, shape and, for floats, the bits of its numbers as float32; and the
fingerprint, computed here from the definition in Fingerprint.swift.
"""
import argparse, collections, hashlib, json, os, pathlib, pickle, struct, zipfile
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
         torch.uint8: "U8", torch.bool: "BOOL", torch.float64: "F64"}
expected = {}


def fingerprint(tensors):
    def text(s):
        b = s.encode()
        return struct.pack("<Q", len(b)) + b
    h = hashlib.sha256(b"kirie weights 1\n")
    for name in sorted(tensors, key=lambda n: n.encode()):
        t = tensors[name].detach().contiguous()
        raw = bytes(t.reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""
        h.update(text(name) + text(NAMES[t.dtype]) + struct.pack("<Q", t.dim()))
        h.update(b"".join(struct.pack("<Q", n) for n in t.shape) + hashlib.sha256(raw).digest())
    return h.hexdigest()


def describe(file, tensors):
    entry = {}
    for name, t in tensors.items():
        t = t.detach()
        entry[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape)}
        if t.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            bits = t.float().contiguous().view(torch.int32).reshape(-1) if t.dim() else t.float().reshape(1).view(torch.int32)
            entry[name]["bits"] = [int(b) & 0xFFFFFFFF for b in bits.tolist()]
    expected[file] = {"tensors": entry, "fingerprint": fingerprint(tensors)}


def save(file, value, tensors, **options):
    torch.save(value, HERE / file, **options)
    describe(file, tensors)


def as_zip64(source, target):
    """The same entries in an archive whose every record uses its ZIP64 form."""
    out, central = bytearray(), bytearray()
    with zipfile.ZipFile(HERE / source) as z:
        entries = [(i.filename.encode(), z.read(i)) for i in z.infolist()]
    for name, data in entries:
        offset = len(out)
        extra = struct.pack("<HHQQ", 1, 16, len(data), len(data))
        out += struct.pack("<IHHHHHIIIHH", 0x04034b50, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra))
        out += name + extra + data
        extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), offset)
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF,
                               len(name), len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + name + extra
    start = len(out)
    out += central
    record = len(out)
    out += struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, len(entries), len(entries), len(central), start)
    out += struct.pack("<IIQI", 0x07064b50, 0, record, 1)
    out += struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (HERE / target).write_bytes(out)
    expected[target] = expected[source]


class Command:
    def __reduce__(self):
        return os.system, ("touch /tmp/kirie-was-here",)


class Expression:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('/tmp/kirie-was-here').touch()",)


torch.manual_seed(1)
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Conv2d(1, 2, 3, bias=False))
module[1].running_mean.normal_()
state = module.state_dict()
save("module.pth", state, state)
save("protocol4.pth", state, state, pickle_protocol=4)
save("nested.pth", {"epoch": 3, "best": 0.5, "note": "x", "optimizer": {"state": {0: {"step": torch.ones(1)}}},
                    "state_dict": state}, state)
as_zip64("module.pth", "zip64.pth")
save_file({k: v.contiguous() for k, v in state.items()}, HERE / "module.safetensors",
          metadata={"format": "pt", "kirie.image_size": "512", "a \"quoted\" name\n": "切り絵"})
describe("module.safetensors", state)

base = torch.arange(24, dtype=torch.float32).reshape(4, 6) - 7.25
views = {
    "base": base,
    "row": base[2],
    "transposed": base.t(),
    "permuted": torch.arange(24, dtype=torch.float16).reshape(2, 3, 4).permute(2, 0, 1),
    "strided": base[::2, 1::3],
    "column": base[:, 5],
    "expanded": base[1, :2].expand(3, 2),
    "unsqueezed": base.t()[None, :, None, :2],
    "scalar": torch.tensor(2.5),
    "scalar16": torch.tensor(-0.125, dtype=torch.float16),
    "empty": torch.empty(0, 3),
    "half": torch.tensor([0.0, -0.0, 1.0, -2.5, 65504.0, 6e-8, 6.1e-5, float("inf"), float("-inf"), float("nan")]).half(),
    "brain": torch.tensor([0.0, -0.0, 1.0, -2.5, 3e38, 1e-40, float("inf"), float("-inf"), float("nan")]).bfloat16(),
    "index": torch.tensor([[1, 2], [3, 4]]),
    "flags": torch.tensor([True, False, True]),
    "double": torch.tensor([1.5], dtype=torch.float64),
    "切り絵": torch.tensor([1.0]),
}
save("views.pth", views, views)
parameters = {"weight": torch.nn.Parameter(torch.randn(2, 2)), "tied": None}
parameters["tied"] = parameters["weight"]
save("parameters.pth", parameters, parameters)
save("legacy.pth", state, state, _use_new_zipfile_serialization=False)
save("legacy_protocol4.pth", state, state, _use_new_zipfile_serialization=False, pickle_protocol=4)

# What training leaves behind: a step of an optimizer whose moments have the weights' shapes, and counters.
double = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)).double()
optimizer = torch.optim.AdamW(double.parameters())
double(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
optimizer.step()
trained = {"module." + k: v for k, v in double.state_dict().items()}
trained["module.tied"] = trained["module.0.weight"]
save("training.pth", {"model_state": trained, "optimizer": optimizer.state_dict(), "epoch": 3,
                      "args": argparse.Namespace(lr=1e-3), "rng": torch.get_rng_state()}, trained)
save("legacy_training.pth", {"model": trained, "optimizer": optimizer.state_dict()}, trained,
     _use_new_zipfile_serialization=False)
save("lightning.ckpt", {
    "epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.4.0", "state_dict": trained,
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "/runs"}},
    "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [{"last_epoch": 1, "_last_lr": [1e-3]}],
    "hparams_name": "kwargs", "hyper_parameters": collections.OrderedDict(lr=1e-3)}, trained)

torch.save({"model": state, "ema": {k: v * 2 for k, v in state.items()}}, HERE / "ambiguous.pth")
torch.save({"epoch": 3}, HERE / "no_tensors.pth")
torch.save([torch.ones(1)], HERE / "list.pth")
torch.save(module, HERE / "whole_module.pth")
torch.save({"weight": torch.ones(1), "extra": Command()}, HERE / "os_system.pth")
torch.save({"weight": torch.ones(1), "extra": Expression()}, HERE / "eval.pth")
(HERE / "bare.pkl").write_bytes(pickle.dumps(collections.OrderedDict(a=1), protocol=2))
(HERE / "expected.json").write_text(json.dumps(expected, indent=None, separators=(",", ":"), ensure_ascii=False) + "\n")
print("made", len(list(HERE.iterdir())), "files,", sum(p.stat().st_size for p in HERE.iterdir()), "bytes")
