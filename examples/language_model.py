"""A language model in a training loop of one's own: three small GPT-2 that predict the next byte, and teach each other.

Source of the method: Chen et al., "Online Knowledge Distillation with Diverse Peers", AAAI 2020 (okddip). Each position
of a text is a row of its loss, as an image is in classification, with an attention of its own over the peers:

    L = Σ_i CE_i + w(e) · T² · (Σ_a KL(t_a ‖ q'_a) + KL(t_m ‖ q'_m))

The networks take no images, so the group is given an example of what they take. `output` names the entry of what they
return that holds the logits, [B, T, C].

Run it: pip install transformers, then python examples/language_model.py (about a minute on two cores; the text is the
help that Python itself ships with).
"""

from __future__ import annotations

import pydoc_data.topics

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from codistill import Progress
from codistill.methods import build
from codistill.peers import NetworkGroup

LENGTH, BATCH = 64, 16


def net() -> nn.Module:
    """A network of transformers, as it is, with the 256 bytes as its vocabulary."""
    sizes = {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 256, "n_positions": LENGTH}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, use_cache=False))


def load() -> tuple[Tensor, Tensor]:
    """The bytes of Python's help, the first nine tenths to train on and the last to score on."""
    text = "\n".join(pydoc_data.topics.topics.values())
    data = torch.tensor(list(text.encode()), dtype=torch.int64)
    return data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]


def sample(data: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pieces [B, T] of the text, and for each of their positions the byte that follows, [B, T]."""
    start_B1 = torch.randint(len(data) - LENGTH, (count, 1), generator=generator)
    pieces = data[start_B1 + torch.arange(LENGTH + 1)]
    return pieces[:, :-1], pieces[:, 1:]


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Tensor, following: Tensor) -> float:
    """Percent of the bytes that the network predicts."""
    return 100 * float((network.eval()(inputs).logits.argmax(-1) == following).float().mean())


def main(epochs: int = 4, steps: int = 80) -> None:
    """Train two auxiliary peers and the leader, and print the loss and the peers' accuracies after each epoch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    train, test = load()
    test_inputs, test_following = sample(test, 64, generator)

    group = NetworkGroup([net() for _ in range(3)], example=torch.zeros(2, LENGTH, dtype=torch.long), output="logits")
    method = build("okddip", group, include_self=True, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW([*group.parameters(), *method.parameters()], lr=3e-3)

    for epoch in range(epochs):
        group.train()
        losses = []
        for _ in range(steps):
            inputs, following = sample(train, BATCH, generator)
            optimizer.zero_grad()
            step = method(group(inputs), following, Progress(epoch, epochs))
            step.loss.backward()
            optimizer.step()
            losses.append(float(step.loss.detach()))
        group.eval()
        right = "  ".join(f"{accuracy(peer, test_inputs, test_following):.1f} %" for peer in group.networks)
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}  accuracy of the peers {right}")

    student = group.student(method.leader)  # the plain GPT-2 again, its head tied to its embedding
    print(f"student: {type(student).__name__}, {accuracy(student, test_inputs, test_following):.1f} %")


if __name__ == "__main__":
    main()
