"""`--backbone onnx:FILE`: other tools' networks as frozen backbones, and what is refused."""

import hashlib
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command_line import cfl_edge
from onnx import helper
from onnx_networks import small_network, transformer

from cfl_edge.config.learn import LearnSettings
from cfl_edge.core.joint import pooling_matrix
from cfl_edge.errors import CflEdgeError, ModelDamagedError, ModelNotFoundError, UsageError
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.memory_plan import load
from cfl_edge.loop.open_learner import check_unchanged, open_learner
from cfl_edge.model.store import Store
from cfl_edge.onnx.frozen import frozen_network
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.network_file import open_network
from cfl_edge.onnx.network_name import NetworkFile
from cfl_edge.onnx.network_trial import default_points

CPU = torch.device("cpu")


def images(n, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def unit(x):
    return x / np.linalg.norm(x) * np.sqrt(x.size)


def tensors_of(path, names, x):
    """What ONNX Runtime says the named tensors of the file itself are."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(list(names), {session.get_inputs()[0].name: x})


@pytest.mark.parametrize(
    ("query", "mean", "std", "scale"),
    [
        ("", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1 / 255),
        ("?mean=127&std=128&scale=1", 127, 128, 1),
        ("?mean=0,0.1,0.2&std=1,2,3", [0, 0.1, 0.2], [1, 2, 3], 1 / 255),
    ],
)
@pytest.mark.parametrize("nhwc", [False, True])
def test_features_are_those_of_the_file(tmp_path, nhwc, query, mean, std, scale):
    path = small_network(tmp_path / "net.onnx", nhwc=nhwc, batch=1 if nhwc else None)
    backbone = frozen_network(f"onnx:{path}{query}", 8, 64, CPU)
    picture = images(1, 64)
    h0, final = backbone(torch.from_numpy(picture))
    x = ((picture.astype(float) * scale - mean) / std).astype(np.float32)
    x = x if nhwc else x.transpose(0, 3, 1, 2)
    r1, r2, r3, flat = tensors_of(path, ["r1", "r2", "r3", "flat"], x)
    np.testing.assert_allclose(h0, r2, rtol=1e-4, atol=1e-5)  # the stage before the last
    cells = [
        np.einsum("chw,hwk->ck", m[0], pooling_matrix(*m.shape[2:], 3).view(*m.shape[2:], 9))
        for m in (r1, r2, r3)  # 8 x 8 at the least, in 3 x 3 cells
    ]
    joint = [unit(part.flatten()) for part in cells]
    expected = np.concatenate([flat[0], *joint])
    assert backbone.widths == [24, len(expected) - 24]
    np.testing.assert_allclose(final[0], expected, rtol=1e-4, atol=1e-4)


def test_tokens_are_read_as_a_grid_without_the_first(tmp_path):
    path = transformer(tmp_path / "vit.onnx")
    opened = open_network(f"onnx:{path}?mean=0&std=1", 8, None)
    assert opened.file.read == ("t2", "t4", "t6", "t8")  # the sums of every second block
    picture = images(1, 32)
    h0, final = frozen_network(f"onnx:{path}?mean=0&std=1", 8, 32, CPU)(torch.from_numpy(picture))
    x = (picture.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    t6, t8 = tensors_of(path, ["t6", "t8"], x)
    np.testing.assert_allclose(h0[0], t6[0, 1:].T.reshape(12, 4, 4), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(final[0, :12], t8[0, 1:].mean(axis=0), rtol=1e-3, atol=1e-4)


def test_the_rule_takes_the_last_four_sizes_and_the_input_of_the_last_product():
    maps = [(f"m{side}{i}", (8, side, side)) for side in (64, 32, 16, 8, 4) for i in range(2)]
    tensors = [("image", (3, 64, 64)), *maps, ("gate", (8, 1, 1)), ("flat", (8,))]
    assert default_points(tensors, "flat") == ["m321", "m161", "m81", "m41", "flat"]


@pytest.mark.parametrize(
    ("opset", "batch"),
    [
        *[(11, None), (21, 1)],
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [(11, 1), (13, 1), (13, None), (18, 1), (18, None), (21, None)]
        ),
    ],
)
def test_a_model_learns_saves_resumes_and_exports_as_one_graph(tmp_path, opset, batch):
    path = small_network(tmp_path / "net.onnx", side=40, batch=batch, opset=opset)
    config = LearnerConfig(backbone=f"onnx:{path}?read=stem,r3,flat", layers="8", replay_mib=0.2)
    learner = Learner(config)
    assert learner.image_px == 40
    assert learner.config.backbone.startswith(f"onnx:{path}?read=c1,r3,flat&mean=0.485")
    dark, light = np.zeros((50, 60, 3), np.uint8), images(1, 60)[0]
    for _ in range(3):
        learner.learn_one(dark, "dark")
        learner.learn_one(light, "light")
    learner.save(tmp_path / "m")
    network = Store(tmp_path / "m").load().manifest["network"]
    assert network["backbone_digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert network["backbone"] == learner.config.backbone

    learner.export(tmp_path / "out")
    model = OnnxModel(tmp_path / "out" / "model.onnx")
    back = Learner.load(tmp_path / "m")
    for image in (dark, light):
        ours = back.predict_one(image)
        np.testing.assert_allclose(
            model.predict_one(image).scores, ours.scores, rtol=1e-3, atol=1e-3
        )
        assert ours.label == ("dark" if image is dark else "light")
    content = (tmp_path / "out" / "model.onnx").read_bytes()
    assert str(tmp_path).encode() not in content  # no path of this machine
    assert b"w4" not in content  # nor the classifier of the file


def test_a_file_that_changed_is_gone_or_moved(tmp_path):
    path = small_network(tmp_path / "net.onnx")
    learner = Learner(LearnerConfig(backbone=f"onnx:{path}", layers="8", image_px=32))
    learner.learn_one(images(1, 32)[0], "a")
    learner.save(tmp_path / "m")
    saved = Store(tmp_path / "m").load()

    path.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelNotFoundError, match=r"net\.onnx does not exist") as missing:
        Learner.load(tmp_path / "m")
    assert str(path) in missing.value.hint
    assert "say where it is now, with --backbone onnx:" in missing.value.hint

    asked = LearnSettings(
        stream="demo:", model=tmp_path / "m", backbone=f"onnx:{tmp_path / 'elsewhere.onnx'}"
    )
    check_unchanged(saved, asked)
    moved = open_learner(saved, asked)
    assert moved.config.backbone.startswith(
        f"onnx:{tmp_path / 'elsewhere.onnx'}?read=r1,r2,r3,flat&"
    )
    other = asked.model_copy(update={"backbone": f"{asked.backbone}?mean=0"})
    with pytest.raises(UsageError, match=r"mean=\(0.0, 0.0, 0.0\), but the model was learned with"):
        open_learner(saved, other)

    small_network(path, classes=9)
    with pytest.raises(CflEdgeError, match="learned on other weights") as changed:
        Learner.load(tmp_path / "m")
    assert saved.manifest["network"]["backbone_digest"] in changed.value.hint
    (tmp_path / "elsewhere.onnx").write_bytes(path.read_bytes())
    with pytest.raises(ModelDamagedError, match="has changed since it was opened"):
        moved.export(tmp_path / "out")


@pytest.mark.parametrize("odd_name", ["c1", "a,b;c%2C d&e"])
def test_the_same_backbone_is_taken_again_however_it_names_what_it_reads(tmp_path, odd_name):
    path = small_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        node.input[:] = [odd_name if name == "c1" else name for name in node.input]
        node.output[:] = [odd_name if name == "c1" else name for name in node.output]
    onnx.save(model, path)
    # By nodes, against their order, and with more digits than a name usually shows.
    asked = LearnSettings(
        stream="demo:",
        model=tmp_path / "m",
        backbone=f"onnx:{path}?read=flat,r3,stem&mean=0.4850000001&std=0.2290001",
        layers="8",
        image=32,
    )
    learner = open_learner(None, asked)
    learner.learn_one(images(1, 32)[0], "a")
    learner.save(tmp_path / "m")
    saved = Store(tmp_path / "m").load()
    name = saved.manifest["network"]["backbone"]
    file = NetworkFile.parse(name)
    assert (file.read, file.name()) == ((odd_name, "r3", "flat"), name)
    assert (file.mean, file.std) == ((0.4850000001,) * 3, (0.2290001,) * 3)
    check_unchanged(saved, asked)
    again = open_learner(saved, asked)
    assert again.config.backbone == name
    other = asked.model_copy(update={"backbone": f"onnx:{path}?read=flat,r3,stage"})
    with pytest.raises(UsageError, match=r"read=.*but the model was learned with"):
        open_learner(saved, other)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?read=nowhere", "reads 'nowhere', which .* does not have"),
        ("?read=flat", r"reads no map of .*: flat"),
        ("?node=r1", "the key 'node', expected onnx:FILE with read, mean, std or scale"),
        ("?std=0", "std is '0', expected a number, or one for each colour"),
        ("?mean=1,2", "mean is '1,2', expected a number, or one for each colour"),
        ("?scale=nan", "scale is 'nan', expected a number above 0"),
    ],
)
def test_what_a_name_may_not_say(tmp_path, query, message):
    path = small_network(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match=message) as refused:
        open_network(f"onnx:{path}{query}", 8, 32)
    assert refused.value.hint


def two_inputs(path):
    model = onnx.load(small_network(path))
    model.graph.input.append(helper.make_tensor_value_info("mask", 1, [1, 4]))
    onnx.save(model, path)


def not_square(path):
    model = onnx.load(small_network(path))
    sides = model.graph.input[0].type.tensor_type.shape.dim[2:]
    sides[0].dim_value, sides[1].dim_value = 64, 48
    onnx.save(model, path)


def with_loop(path):
    body = helper.make_graph([], "body", [], [])
    small_network(path, extra=[helper.make_node("Loop", ["", ""], ["y"], body=body)])


def with_nan(path):
    model = onnx.load(small_network(path))
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w1"))
    onnx.save(model, path)


def cut(path):
    path.write_bytes(small_network(path).read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, r"has the inputs .*mask.*, expected one of float32"),
        (not_square, "reads images of 48 x 64 pixels, expected a square"),
        (with_loop, "has a loop or a branch"),
        (with_nan, r"its weights 'w1' are not all numbers"),
        (cut, "was cut short"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_what_is_no_image_network_is_refused(tmp_path, make, message):
    make(tmp_path / "net.onnx")
    with pytest.raises(CflEdgeError, match=f"^--backbone: .*{message}") as refused:
        open_network(f"onnx:{tmp_path / 'net.onnx'}", 8, None)
    assert refused.value.hint
    assert "cfl-edge export" not in refused.value.hint


def test_images_of_another_size_than_the_file_reads_are_refused(tmp_path):
    path = small_network(tmp_path / "net.onnx", side=40)
    with pytest.raises(UsageError, match=r"--image is 64, but .* reads images of 40 x 40"):
        Learner(LearnerConfig(backbone=f"onnx:{path}", image_px=64))


def test_the_plan_knows_its_weights_and_features(tmp_path):
    path = small_network(tmp_path / "net.onnx", side=40)
    loaded = load(LearnerConfig(backbone=f"onnx:{path}", layers="8"))
    assert loaded.backbone_bytes == path.stat().st_size
    assert loaded.input_shape == (16, 10, 10)
    assert loaded.channels == [24, 9 * (8 + 16 + 24), 8]


def test_a_name_and_its_parts_are_inverse(tmp_path):
    file = NetworkFile(tmp_path / "a b.onnx", ("/x/Add:0", "a&b"), (0.1,) * 3, (2.0,) * 3, 1.0)
    assert NetworkFile.parse(file.name()) == file


def test_the_command_line_learns_and_runs(tmp_path):
    path = small_network(tmp_path / "net.onnx", side=48)
    backbone, model = f"onnx:{path}?mean=0.5&std=0.5", tmp_path / "m"
    learn = ("learn", "--stream", "demo:?frames=20", "--backbone", backbone, "--model", model)
    assert cfl_edge(*learn, "--json").summary["learned"] == 20
    run = ("run", model / "onnx/model.onnx", "--stream", "demo:?frames=5", "--json")
    assert cfl_edge(*run).summary["frames"] == 5


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="torch.onnx needs onnxscript")
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_torchvision_with_random_weights(tmp_path):
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    torch.manual_seed(0)
    # MobileNetV3-Small with the first block of each stage alone: gates, two activations.
    stages = [
        (16, 3, 16, 16, True, "RE"),
        (16, 3, 32, 24, False, "RE"),
        (24, 5, 32, 40, True, "HS"),
        (40, 5, 64, 48, True, "HS"),
    ]
    blocks = [
        InvertedResidualConfig(*stage, stride=2, dilation=1, width_mult=1) for stage in stages
    ]
    network = MobileNetV3(blocks, last_channel=32).eval()
    path = tmp_path / "mobilenet.onnx"
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 96, 96),),
        path,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    opened = open_network(f"onnx:{path}", 8, None)
    assert [shape[1] for _, shape in opened.maps] == [24, 12, 6, 3]
    picture = images(1, 96)
    _, final = frozen_network(f"onnx:{path}", 8, 96, CPU)(torch.from_numpy(picture))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((torch.from_numpy(picture) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        end = network.classifier[:-1](network.avgpool(network.features(x)).flatten(1))
    torch.testing.assert_close(final[:, : opened.widths[0]], end, rtol=1e-3, atol=1e-4)
