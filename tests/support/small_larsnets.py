"""What the tests of LarsNet share: small banks whose weights are far from their start.

And an independent LarsNet, written from the description of the paper in the plainest way:
functions on a state dict with the published names, one net at a time, one patch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from larsnet.network.larsnet import LarsNet, LarsnetConfig
from larsnet.network.unet import UnetConfig

torch.set_num_threads(1)  # the work is small, and tests run side by side

TINY = LarsnetConfig(unet=UnetConfig(widths=(2, 3, 4), n_frames=16))
"""The paper's analysis, three narrow levels, patches of 16 frames (0.37 s)."""

BANDED = LarsnetConfig(
    unet=UnetConfig(n_bins=32, n_frames=16, widths=(3, 4), dropouts=(0.1,)),
    n_bands=32,
    input_exponent=0.5,
)


def wild_model(config: LarsnetConfig, seed: int = 0) -> LarsNet:
    """A bank with random weights, biases and running statistics, in evaluation."""
    torch.manual_seed(seed)
    model = LarsNet(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def bursts(n_samples: int, n_channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Decaying noise, (channels, samples), below full scale; a multiple of 2 ** -15."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-(np.arange(n_samples) % 7000) / 2000)
    samples = rng.uniform(-0.9, 0.9, (n_channels, n_samples)) * decay
    return (np.rint(samples * 2**15) / 2**15).astype(np.float32)


def plain_masks(state: Mapping[str, Tensor], magnitudes: Tensor) -> Tensor:
    """One net on magnitudes (1, 2, bins, frames), from its state dict."""

    def normalize(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        shape = (1, -1, 1, 1)
        standard = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-5)
        return standard * weight.view(shape) + bias.view(shape)

    depth = sum(name.endswith(".conv.weight") for name in state)
    x = normalize(magnitudes.permute(0, 2, 1, 3), "input_norm").permute(0, 2, 1, 3)
    raw = []
    for level in range(1, depth + 1):
        weight, bias = state[f"enc{level}.conv.weight"], state[f"enc{level}.conv.bias"]
        raw.append(functional.conv2d(x, weight, bias, stride=2, padding=2))
        x = normalize(raw[-1], f"enc{level}.bn")
        x = torch.where(x > 0, x, 0.2 * x)
    x = raw[-1]
    for level in range(1, depth + 1):
        if level > 1:
            x = torch.cat([raw[depth - level], x], dim=1)
        name = f"dec{level}.conv_trans"
        x = functional.conv_transpose2d(
            x, state[f"{name}.weight"], state[f"{name}.bias"], 2, padding=2, output_padding=1
        )
        x = normalize(x.clamp_min(0), f"dec{level}.bn")
    weight, bias = state["mask_layer.0.weight"], state["mask_layer.0.bias"]
    return torch.sigmoid(functional.conv2d(x, weight, bias, padding=3, dilation=2))


def plain_separation(
    states: Sequence[Mapping[str, Tensor]],
    mixture: Tensor,
    n_patch: int,
    alpha: float | None = None,
) -> Tensor:
    """Stems (stems, 2, samples) of a mixture (2, samples), the whole file at once.

    Patches share an eighth, over which their masks are faded into each other.
    """
    n_samples = mixture.shape[-1]
    padded = functional.pad(mixture, (0, -n_samples % 1024))
    window = torch.hann_window(4096, periodic=True)
    spectrum = torch.stft(
        padded, 4096, 1024, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    magnitudes, phase = spectrum.abs(), spectrum.angle()
    estimates = []
    for state in states:
        n_all, n_shared = magnitudes.shape[-1], n_patch // 8
        total = torch.zeros(2, 2048, n_all)
        weights = torch.zeros(n_all)
        for start in range(0, max(1, n_all - n_shared), n_patch - n_shared):
            patch = magnitudes[:, :2048, start : start + n_patch]
            n_frames = patch.shape[-1]
            whole = functional.pad(patch, (0, n_patch - n_frames))
            weight = torch.ones(n_patch)
            if start:
                weight[:n_shared] = torch.linspace(0, 1, n_shared + 2)[1:-1]
            if start + n_patch < n_all:
                weight[n_patch - n_shared :] = torch.linspace(1, 0, n_shared + 2)[1:-1]
            mask = plain_masks(state, whole[None])[0] * weight
            total[..., start : start + n_frames] += mask[..., :n_frames]
            weights[start : start + n_frames] += weight[:n_frames]
        torch.testing.assert_close(weights, torch.ones(n_all))
        mask = functional.pad(total, (0, 0, 0, 1))  # the Nyquist bin
        estimates.append(mask * magnitudes)
    if alpha is not None:
        total = sum(estimate**alpha for estimate in estimates)
        estimates = [magnitudes * estimate**alpha / (total + 1e-7) for estimate in estimates]
    spectra = [torch.polar(estimate, phase) for estimate in estimates]
    return torch.stack(
        [torch.istft(x, 4096, 1024, window=window, length=n_samples) for x in spectra]
    )
