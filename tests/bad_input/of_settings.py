"""Names, numbers and combinations of settings."""

from __future__ import annotations

from case import Case
from spoiling import without

__all__ = ["SECTIONS"]


SECTIONS: dict[str, tuple[Case, ...]] = {
    "Names": (
        Case("codistill train --method okdip", "unknown method 'okdip': did you mean 'okddip' or 'kd' or 'switokd'?"),
        Case(
            "codistill train --model resnet33",
            "unknown model 'resnet33': did you mean 'resnet34' or 'resnet32' or 'resnet56'?",
        ),
        Case("codistill train --data digit", "unknown data set 'digit': did you mean 'digits'?"),
        Case(
            "codistill train --set optm.lr=0.1",
            "unknown setting 'optm': did you mean 'optim.lr' or 'out' or 'optim.name'?",
        ),
        Case(
            "codistill train --method dml --set method_options.temprature=2",
            "unknown option of dml 'temprature': did you mean 'temperature' or 'target'?",
        ),
        Case(
            "codistill train --optim.name adamm",
            "unknown optimizer 'adamm': did you mean 'adam' or 'radam' or 'nadam'?",
        ),
        Case(
            "codistill train --augment.policies randaugment+trivialaugment",
            "policy 'randaugment+trivialaugment': randaugment and trivialaugment exclude each other; name one of them.",
        ),
        Case("codistill train --device cuda:7", "device 'cuda:7' is not there: this machine has …."),
        Case(
            "codistill train --group branches --split layer9 --model resnet8_tiny",
            "unknown split 'layer9': did you mean 'layer3' or 'layer2' or 'layer1'?",
        ),
        Case("codistill train --classifier fc9 --model resnet8_tiny", "unknown classifier 'fc9': did you mean 'fc'?"),
        Case(
            "codistill train --model nowhere.py:make",
            "'nowhere.py:make': there is no file nowhere.py; give path/to/file.py:Name.",
        ),
        Case(
            "codistill train --model own.py:fails",
            "'own.py:fails' failed (NameError, line 9: name 'undefined' is not defined): correct the file.",
        ),
        Case(
            "codistill train --method own.py:Method",
            "'own.py:Method' is not a subclass of codistill.methods.Method: derive it from that class.",
        ),
        Case(
            "codistill train --init IMAGENET1K_V9 --model torchvision:resnet18",
            "weights 'IMAGENET1K_V9': there is no such file or folder, and torchvision:resnet18 has no "
            "weights of that name (it has IMAGENET1K_V1); give random, pretrained, or the path of a state "
            "dict, an exported student or a run.",
        ),
        Case(
            "codistill train --init nowhere.safetensors --model resnet8_tiny",
            "weights 'nowhere.safetensors': there is no such file or folder; give random, pretrained, or the "
            "path of a state dict, an exported student or a run.",
        ),
        Case(
            "codistill study okddip/table9",
            "unknown study 'okddip/table9': did you mean 'okddip/table5' or 'okddip/table4' or 'okddip/table3'?",
        ),
        Case(
            "codistill compare --methods okdip", "unknown method 'okdip': did you mean 'okddip' or 'kd' or 'switokd'?"
        ),
        Case(
            "codistill compare --methods dml,temprature=2",
            "methods 'dml,temprature=2': temprature must be the same for all; only group, split, icl, peers, "
            "augment.policies and the method's own options may differ.",
        ),
    ),
    "Numbers": (
        Case("codistill train --epochs 0", "epochs 0: it must be 1 to 1,000,000."),
        Case("codistill train --batch-size 1", "batch_size 1: it must be at least 2 (batch norm needs two images)."),
        Case(
            "codistill train --batch-size 5000",
            "batch_size 5000 with … training images: a batch must not be larger than the training split; "
            "give --batch-size … or less.",
        ),
        Case(
            "codistill train --method dml --peers 1",
            "peers 1: the method 'dml' needs at least 2; give --peers 2 or more, or use 'baseline' for one network.",
        ),
        Case("codistill train --seed -1", "seed -1: it must be 0 to 9223372036854775807."),
        Case("codistill train --optim.lr -0.1", "optim.lr -0.1: it must be above 0."),
        Case("codistill train --optim.lr nan", "optim.lr nan: it must be a finite number."),
        Case(
            "codistill train --optim.milestones 0.5 2",
            "optim.milestones (0.5, 2.0): it must be shares above 0 and below 1.",
        ),
        Case(
            "codistill train --optim.warmup-epochs 50 --epochs 5",
            "optim.warmup_epochs 50.0: it must be shorter than the run of 5 epochs; train longer, or give "
            "--optim.warmup-epochs 0.",
        ),
        Case("codistill train --validation 1", "validation 1.0: it must be a share above 0 and below 1."),
        Case(
            "codistill train --train-subset 100000",
            "train_subset 100000 of … images in 10 classes: give at least one image per class and at most all of them.",
        ),
        Case("codistill train --workers -1", "workers -1: it must be 0 to 1024 processes."),
        Case("codistill train --worker-timeout 0", "worker_timeout 0.0: it must be above 0 seconds."),
        Case(
            "codistill train --class-weights -1 2",
            "class_weights [-1.0, 2.0]: give a number of 0 or more per class, not all of them 0, or balanced.",
        ),
        Case(
            "codistill train --class-weights 1 2 3",
            "3 class_weights for 10 classes: give one for each class, or balanced.",
        ),
        Case(
            "codistill train --freeze-epochs 2",
            "freeze_epochs 2 without freeze: name the parameters, such as --freeze 'layer1.*'.",
        ),
        Case("codistill train --average 1", "average 1.0: it must be a decay of 0 or more and below 1."),
        Case(
            "codistill train --executor recompute --micro-batch 3",
            "micro_batch 3 of a batch of 128: give a divisor of it, 2 or more.",
        ),
        Case("codistill train --save-steps 0", "save_steps 0: it must be 1 or more, or null."),
        Case("codistill train --keep 1", "keep 1: it must be 2 or more."),
        Case("codistill train --augment.mix-alpha 0", "mix_alpha 0.0: give a finite number above 0."),
        Case(
            "codistill train --method dml --set method_options.temperature=-1",
            "temperature -1.0: it must be greater than 0 and finite; the papers use 1 to 4.",
        ),
        Case("codistill train --set optim.lr=fast", "optim.lr='fast': it takes a value of type float."),
        Case("codistill train --set 'label=[a: b: c]'", "--set 'label=[a: b: c]': this is not a YAML value (…)."),
        Case("codistill train --set epochs", "--set 'epochs': give NAME=VALUE, such as optim.lr=0.05."),
        Case(
            "codistill train --set label=" + "[" * 60 + "]" * 60,
            "--set ...: this is not a YAML value (it is nested more than 50 deep).",
        ),
        Case("codistill compare --seeds 0", "seeds 0: give at least 2, or 3 for a conclusion."),
        Case("codistill predict runs/done pictures --top 0", "top 0: it must be 1 or more."),
        Case(
            "codistill export runs/done --format onnx --precision int8 --calibration 0",
            "calibration 0: it must be 1 image or more.",
        ),
    ),
    "Settings that do not go together": (
        Case("codistill train --split layer3", "split 'layer3' without branches: add --group branches (or tree)."),
        Case(
            "codistill train --method kd",
            "kd without a teacher: name a finished run or an exported student with --teachers PATH.",
        ),
        Case(
            "codistill train --method dml --teachers runs/done",
            "teachers with the method 'dml': it learns from none; leave --teachers out, or use kd.",
        ),
        Case(
            "codistill train --method cl_ilr",
            "CLILR is defined for heads that share layers: use a branched group or a tree, or dml with "
            "target='mean' for separate networks.",
        ),
        Case(
            "codistill train --group tree --split layer2",
            "split 'layer2' of a tree: give modules with their children, each once, such as layer2:2,layer3:2.",
        ),
        Case(
            "codistill train --model resnet20 resnet32 --peers 3",
            "2 models for 3 peers: give one model for all, or one for each peer.",
        ),
        Case(
            "codistill train --optim.name adamw --optim.momentum 0.5",
            "optim.momentum 0.5 and optim.nesterov True with adamw: these are SGD's; leave them out, and "
            "give what adamw takes as optim.options.",
        ),
        Case(
            "codistill train --executor fused --model resnet20 resnet32 --peers 2",
            "executor 'fused' cannot fuse peers 0 and 1, ResNet and ResNet of different layers: give peers "
            "of one architecture, or use 'loop'.",
        ),
        Case(
            "codistill train --mesh peers=2",
            "mesh 'peers=2': give the sizes of both axes, such as data=2,peer=2, or auto.",
        ),
        Case(
            "codistill train --executor distributed",
            "executor 'distributed' in a process that torchrun did not start: use the command line (codistill train "
            "... --mesh peer=2), which starts the processes, or torchrun with your script (docs/distributed.md).",
        ),
        Case(
            'codistill.train(Config(mesh="peer=2"))',
            "mesh peer=2 in a process that torchrun did not start: use the command line (codistill train ... --mesh "
            "peer=2), which starts the processes, or torchrun with your script (docs/distributed.md).",
        ),
        Case("codistill train --rank-timeout 0", "rank_timeout 0.0: it must be 1 second or more."),
        Case(
            "codistill study kdcl/table7 --slurm time=1:00:00",
            "slurm time=1:00:00 without --launcher slurm: add it, or leave --slurm out.",
        ),
        Case(
            "codistill train --cuda-graphs True --device cpu",
            "cuda_graphs on the device 'cpu': only CUDA devices have them; turn cuda_graphs off.",
        ),
        Case(
            "codistill train --augment.policies mixup cutmix --icl --peers 2 --method dml",
            "policies mixup, cutmix: mixup and cutmix change the labels, which all students share; name the "
            "same one in every policy, or in none.",
        ),
        Case(
            "codistill train --method kdcl_linear --augment.policies mixup",
            "mixup with the method 'kdcl_linear': its target is defined by the one true class, and mixed "
            "labels have two; use another policy or method.",
        ),
        Case(
            "codistill train --logger wandb",
            "wandb is not installed: pip install 'codistill[wandb]'.",
            first=(without("wandb"),),
        ),
        Case(
            "codistill train --model timm:resnet18",
            "model 'timm:resnet18' needs timm, which is not installed: pip install 'codistill[timm]'.",
            first=(without("timm"),),
        ),
    ),
}
