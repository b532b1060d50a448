#!/usr/bin/env bash
# What only a CUDA device can show: the tests marked `gpu`, then the ladder over whole training scripts. No network.
#
#   scripts/gpu_check.sh CHECKOUTS WHEELS [OUT]
#
# CHECKOUTS  a folder with checkouts of pytorch/examples (`examples`), eriklindernoren/PyTorch-GAN and
#            weiaicunzai/pytorch-cifar100; what is not there is left out
# WHEELS     a folder with wheels of what the interpreter lacks (libcst and its like); torch and torchvision are its own
# OUT        where every result is written as soon as it is there (default: gpu-results); OUT/gpu-results.md is the table
#
# PYTHON (default: python3) is the interpreter, JOBS (default: 6) how many scripts climb at a time; times are measured
# afterwards, one script at a time. ONLY="gpt lstm" leaves out all others. LIMIT (default: 150) is the seconds for the
# ladder of one script; UNTIL (default: 270) those from the start to the end of all ladders, TESTS (default: 200) those
# for the tests.
set -uo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
(($# >= 2 && $# <= 3)) || { usage >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
checkouts=$(cd "$1" && pwd) && wheels=$(cd "$2" && pwd) || exit 2
mkdir -p "${3:-gpu-results}" && out=$(cd "${3:-gpu-results}" && pwd) || exit 2
python=${PYTHON:-python3}
parallel=${JOBS:-6}
limit=${LIMIT:-150}
until=${UNTIL:-270}
tests=${TESTS:-200}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" "$wheels"/*.whl || exit 2
export PYTHONPATH="$root:$scratch/site" PYTHONDONTWRITEBYTECODE=1 TMPDIR="$scratch"

table() { # written beside and moved, since others may write it at the same time
  local new=$scratch/table.$BASHPID
  "$python" "$root/scripts/gpu_table.py" "$out" >"$new" && mv "$new" "$out/gpu-results.md"
}

# The scripts: a name, the folder to run in, and the arguments of `ampify verify`
names=()
declare -A folders arguments
script() { # NAME FOLDER ARGUMENTS
  [[ -z ${ONLY-} || " $ONLY " == *" $1 "* ]] || return
  [[ -d $2 ]] || { echo "$1: there is no $2" >&2; return; }
  names+=("$1") && folders[$1]=$2 && arguments[$1]=$3
}

# The longest first, so that nothing waits for them in the end
script gpt "$root/fixtures/verify" "gpt.py -- --layers 6 --width 512 --heads 8 --context 256 --accumulate 1"
script gpt-160m "$root/fixtures/verify" "gpt.py -- --accumulate 1"
script imagenet "$checkouts/examples/imagenet" "main.py -- --dummy --epochs 1 --batch-size 64 --workers 4 --gpu 0"
script ddp "$root/fixtures/verify" "--launch '$python -m torch.distributed.run --standalone --nproc-per-node 2' ddp.py"
script lstm "$root/fixtures/verify" "lstm.py -- --epochs 1 --length 16 --log-interval 1"
script cifar100 "$checkouts/pytorch-cifar100" "--synthetic-data train.py -- -net resnet18 -gpu -b 64"
script wgan_gp "$checkouts/PyTorch-GAN/implementations/wgan_gp" "--synthetic-data --target-torch 2.3 wgan_gp.py -- --n_epochs 1"
script mnist "$checkouts/examples/mnist" "--synthetic-data main.py -- --epochs 1 --log-interval 1"
# It draws into a folder that it does not make
if [[ -d $checkouts/examples/vae ]]; then
  cp -r "$checkouts/examples/vae" "$scratch/vae" && mkdir -p "$scratch/vae/results"
fi
script vae "$scratch/vae" "--synthetic-data main.py -- --epochs 1 --log-interval 1"
script siamese "$checkouts/examples/siamese_network" "--synthetic-data main.py -- --epochs 1 --log-interval 1"
script dcgan "$checkouts/examples/dcgan" "main.py -- --dataset fake --accel --niter 1"

# The same GAN with logits, which mixed precision can be given
if [[ -d $checkouts/examples/dcgan ]]; then
  mkdir "$scratch/dcgan-logits"
  sed -e 's/nn\.BCELoss()/nn.BCEWithLogitsLoss()/' -e '/nn\.Sigmoid()/d' "$checkouts/examples/dcgan/main.py" \
    >"$scratch/dcgan-logits/main.py"
  script dcgan-logits "$scratch/dcgan-logits" "main.py -- --dataset fake --accel --niter 1"
fi

# A folder of images where the script expects its download
if [[ -d $checkouts/examples/super_resolution ]]; then
  cp -r "$checkouts/examples/super_resolution" "$scratch/super_resolution"
  "$python" - "$scratch/super_resolution/dataset/BSDS300/images" <<'IMAGES'
import sys
from pathlib import Path

import numpy
from PIL import Image

for part, count in (("train", 256), ("test", 16)):
    folder = Path(sys.argv[1], part)
    folder.mkdir(parents=True)
    for i in range(count):
        rows = numpy.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=numpy.uint8)
        Image.fromarray(rows).resize((481, 321), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
IMAGES
  script super_resolution "$scratch/super_resolution" "main.py -- --upscale_factor 3 --accel --batchSize 16 --threads 2"
fi

# Seconds for a part: no more than $1, and the part ends when $2 have passed since the start
within() { echo $(($1 < $2 - SECONDS ? $1 : ($2 > SECONDS ? $2 - SECONDS : 1))); }

climb() { # NAME OPTIONS
  local -a words
  eval "words=(${arguments[$1]})"
  (cd "${folders[$1]}" && timeout --signal=INT --kill-after=10 "$(within "$limit" "$until")" \
    "$python" -m ampify verify --output-format json $2 "${words[@]}") >"$scratch/$1.json" 2>"$out/$1.log" </dev/null
  echo "$1: exit $?"
  mv "$scratch/$1.json" "$out/$1.json"
  table
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader >"$out/device" 2>/dev/null
"$python" -c 'import sys, torch; print(f"torch {torch.__version__}, Python {sys.version.split()[0]}")' >>"$out/device"

timeout "$(within "$tests" "$until")" "$python" -m pytest -q -p no:cacheprovider -m gpu "$root/tests/test_gpu.py" >"$out/tests.log" 2>&1 &
for name in "${names[@]}"; do
  while (($(jobs -rp | wc -l) > parallel)); do wait -n; done
  # Two interpreters a run start anew, and 160M parameters take theirs: no time for the many runs of L3
  [[ $name == ddp || $name == gpt-160m ]] && options="" || options=--numerics
  climb "$name" "$options" &
done
wait

timeout "$(within 60 $((until + 70)))" "$python" "$root/benchmarks/recording.py" --rounds 2 >"$out/recording.log" 2>&1
for name in "${names[@]}"; do
  [[ $name == ddp ]] || printf '%s\t%s\t%s\n' "$name" "${folders[$name]}" "${arguments[$name]}"
done >"$scratch/scripts.tsv"
timeout --signal=INT --kill-after=10 "$(within 200 $((until + 190)))" \
  "$python" "$root/scripts/gpu_times.py" "$scratch/scripts.tsv" "$out" 2>&1 | tee "$out/times.log"
table
cat "$out/gpu-results.md"
