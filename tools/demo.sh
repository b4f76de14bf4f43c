#!/usr/bin/env bash
# From nothing to latents in about a minute: installs what is missing, builds strata, makes a small model and 240 problems,
# extracts by configs/demo.yaml and shows the result. Everything it makes lies in demo/.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
python=build/venv/bin/python
cmake --preset release -DSTRATA_TESTS=OFF >/dev/null
cmake --build build -j "$(nproc)" --target strata

mkdir -p demo
"$python" tools/make_problems.py --count 240 --seed 7 >demo/problems.jsonl
rm -f demo/problems.db
build/strata import demo/problems.jsonl demo/problems.db
if [ ! -e demo/model/config.json ]; then
  "$python" tools/make_model.py --to demo/model --family qwen3 --hidden 128 --layers 6 --heads 4 --kv-heads 2 --head-dim 32 \
    --intermediate 384 --vocabulary 2048 --shards 3 --seed 11 --corpus demo/problems.jsonl
fi

echo
echo "--- strata check configs/demo.yaml"
build/strata check configs/demo.yaml
echo
echo "--- strata run configs/demo.yaml        (stop it with Ctrl-C and run it again: it goes on where it was)"
build/strata run configs/demo.yaml
echo
echo "--- strata status demo/run"
build/strata status demo/run
echo
echo "--- strata verify demo/run"
build/strata verify demo/run
echo
echo "--- strata show demo/run demo_00042"
build/strata show demo/run demo_00042
echo
echo "--- the first problem's vectors, read with h5py"
"$python" - <<'PYTHON'
import h5py
with h5py.File("demo/run/shards/part-000000.h5") as shard:
    offsets = shard["problems/row_offset"][:]
    layer = next(iter(shard["latents"].values()))
    print(layer.name, layer.shape, layer.dtype, "|", layer.attrs["layer"].decode())
    print(layer[offsets[0]:offsets[1], :4])
PYTHON
