#!/bin/sh
# Trains for some minutes on a machine with a CUDA GPU, from the small files that travel there, and leaves what comes back.
#
#     sh accelerated.sh PICTURES.zip AVERAGE.pt OUT [MINUTES [SIZE [RATE [BATCH]]]]
#
# PICTURES.zip is what `data.py squeeze` writes (unpacked once, into the folder for temporary files), AVERAGE.pt what
# train.py leaves beside its checkpoint. OUT then holds average.pt (11 MB), the next one's beginning, and the log. The rate
# falls as a cosine over MINUTES, so that the weights can be used as they are.
set -e
archive=$1 begin=$2 out=$3 minutes=${4:-7} size=${5:-320} rate=${6:-1e-3} batch=${7:-64}
cd "$(dirname "$0")"
scratch=${TMPDIR:-/tmp}/kirie-training
mkdir -p "$scratch" "$out"
[ -f "$scratch/cache/index.json" ] || python3 data.py unsqueeze --archive "$archive" --cache "$scratch/cache"
[ "$minutes" = 0 ] && exit 0
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
rm -rf "$scratch/run"
python3 train.py --cache "$scratch/cache" --run "$scratch/run" --begin "$begin" --device cuda --workers 1 \
    --loaders "$(($(nproc) - 1))" --batch "$batch" --sizes "0:$size" --steps 1000000 --cooldown-minutes "$minutes" \
    --rate "$rate" --warmup 50 --average 0.998 --checkpoint-minutes 2 2>&1 | tee "$out/log"
cp "$scratch/run/average.pt" "$out/average.pt"
