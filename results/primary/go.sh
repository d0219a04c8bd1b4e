#!/bin/sh
# Tune what is not tuned yet, then run the primary design and what follows it. The same command goes on after an interruption.
# What runs.csv has is not run again, also where the folders of the runs are gone. A missing row of `kd` needs its teacher's folder:
# there, run plan teacher again first (run.py results/primary/teacher.yaml).
# From the root of the repository: PYTHONPATH=src PYTHON=.venv/bin/python sh results/primary/go.sh
set -e
here=results/primary
python=${PYTHON:-python}
run() { $python $here/run.py $(printf "$here/%s.yaml " "$@") --known $here/runs-gpu.csv $here/runs.csv; }
choose() { [ -f $here/$1.yaml ] || $python $here/choose.py $1; }
run tune1a tune1c tune1b tune2
choose tune3
run tune3
choose primary
run primary
$python $here/analyse.py
# Exploratory, in this order; demo_tune is for `make demo`. What gpu.sh has done on a GPU is left out.
run demo_tune teacher equal_compute
$python $here/run.py $here/pretrain.yaml  # its network is needed, not its row
run finetune_tune
choose finetune
run finetune finetune_long branches other_data
# The papers' claims.
$python -m codistill study okddip/table2 --only resnet32 --seeds 5 --jobs 2
$python -m codistill study kdcl/table7 --seeds 5 --jobs 2
run solar_tune
choose solar
run solar regime short
$python $here/analyse.py
