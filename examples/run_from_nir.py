"""Run model.nir in Norse or snnTorch, and nothing of this project: numpy, nir, the framework.

    python examples/run_from_nir.py model.nir --data images.npz --samples 8
    python examples/run_from_nir.py model_lif.nir --framework snntorch --data images.npz

images.npz holds `images`, float (N, C, H, W) in [0, 1], and `labels`, (N,). The metadata of the
graph say how to turn images into spikes and how to read the answer. snnTorch 1.0.0 needs a file
written with `python -m netx_export.nir_convert --integrator LIF model.net model_lif.nir`.
"""

import argparse
import contextlib
import io
import logging
import warnings

import nir
import numpy as np
import torch
from run_in_lava import encode


def load(graph, framework):
    """The network as a torch module that takes (spikes of one step, state)."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        if framework == "norse":
            from norse.torch import from_nir

            return from_nir(graph, dt=float(graph.metadata["dt"]))
        from snntorch.import_nir import import_from_nir

        return import_from_nir(graph)


def neurons(module):
    """The modules of the neurons, in the order of the layers."""
    found = {name.rpartition(".")[2]: part for name, part in module.named_modules()}
    names = [name for name in found if name.startswith("neuron_")]
    return [(name, found[name]) for name in sorted(names, key=lambda name: int(name[7:]))]


def run(graph, framework, spikes_tchw, rule):
    """Logits and the number of spikes of every layer, for one sample.

    One at a time, since both frameworks flatten the batch where NIR's Flatten starts at axis 0.
    """
    module, state = load(graph, framework), None
    layers = neurons(module)
    counts, last = [0] * len(layers), np.zeros(())

    def counting(index):
        def hook(_module, _given, out):
            spikes = out[0] if isinstance(out, tuple) else out
            counts[index] += int(spikes.sum())

        return hook

    for index, (_, part) in enumerate(layers):
        part.register_forward_hook(counting(index))
    with torch.no_grad():
        for row in spikes_tchw:
            out, state = module(torch.from_numpy(row.astype(np.float32)), state)
            last = last + out.numpy()
    name, part = layers[-1]
    if rule != "voltage":
        return last, counts
    v = state.state[name][0].v if framework == "norse" else part.mem
    return v.numpy().reshape(-1), counts


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model.nir")
    parser.add_argument("--data", required=True, help="npz file with images and labels")
    parser.add_argument("--samples", type=int, default=8, help="run the first N images")
    parser.add_argument("--framework", choices=["norse", "snntorch"], default="norse")
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        images, labels = (data[name][: arguments.samples] for name in ("images", "labels"))
    graph = nir.read(arguments.model)
    said = graph.metadata["deployment"]
    code = {name: said["encoding"][name] for name in ("code", "seed", "x_min")}
    spikes = encode(images, {**code, "timesteps": int(said["timesteps"])})
    rule = said["readout"]["rule"]
    runs = [run(graph, arguments.framework, spikes[:, index], rule) for index in range(len(labels))]
    predictions = np.array([logits.argmax() for logits, _ in runs])
    print(f"samples {len(labels)}")
    print(f"predictions {' '.join(str(p) for p in predictions)}")
    print(f"accuracy {100 * (predictions == labels).mean():.2f} %")
    print(f"spikes input {int(spikes.sum())}")
    for index, name in enumerate(said["layer_names"]):
        print(f"spikes {name.decode()} {sum(counts[index] for _, counts in runs)}")


if __name__ == "__main__":
    main()
