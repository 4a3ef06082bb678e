import numpy as np
import pytest
import torch

from hvs import HumanViewSynthesis, metrics
from hvs.data import PairDataset, collate
from hvs.evaluation import HIGHEST_PSNR, average, draw_pairs, evaluate, score, synthesise
from hvs.presets import PRESETS


@pytest.fixture
def batch(capture):
    dataset = PairDataset(capture.root, "test", "unknown", 32, 32, same_view=False)
    return collate([dataset[i] for i in (0, 3, 7)])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HumanViewSynthesis(PRESETS["tiny"].model)


def test_a_perfect_lift_is_rendered_at_the_true_pose(model, batch, monkeypatch):
    """The pose in the target camera must be the world's, whichever camera it was lifted in."""
    truth = batch["camera_a"].to_camera(batch["points"])
    relative = truth - truth[:, model.skeleton.root, None]
    seen = {}
    monkeypatch.setattr(model, "lift", lambda *_: relative)
    monkeypatch.setattr(model, "render", lambda points, *_: seen.update(points=points) or (None, None))
    found = synthesise(model.eval(), batch)
    assert torch.allclose(seen["points"], batch["camera_b"].to_camera(batch["points"]), atol=1e-5)
    assert torch.allclose(found["relative"], relative)


def test_each_pair_is_refined_to_its_own_source(model, batch):
    """Seen by the source's camera, where there is a picture to be like, every pair gets better."""
    seen = batch | dict(camera_b=batch["camera_a"])
    errors = []
    for steps in (0, 10):
        with torch.no_grad():
            image = synthesise(model.eval(), seen, steps)["image"]
        errors.append((image - batch["image_a"]).square().mean((1, 2, 3)))
    assert (errors[1] < 0.8 * errors[0]).all()


def test_scores_are_the_means_over_all_pairs(model, batch, monkeypatch):
    monkeypatch.setattr("hvs.evaluation.synthesise", lambda model, batch, refine_steps: _perfect(batch))
    parts = [{k: _slice(v, s) for k, v in batch.items()} for s in (slice(0, 2), slice(2, 3))]
    scores = evaluate(model, parts)
    assert scores["psnr"] == scores["psnr_foreground"] == HIGHEST_PSNR
    assert scores["ssim"] == pytest.approx(1, abs=1e-6) and scores["mpjpe_mm"] == 0
    background = torch.tensor(model.skeleton.background)[:, None, None] / 255
    constant, target, mask = background.expand_as(batch["image_b"]), batch["image_b"], batch["mask_b"]
    for picture, baseline in ((batch["image_a"], "copy"), (constant, "background")):
        wanted = dict(
            psnr=metrics.psnr(picture, target),
            ssim=metrics.ssim(picture, target),
            psnr_foreground=metrics.psnr_foreground(picture, target, mask),
            ssim_foreground=metrics.on_foreground(metrics.ssim, picture, target, mask),
        )
        for name, values in wanted.items():
            assert scores[f"{name}_{baseline}_baseline"] == pytest.approx(values.mean().item(), rel=1e-5)
    assert "lpips" not in scores


def test_parts_are_averaged_together(model, batch):
    """An empty part and samples that cannot be scored count nothing."""
    nan = float("nan")
    parts = [{"psnr": torch.tensor([1.0, 2.0])}, score(model, []), {"psnr": torch.tensor([6.0, nan])}]
    assert average(parts) == {"psnr": 3.0}
    scores = score(model, [batch])
    assert all(len(values) == 3 for values in scores.values()) and average([scores]) == evaluate(model, [batch])


def _perfect(batch):
    pose = batch["points"]
    return dict(image=batch["image_b"], lifted=pose, relative=pose)


def _slice(value, part):
    return value[part] if isinstance(value, torch.Tensor) or hasattr(value, "K") else value


def test_lpips_is_scored_where_there_is_one(model, batch):
    scores = evaluate(model, [batch], lpips=lambda a, b: (a - b).abs().mean((1, 2, 3)))
    assert scores["lpips"] > 0 and scores["lpips_foreground"] > 0


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(model, batch, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, [batch])
    draw_pairs(model, batch)
    assert model.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_drawn_pair_is_a_row_of_seven_pictures(model, batch):
    picture = draw_pairs(model, batch)
    assert 7 * 96 < picture.width < 8 * 96 and picture.height > 3 * 96


def test_pairs_may_be_drawn_in_parts(model, batch, monkeypatch):
    whole = draw_pairs(model, batch)
    sizes = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images: sizes.append(len(images)) or encode(images))
    parts = draw_pairs(model, batch, at_once=2)
    count = len(batch["points"])
    assert sizes == [2] * (count // 2) + [1] * (count % 2) and len(sizes) > 1
    assert np.abs(np.asarray(parts).astype(int) - np.asarray(whole)).max() <= 1


def test_a_broken_model_is_drawn_too(model, batch):
    """When something is wrong is when one wants to look."""
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    assert draw_pairs(model, batch).width > 7 * 96


def test_parts_stay_in_their_modes_also_after_an_error(model, batch, monkeypatch):
    """A frozen lifter must not come back with dropout."""
    model.train()
    model.lifter.eval()
    score(model, [batch])
    assert model.training and model.decoder.training and not model.lifter.training
    draw_pairs(model, batch)
    assert model.training and model.decoder.training and not model.lifter.training

    def fail(*_):
        assert not model.training
        raise RuntimeError("half way")

    monkeypatch.setattr(model, "render", fail)
    for use in (lambda: score(model, [batch]), lambda: draw_pairs(model, batch)):
        with pytest.raises(RuntimeError, match="half way"):
            use()
        assert model.training and model.decoder.training and not model.lifter.training


def test_poses_alone_need_the_lifter_alone(model, batch, monkeypatch):
    wanted = score(model, [batch])
    for part in ("encode", "render"):
        monkeypatch.setattr(model, part, lambda *_: pytest.fail("a picture is drawn"))
    found = score(model, [batch], pictures=False)
    assert set(found) == {"mpjpe_mm", "n_mpjpe_mm", "p_mpjpe_mm"}
    assert all(torch.equal(values, wanted[name]) for name, values in found.items())
