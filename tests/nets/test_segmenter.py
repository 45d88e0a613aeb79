import math

import pytest
import torch

from minidiff.nets.segmenter import Segmenter, SegmenterConfig, mean_iou, overlap_loss

SMALL = SegmenterConfig(parts=3, channels=1, patch=2, widths=(32, 32))


def test_a_score_for_each_part_at_each_pixel_of_any_picture():
    net = Segmenter(SMALL)
    assert net(torch.zeros(2, 1, 8, 12)).shape == (2, 3, 8, 12)
    assert net.read(torch.zeros(3, 1, 8, 8), batch=2).shape == (3, 8, 8)


def test_it_learns_to_tell_dark_from_light():
    torch.manual_seed(0)
    net, images = Segmenter(SMALL), torch.rand(8, 1, 8, 8) * 2 - 1
    layout = (images[:, 0] > 0.3).long() + (images[:, 0] > -0.3)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(80):
        loss = net.loss(images, layout).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net.read(images) == layout).float().mean() > 0.9
    assert net.loss(images, layout).shape == (8,)


def test_intersection_over_union_by_hand():
    truth = torch.tensor([[[0, 0, 1, 1]]])
    assert mean_iou(truth, truth, 3)[0] == 1
    ours, each = mean_iou(torch.tensor([[[0, 1, 1, 1]]]), truth, 3)
    assert each[:2] == pytest.approx([1 / 2, 2 / 3]) and math.isnan(each[2])
    assert ours == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_iou(torch.tensor([[[2, 2, 2, 2]]]), truth, 3)[0] == 0


def test_the_loss_of_overlap_by_hand():
    layout = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
    sure = 50 * torch.nn.functional.one_hot(layout, 3).movedim(3, 1).float()
    assert overlap_loss(sure, layout) == pytest.approx([0, 0], abs=1e-6)
    even = torch.zeros(2, 3, 1, 4)  # a third everywhere: 2/3 of 2 + 4/3 - 2/3, and 4/3 of 4 + 4/3 - 4/3
    assert overlap_loss(even, layout) == pytest.approx([1 - (2 / 3) / (8 / 3), 1 - (4 / 3) / 4])
