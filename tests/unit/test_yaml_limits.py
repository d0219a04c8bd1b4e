"""YAML and JSON from elsewhere: limits, and one sentence for whatever cannot be read."""

import json

import pytest
from synthetic_runs import write_run

from codistill.config import Config, apply_settings, read_config, write_config
from codistill.errors import UserError
from codistill.rundir import Epoch, Preparation, RecordError, YamlError, parse_yaml, read_json, read_run, read_yaml
from codistill.rundir.files import parse_record
from codistill.rundir.yaml_text import MOST_BYTES, MOST_DEPTH, MOST_NODES

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
DEEP = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(80))

REFUSED = {
    "aliases that double": (BOMB, f"it has more than {MOST_NODES:,} values, with aliases written out"),
    "many values": ("[" + "x," * MOST_NODES + "]", f"it has more than {MOST_NODES:,} values"),
    "nested lists": ("[" * 1000, f"it is nested more than {MOST_DEPTH} deep"),
    "nested lines": ("\n".join(" " * i + "a:" for i in range(100)), f"it is nested more than {MOST_DEPTH} deep"),
    "nested aliases": (DEEP, f"it is nested more than {MOST_DEPTH} deep"),
    "an alias in itself": ("a: &a [*a]", "the alias *a is inside what it stands for"),
    "a long number": ("9" * 5000, "a value has 5,000 letters, and at most 3,000 are read"),
    "a date that is none": ("2001-99-99", "a value cannot be read (ValueError: month must be in 1..12)"),
    "no number": ("!!int ''", "a value cannot be read (IndexError"),
    "an object of Python": ("!!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    "an unknown alias": ("*a", "found undefined alias"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_yaml_that_is_too_much_or_no_data_is_refused_in_one_sentence(tmp_path, text, said):
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert said in str(caught.value)
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "metrics.jsonl").write_text("")
    for call in (
        lambda: read_config(tmp_path / "config.yaml"),
        lambda: read_run(tmp_path),
        lambda: apply_settings(Config(), [f"method={text}"]),
    ):
        with pytest.raises(UserError) as refused:
            call()
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 500


def test_a_file_of_yaml_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(YamlError, match=f"it has more than {MOST_BYTES:,} bytes"):
        read_yaml(path)


def test_what_settings_need_is_read(tmp_path):
    write_config(Config(method_options={"temperature": 2.0}), tmp_path / "config.yaml")
    assert read_yaml(tmp_path / "config.yaml")["method_options"] == {"temperature": 2.0}
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: 0.5}}") == {
        "a": [1, 2], "b": [[1, 2], [1, 2]], "c": {"d": 0.5},
    }  # fmt: skip
    assert parse_yaml("") is None


def test_a_whole_number_that_no_float_holds_is_refused_by_its_setting():
    with pytest.raises(UserError, match=r"^optim\.lr=1000"):
        apply_settings(Config(), ["optim.lr=1" + "0" * 400])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "it is nested too deeply"),
        ('{"version": 1, "x": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"version": ' + "9" * 4000 + "}", "has format version 999"),
    ],
)
def test_json_without_end_is_refused_in_one_sentence(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / "x.json")
    assert said in str(caught.value)


def test_numbers_and_diagnostics_without_end_are_named(tmp_path):
    run = write_run(tmp_path / "x", epochs=2)
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])

    def said(**changes):
        with pytest.raises(UserError) as caught:
            parse_record("x", tmp_path, json.dumps(line | changes).encode(), Epoch)
        return str(caught.value)

    assert "(lr is 1000" in said(lr=10**400)
    assert "which is too large)" in said(lr=10**400)
    nested = []
    for _ in range(100):
        nested = [nested]
    assert "(diagnostics.attention is nested more than 50 deep)" in said(diagnostics={"attention": nested})


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, 10**400])
def test_attention_that_is_no_share_is_not_drawn(tmp_path, wrong):
    run = write_run(tmp_path / "x", "okddip, networks", epochs=2)
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert Epoch.from_json(line).attention is not None
    line["diagnostics"]["attention"][1][0] = wrong
    assert Epoch.from_json(line).attention is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": (float("nan"),)}, "mean is (nan,): it must be one finite number per channel"),
        ({"std": (float("inf"),)}, "std is (inf,): it must be one finite number per channel"),
        ({"height": 10**9}, "height is 1000000000: it must be from 1 to 16384"),
        ({"resize": "shorter_side", "shorter_side": 10**9}, "it must be at least height and width, and at most 16384"),
    ],
)
def test_a_preparation_without_end_is_no_record(changes, said):
    good = {"channels": 1, "resize": "cover", "height": 8, "width": 8, "mean": (0.5,), "std": (0.5,)}
    assert Preparation(**good).height == 8
    with pytest.raises(RecordError) as caught:
        Preparation(**good | changes)
    assert said in str(caught.value)
