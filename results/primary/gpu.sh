#!/bin/sh
# On one GPU, as far as MINUTES go: where it helps and other images (small networks, several at a time), and beside them
# ResNet-32, tuned alone first. Results in runs-gpu.csv; the same command goes on with what is left.
# From the root of the repository: PYTHONPATH=src PYTHON=.venv/bin/python sh results/primary/gpu.sh MINUTES
here=results/primary
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
small=${SMALL:---executor fused --cuda-graphs True}
end=$(($(date +%s) + 60 * ${1:?minutes}))
run() { timeout -k 15 $((end - $(date +%s))) $python $here/run.py --out runs/gpu --csv $here/runs-gpu.csv "$@"; }
plans() { printf "$here/%s.yaml " "$@"; }

run --jobs 10 --also "--device $device --amp off $small" $(plans regime other_data) &
run --jobs 3 --also "--device $device $LARGE" $(plans resnet32_tune) && $python $here/choose.py resnet32 &&
    run --jobs 3 --also "--device $device $LARGE" $(plans resnet32)
wait
$python $here/run.py --out runs/gpu --csv $here/runs-gpu.csv
