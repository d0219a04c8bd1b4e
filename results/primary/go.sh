#!/bin/sh
# Tune what is not tuned yet, then run the primary design and analyse it. The same command goes on after an interruption.
# From the root of the repository: PYTHONPATH=src PYTHON=.venv/bin/python sh results/primary/go.sh
set -e
here=results/primary
python=${PYTHON:-python}
$python $here/run.py $here/tune1a.yaml $here/tune1c.yaml $here/tune1b.yaml
$python $here/run.py $here/tune2.yaml
[ -f $here/tune3.yaml ] || $python $here/choose.py tune3
$python $here/run.py $here/tune3.yaml $here/tune1d.yaml
[ -f $here/primary.yaml ] || $python $here/choose.py primary
$python $here/run.py $here/primary.yaml
$python $here/run.py $here/exploratory.yaml
$python $here/analyse.py
