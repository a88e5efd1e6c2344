"""Attacks as students write them: five that are right, the three faults of a public script, and ten planted ones."""

import time

import torch
import torch.nn.functional as F


def gradient(model, x, y):
    x = x.clone().detach().requires_grad_(True)
    F.cross_entropy(model(x), y).backward()
    return x.grad.detach()


def unit(g):
    return g / (g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)


def pgd(model, x, y, eps, start=0.0, steps=20, sign=1.0):
    adv = x + start * torch.empty_like(x).uniform_(-eps, eps)
    adv = adv.clamp(0, 1)
    for _ in range(steps):
        adv = adv + sign * eps / 8 * gradient(model, adv, y).sign()
        adv = (x + (adv - x).clamp(-eps, eps)).clamp(0, 1)
    return adv.detach()


# Right ones


def right_pgd(model, x, y, eps):
    return pgd(model, x, y, eps)


def right_random_start(model, x, y, eps):
    return pgd(model, x, y, eps, start=1.0)


def right_fgsm(model, x, y, eps):
    return (x + eps * gradient(model, x, y).sign()).clamp(0, 1)


def right_momentum(model, x, y, eps, alpha, iters):
    adv, g = x, 0
    for _ in range(iters):
        new = gradient(model, adv, y)
        g = g + new / new.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
        adv = (x + (adv + alpha / 2 * g.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return adv.detach()


def right_l2(model, x, y, eps):
    adv = x
    for _ in range(20):
        delta = adv + eps / 8 * unit(gradient(model, adv, y)) - x
        length = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        adv = (x + delta * (0.999999 * eps / length.clamp(min=1e-12)).clamp(max=1)).clamp(0, 1)
    return adv.detach()


# The public script's


def public_linf(net, images, labels, epsilon, alpha, iters):
    for _ in range(iters):
        stepped = (images + alpha * gradient(net, images, labels).sign()).clamp(0, 1)
        images = (images + (stepped - images).clamp(-epsilon, epsilon)).clamp(0, 1)
    return images.detach()


def public_l2(net, images, labels, epsilon, alpha, iters):
    for _ in range(iters):
        move = (images + alpha * unit(gradient(net, images, labels))) - images
        images = (images + epsilon * unit(move)).clamp(0, 1)
    return images.detach()


def test_natural(net, test_loader, num_samples):
    correct = total = 0
    with torch.no_grad():
        for images, labels in test_loader:
            total = correct = 0
            for _ in range(num_samples):
                correct += (net(images).argmax(1) == labels).sum().item()
                total += len(labels)
    return 100 * correct / total


def test_right(net, test_loader, num_samples):
    correct = total = 0
    with torch.no_grad():
        for images, labels in test_loader:
            correct += (net(images).argmax(1) == labels).sum().item()
            total += len(labels)
    return 100 * correct / total


# Planted ones


def unclamped(model, x, y, eps):
    return (pgd(model, x, y, eps) - x).sign() * eps + x.round()


def downhill(model, x, y, eps):
    return pgd(model, x, y, eps, sign=-1.0)


def in_place(model, x, y, eps):
    adv = pgd(model, x, y, eps)
    x.copy_(adv)
    return adv


def left_training(model, x, y, eps):
    adv = pgd(model, x, y, eps)
    model.train()
    return adv


def fine_tunes(model, x, y, eps):
    adv = pgd(model, x, y, eps)
    next(model.parameters()).data.mul_(1.01)
    return adv


def clock(model, x, y, eps):
    torch.manual_seed(time.time_ns() % 2**31)
    return pgd(model, x, y, eps, start=1.0)


def noise(model, x, y, eps):
    model(x)
    return (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)


def batch_norm(model, x, y, eps):
    g = gradient(model, x, y)
    return (x + (eps * (g / g.abs().max())).clamp(-eps, eps)).clamp(0, 1)


def divides_by_zero(model, x, y, eps):
    g = gradient(model, x, y)
    length = g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (x + eps * (8 * g / length).clamp(-1, 1)).clamp(0, 1)


def timid(model, x, y, eps):
    adv = x
    for _ in range(20):
        adv = (adv + eps / 100 * gradient(model, adv, y).sign()).clamp(0, 1)
    return adv
