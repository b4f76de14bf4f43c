# SPDX-License-Identifier: MIT
"""torch and what goes with it, for tests that compare with them: the one place that asks for it.

tools/setup.sh --parity installs it. A script that imports from here has the label parity in ctest, by which
tools/test.sh --no-parity leaves it out; anywhere else a missing torch fails the script, so that no comparison is lost unseen.
"""
import os

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # before transformers: everything compared here lies on this machine

import datasets  # noqa: F401,E402
import ml_dtypes  # noqa: F401,E402
import pyarrow  # noqa: F401,E402
import pyarrow.parquet as parquet  # noqa: F401,E402
import safetensors.torch  # noqa: F401,E402
import tokenizers  # noqa: F401,E402
import torch  # noqa: E402
import transformers  # noqa: F401,E402

torch.set_num_threads(1)  # beside the threads of ctest's other tests
