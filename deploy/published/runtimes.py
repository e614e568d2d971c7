#!/usr/bin/env python3
"""Times what people serve Segment Anything with, on the model that reference.py left in DIR: ONNX Runtime and OpenVINO.

    runtimes.py export DIR
    runtimes.py time DIR --what encoder --peers openvino --threads 2 --runs 5

`export` writes the image encoder and the published ONNX export of the mask decoder (SamOnnxModel, all four masks), and
for each what it is called with: a drawn picture of the model's size, one click with the point that pads it. `time`
prints one JSON object: for every part, peer and precision its median, least and largest milliseconds. `decoder_low`
ends at the low-resolution logits, as does `kirie bench decode`; `decoder` also scales them up to the model's size.
"""
from __future__ import annotations

import argparse, importlib, json, pathlib, statistics, time, warnings
from typing import Callable
import numpy as np

Tensors = dict[str, np.ndarray]


def export(directory: pathlib.Path) -> None:
    import reference, torch

    if json.loads((directory / "geometry.json").read_text()).get("package") == "transformers":
        return export_segment_anything_2(directory)
    model, code = reference.load(directory)
    size, grid = model.image_encoder.img_size, model.prompt_encoder.image_embedding_size
    numbers = np.random.default_rng(1)
    image = {"image": numbers.standard_normal((1, 3, size, size), np.float32)}
    click = {
        "image_embeddings": numbers.standard_normal((1, model.prompt_encoder.embed_dim, *grid), np.float32),
        "point_coords": np.array([[[0.5 * size, 0.4 * size], [0, 0]]], np.float32),
        "point_labels": np.array([[1, -1]], np.float32),
        "mask_input": np.zeros((1, 1, 4 * grid[0], 4 * grid[1]), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([size, size], np.float32),
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing tells of each shape that it takes as given
        decoder = importlib.import_module(f"{code.__name__}.utils.onnx").SamOnnxModel(model, return_single_mask=False)
        write(directory, "encoder", model.image_encoder, image, ["image_embeddings"], {})
        write(
            directory, "decoder", decoder, click, ["masks", "iou_predictions", "low_res_masks"],
            {"point_coords": {1: "points"}, "point_labels": {1: "points"}})


def export_segment_anything_2(directory: pathlib.Path) -> None:
    import segment_anything_2, torch

    model = segment_anything_2.load(directory)
    size, numbers = segment_anything_2.SIZE, np.random.default_rng(1)
    image = {"image": numbers.standard_normal((1, 3, size, size), np.float32)}
    click = {
        "image_embeddings": numbers.standard_normal((1, 256, size // 16, size // 16), np.float32),
        "middle": numbers.standard_normal((1, 64, size // 8, size // 8), np.float32),
        "fine": numbers.standard_normal((1, 32, size // 4, size // 4), np.float32),
        "point_coords": np.array([[[0.5 * size, 0.4 * size], [0, 0]]], np.float32),
        "point_labels": np.array([[1, -1]], np.float32),
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing tells of each shape that it takes as given
        write(
            directory, "encoder", segment_anything_2.Encoder(model).eval(), image,
            ["image_embeddings", "middle", "fine"], {})
        write(
            directory, "decoder", segment_anything_2.Decoder(model).eval(), click,
            ["low_res_masks", "iou_predictions"], {"point_coords": {1: "points"}, "point_labels": {1: "points"}})


def write(
    directory: pathlib.Path, part: str, module: object, inputs: Tensors, outputs: list[str], dynamic: dict
) -> None:
    """Exports a module by tracing it, as the published script does, and keeps what it is to be called with."""
    import torch

    torch.onnx.export(
        module, tuple(torch.from_numpy(value) for value in inputs.values()), str(directory / f"{part}.onnx"),
        dynamo=False, opset_version=17, input_names=list(inputs), output_names=outputs, dynamic_axes=dynamic)
    np.savez(directory / f"{part}.npz", **inputs)


def clock(call: Callable[[], object], runs: int) -> dict[str, float]:
    """Milliseconds of a call, after two that do not count."""
    times = []
    for run in range(2 + runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[2:]
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def onnxruntime(file: pathlib.Path, inputs: Tensors, threads: int, runs: int) -> dict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found = {f"{file.stem} onnxruntime fp32": clock(lambda: session.run(None, inputs), runs)}
    if file.stem == "decoder":
        found["decoder_low onnxruntime fp32"] = clock(
            lambda: session.run(["low_res_masks", "iou_predictions"], inputs), runs)
    return found


def openvino(file: pathlib.Path, inputs: Tensors, threads: int, runs: int) -> dict:
    import openvino

    core, found = openvino.Core(), {}
    for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
        settings = {
            "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        model = core.compile_model(str(file), "CPU", settings)
        found[f"{file.stem} openvino {precision}"] = clock(lambda: model(inputs), runs)
    return found


PEERS = {"ort": onnxruntime, "openvino": openvino}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("export", "time"))
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--what", choices=("encoder", "decoder"))
    parser.add_argument("--peers", choices=PEERS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int)
    options = parser.parse_args()
    if options.command == "export":
        return export(options.directory)
    if None in (options.what, options.peers, options.threads, options.runs):
        parser.error("time takes --what, --peers, --threads and --runs")
    # A decode is short: more of them for as steady a median.
    runs = options.runs if options.what == "encoder" else 4 * options.runs
    inputs = dict(np.load(options.directory / f"{options.what}.npz"))
    found = PEERS[options.peers](options.directory / f"{options.what}.onnx", inputs, options.threads, runs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
