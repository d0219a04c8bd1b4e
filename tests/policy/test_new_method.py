"""A new method costs a file, a line in METHODS, a card and its tests: this adds one, and everything knows it."""

import dataclasses
import json
import shutil

import pytest
import test_method_cards as cards

from codistill import methods, reports
from codistill.training import train
from codistill.userfile import load_class

CODE = '''
"""Confidence penalty, as a method of somebody new."""

from codistill.losses import entropy
from codistill.methods import Method, Rows
from codistill.types import GroupShape, Progress, StepOutput


class Penalty(Method):
    """`penalty`: L = Σ_i CE(z_i, y) - weight · H(softmax(z_i))."""

    min_peers = 1

    def __init__(self, shape: GroupShape, *, weight: float = 0.1) -> None:
        super().__init__(shape)
        self.weight = weight

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce", "entropy"."""
        ce_P, entropy_P = rows.cross_entropy_P(), rows.mean(entropy(rows.logits_PNC))
        loss_P = ce_P - self.weight * entropy_P
        return StepOutput(loss_P.sum(), loss_P, {"ce": ce_P.detach().sum(), "entropy": entropy_P.detach().sum()})
'''

CARD = """# `penalty`: confident predictions cost

## Idea

Text.

## Equations

$$L = \\sum_i \\mathrm{CE}(z_i, y)$$

| symbol | code |
|---|---|
| $z_i$ | `logits_PNC` |

## Options

| option | default | range | meaning |
|---|---|---|---|
| `weight` | `0.1` | 0 or more | weight of the entropy |

## What is ours

Text.

## The authors' released code

Text.

## Stop-gradient

Text.

## What is logged

| name | kind | what it is, and how to read it |
|---|---|---|
| `ce` | part | cross-entropy. |
| `entropy` | part | entropy. |

## Cost

Text.

## How to train it

```
codistill train --method penalty --peers 2
```

```python
group = codistill.peers.NetworkGroup([codistill.models.build("resnet8_tiny", 100) for _ in range(2)])
method = codistill.methods.build("penalty", group, weight=0.2)
method(group(images), labels, codistill.Progress(epoch, epochs)).loss.backward()
```

## The paper's numbers

None.

## A run

![penalty](images/penalty.svg)

<sub>Evidence: `python docs/methods/make_plots.py --methods penalty`, seed 0, 2031-01-01; codistill 9, PyTorch 9. One
seed, an illustration and no comparison.</sub>
"""


@pytest.fixture
def penalty(tmp_path, monkeypatch):
    """The file, the line and the card of a new method, in a copy of the cards' folder."""
    (tmp_path / "penalty.py").write_text(CODE)
    monkeypatch.setitem(methods.METHODS, "penalty", load_class(f"{tmp_path / 'penalty.py'}:Penalty", methods.Method))
    folder = tmp_path / "cards"
    shutil.copytree(cards.CARDS, folder)
    (folder / "penalty.md").write_text(CARD)
    (folder / "images" / "penalty.svg").write_text("<svg/>")
    monkeypatch.setattr(cards, "CARDS", folder)
    return "penalty"


def test_the_checks_of_cards_take_a_new_method_without_a_change_elsewhere(penalty):
    cards.test_card_has_every_section_once_and_in_order(penalty)
    cards.test_option_table_holds_all_options_with_their_true_defaults_and_no_others(penalty)
    cards.test_no_option_is_named_anywhere_that_does_not_exist(penalty)
    cards.test_every_logged_name_is_explained_and_no_other(penalty)
    cards.test_picture_is_there_small_and_undated_and_carries_its_evidence(penalty)
    cards.test_code_that_the_symbol_table_names_is_in_the_source(penalty)
    cards.test_lines_of_python_run(penalty)
    cards.test_index_compares_methods_with_their_defaults()


def test_a_new_method_is_listed_trained_and_reported(penalty, quick, digits, tmp_path):
    assert [row["options"] for row in methods.describe() if row["name"] == penalty] == [{"weight": 0.1}]
    config = dataclasses.replace(quick, method=penalty, method_options={"weight": 0.2}, epochs=1, out=tmp_path / "run")
    train(config, dataset=digits)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert set(json.loads(line)["train"]["parts"]) == {"ce", "entropy"}
    page = reports.write_report([reports.read_run(tmp_path / "run")], tmp_path / "report.html").read_text()
    assert "penalty" in page
