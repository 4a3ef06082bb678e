import torch

from hvs.inference.cloud import Corrections
from tests.inference.toys import GREY, ring, toy


def test_corrections_are_those_of_the_corrected_cameras():
    cameras, cloud = ring().to(torch.float64), toy().double()
    corrections = Corrections(cameras)
    with torch.no_grad():
        for values in (corrections.turns, corrections.moves):
            values += 0.05 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
        views = [4, 0, 2]
        moved = corrections(cameras[views], cameras.rays()[views], views)
        corrected = corrections.corrected(cameras)[views]
        torch.testing.assert_close(cloud(*moved), cloud(corrected, corrected.rays()), rtol=0, atol=1e-4)
        assert (cloud(*moved) - cloud(cameras[views], cameras.rays()[views])).abs().max() > 0.05
    torch.testing.assert_close(corrected.R.det(), torch.ones(3, dtype=torch.float64))


def test_every_part_of_the_model_has_a_gradient_the_cameras_included():
    # With a pixel on the axis: between two that are as far from it, the depth of the background has a kink.
    cameras, cloud = ring(size=33).to(torch.float64), toy().double()
    corrections = Corrections(cameras)
    views = [1, 3]

    def loss() -> torch.Tensor:
        moved = corrections(cameras[views], cameras.rays()[views], views)
        return (cloud(*moved, backend="torch") - 0.3).square().mean()

    loss().backward()
    for part in (cloud, corrections):
        for name, values in part.named_parameters():
            assert values.grad.isfinite().all() and values.grad.abs().max() > 0, name
            # As the difference of two losses says it.
            place = int(values.grad.abs().argmax())
            around = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    values.view(-1)[place] += step
                    around.append(loss())
                    values.view(-1)[place] -= step
            slope = (around[0] - around[1]) / 2e-6
            torch.testing.assert_close(slope, values.grad.view(-1)[place], rtol=1e-3, atol=0, msg=name)


def test_a_view_is_the_same_alone_and_among_others():
    cameras, cloud = ring(), toy()
    with torch.no_grad():
        alone = [cloud(cameras[[view]], cameras[[view]].rays()) for view in range(len(cameras.t))]
        torch.testing.assert_close(cloud(cameras, cameras.rays()), torch.cat(alone), rtol=0, atol=1e-6)


def test_the_background_stays_as_the_gaussians_change():
    cameras, cloud = ring(), toy()

    def corner() -> torch.Tensor:
        return cloud(cameras, cameras.rays()).detach()[:, :, 0, 0]

    before = corner()
    with torch.no_grad():
        cloud.log_scales[0] = -20.0
        cloud.means[1] *= 5
    torch.testing.assert_close(before, GREY.expand(6, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(corner(), before, rtol=0, atol=1e-3)
