"""What each stage minimises, as modules that map a batch to its losses by name, so that they can be compiled and
distributed as a whole."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..distribute import average
from ..evaluation import synthesise
from ..losses import (
    R1_INTERVAL,
    WEIGHTS,
    AdaptiveAugmentation,
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    pixel_loss,
    pose_loss,
    r1_penalty,
)
from ..metrics import MILLIMETRES, mpjpe
from ..models import Discriminator, HumanViewSynthesis


def total(losses: dict[str, Tensor]) -> Tensor:
    """The weighted sum of losses by name (scalar)."""
    return torch.stack([WEIGHTS[name] * value.float() for name, value in losses.items()]).sum()


def add_up(passes: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The sums over a step's passes of the losses by name, without gradient; not finite where a loss is not."""
    return {name: torch.stack([losses[name].detach() for losses in passes]).sum() for name in passes[0]}


class LifterObjective(nn.Module):
    """The objective of lifting keypoints to a pose.

    Args:
        model: the model whose lifter is trained.
        weigh_parts: weigh hands and face as the paper does; otherwise every joint counts the same.
    """

    def __init__(self, model: HumanViewSynthesis, weigh_parts: bool) -> None:
        super().__init__()
        self.lifter, self.skeleton, self.weigh_parts = model.lifter, model.skeleton, weigh_parts

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss "pose", in metres, of a batch of poses (`hvs.data.PoseDataset`)."""
        lifted = self.lifter(batch["keypoints"], batch["confidence"], batch["resolution"])
        return {"pose": self.distance(lifted, batch["relative"], batch["valid"])}

    def distance(self, lifted: Tensor, relative: Tensor, valid: Tensor) -> Tensor:
        """The loss "pose" of lifted poses [B, J, 3] against true ones, both in metres from the root (scalar)."""
        if self.weigh_parts:
            return pose_loss(lifted, relative, valid, self.skeleton, average)
        errors = mpjpe(lifted, relative, valid)
        known = (~errors.isnan()).sum().to(errors.dtype)
        return errors.nansum() / average(known) / MILLIMETRES


class SynthesisObjective(nn.Module):
    """The objective of the whole model, end to end.

    Args:
        model: to be trained.
        weigh_parts: as for :class:`LifterObjective`.
        perceptual: the perceptual loss, if any.
        critic: the discriminator's side of adversarial training, if any. It is not registered as a submodule, as
            another optimiser trains its weights.
    """

    def __init__(
        self,
        model: HumanViewSynthesis,
        weigh_parts: bool,
        perceptual: PerceptualLoss | None = None,
        critic: "Critic | None" = None,
    ) -> None:
        super().__init__()
        self.model, self.perceptual = model, perceptual
        self.pose = LifterObjective(model, weigh_parts)
        self._critic = (critic,)

    def forward(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The losses of a batch of pairs, by name, and what :func:`~hvs.evaluation.synthesise` returned."""
        found = synthesise(self.model, batch)
        return self.compare(found, batch), found

    def compare(self, found: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """The losses, by name, of the model's outputs for a batch."""
        image, target = found["image"].float(), batch["image_b"]
        losses = {
            "pixel": pixel_loss(image, target),
            "appearance": found["appearance"].float().square().mean(),
            "pose": self.pose.distance(found["lifted"], found["relative"], batch["valid"]),
        }
        if self.perceptual:
            losses[self.perceptual.kind] = self.perceptual(image, target)
        (critic,) = self._critic
        if critic:
            losses |= critic.judge(image, target)
        return losses


class Terms:
    """Which terms of the image loss are minimised, as a part of a state: a run must not go on with others, as it would
    once the weights of a classifier are missing, or there at last.

    Args:
        names: of them.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with a state.

        Raises:
            ValueError: that of a training that minimised other terms.
        """
        if state["names"] != self.names:
            raise ValueError(f"it minimised {', '.join(state['names'])}, and now it would be {', '.join(self.names)}")


class Critic(nn.Module):
    """The discriminator, what it is shown, and what it minimises.

    Args:
        discriminator: to be trained against the model.
        augmentation: of everything the discriminator sees, if any.
    """

    def __init__(self, discriminator: Discriminator, augmentation: AdaptiveAugmentation | None = None) -> None:
        super().__init__()
        self.discriminator, self.augmentation = discriminator, augmentation

    def judge(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The model's losses "adversarial" and "matching" on pictures [B, 3, H, W]; the discriminator stays fixed."""
        fake, real = self._augment(fake, real)
        # Not with requires_grad_, which compiled graphs do not support.
        held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits, activations = functional_call(self.discriminator, held, fake)
        _, wanted = functional_call(self.discriminator, held, real)
        return {"adversarial": generator_loss(logits), "matching": feature_matching_loss(activations, wanted)}

    def forward(self, fake: Tensor, real: Tensor, penalise: bool, part: float = 1.0) -> dict[str, Tensor]:
        """The losses "discriminator" and, if ``penalise`` is set, "r1" on pictures [B, 3, H, W], which are the fraction
        ``part`` of a step's pictures; the augmentation adapts."""
        losses, logits = self._tell_apart(fake.detach(), real)
        if penalise:
            losses["r1"] = R1_INTERVAL * r1_penalty(self._logits, real)
        if self.augmentation:
            self.augmentation.adapt(average(logits.sign().mean()), part)
        return losses

    def compile(self, **options: Any) -> None:
        """Compile what every step does. R1 is left out, as compiled graphs have no second derivatives."""
        self._tell_apart = torch.compile(self._tell_apart, **options)

    def _tell_apart(self, fake: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The loss, and the logits of the real pictures."""
        fake, real = self._augment(fake, real)
        logits = self.discriminator(real)[0].float()
        loss = discriminator_loss(logits, self.discriminator(fake)[0].float())
        return {"discriminator": loss}, logits.detach()

    def _logits(self, pictures: Tensor) -> Tensor:
        return self.discriminator(*self._augment(pictures))[0]

    def _augment(self, *pictures: Tensor) -> tuple[Tensor, ...]:
        return self.augmentation(*pictures) if self.augmentation else pictures
