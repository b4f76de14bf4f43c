#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From nothing to latents in a few minutes: installs what is missing, builds strata, makes a small model and 240 problems,
# extracts by configs/demo.yaml and shows the result. Everything it makes lies in build/ and demo/.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build demo

# quietly WORDS COMMAND ...: one line while it goes well; all that the command said when it fails.
quietly() {
  local begin=$SECONDS
  printf '%s ... ' "$1"
  if ! "${@:2}" >demo/last-step.log 2>&1; then
    printf 'failed:\n'
    cat demo/last-step.log
    exit 1
  fi
  printf '%d s\n' $((SECONDS - begin))
}
step() {
  printf '\n--- %s\n' "$1"
}

quietly "installing what is missing" tools/setup.sh
python=build/venv/bin/python
quietly "configuring" cmake --preset release -DSTRATA_TESTS=OFF -DSTRATA_PYTHON="$PWD/$python"
sed -n 's/^-- \(CUDA: .*\)/  \1/p' demo/last-step.log
quietly "building" cmake --build build -j "$(nproc)" --target strata

"$python" tools/make_problems.py --count 240 --seed 7 >demo/problems.jsonl
rm -f demo/problems.db
build/strata import demo/problems.jsonl demo/problems.db
if [ ! -e demo/model/config.json ]; then
  quietly "making a small model" "$python" tools/make_model.py --to demo/model --family qwen3 --hidden 128 --layers 6 --heads 4 \
    --kv-heads 2 --head-dim 32 --intermediate 384 --vocabulary 2048 --shards 3 --seed 11 --corpus demo/problems.jsonl
fi
rm -f demo/last-step.log

step "strata --version"
build/strata --version
step "strata check configs/demo.yaml"
build/strata check configs/demo.yaml
step "strata run configs/demo.yaml        (stop it with Ctrl-C; the same command resumes it)"
build/strata run configs/demo.yaml
step "strata status demo/run"
build/strata status demo/run
step "strata verify demo/run"
build/strata verify demo/run
step "strata show demo/run demo_00042"
build/strata show demo/run demo_00042
step "the first problem's vectors, read with h5py"
"$python" - <<'PYTHON'
import h5py
with h5py.File("demo/run/shards/part-000000.h5") as shard:
    offsets = shard["problems/row_offset"][:]
    layer = next(iter(shard["latents"].values()))
    print(layer.name, layer.shape, layer.dtype, "|", layer.attrs["layer"].decode())
    print(layer[offsets[0]:offsets[1], :4])
PYTHON
cat <<'WORDS'

--- what to type next
build/strata export demo/run --format safetensors --to demo/exported     the latents as one file for training
build/strata log demo/run                                               the throughput of every batch
build/strata help job                                                   every key of a job file, to write your own
                                                                        (README.md: "Your own model")
WORDS
