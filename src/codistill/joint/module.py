"""`Joint`: a group and a method as one `nn.Module` that takes inputs and labels and returns a loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from codistill.errors import UserError
from codistill.execution import LoopExecutor, build
from codistill.joint.call import IGNORED_LABEL, Call, Read
from codistill.joint.following import Following
from codistill.joint.held_out import show
from codistill.joint.limits import refuse, refuse_partial_step, refuse_replica
from codistill.joint.once import Once
from codistill.joint.output import JointOutput
from codistill.joint.position import Position
from codistill.joint.state import keep_state
from codistill.losses import wide
from codistill.methods import Method
from codistill.methods.independent import Independent
from codistill.peers import PeerGroup, Teachers
from codistill.tracing.modes import modes_kept
from codistill.types import PeerOutputs, Progress

__all__ = ["Joint"]


class Joint(nn.Module):
    """Trains a group by a method inside any trainer: `joint(images, labels)` returns a `JointOutput`, the loss first.

    `joint.parameters()` is what the optimizer needs, and `joint.state_dict()` what a checkpoint needs: students,
    method, moving averages, teachers, and the position in the run. Gradients are those of the executor `loop`.

    A step is one forward in training mode with labels and with gradients enabled: one batch. Gradient accumulation
    makes no difference, since batches are counted and not updates of the optimizer.

    Args:
        group: the students.
        method: made for the group by `codistill.methods.build`.
        epochs: length of the training, for the method's ramp-ups.
        steps_per_epoch: batches per epoch that a process sees, `len(loader)`. The position then advances by itself;
            without it, call `set_epoch` at the beginning of each epoch.
        teachers: frozen teachers, for methods that learn from some.
        average: decay of a moving average of each student's weights, which is then scored and handed back.
        peer: the student whose logits are returned; None for the method's leader, or the ensemble if there is none.
        shift_labels: for causal language models, whose labels are the inputs themselves: each position [B, T] learns
            the label of the next one.
        ignore_index: label that counts for nothing; -100 with `shift_labels`, otherwise none.
        input_name: keyword of the inputs besides "inputs", "pixel_values" and "input_ids".
        label_name: keyword of the labels besides "labels".

    Raises:
        UserError: a method whose students take turns, which one backward pass cannot do; another number of teachers
            than the method was built for; what `codistill.execution.build` refuses; a number out of range.
    """

    accepts_loss_kwargs: ClassVar[bool] = False
    """Tells the Trainer of transformers to divide the loss by the number of accumulated batches itself."""

    def __init__(
        self,
        group: PeerGroup,
        method: Method,
        epochs: float,
        steps_per_epoch: int | None = None,
        *,
        teachers: Sequence[nn.Module] | Teachers = (),
        average: float | None = None,
        peer: int | None = None,
        shift_labels: bool = False,
        ignore_index: int | None = None,
        input_name: str | None = None,
        label_name: str | None = None,
    ) -> None:
        super().__init__()
        refuse(group, method, len(teachers), peer)
        for text in method.cautions():
            warnings.warn(text, stacklevel=2)
        executor = build("loop", group, method, teachers=teachers, average=average)
        assert isinstance(executor, LoopExecutor)
        self._executor = executor
        self.group, self.method, self.averages = group, method, executor.averages
        self.teachers = executor.teachers if len(executor.teachers) else None
        self.position, self.peer = Position(epochs, steps_per_epoch), peer
        self.ignore_index = IGNORED_LABEL if shift_labels and ignore_index is None else ignore_index
        self._call, self._once = Call(input_name, label_name, shift_labels, self.ignore_index), Once()
        self._cross_entropy = (Independent(method.shape),)  # in a tuple, since it is no part of the state
        self.averaging, self._renewed = Following(executor), 0.0
        keep_state(self)

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor] | None = None,
        labels: Tensor | None = None,
        sample_weights: Tensor | None = None,
        *,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        **others: Any,
    ) -> JointOutput:
        """Return loss and logits of one batch.

        Args:
            inputs: [B, ...] for all students, or a sequence with one such tensor per student; by keyword also as
                `pixel_values`, `input_ids` or the `input_name` of the constructor.
            labels: class indices [B, ...], or probabilities [B, ..., C] for methods that allow them.
            sample_weights: [B] or [B, ...]; the batch mean becomes the weighted mean.
            pixel_values: see `inputs`.
            input_ids: see `inputs`.
            others: ignored, with one warning that names them.

        Raises:
            UserError: no inputs; a method that moves only some of the students; what `Method.forward` refuses.
        """
        refuse_replica(self)
        named = {"inputs": inputs, "labels": labels, "sample_weights": sample_weights}
        read = self._call.read({**others, **named, "pixel_values": pixel_values, "input_ids": input_ids})
        _untraced(self.averaging.catch_up)()
        outputs = self._outputs(read.views)
        return _untraced(self._judge)(outputs, read)

    def set_epoch(self, epoch: float) -> None:
        """Say how many epochs are done, 0 before the first; steps count on from there. UserError if negative."""
        self.position.set(epoch)

    def after_step(self) -> None:
        """Let the moving averages follow the optimizer's step.

        This happens by itself at the next forward or `state_dict()` where the optimizer is one of torch's. Call it
        after each step of an optimizer that writes to `parameter.data`, which torch does not notice.
        """
        self.averaging.step()

    def student(self, peer: int | str = "leader") -> nn.Module:
        """The plain network of a student, a copy: its moving average where that is deployed; see `PeerGroup.student`.

        Args:
            peer: "leader" for the one that the method names, or its number.

        Raises:
            UserError: there is no such student, or the method names no leader.
        """
        self.averaging.catch_up()
        if peer == "leader" and self.method.leader is None:
            last = self.group.shape.peers - 1
            raise UserError(
                f"peer 'leader': {type(self.method).__name__} names none; give 0 to {last}, by the validation error of "
                "each student, JointOutput.logits_BPC."
            )
        return self._executor.student(self.method.leader if peer == "leader" else peer)  # pyright: ignore[reportArgumentType]

    def renew(self, held_out: Iterable[Any]) -> None:
        """Show the method the students' predictions on held-out images; for KDCL-General, after every epoch.

        Args:
            held_out: batches of images that are not trained on, pairs (inputs, labels) or mappings by name.

        Raises:
            UserError: a method that wants to see none, no batch, or one without labels.
        """
        if not self.method.needs.held_out:
            name = type(self.method).__name__
            raise UserError(f"renew with {name}: it takes nothing from held-out images; leave it out.")
        self.averaging.catch_up()
        with modes_kept(self):
            self.eval()
            self._take_autocast(next(self.group.parameters()).device.type)
            show(self._executor, held_out, self._call)
        self._renewed = self.position.epoch

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """UserError unless the optimizer holds every parameter that is trained; its groups are read, nothing is run."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        lacking = [name for name, p in trained if id(p) not in held]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise UserError(
                f"the optimizer lacks {lacking[0]!r}{more} of the {len(trained)} parameters that are trained: give it "
                "joint.parameters()."
            )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the networks, as `nn.Module.compile`; the method and the rest of a step stay as they are."""
        self.group.compile(*args, **kwargs)

    def get_extra_state(self) -> Tensor:
        """The position in the run."""
        return self.position.state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a position."""
        self.position.restore(state)
        self._renewed = self.position.epoch

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.averaging.catch_up()
        super()._apply(fn, recurse)
        self._executor.moved()
        self.averaging.begin()
        return self

    def _outputs(self, views: Tensor | Sequence[Tensor]) -> PeerOutputs:
        """What the networks put out, in the precision that the trainer has chosen for them."""
        self._take_autocast((views if isinstance(views, Tensor) else views[0]).device.type)
        if not self.training and self._executor.deployed_averages is not None:
            return self._executor.predict(views)  # pyright: ignore[reportArgumentType]
        return self._executor.forward(views)

    def _take_autocast(self, kind: str) -> None:
        """Let the networks run in the trainer's autocast, which an executor would replace by its own settings."""
        self._executor.amp = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def _judge(self, outputs: PeerOutputs, read: Read) -> JointOutput:
        """The loss of the outputs, in fp32 or wider whatever the networks ran in."""
        outputs = outputs.map(wide)
        with torch.autocast(outputs.logits_PBC.device.type, enabled=False):
            if read.labels is None:
                self._expect_labels()
                return self._returned(outputs, None, None, {})
            if not self.training:
                return self._scored(outputs, read)
            counts = torch.is_grad_enabled()
            progress = self.position.take() if counts else self.position.look()
            if counts:
                self.averaging.trained()
            self._expect_renewal()
            step = self.method(outputs, read.labels, progress, read.weights, self.ignore_index)
        refuse_partial_step(self.method, step)
        return self._returned(outputs, step.loss, step.loss_by_peer.detach(), step.parts)

    def _scored(self, outputs: PeerOutputs, read: Read) -> JointOutput:
        (cross_entropy,) = self._cross_entropy
        step = cross_entropy(outputs, read.labels, Progress(0, 1), read.weights, self.ignore_index)
        loss = step.loss / len(step.loss_by_peer)
        if loss.requires_grad:
            loss.register_hook(self._warn_of_eval)
        return self._returned(outputs, loss, step.loss_by_peer.detach(), {})

    def _returned(
        self, outputs: PeerOutputs, loss: Tensor | None, by_peer: Tensor | None, parts: Mapping[str, Tensor]
    ) -> JointOutput:
        logits_PBC = outputs.logits_PBC.detach()
        chosen = self.method.leader if self.peer is None else self.peer
        if chosen is None:
            logits = logits_PBC.log_softmax(-1).logsumexp(0) - math.log(len(logits_PBC))
        else:
            logits = logits_PBC[chosen]
        return JointOutput(loss, logits, logits_PBC.movedim(0, 1), by_peer, parts)

    def _expect_labels(self) -> None:
        if self.training and torch.is_grad_enabled():
            self._once(
                "labels",
                "the Joint is in training mode and got no labels, so there is no loss: give labels=, and leave label "
                "smoothing to the method (method.label_smoothing = 0.1) where the trainer keeps labels for that",
            )

    def _expect_renewal(self) -> None:
        if self.method.needs.held_out and self.position.epoch > self._renewed + 1.5:
            self._once(
                "renewal",
                f"{type(self.method).__name__} has seen no held-out images for more than an epoch: call "
                "joint.renew(loader) after every epoch, with images that are not trained on",
            )

    def _warn_of_eval(self, _: Tensor) -> None:
        self._once(
            "eval",
            "backward through a Joint in evaluation mode, where the loss is the students' cross-entropy without the "
            "method: call joint.train() before training",
        )


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Kept out of what torch.compile traces: it holds Python numbers that change with every step."""
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function
