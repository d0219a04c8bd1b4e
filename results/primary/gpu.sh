#!/bin/sh
# On one GPU, as far as MINUTES go: `small`, where it helps and other images, many small networks at a time; `large`,
# ResNet-32, tuned alone first; without a second word both, side by side. Adds to runs-gpu.csv; the same command goes on with
# what is not there.
# From the root of the repository: PYTHONPATH=src PYTHON=.venv/bin/python sh results/primary/gpu.sh MINUTES [small|large]
here=results/primary
python=${PYTHON:-python3}
runs=$here/runs-gpu.csv
device=${DEVICE:-cuda}
end=$(($(date +%s) + 60 * ${1:?minutes}))
left() { s=$((end - $(date +%s))); [ $s -gt 0 ] && echo $s || echo 1; }  # to timeout, 0 is no limit
run() { timeout -k 15 $(left) $python $here/run.py --out runs/gpu --csv $runs --known $runs "$@"; }
plans() { printf "$here/%s.yaml " "$@"; }
small() { run --jobs 10 --also "--device $device --amp off --executor fused --cuda-graphs True" $(plans regime other_data); }
large() {
    run --jobs 3 --also "--device $device" $(plans resnet32_tune) &&
        $python $here/choose.py resnet32 &&
        run --jobs 3 --also "--device $device" $(plans resnet32)
}

[ "$2" = large ] || small &
[ "$2" = small ] || large
wait
$python $here/run.py --out runs/gpu --csv $runs
