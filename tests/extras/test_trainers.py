"""A Joint in Lightning, Accelerate and the Trainer of transformers: the programs of examples/trainers, and resuming."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import GPT2LMHeadModel, Trainer, TrainingArguments, ViTForImageClassification

from codistill import Joint, methods
from codistill.peers import NetworkGroup

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"
# The other packages' own warnings, about each other and about workers, are not ours to raise.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def example(name: str) -> ModuleType:
    """Load examples/trainers/NAME.py by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_warnings(seen) -> list[str]:
    return [str(w.message) for w in seen if "Joint" in str(w.message) or "OKDDip" in str(w.message)]


def test_lightning(tmp_path, recwarn):
    program = example("with_lightning")
    scores = program.main(epochs=2, batches=4, out=tmp_path / "student.pt")
    assert {f"student{peer}" for peer in range(4)} <= scores.keys()
    program.net(12).load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    assert own_warnings(recwarn) == []


def test_lightning_resumes_the_position_with_its_checkpoint(tmp_path):
    program = example("with_lightning")
    joints = []

    class Remembered(program.Codistilled):
        def __init__(self, joint):
            super().__init__(joint)
            joints.append(joint)

    program.Codistilled = Remembered
    program.main(epochs=1, batches=3, out=tmp_path / "student.pt")
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    program.main(epochs=2, batches=3, out=tmp_path / "student.pt", resume=str(checkpoint))
    assert [joint.position.epoch for joint in joints] == [1, 2]
    assert joints[1].position.steps == 6


def test_accelerate(tmp_path, recwarn):
    program = example("with_accelerate")
    accuracy_P = program.main(epochs=2, steps=4, out=tmp_path / "student.pt")
    assert accuracy_P.shape == (4,)
    program.net(12).load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    assert own_warnings(recwarn) == []


def test_the_trainer_of_transformers_with_vision_transformers(tmp_path, recwarn):
    scores = example("hf_image_classification").main(epochs=2, items=64, out=tmp_path / "student")
    assert {"eval_leader", "eval_student3", "eval_loss"} <= scores.keys()
    assert isinstance(ViTForImageClassification.from_pretrained(tmp_path / "student"), ViTForImageClassification)
    assert own_warnings(recwarn) == []


def test_the_trainer_of_transformers_with_language_models(tmp_path, recwarn):
    scores = example("hf_language_model").main(steps=6, batch=4, out=tmp_path / "student")
    assert 0 < scores["eval_student0"] < 1
    student = GPT2LMHeadModel.from_pretrained(tmp_path / "student")
    assert student.lm_head.weight is student.transformer.wte.weight
    assert own_warnings(recwarn) == []


def trained(folder: Path, epochs: int, resume: bool | str = False, **settings) -> tuple[Joint, Trainer]:
    """Language models, whose weights are tied, on a few texts of random bytes."""
    program = example("hf_language_model")
    torch.manual_seed(0)
    tokens = torch.randint(256, (16, 8), generator=torch.Generator().manual_seed(1))
    items = [{"input_ids": text, "labels": text} for text in tokens]
    nets = [program.net() for _ in range(2)]
    group = NetworkGroup(nets, output="logits", example=torch.zeros(2, 8, dtype=torch.long))
    joint = Joint(group, methods.build("dml", group), 2, steps_per_epoch=4, shift_labels=True)
    settings = {"max_grad_norm": 0.0, "optim": "sgd", "learning_rate": 0.1, **settings}
    arguments = TrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=4, save_strategy="epoch", report_to="none",
        use_cpu=True, disable_tqdm=True, lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    trainer = Trainer(joint, arguments, train_dataset=items)
    trainer.train(resume_from_checkpoint=resume)
    return joint, trainer


def test_the_trainer_of_transformers_resumes_to_the_same_weights_and_position(tmp_path):
    whole, _ = trained(tmp_path / "whole", 2)
    trained(tmp_path / "parts", 1)
    resumed, _ = trained(tmp_path / "parts", 2, resume=True)
    assert resumed.position.epoch == whole.position.epoch == 2
    for (name, value), (_, other) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.allclose(value, other, atol=1e-6), name


def test_accumulated_gradients_are_the_mean_of_the_batches_in_the_trainer_of_transformers(tmp_path):
    once, _ = trained(tmp_path / "once", 1, max_steps=1, per_device_eval_batch_size=4, seed=3)
    thrice, _ = trained(tmp_path / "four", 1, max_steps=1, gradient_accumulation_steps=4, learning_rate=0.1, seed=3)
    start, _ = trained(tmp_path / "start", 1, max_steps=1, learning_rate=0.0, seed=3)
    moved = [
        sum(float((p - q).detach().norm()) for p, q in zip(joint.parameters(), start.parameters(), strict=True))
        for joint in (once, thrice)
    ]
    # A sum instead of a mean would move them about four times as far.
    assert 0.3 < moved[1] / moved[0] < 1.5
    assert (once.position.steps, thrice.position.steps) == (1, 4)
