"""Small generated ONNX files, one a habit, against onnx's own reference implementation."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from compiler.errors import ModelError
from compiler.frontend import load_model
from compiler.ir import AvgPool2d, BatchNorm, Conv2d, Dense, InputAffine, Relu
from compiler.ir.run_ann import run_ann
from compiler.passes import lower

NCHW = (3, 8, 6)
INTS, LONGS = np.int64, TensorProto.INT64


class Net:
    """A chain of nodes under construction; `x` is the wire that the next node reads."""

    def __init__(self, sizes=("batch", *NCHW), opset=17, seed=0):
        self.sizes, self.opset = sizes, opset
        self.generator = np.random.default_rng(seed)
        self.nodes, self.initializers, self.x = [], [], "image"
        self.functions, self.opsets = [], []
        self.as_nodes, self.reference_opset = False, opset

    def weight(self, *shape, scale=1.0):
        return (self.generator.normal(size=shape) * scale).astype(np.float32)

    def constant(self, array):
        array = np.asarray(array)
        name = f"k{len(self.nodes)}_{len(self.initializers)}"
        tensor = numpy_helper.from_array(array, name)
        if self.as_nodes:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def add(self, operation, *constants, name=None, first=None, **attributes):
        inputs = [one if isinstance(one, str) else self.constant(one) for one in constants]
        wire = f"w{len(self.nodes)}"
        inputs = [*(first or []), self.x, *inputs]
        self.nodes.append(helper.make_node(operation, inputs, [wire], name=name, **attributes))
        self.x = wire
        return self

    def conv(self, out=4, channels=3, kernel=(3, 2), bias=True, **attributes):
        group = attributes.get("group", 1)
        parts = [self.weight(out, channels // group, *kernel)]
        return self.add("Conv", *parts, *([self.weight(out)] if bias else []), **attributes)

    def dense(self, inputs, out=5):
        return self.add("Gemm", self.weight(out, inputs, scale=0.2), self.weight(out), transB=1)

    def model(self, opset=None):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.sizes)
        output = helper.make_tensor_value_info(self.x, TensorProto.FLOAT, [None, None])
        graph = helper.make_graph(self.nodes, "net", [image], [output], self.initializers)
        opsets = [helper.make_opsetid("", opset or self.opset), *self.opsets]
        return helper.make_model(
            graph, opset_imports=opsets, functions=self.functions, ir_version=8
        )

    def save(self, folder):
        file = folder / "net.onnx"
        onnx.save(self.model(), file)
        return file


@pytest.fixture
def check(tmp_path):
    """Read a net, compare its logits with onnx's reference before and after lowering."""

    def compare(net, layout=None, lowered=True, **options):
        graph = load_model(net.save(tmp_path), layout=layout, **options)
        generator = np.random.default_rng(9)
        batch = net.sizes[0] if isinstance(net.sizes[0], int) and net.sizes[0] else 3
        images = generator.random((batch, *graph.input_shape), dtype=np.float32)
        fed = images.transpose(0, 2, 3, 1) if layout == "nhwc" else images
        fed = fed.reshape(batch, *net.sizes[1:])
        reference = ReferenceEvaluator(net.model(net.reference_opset))
        expected = reference.run(None, {"image": fed})[0]
        expected = expected.reshape(batch, -1)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(run_ann(graph, images) / scale, expected / scale, atol=2e-5)
        if lowered:
            found = run_ann(lower(graph).graph, images)
            np.testing.assert_allclose(found / scale, expected / scale, atol=2e-5)
        return graph

    return compare


def kinds(graph):
    return [type(layer).__name__ for layer in graph.layers]


def pytorch_net(**how):
    net = Net(**how)
    net.conv(pads=[1, 0, 2, 1], strides=[2, 1]).add("Relu")  # 3, 8, 6 -> 4, 5, 6
    return net.add("Flatten").dense(120)


def tensorflow_net(sizes=("batch", 8, 6, 3), opset=13):
    net = Net(sizes, opset)
    net.add("Transpose", perm=[0, 3, 1, 2])
    net.conv(auto_pad="SAME_UPPER", strides=[2, 2], kernel=(3, 3)).add("Relu")  # 4, 4, 3
    net.conv(6, 4, (2, 2), auto_pad="SAME_LOWER").add("Relu")
    net.add("Transpose", perm=[0, 2, 3, 1]).add("Reshape", np.array([-1, 72], INTS))
    net.add("MatMul", net.weight(72, 7, scale=0.2)).add("Add", net.weight(7)).add("Relu")
    return net.add("MatMul", net.weight(7, 5)).add("Add", net.weight(5))


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 18, 21, 22])
def test_pytorch_habit(check, opset):
    graph = check(pytorch_net(opset=opset))
    assert kinds(graph) == ["Conv2d", "Relu", "Flatten", "Dense"]


@pytest.mark.parametrize("opset", [9, 13, 22])
def test_tensorflow_habit(check, opset):
    graph = check(tensorflow_net(opset=opset), "nhwc")
    assert graph.input_shape == (3, 8, 6)
    assert kinds(graph) == ["Conv2d", "Relu", "Conv2d", "Relu", "Flatten", "Dense", "Relu", "Dense"]


def test_the_layout_is_guessed_from_the_shape(tmp_path):
    assert load_model(tensorflow_net().save(tmp_path)).input_shape == (3, 8, 6)
    assert load_model(pytorch_net().save(tmp_path)).input_shape == (3, 8, 6)


@pytest.mark.parametrize("batch", ["batch", None, 0, 1, 3])
def test_batch_dimensions(check, batch):
    check(pytorch_net(sizes=(batch, *NCHW)))


def test_a_free_batch_with_a_one_written_into_a_reshape(check, tmp_path):
    net = Net((1, *NCHW))
    net.conv().add("Relu").add("Reshape", np.array([1, -1], INTS)).dense(120)
    check(net)
    net.sizes = ("batch", *NCHW)
    assert load_model(net.save(tmp_path)).classes == 5


def test_constants_as_nodes(check):
    net = Net()
    net.as_nodes = True
    net.conv().add("Relu").add("Reshape", np.array([0, -1], INTS)).dense(120)
    check(net)


def test_a_shape_computed_from_the_batch(check):
    net = Net(opset=12).conv().add("Relu")
    image = net.x
    net.add("Shape").add("Gather", np.array(0, INTS), axis=0).add("Unsqueeze", axes=[0])
    net.add("Concat", np.array([-1], INTS), axis=0)
    sizes, net.x = net.x, image
    check(net.add("Reshape", sizes).dense(120))


def test_matrices_of_either_side(check):
    net = Net().conv().add("Relu").add("Flatten")
    net.add("Gemm", net.weight(120, 6), net.weight(1, 6), alpha=0.5, beta=2.0).add("Relu")
    net.add("Gemm", net.weight(4, 6), np.float32(0.5).reshape(1), transB=1)
    check(net)


def test_a_transposed_weight_is_folded(check):
    net = Net().conv().add("Relu").add("Flatten")
    image, net.x = net.x, net.constant(net.weight(5, 120))
    net.add("Transpose", perm=[1, 0])
    weight, net.x = net.x, image
    check(net.add("MatMul", weight))


def test_normalisation_at_the_input(check):
    net = Net()
    net.add("Mul", np.float32(255)).add("Sub", net.weight(1, 3, 1, 1))
    net.add("Div", np.array([2.0, 3.0, 0.5], np.float32).reshape(3, 1, 1))
    net.add("Add", np.float32(0.5).reshape(1))
    graph = check(net.conv(pads=[1, 1, 1, 1]).add("Relu").add("Flatten").dense(4 * 8 * 7))
    assert isinstance(graph.layers[0], InputAffine) and len(graph.layers) == 5


def test_normalisation_of_channels_last_with_a_constant_first(check):
    net = Net(("batch", 8, 6, 3))
    net.add("Mul", np.array([2.0, 3.0, 0.5], np.float32))
    scaled, net.x = net.x, net.constant(np.float32(1.0))
    net.add("Sub", scaled).add("Transpose", perm=[0, 3, 1, 2])
    check(net.conv().add("Relu").add("Flatten").dense(120), "nhwc")


def test_mean_and_std_come_before_the_graphs_own(check, tmp_path):
    net = pytorch_net()
    plain = load_model(net.save(tmp_path))
    scaled = load_model(net.save(tmp_path), mean=[0.1, 0.2, 0.3], std=[0.5])
    image = np.random.default_rng(0).random((2, *NCHW), dtype=np.float32)
    mean = np.array([0.1, 0.2, 0.3], np.float32)[:, None, None]
    np.testing.assert_allclose(
        run_ann(scaled, image), run_ann(plain, (image - mean) / np.float32(0.5)), atol=1e-4
    )


@pytest.mark.parametrize("opset,value", [(9, 0.0), (11, 0.0), (11, 0.7), (18, 0.0)])
def test_pad(check, opset, value):
    net = Net(opset=opset)
    pads = [0, 0, 1, 2, 0, 0, 0, 3]
    if opset == 9:
        net.add("Pad", pads=pads, value=value)
    elif opset == 11:
        net.add("Pad", np.array(pads, INTS), np.float32(value))
    else:
        net.add("Pad", np.array([2, 1, 3, 0], INTS), "", np.array([-1, 2], INTS))
    rows, columns = (9, 11)
    graph = check(net.conv(pads=[1, 0, 0, 0]).add("Relu").add("Flatten").dense(4 * 8 * 10))
    assert kinds(graph)[0] == "Conv2d" and rows * columns == 99
    assert (graph.layers[0].bias.ndim == 3) == bool(value)


def test_pad_of_channels_last(check):
    net = Net(("batch", 8, 6, 3))
    net.add("Pad", np.array([0, 1, 2, 0, 0, 0, 1, 0], INTS)).add("Transpose", perm=[0, 3, 1, 2])
    check(net.conv().add("Relu").add("Flatten").dense(4 * 7 * 8), "nhwc")


@pytest.mark.parametrize("opset", [9, 14, 15])
@pytest.mark.parametrize("before", [True, False])
def test_batch_norm(check, opset, before):
    net = Net(opset=opset)
    net.reference_opset = 15  # the reference's older versions take the statistics of the batch

    def norm(channels):
        parts = [net.weight(channels) for _ in range(3)]
        net.add("BatchNormalization", *parts, abs(net.weight(channels)) + 0.5, epsilon=1e-3)

    net.conv(bias=False).add("Relu")
    if before:
        norm(4)
    net.conv(6, 4, pads=[1, 1, 1, 1])
    if not before:
        norm(6)
    graph = check(net.add("Relu").add("Flatten").dense(6 * 6 * 6))
    norms = [layer for layer in graph.layers if isinstance(layer, BatchNorm)]
    assert len(norms) == 1 and norms[0].running_var.shape == norms[0].scale.shape


def test_batch_norm_of_a_vector_in_another_order(check):
    net = Net(("batch", 8, 6, 3)).add("Transpose", perm=[0, 3, 1, 2]).conv().add("Relu")
    net.add("Transpose", perm=[0, 2, 3, 1]).add("Reshape", np.array([-1, 120], INTS))
    parts = [net.weight(120) for _ in range(3)]
    net.add("BatchNormalization", *parts, abs(net.weight(120)) + 0.5)
    check(net.dense(120), "nhwc")


@pytest.mark.parametrize(
    "attributes,size",
    [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, (4, 3)),
        ({"kernel_shape": [2, 3]}, (7, 4)),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, (4, 3)),
        (
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]}
            | {"count_include_pad": 1},
            (4, 3),
        ),
        ({"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1}, (3, 2)),
        ({"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, (4, 3)),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "VALID"}, (4, 3)),
    ],
)
def test_average_pool(check, attributes, size):
    net = Net(opset=12).conv(kernel=(1, 1)).add("Relu").add("AveragePool", **attributes)
    graph = check(net.add("Flatten").dense(4 * size[0] * size[1]))
    assert any(isinstance(layer, AvgPool2d) for layer in graph.layers)


@pytest.mark.parametrize("habit", ["global", "attribute", "input", "last", "flat"])
def test_global_average_pool(check, habit):
    net = Net(opset=18 if habit == "input" else 13).conv().add("Relu")
    if habit == "global":
        net.add("GlobalAveragePool").add("Flatten")
    elif habit == "attribute":
        net.add("ReduceMean", axes=[-2, -1], keepdims=1).add("Squeeze", np.array([2, 3], INTS))
    elif habit == "input":
        net.add("ReduceMean", np.array([2, 3], INTS), keepdims=0)
    elif habit == "last":
        net.add("Transpose", perm=[0, 2, 3, 1]).add("ReduceMean", axes=[1, 2], keepdims=0)
    else:
        net.add("GlobalAveragePool").add("Squeeze")
    check(net.dense(4))


def test_a_global_pool_at_the_very_end(check):
    graph = check(Net().conv(7).add("Relu").add("GlobalAveragePool").add("Flatten"))
    assert kinds(lower(graph).graph) == ["Conv2d", "Relu", "Flatten", "Dense"]


@pytest.mark.parametrize("habit", ["attributes", "inputs", "unlimited", "maxmin"])
def test_clipped_relu(check, habit):
    net = Net(opset=9 if habit == "attributes" else 13).conv()
    if habit == "attributes":
        net.add("Clip", min=0.0, max=6.0)
    elif habit == "inputs":
        net.add("Clip", np.float32(0), np.float32(6))
    elif habit == "unlimited":
        net.add("Clip", np.float32(0))
    else:
        net.add("Max", np.float32(0)).add("Min", np.float32(6))
    graph = check(net.add("Flatten").dense(120))
    limits = [layer.maximum for layer in graph.layers if isinstance(layer, Relu)]
    expected = {"unlimited": [None], "maxmin": [None, 6.0]}.get(habit, [6.0])
    assert limits == expected


@pytest.mark.parametrize("limits", [("", np.float32(0.7)), (np.float32(-1), np.float32(0.7)), ()])
def test_a_clip_behind_a_relu(check, limits):
    graph = check(Net().conv().add("Relu").add("Clip", *limits).add("Flatten").dense(120))
    assert [layer.maximum for layer in graph.layers if isinstance(layer, Relu)][-1] == (
        pytest.approx(0.7) if limits else None
    )


@pytest.mark.parametrize("limits", [(np.float32(0), np.float32(1)), (np.float32(0),), None])
def test_a_relu_of_the_pixels_is_none(check, limits):
    net = Net()
    net.add("Relu") if limits is None else net.add("Clip", *limits)
    graph = check(net.conv().add("Relu").add("Flatten").dense(120))
    assert kinds(lower(graph).graph) == ["Conv2d", "Relu", "Flatten", "Dense"]


@pytest.mark.parametrize("channels", [1, 4])
def test_a_factor_for_every_place_makes_a_convolution_dense(check, channels):
    net = Net().conv(channels).add("Flatten")
    norm(net, 30 * channels).add("Relu").dense(30 * channels)
    graph = check(net)
    assert kinds(lower(graph).graph) == ["Flatten", "Dense", "Relu", "Dense"]


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_a_batch_norm_of_constants(check, opset):
    net = Net(opset=opset)
    net.reference_opset = 17
    image = net.x
    net.x = net.constant(net.weight(5, 120, scale=0.2))
    norm(net, 120, variance=4.0).add("Transpose", perm=[1, 0])
    weight, net.x = net.x, image
    check(net.conv().add("Relu").add("Flatten").add("MatMul", weight))


@pytest.mark.parametrize("opset", [10, 13, 18, 19])
def test_weights_kept_as_integers(check, opset):
    net = Net(opset=opset)
    net.reference_opset = max(opset, 19)
    image, several = net.x, opset >= 13
    net.x = net.constant(np.arange(72, dtype=np.int8).reshape(4, 3, 3, 2) - 30)
    scale = np.array([0.01, 0.02, 0.03, 0.005], np.float32) if several else np.float32(0.01)
    zero = np.zeros(4, np.int8) if several else np.int8(0)
    net.add("DequantizeLinear", scale, zero, **({"axis": 0} if several else {}))
    weight, net.x = net.x, image
    check(net.add("Conv", weight).add("Relu").add("Flatten").dense(120))


def test_a_constant_that_cannot_be_computed_is_told_once(tmp_path):
    net = Net()
    image = net.x
    net.x = net.constant(net.weight(2))
    net.add("Add", net.weight(3), name="shift").add("Abs")
    bias, net.x = net.x, image
    net.add("Conv", net.weight(4, 3, 3, 2), bias).add("Relu").add("Flatten").dense(120)
    with pytest.raises(ModelError) as caught:
        load_model(net.save(tmp_path))
    assert [problem.layer for problem in caught.value.problems] == ["shift"]
    assert "Add of constants" in caught.value.problems[0].found


def test_dense_layers_over_the_channels_of_every_pixel(check):
    net = Net(("batch", 8, 6, 3))
    net.add("MatMul", net.weight(3, 4)).add("Add", net.weight(4)).add("Relu")
    net.add("Transpose", perm=[0, 3, 1, 2]).conv(5, 4).add("Relu").add("Flatten").dense(150)
    assert kinds(check(net, "nhwc"))[:2] == ["Conv2d", "Relu"]


def test_squeeze_unsqueeze_and_what_does_nothing(check):
    net = Net(opset=13).conv(kernel=(8, 6)).add("Relu").add("Identity").add("Dropout")
    net.add("Cast", to=TensorProto.FLOAT).add("Squeeze", np.array([2, 3], INTS))
    net.add("Unsqueeze", np.array([1], INTS)).add("Squeeze", np.array([-2], INTS))
    check(net.dense(4))


def test_groups_dilation_and_a_bias_added_behind(check):
    net = Net().conv(6, 3, (2, 2), False, group=3, dilations=[2, 1])
    net.add("Add", net.weight(1, 6, 1, 1)).add("Relu")
    graph = check(net.add("Flatten").dense(6 * 6 * 5))
    assert kinds(graph) == ["Conv2d", "Relu", "Flatten", "Dense"]


def test_a_bias_for_every_place(check):
    net = Net().conv().add("Add", Net().weight(1, 4, 6, 5)).add("Relu")
    assert check(net.add("Flatten").dense(120)).layers[0].bias.shape == (4, 6, 5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_an_image_given_as_a_vector(check, layout):
    net = Net(("batch", 144))
    if layout == "nchw":
        net.add("Reshape", np.array([-1, 3, 8, 6], INTS))
    else:
        net.add("Reshape", np.array([-1, 8, 6, 3], INTS)).add("Transpose", perm=[0, 3, 1, 2])
    net.conv().add("Relu").add("Flatten").dense(120)
    graph = check(net, layout, input_shape=(3, 8, 6))
    assert graph.input_shape == (3, 8, 6)


def test_a_vector_becomes_an_image_without_being_told(tmp_path):
    net = Net(("batch", 144)).add("Mul", np.float32(2))
    net.add("Reshape", np.array([-1, 3, 8, 6], INTS)).conv().add("Relu").add("Flatten").dense(120)
    graph = load_model(net.save(tmp_path))
    assert graph.input_shape == (3, 8, 6) and graph.layers[0].mean.shape == (3,)


def test_grey_images_without_a_channel_axis(check):
    net = Net(("batch", 8, 6)).add("Unsqueeze", np.array([1], INTS))
    graph = check(net.conv(4, 1).add("Relu").add("Flatten").dense(120))
    assert graph.input_shape == (1, 8, 6)


@pytest.mark.parametrize("operation", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 17])
def test_soft_max_at_the_end_is_dropped(tmp_path, operation, opset):
    net = pytorch_net(opset=opset)
    plain = load_model(net.save(tmp_path))
    ended = load_model(net.add(operation, axis=1).add("Identity").save(tmp_path))
    assert kinds(ended) == kinds(plain)


def test_local_functions_are_inlined(check):
    net = Net()
    net.opsets = [helper.make_opsetid("mine", 1)]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    net.functions = [
        helper.make_function("mine", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    ]
    check(net.conv().add("Act", domain="mine").add("Flatten").dense(120))


def test_a_network_that_writes_and_reads_back_unchanged(tmp_path):
    net = tensorflow_net()
    first = load_model(net.save(tmp_path))
    onnx.save(onnx.load(tmp_path / "net.onnx"), tmp_path / "again.onnx")
    second = load_model(tmp_path / "again.onnx")
    for one, other in zip(first.layers, second.layers, strict=True):
        assert type(one) is type(other) and one.name == other.name
        if isinstance(one, (Conv2d, Dense)):
            np.testing.assert_array_equal(one.weight, other.weight)


@given(st.permutations([1, 2, 3]), st.permutations([1, 2, 3]), st.booleans(), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_any_order_of_axes_is_followed(first, second, squeezed, seed):
    net = Net(seed=seed).conv(kernel=(8, 2) if squeezed else (3, 3)).add("Relu")
    net.add("Transpose", perm=[0, *first])
    if squeezed:
        net.add("Squeeze")
        net.add("Reshape", np.array([0, -1, 2], INTS)).add("Transpose", perm=[0, 2, 1])
    else:
        net.add("Transpose", perm=[0, *second])
    inputs = 4 * (5 if squeezed else 24)
    net.add("Mul", np.float32(0.5)).add("Reshape", np.array([-1, inputs], INTS)).dense(inputs)
    with TemporaryDirectory() as folder:
        graph = load_model(net.save(Path(folder)))
    images = np.random.default_rng(seed).random((2, *NCHW), dtype=np.float32)
    expected = ReferenceEvaluator(net.model()).run(None, {"image": images})[0]
    np.testing.assert_allclose(run_ann(graph, images), expected, atol=1e-4)


def test_sums_of_branches(tmp_path):
    net = Net().conv(name="conv")
    net.add("Sum", net.x, name="sum")
    assert problems_of(net, tmp_path)["sum"].startswith("Sum of")


# What is refused


def problems_of(net, folder, **options):
    with pytest.raises(ModelError) as caught:
        load_model(net.save(folder), **options)
    assert all(problem.remedy and problem.allowed for problem in caught.value.problems)
    return {problem.layer: problem.found for problem in caught.value.problems}


def test_everything_unsupported_is_listed_at_once(tmp_path):
    net = Net().conv(3, 3, (3, 3), pads=[1, 1, 1, 1], name="first")
    skip = net.x
    net.conv(3, 3, (3, 3), pads=[1, 1, 1, 1]).add("Sigmoid", name="sigmoid")
    net.add("Add", skip, name="residual").add("MaxPool", name="max", kernel_shape=[2, 2])
    net.add("LeakyRelu", name="leaky")
    net.add("InstanceNormalization", net.weight(3), net.weight(3), name="norm")
    net.add("ConvTranspose", net.weight(3, 3, 2, 2), name="up")
    net.add("Concat", skip, name="join", axis=1)
    net.add("Mystery", name="custom", domain="vendor").add("Softmax", name="mid").add("Relu")
    net.opsets = [helper.make_opsetid("vendor", 1)]
    found = problems_of(net, tmp_path)
    assert list(found) == ["sigmoid", "residual", "max", "leaky", "norm", "up", "join", "custom"]
    assert found["custom"] == "vendor.Mystery"


def norm(net, channels, variance=1.0, outputs=(), **attributes):
    parts = [net.weight(channels) for _ in range(3)]
    net.add("BatchNormalization", *parts, np.full(channels, variance, np.float32), **attributes)
    net.nodes[-1].output.extend(outputs)
    return net


@pytest.mark.parametrize("operation,limits", [("Clip", (-2, 6)), ("Min", (6,))])
def test_a_negative_border_behind_a_relu_is_not_cut_off(tmp_path, operation, limits):
    net = Net(opset=13).conv().add("Relu")
    net.add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1], INTS), np.float32(-1))
    net.add(operation, *map(np.float32, limits), name="cut")
    assert list(problems_of(net.conv(4, 4).add("Flatten").dense(144), tmp_path)) == ["cut"]


def test_an_output_that_is_a_by_product(tmp_path):
    net = pytorch_net().add("Dropout")
    net.nodes[-1].output.append("mask")
    net.x = "mask"
    (found,) = problems_of(net, tmp_path).values()
    assert "by-product" in found


@pytest.mark.parametrize(
    "steps",
    [
        [("Sub", [123.68, 116.78, 103.94]), ("Div", [58.4, 57.1, 57.4])],
        [("Mul", [1 / 255] * 3)],
        [("Div", [127.5] * 3), ("Sub", [1.0] * 3)],
    ],
)
def test_pixels_from_0_to_255_are_told(check, tmp_path, steps):
    """The remedy makes it the network that it is."""

    def network():
        net = Net()
        for operation, values in steps:
            net.add(operation, np.array(values, np.float32).reshape(3, 1, 1))
        return net.conv().add("Relu").add("Flatten").dense(120)

    (found,) = problems_of(network(), tmp_path).values()
    assert "pixels from 0 to 255" in found
    scaled = load_model(network().save(tmp_path), mean=[0.0], std=[0.00392157])
    images = np.random.default_rng(0).random((3, *NCHW), dtype=np.float32)
    expected = ReferenceEvaluator(network().model()).run(None, {"image": 255 * images})[0]
    np.testing.assert_allclose(run_ann(scaled, images), expected, rtol=1e-3, atol=1e-3)


def test_surplus_data_in_an_initializer(tmp_path):
    net = pytorch_net()
    net.initializers[0].raw_data += b"1234"
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(net.save(tmp_path))


def test_a_swish_is_one_problem(tmp_path):
    net = Net().conv(name="first")
    x = net.x
    net.add("Sigmoid", name="sigmoid").add("Mul", first=[x])
    found = problems_of(net.conv(3, 4, (2, 2)).add("Relu").add("Flatten").dense(60), tmp_path)
    assert found == {"sigmoid": "Sigmoid"}


@pytest.mark.parametrize("opset", [9, 13, 14])
def test_batch_norm_in_training_mode(tmp_path, opset):
    """Before operator set 14 its further outputs say it; the remedy is the other mode."""
    if opset < 14:
        net = norm(Net(opset=opset).conv(), 4, outputs=["m", "v", "saved_m", "saved_v"])
    else:
        net = norm(Net(opset=opset).conv(), 4, outputs=["m", "v"], training_mode=1)
    with pytest.raises(ModelError, match=r"in training mode.*model\.eval\(\)"):
        load_model(net.add("Relu").add("Flatten").dense(120).save(tmp_path))


@pytest.mark.parametrize("opset", [9, 17])
def test_a_head_of_convolutions_is_a_dense_layer(check, opset):
    """A convolution over what is left of the image, and one behind a global pool or before it."""
    whole = Net(opset=opset).conv().add("Relu").conv(6, 4, (6, 5), bias=True)
    after = Net(opset=opset).conv().add("Relu").add("GlobalAveragePool").conv(6, 4, (1, 1))
    before = Net(opset=opset).conv().add("Relu").conv(6, 4, (1, 1)).add("GlobalAveragePool")
    for net in (whole, after, before):
        lowered = lower(check(net.add("Flatten"))).graph
        assert isinstance(lowered.layers[-1], Dense) and lowered.classes == 6


@pytest.mark.parametrize(
    "build,said",
    [
        (lambda net: net.add("Softmax").conv(), "Softmax inside the network"),
        (lambda net: net.conv().add("Clip", np.float32(-1), np.float32(1)), "Clip to -1"),
        (lambda net: net.conv().add("Clip", "", np.float32(1)), "Clip to None"),
        (lambda net: net.conv().add("Clip", np.float32(0), np.ones(2, np.float32)), "Clip to 0"),
        (lambda net: net.conv().add("Max", np.float32(0.5)), "Max with"),
        (lambda net: net.conv().add("Min", np.float32(0.5)), "Min that"),
        (lambda net: net.add("Div", np.float32(0)), "division by 0"),
        (lambda net: net.add("Mul", np.float32(0)).conv(), "factor 0"),
        (lambda net: net.conv().add("Mul", "image"), "Mul of"),
        (lambda net: net.conv().add("ReduceMean", axes=[1]), "ReduceMean over axes"),
        (lambda net: net.conv().add("Cast", to=LONGS), "Cast"),
        (lambda net: net.conv().add("Pad", np.array([0, 1, 0, 0, 0, 0, 0, 0])), "channels"),
        (lambda net: net.add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect"), "reflect"),
        (lambda net: net.conv().add("Transpose", perm=[1, 0, 2, 3]), "mixes images"),
        (lambda net: net.add("Transpose", perm=[0, 1, 3, 2]).conv(), "whose axes are not"),
        (lambda net: net.conv().add("Reshape", np.array([-1, 60])), "mixes images"),
        (lambda net: net.conv().add("Reshape", np.array([-1, 7])), "one size for any batch"),
        (lambda net: net.conv().add("Transpose", perm=[0, 2, 3, 1]), "another order"),
        (lambda net: net.conv().add("MatMul", np.ones((9, 2), np.float32)), "9 input features"),
        (lambda net: net.conv().add("MatMul", np.ones((5, 2), np.float32)), "over one axis"),
        (lambda net: net.conv().add("QuantizeLinear", np.float32(1)), "QuantizeLinear"),
        (lambda net: net.conv().add("Resize", "", np.ones(4, np.float32)), "Resize"),
        (lambda net: net.conv(3, 5), "input channels"),
        (lambda net: net.add("Relu"), "no layer with weights"),
        (lambda net: net.conv(kernel=(8, 6)).add("Add", np.ones((1, 2), np.float32)), "enlarge"),
        (lambda net: net.conv().add("Add", np.float32(np.nan)), "not finite"),
        (lambda net: net.conv().add("Flatten").dense(120).add("Sigmoid"), "the same class"),
        (lambda net: net.conv().add("Sigmoid").add("Flatten").dense(120), "replace it by ReLU"),
        # what the checker of onnx lets pass
        (lambda net: net.conv(strides=[1]), r"Conv whose inputs .* do not fit together"),
        (lambda net: net.conv(strides=[0, 1]), r"strides \[0, 1\]"),
        (lambda net: net.conv(dilations=[1, 1, 1]), "do not fit together"),
        (lambda net: net.conv(pads=[1, 1]), "do not fit together"),
        (lambda net: net.conv(kernel_shape=[2, 2]), "kernel_shape"),
        (lambda net: net.conv(auto_pad="NONSENSE"), "auto_pad NONSENSE"),
        (lambda net: net.add("Conv", net.weight(4, 3, 3)), "do not fit together"),
        (lambda net: net.add("Conv", net.weight(4, 3, 3, 3), net.weight(3)), "a bias of shape"),
        (lambda net: net.add("Flatten").add("Gemm", net.weight(144, 5), net.weight(4)), "together"),
        (lambda net: norm(net.conv(), 3), "parameters"),
        (lambda net: norm(net.conv(), 4, variance=-1.0), "variances below 0"),
        (lambda net: norm(net.conv(), 4, variance=0.0, epsilon=0.0), "not finite"),
    ],
)
def test_refusals(tmp_path, build, said):
    net = Net(opset=13)
    build(net)
    with pytest.raises(ModelError, match=said):
        load_model(net.save(tmp_path))


def test_a_soft_max_inside_that_has_the_name_of_the_last(tmp_path):
    net = Net().add("Flatten").dense(144).add("Softmax", name="softmax")
    net.dense(5).add("Softmax", name="softmax")
    assert problems_of(net, tmp_path) == {"softmax": "Softmax inside the network"}


@pytest.mark.parametrize(
    "opset,axis,pixels",
    [(17, 0, False), (11, 0, False), (17, 2, True), (17, -1, True), (11, 2, True)],
)
def test_a_soft_max_over_another_axis_than_the_classes(tmp_path, opset, axis, pixels):
    net = Net(opset=opset)
    net = net.conv(kernel=(8, 6)) if pixels else net.add("Flatten").dense(144)
    found = problems_of(net.add("Softmax", name="softmax", axis=axis), tmp_path)
    assert "over other axes of" in found["softmax"]


@pytest.mark.parametrize("opset,axis", [(17, 1), (17, -3), (11, 1)])
def test_a_soft_max_over_the_channels_of_one_pixel(tmp_path, opset, axis):
    net = Net(opset=opset).conv(kernel=(8, 6)).add("Softmax", axis=axis)
    assert load_model(net.save(tmp_path)).classes == 4


def test_dropout_in_training_mode(tmp_path):
    net = pytorch_net().add("Dropout", np.float32(0.5), np.array(True), name="drop")
    assert problems_of(net, tmp_path) == {"drop": "Dropout in training mode"}
    assert load_model(pytorch_net().add("Dropout").save(tmp_path)).classes == 5
    net = pytorch_net().add("Dropout", np.float32(0.5), np.array(False))
    assert load_model(net.save(tmp_path)).classes == 5


def drawn(net, operation, constants=(), **attributes):
    """Add a dense layer whose weights `operation` makes of nothing or of constants."""
    image = net.x
    names = [net.constant(one) for one in constants]
    net.nodes.append(helper.make_node(operation, names, ["drawn"], name="random", **attributes))
    net.x = image
    return net.add("MatMul", "drawn", name="dense")


@pytest.mark.parametrize(
    "operation,constants,attributes",
    [
        ("RandomNormal", (), {"shape": [144, 5]}),
        ("RandomUniform", (), {"shape": [144, 5]}),
        ("RandomNormalLike", (np.zeros((144, 5), np.float32),), {}),
        ("RandomUniformLike", (np.zeros((144, 5), np.float32),), {}),
        ("Bernoulli", (np.full((144, 5), 0.5, np.float32),), {}),
        ("Dropout", (np.ones((144, 5), np.float32), np.float32(0.5), np.array(True)), {}),
    ],
)
def test_random_numbers_are_no_constants(tmp_path, operation, constants, attributes):
    net = drawn(Net().add("Flatten"), operation, constants, **attributes)
    assert problems_of(net, tmp_path) == {"random": f"{operation}, drawn anew at every run"}


def test_random_numbers_in_a_branch(tmp_path):
    inner = helper.make_node("RandomNormal", [], ["inside"], shape=[144, 5])
    value = helper.make_tensor_value_info("inside", TensorProto.FLOAT, [144, 5])
    graph = helper.make_graph([inner], "branch", [], [value])
    net = drawn(Net().add("Flatten"), "If", (np.array(True),), then_branch=graph, else_branch=graph)
    assert problems_of(net, tmp_path)["random"] == "RandomNormal, drawn anew at every run"


def test_two_branches_with_their_own_weights(tmp_path):
    net = Net().conv(name="left")
    left, net.x = net.x, "image"
    found = problems_of(net.conv(name="right").add("Add", left, name="sum"), tmp_path)
    assert "second branch" in found["right"] and found["sum"].startswith("Add of")


def test_one_dimensional_convolutions(tmp_path):
    net = Net(("batch", 3, 8)).add("Conv", Net().weight(4, 3, 2), name="conv")
    assert "1-D images" in problems_of(net, tmp_path)["conv"]


def test_recurrent_networks(tmp_path):
    net = Net(("batch", 3, 8))
    net.add("LSTM", net.weight(1, 16, 8), net.weight(1, 16, 4), name="lstm", hidden_size=4)
    assert problems_of(net, tmp_path) == {"lstm": "LSTM"}


@pytest.mark.parametrize("sizes", [("batch", 3, None, None), ("batch", 3, "height", 6)])
def test_free_image_sizes(tmp_path, sizes):
    net = pytorch_net(sizes=sizes)
    assert "axes" in problems_of(net, tmp_path)["image"]
    assert load_model(net.save(tmp_path), input_shape=NCHW).classes == 5


def test_an_input_shape_that_does_not_fit(tmp_path):
    assert "axes" in problems_of(pytorch_net(), tmp_path, input_shape=(3, 6, 8))["image"]


@pytest.mark.parametrize("opset", [8, 23])
def test_operator_sets_beyond_those_known(tmp_path, opset):
    found = problems_of(pytorch_net(opset=opset), tmp_path)
    assert next(iter(found.values())) == f"operator set {opset}"


def test_several_inputs_and_outputs_and_integers(tmp_path):
    model = pytorch_net().model()
    model.graph.input.append(helper.make_tensor_value_info("other", LONGS, [1]))
    model.graph.output.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, [None]))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "n.onnx")
    found = [problem.found for problem in caught.value.problems]
    assert found == ["inputs image, other", "outputs w3, w0"]


def test_files_that_are_no_onnx(tmp_path):
    file = tmp_path / "net.onnx"
    with pytest.raises(ModelError, match="no such model"):
        load_model(file)
    for content in (b"not a protobuf at all", b"", pytorch_net().model().SerializeToString()[:300]):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=r"passes onnx\.checker"):
            load_model(file)


def test_missing_external_data(tmp_path):
    model = pytorch_net().model()
    file = tmp_path / "net.onnx"
    onnx.save(model, file, save_as_external_data=True, size_threshold=0, location="net.data")
    assert load_model(file).classes == 5
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match="external data beside it"):
        load_model(file)
