from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_drums import PIECES, SAMPLE_RATE, groove, one_shot
from torch import Tensor

from baselines.blocks import BlockConfig, Span, block_spans, cut_blocks, faded, iterate_blocks
from baselines.factorization import FactorizationConfig
from baselines.masks import apply_masks, soft_masks
from baselines.nmfd import factorize, stem_magnitudes
from baselines.oracle import separate
from baselines.spectral import FACTORIZATION_STFT, mono_magnitude, stft
from baselines.templates import TemplateConfig, learn_templates

CONFIG = BlockConfig(block_samples=1024 * 48, overlap_samples=1024 * 16)


def joined(
    separate: Callable[[Span], torch.Tensor], n_samples: int, config: BlockConfig
) -> torch.Tensor:
    """The runs one after the other."""
    return torch.cat(list(iterate_blocks(separate, n_samples, config)), dim=-1)


@settings(deadline=None)
@given(
    n_samples=st.integers(0, 5000),
    overlap=st.integers(1, 40).map(lambda n: 4 * n),
    extra=st.integers(0, 300),
)
def test_blocks_cover_the_file_and_the_weights_sum_to_one(
    n_samples: int, overlap: int, extra: int
) -> None:
    config = BlockConfig(2 * overlap + extra, overlap)
    spans = block_spans(n_samples, config)
    assert spans[0].start == 0
    assert spans[-1].stop == n_samples
    assert all(b.start == a.stop - overlap for a, b in itertools.pairwise(spans))
    assert all(span.stop - span.start <= config.block_samples + overlap for span in spans)
    signal = torch.rand(2, n_samples)
    rebuilt = joined(lambda span: span.of(signal), n_samples, config)
    torch.testing.assert_close(rebuilt, signal, atol=1e-6, rtol=0)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 700), max_size=12),
    overlap=st.integers(1, 40).map(lambda n: 4 * n),
    extra=st.integers(0, 300),
)
def test_a_stream_is_cut_into_the_blocks_of_the_file(
    lengths: list[int], overlap: int, extra: int
) -> None:
    config = BlockConfig(2 * overlap + extra, overlap)
    signal = torch.rand(2, sum(lengths))
    blocks = list(cut_blocks(signal.split(lengths, dim=1), config))
    spans = block_spans(signal.shape[1], config) if lengths else []
    assert [is_last for _, is_last in blocks] == [span == spans[-1] for span in spans]
    for (block, _), span in zip(blocks, spans, strict=True):
        assert torch.equal(block, span.of(signal))
    joined = torch.cat([signal[:, :0], *faded(blocks, config)], dim=1)
    torch.testing.assert_close(joined, signal, atol=1e-6, rtol=0)


def test_a_separator_that_looks_near_gives_the_same_as_on_the_whole_file() -> None:
    reference = groove(4 * SAMPLE_RATE, seed=2)[0]
    mixture = reference.sum(dim=0)

    def block(span: Span) -> Tensor:
        return separate("ideal-ratio", mixture=span.of(mixture), reference=span.of(reference))

    whole = separate("ideal-ratio", mixture=mixture, reference=reference)
    assert len(block_spans(mixture.shape[-1], CONFIG)) > 3
    blocks = joined(block, mixture.shape[-1], CONFIG)
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=0)


def test_seams_of_a_factorization_are_not_audible() -> None:
    """NMFD by blocks, context longer than a template: 60 dB below the mixture lies the gap."""
    config = BlockConfig(block_samples=512 * 192, overlap_samples=512 * 64)
    templates = learn_templates({p: [one_shot(p)] for p in PIECES}, TemplateConfig(n_frames=12))
    reference = groove(5 * SAMPLE_RATE, seed=3, kit=5)[0]
    mixture = reference.sum(dim=0)

    def block(span: Span) -> Tensor:
        part = span.of(mixture)
        spectrum = stft(part, FACTORIZATION_STFT)
        found = factorize(mono_magnitude(spectrum)[None], templates.values, FactorizationConfig(20))
        scores = stem_magnitudes(found, templates.stem_of_component, 5)[0]
        masks = soft_masks(scores).unsqueeze(-3)
        return apply_masks(spectrum, masks, FACTORIZATION_STFT, part.shape[-1])

    n_samples = mixture.shape[-1]
    whole = block(Span(0, n_samples))
    blocks = joined(block, n_samples, config)
    torch.testing.assert_close(blocks.sum(dim=0), mixture, atol=1e-5, rtol=0)
    gap = (blocks - whole).square().mean(dim=(0, 1))
    level = mixture.square().mean(dim=0)
    assert len(block_spans(n_samples, config)) > 2
    for span in block_spans(n_samples, config)[1:]:
        seam = slice(span.start, span.start + config.overlap_samples)
        gap_db = 10 * torch.log10(gap[seam].mean() / level[seam].mean())
        assert gap_db < -60


def test_only_one_block_is_asked_for_at_a_time() -> None:
    signal = torch.rand(1, 50000)
    config = BlockConfig(4000, 400)
    asked: list[Span] = []

    def block(span: Span) -> Tensor:
        asked.append(span)
        return span.of(signal)

    runs = iterate_blocks(block, 50000, config)
    first = next(runs)
    assert asked == [Span(0, 4000)]
    assert first.shape == (1, 3600)
    assert torch.equal(torch.cat([first, *runs], dim=-1), signal)
    assert len(asked) == len(block_spans(50000, config))


def test_a_short_file_is_one_block() -> None:
    assert block_spans(0, CONFIG) == [Span(0, 0)]
    assert block_spans(65000, CONFIG) == [Span(0, 65000)]


def test_an_estimate_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="samples for"):
        joined(lambda span: torch.zeros(2, 7), 1000, CONFIG)


@pytest.mark.parametrize(("block", "overlap"), [(100, 0), (100, 52), (100, 10)])
def test_lengths_that_do_not_fit_are_refused(block: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap_samples"):
        BlockConfig(block, overlap)
