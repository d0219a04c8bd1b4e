"""Trained weights: reading them, fitting them to a network, and having them from a library's cache."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from codistill import models
from codistill.models.fit import fit
from codistill.models.weights import Pixels, Weights, read_file
from codistill.peers import BranchedGroup, TreeGroup
from refusals import refusal


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int, classes: int = 5, channels: int = 1) -> nn.Module:
    return models.build("resnet8_tiny", classes, channels, seeded(seed))


def fitted(tensors, net, **keywords):
    return fit(Weights(tensors, "there"), net, "resnet8_tiny", "fc", **keywords)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt"])
def test_a_state_dict_is_read_from_either_format(tmp_path, suffix):
    state, path = tiny(0).state_dict(), tmp_path / f"net.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    read = read_file(path)
    assert read.tensors.keys() == state.keys()
    assert all(torch.equal(read.tensors[name], state[name]) for name in state)


def test_the_weights_in_a_checkpoint_are_found_and_it_is_said_which(tmp_path):
    ones, twos, path = {"w": torch.ones(2)}, {"w": torch.full((2,), 2.0)}, tmp_path / "c.pth"
    for held, value, says in (
        ({"epoch": 3, "state_dict": ones}, 1, "its entry 'state_dict'"),
        ({"model": ones, "optimizer": {"state": {}}}, 1, "its entry 'model'"),
        ({"model": ones, "ema": twos}, 2, "its entry 'ema' (it also has 'model')"),
        ({"model_ema": {"module": twos}, "model": ones}, 2, "'model_ema' (it also has 'model'), its entry 'module'"),
    ):
        torch.save(held, path)
        read = read_file(path)
        assert read.tensors["w"].tolist() == [value, value]
        assert says in read.source


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"epoch": 3, "lr": 0.1}, path)
    assert "holds no tensors by name (epoch, lr): save network.state_dict()" in refusal(read_file, path)
    torch.save(nn.Linear(2, 2), path)
    assert "holds objects besides tensors, which could run code" in refusal(read_file, path)
    path.write_bytes(b"PK\x03\x04 half a file")
    assert "cannot be read as weights" in refusal(read_file, path)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    assert "cannot be read as weights" in refusal(read_file, tmp_path / "x.safetensors")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
def test_names_with_the_prefixes_of_wrappers_are_understood(prefix):
    source = tiny(0).state_dict()
    values = fitted({prefix + name: value for name, value in source.items()}, tiny(1)).values
    assert values.keys() == {name for name in source if not name.startswith("fc.")}
    assert torch.equal(values["layer3.0.conv2.weight"], source["layer3.0.conv2.weight"])


def test_a_part_that_was_compiled_has_its_plain_name():
    source = {name.replace("layer1.", "layer1._orig_mod."): value for name, value in tiny(0).state_dict().items()}
    assert "layer1.0.conv1.weight" in fitted(source, tiny(1)).values


def test_the_line_says_what_was_loaded_and_what_was_not():
    source, net = tiny(0, classes=7).state_dict(), tiny(1)
    del source["bn1.weight"]
    line = str(fitted({**source, "head.weight": torch.ones(3)}, net))
    total = len(net.state_dict())
    assert line == (
        f"loaded {total - 3} of {total} tensors from there; left at random: bn1.weight, fc.weight, fc.bias; "
        "not used: head.weight"
    )


def test_the_classifier_is_kept_only_if_asked_for():
    source = tiny(0).state_dict()
    assert "fc.weight" not in fitted(source, tiny(1)).values
    kept = fitted(source, tiny(1), keep_classifier=True)
    assert torch.equal(kept.values["fc.weight"], source["fc.weight"])
    assert kept.random == ()


@pytest.mark.parametrize(("theirs", "ours"), [(3, 1), (1, 3), (3, 4)])
def test_a_grey_picture_gives_the_same_through_a_stem_of_other_channels(theirs, ours):
    old, new = tiny(0, channels=theirs).eval(), tiny(1, channels=ours).eval()
    found = fitted(old.state_dict(), new, keep_classifier=True)
    assert found.remarks == (f"conv1.weight: {theirs} channels summed and shared by {ours}",)
    new.load_state_dict(found.values)
    grey = torch.randn(2, 1, 8, 8, generator=seeded(2))
    with torch.no_grad():
        before, after = old(grey.expand(-1, theirs, -1, -1)), new(grey.expand(-1, ours, -1, -1))
    torch.testing.assert_close(after, before)


def test_weights_of_another_network_are_refused():
    wide = models.build("wrn10_1", 5, 1, seeded(0)).state_dict()
    assert "none belongs into resnet8_tiny (they are a, b" in refusal(
        fitted, {"a": torch.ones(1), "b": torch.ones(1)}, tiny(1)
    )
    assert "give weights of this very network" in refusal(fitted, wide, tiny(1))
    state = tiny(0).state_dict()
    state["layer1.0.conv1.weight"] = torch.ones(3, 3)
    said = refusal(fitted, state, tiny(1))
    assert said.startswith(
        "weights of there: 'layer1.0.conv1.weight' is [3, 3] there and [12, 12, 3, 3] in resnet8_tiny: give"
    )


def test_tied_weights_that_lost_a_name_count_as_loaded():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    net[1].weight = net[0].weight
    state = {name: value for name, value in net.state_dict().items() if name != "1.weight"}
    assert fit(Weights(state, "there"), net, "tied", "2").random == ("2.weight", "2.bias")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch hub's cache with the file of torchvision's weights, as a download would leave it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    from torchvision import models as theirs

    weights = theirs.get_model_weights("shufflenet_v2_x0_5")["IMAGENET1K_V1"]
    net = theirs.get_model("shufflenet_v2_x0_5")
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(net.state_dict(), place / weights.url.rpartition("/")[2])
    return net.state_dict()


@pytest.mark.parametrize("init", ["pretrained", "IMAGENET1K_V1"])
def test_torchvisions_weights_come_from_its_cache(hub, init):
    state = torch.get_rng_state()
    net = models.build("torchvision:shufflenet_v2_x0_5", 7, 1, seeded(0), init=init)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.conv5[0].weight, hub["conv5.0.weight"])
    torch.testing.assert_close(net.conv1[0].weight, hub["conv1.0.weight"].sum(1, keepdim=True))
    assert net.fc.weight.shape == (7, 1024)
    found = models.find_weights("torchvision:shufflenet_v2_x0_5", init)
    assert found.source == "torchvision's shufflenet_v2_x0_5 IMAGENET1K_V1"
    assert found.pixels == Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, 224)


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """The Hugging Face cache with the weights of a tag, as a download would leave it."""
    timm, constants = pytest.importorskip("timm"), pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    net = timm.create_model("mobilenetv3_small_050")
    folder = tmp_path / "models--timm--mobilenetv3_small_050.lamb_in1k"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(net.state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    return net.state_dict()


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050.lamb_in1k", "timm:mobilenetv3_small_050"])
def test_timms_weights_come_from_the_cache_with_or_without_the_tag(hugging_face, name):
    net = models.build(name, 7, 1, seeded(0), init="pretrained")
    assert torch.equal(net.conv_head.weight, hugging_face["conv_head.weight"])
    torch.testing.assert_close(net.conv_stem.weight, hugging_face["conv_stem.weight"].sum(1, keepdim=True))
    assert net.classifier.weight.shape == (7, 1024)
    found = models.find_weights(name, "pretrained")
    assert found.source == "timm's mobilenetv3_small_050 lamb_in1k"
    assert found.pixels == Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, 224)


def test_a_tag_whose_weights_are_not_loaded_is_mentioned():
    pytest.importorskip("timm")
    with pytest.warns(
        UserWarning, match=r"names trained weights, but the network starts at random: .*--init pretrained"
    ):
        models.build("timm:mobilenetv3_small_050.lamb_in1k", 4)
    models.build("timm:mobilenetv3_small_050", 4)
    models.build("timm:mobilenetv3_small_050.lamb_in1k", 4, init="random")


def test_weights_that_cannot_be_had_are_refused_in_one_sentence(tmp_path, monkeypatch):
    timm, constants = pytest.importorskip("timm"), pytest.importorskip("huggingface_hub.constants")
    from torchvision import models as theirs

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(theirs, "get_model", offline)
    find = models.find_weights
    assert "(no route to host): put them there by hand from https://download.pytorch" in refusal(
        find, "resnet18", "pretrained"
    )
    assert "with 'hf download timm/resnet10t.c3_in1k'" in refusal(find, "timm:resnet10t", "pretrained")
    untrained = next(name for name in timm.list_models() if not timm.models.is_model_pretrained(name))
    assert "timm has no pretrained weights for it" in refusal(find, f"timm:{untrained}", "pretrained")
    assert "'resnet32' comes without pretrained weights" in refusal(find, "resnet32", "pretrained")
    assert "comes without pretrained weights" in refusal(find, "mobilenet_v2_x0.5", "pretrained")
    # Of ours, not torchvision's.
    assert "comes without pretrained weights" in refusal(find, "vgg16", "pretrained")
    assert refusal(find, "resnet18", "IMAGENET1K_V9") == (
        "weights 'IMAGENET1K_V9': there is no such file or folder, and resnet18 has no weights of that name (it has "
        "IMAGENET1K_V1); give random, pretrained, or the path of a state dict, an exported student or a run."
    )
    assert "the folder holds no run and no exported student" in refusal(find, "resnet18", str(tmp_path))


@pytest.mark.parametrize("kind", [BranchedGroup, TreeGroup])
def test_branches_keep_trained_weights_and_draw_their_classifiers_if_asked_to(kind):
    net = tiny(0)
    splits = (4, "layer2") if kind is BranchedGroup else ({"layer2": 2, "layer3": 2},)
    drawn, kept = (kind(net, *splits, generator=seeded(1), keep_weights=keep) for keep in (False, True))
    for peer in range(4):
        state = kept.student(peer).state_dict()
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in state.items() if not k.startswith("fc."))
        # The classifiers are those that are drawn without the option.
        assert torch.equal(state["fc.weight"], drawn.student(peer).fc.weight)
        assert not torch.equal(drawn.student(peer).layer3[0].conv1.weight, net.layer3[0].conv1.weight)
