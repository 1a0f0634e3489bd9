"""Run model.net with stock Lava and nothing else: numpy, h5py, lava-nc, lava-dl.

    python examples/run_in_lava.py model.net --data images.npz --samples 8

images.npz holds `images`, float (N, C, H, W) in [0, 1], and `labels`, (N,). Everything else
stands in the file: the group `layer` is NetX, the group `deployment` says how to turn images
into spikes and how to read the answer.
"""

import argparse
import contextlib
import io
import logging
import warnings

import h5py
import numpy as np


def read_deployment(path):
    """What the file says about itself."""
    with h5py.File(path, "r") as file:
        group = file["deployment"]
        return {
            "timesteps": int(group["timesteps"][()]),
            "code": group["encoding/code"][()].decode(),
            "seed": int(group["encoding/seed"][()]),
            "x_min": float(group["encoding/x_min"][()]),
            "rule": group["readout/rule"][()].decode(),
            "layers": [name.decode() for name in group["layer_names"][()]],
        }


def encode(images, deployment):
    """Spikes (T, N, C, H, W) by the formula in deployment/encoding."""
    steps = deployment["timesteps"]
    t = np.arange(steps).reshape(-1, 1, 1, 1, 1)
    if deployment["code"] == "rate":
        k = np.rint(images * steps).astype(np.int64)
        return (t + 1) * k // steps > t * k // steps
    if deployment["code"] == "latency":
        when = np.rint((1 - images.astype(np.float64)) * (steps - 1))
        return (t == when) & (images > deployment["x_min"])
    spikes = np.empty((steps, *images.shape), bool)
    for index, image in enumerate(images):
        key = np.array([deployment["seed"], index], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        spikes[:, index] = generator.random((steps, *image.shape)) < image
    return spikes


def source_rows(spikes_tnchw, shape):
    """Spikes of all samples, one after the other, in the order of the network's input port."""
    steps, samples = spikes_tnchw.shape[:2]
    rows = np.moveaxis(spikes_tnchw, 1, 0).reshape(steps * samples, *spikes_tnchw.shape[2:])
    if len(shape) == 1:  # a dense layer takes C, H, W order, a conv layer (W, H, C)
        return rows.reshape(len(rows), -1).T
    return rows.transpose(3, 2, 1, 0)


def quiet():
    """Keep what third parties print while they are imported off the terminal."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def spike_counter(layer, steps):
    """A sink that gets the number of a layer's spikes, one step late: weights of 1 add them."""
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer

    ones = Dense(weights=np.ones((1, int(np.prod(layer.shape))), int))
    port = layer.out.flatten() if len(layer.shape) > 1 else layer.out
    port.connect(ones.s_in)
    counter = RingBuffer(shape=(1,), buffer=steps)
    ones.a_out.connect(counter.a_in)
    return counter


def run(path, spikes_tnchw, rule):
    """Logits (N, classes) and the number of spikes of every layer."""
    quiet()
    with contextlib.redirect_stdout(io.StringIO()):
        from lava.lib.dl.netx.hdf5 import Network
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import Read
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    steps, samples = spikes_tnchw.shape[:2]
    net = Network(net_config=path, reset_interval=steps, reset_offset=1)
    depth = len(net.layers)  # a spike takes one step from layer to layer
    total = steps * samples + depth + 1
    rows = source_rows(spikes_tnchw, net.inp.shape)
    silence = np.zeros((*rows.shape[:-1], total - rows.shape[-1]), bool)
    source = Source(data=np.concatenate([rows, silence], axis=-1).astype(int))
    source.s_out.connect(net.inp)
    counters = [spike_counter(layer, total) for layer in net.layers]
    last = net.layers[-1]
    voltage = Read(buffer=total // steps + 1, interval=steps, offset=(depth - 1) % steps)
    voltage.connect_var(last.neuron.v)
    answer = Sink(shape=last.shape, buffer=total)
    last.out.connect(answer.a_in)
    # without the tag Lava would run its floating-point models
    net.run(condition=RunSteps(num_steps=total), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    counts, spikes, v = ([c.data.get() for c in counters], answer.data.get(), voltage.data.get())
    net.stop()
    per_layer = []
    for index, count in enumerate(counts):
        first = index + 2  # one step to reach the layer, one more to be counted
        per_layer.append(int(count[0, first : first + steps * samples].sum()))
    if rule == "voltage":
        first = (depth - 1) // steps + 1
        return v.reshape(-1, v.shape[-1])[:, first : first + samples].T, per_layer
    window = spikes.reshape(-1, total)[:, depth : depth + steps * samples]
    return window.reshape(-1, samples, steps).sum(axis=-1).T, per_layer


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model.net")
    parser.add_argument("--data", required=True, help="npz file with images and labels")
    parser.add_argument("--samples", type=int, default=8, help="run the first N images")
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        images, labels = (data[name][: arguments.samples] for name in ("images", "labels"))
    deployment = read_deployment(arguments.model)
    spikes = encode(images, deployment)
    logits, per_layer = run(arguments.model, spikes, deployment["rule"])
    predictions = logits.argmax(axis=1)
    print(f"samples {len(labels)}")
    print(f"predictions {' '.join(str(p) for p in predictions)}")
    print(f"accuracy {100 * (predictions == labels).mean():.2f} %")
    print(f"spikes input {int(spikes.sum())}")
    for name, count in zip(deployment["layers"], per_layer, strict=True):
        print(f"spikes {name} {count}")


if __name__ == "__main__":  # Lava starts processes: this line is needed
    main()
