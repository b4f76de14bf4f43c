# SPDX-License-Identifier: MIT
"""The two principal components of a page against numpy's."""
import subprocess

import numpy as np
import pytest

from support import BUILD


def components(vectors):
    rows, width = vectors.shape
    done = subprocess.run([BUILD / "tests" / "report_tool_pca", str(rows), str(width)], input=vectors.astype("<f4").tobytes(),
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    numbers = np.frombuffer(done.stdout)
    return numbers[:2], numbers[2:].reshape(rows, 2)


def expected(vectors):
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    for direction in directions:
        direction *= np.sign(direction[np.abs(direction).argmax()])
    return values[:2] ** 2 / (values ** 2).sum(), centred @ directions[:2].T


@pytest.mark.parametrize("rows, width, offset", [(40, 5, 0), (300, 64, 0), (64, 300, 100), (2, 8, 0), (700, 512, 3)])
def test_like_numpy(rows, width, offset):
    """Spectra that fall as those of hidden states do, around a mean that is far from 0."""
    random = np.random.default_rng(rows)
    vectors = (random.normal(size=(rows, width)) * 0.8 ** np.arange(width) + offset).astype(np.float32)
    shares, places = components(vectors)
    right_shares, right_places = expected(vectors)
    assert np.abs(shares - right_shares).max() < 1e-6
    scale = np.abs(right_places).max()
    assert np.abs(places - right_places)[:, :min(2, rows - 1)].max() < 2e-3 * scale


def test_one_number_may_be_thousands_of_times_the_others():
    vectors = np.random.default_rng(1).normal(size=(500, 96)).astype(np.float32)
    vectors[:, 17] = 3e4 + 500 * vectors[:, 17]
    vectors[:, 40] *= 30
    shares, places = components(vectors)
    right_shares, right_places = expected(vectors)
    assert np.abs(shares - right_shares).max() < 1e-6
    assert np.abs(places - right_places).max() < 2e-3 * np.abs(right_places).max()


def test_same_bits_again():
    vectors = np.random.default_rng(2).normal(size=(200, 50)).astype(np.float32)
    one, other = components(vectors), components(vectors)
    assert one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()


@pytest.mark.parametrize("rows, width", [(5, 4), (1, 7), (3, 1)])
def test_vectors_that_do_not_differ(rows, width):
    shares, places = components(np.full((rows, width), 1.5, np.float32))
    assert shares.tolist() == [0, 0] and not places.any()


def test_one_direction():
    line = np.outer(np.arange(30), np.ones(6)).astype(np.float32)
    shares, places = components(line)
    assert abs(shares[0] - 1) < 1e-9 and shares[1] == 0
    assert np.allclose(np.diff(places[:, 0]), np.sqrt(6)) and not places[:, 1].any()
