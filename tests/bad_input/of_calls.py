"""Python."""

from __future__ import annotations

from case import Case

__all__ = ["SECTIONS"]


SECTIONS: dict[str, tuple[Case, ...]] = {
    "Python": (
        Case(
            'codistill.train(Config(method="okdip"))',
            "unknown method 'okdip': did you mean 'okddip' or 'kd' or 'switokd'?",
        ),
        Case(
            "codistill.train(Config(model=nn.Linear(2, 2)))",
            "model is an nn.Module: a configuration holds names only; give the network to train as network=...",
        ),
        Case('codistill.train(Config(peers="four"))', "peers='four': it takes a value of type int."),
        Case('codistill.train({"method": "dml"})', "the configuration is a dict: give a codistill.Config."),
        Case(
            "codistill.train(quick, dataset=[1, 2, 3])",
            "int has no length or cannot be indexed: give a map-style torch Dataset with __len__ and __getitem__.",
        ),
        Case(
            "codistill.train(quick, dataset=torch.utils.data.TensorDataset(torch.rand(40, 3, 8, 8)))",
            "item 0 of the training part is a tuple: give tuples (image, label).",
        ),
        Case(
            "codistill.train(quick, dataset=torch.utils.data.TensorDataset(torch.randn(40, 3, 8, 8), "
            "torch.arange(40) % 2))",
            "image 0 of the training part holds values from … to …: give uint8, or floats in 0 to 1; "
            "codistill does the normalisation.",
        ),
        Case(
            "codistill.train(quick, dataset=torch.utils.data.TensorDataset(torch.rand(40, 3, 8, 8), torch.rand(40)))",
            "the label of image 0 of the training part is tensor(…): labels must be class indices from 0 to "
            "9999 (with 40 images); correct it.",
        ),
        Case(
            "codistill.train(quick, dataset=torch.utils.data.TensorDataset(torch.rand(40, 5, 8, 8), "
            "torch.arange(40) % 2))",
            "image 0 of the training part has shape [5, 8, 8]: give [C, H, W] with one channel (grey) or three (RGB).",
        ),
        Case(
            "codistill.train(quick, network=net)",
            "model own gives 4 logits for 10 classes: build its last layer with the num_classes that it is given.",
        ),
        Case(
            'codistill.train(quick, network="resnet20")',
            "network is a str: give an nn.Module, or a list of them with one per peer.",
        ),
        Case(
            "codistill.train(quick, network=[net, net, net, net])",
            "networks 0 and 1 are the same object: peers must own their parameters; build each one "
            "separately, with its own generator.",
        ),
        Case(
            "codistill.train(quick, observers=[observer(on_epcoh=print)])",
            "unknown method of the observer SimpleNamespace 'on_epcoh': did you mean 'on_epoch' or 'on_step' "
            "or 'on_end'?",
        ),
        Case(
            "codistill.train(quick, observers=[observer()])",
            "observer SimpleNamespace has no method to call: give it some of on_start, on_step, on_epoch, "
            "on_end, on_failure.",
        ),
        Case(
            "codistill.train(quick, observers=[observer(on_epoch=lambda session: None)])",
            "observer SimpleNamespace.on_epoch(session) is called with (session, record): let it take them.",
        ),
        Case(
            "codistill.train(quick, observers=observer(on_end=print))",
            "observers is a SimpleNamespace: give a list, such as [SimpleNamespace()].",
        ),
        Case("codistill.train(quick, observers=None)", "observers is a NoneType: leave it out."),
        Case("codistill.train(quick, observers=[int])", "observer int is a class: give an object, int()."),
        Case(
            'codistill.resume("nowhere")',
            "no configuration at nowhere/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case(
            'codistill.load_student("nowhere")',
            "no configuration at nowhere/config.yaml: give a run directory, or the path of a config.yaml.",
        ),
        Case('codistill.load_student("runs/done", peer=9)', "peer 9: this run has the students 0 to 1."),
        Case(
            'codistill.load_student("runs/done", checkpoint="best")', "checkpoint 'best': choose 'last' or 'selected'."
        ),
        Case('codistill.open_student("runs/done", device="tpu")', "device 'tpu' is not there: this machine has …."),
        Case('codistill.predict("runs/done", [3])', "image 0 is a int: give a path, a file object or a PIL image."),
        Case('codistill.predict("runs/done", [])', "there are no images: give at least one."),
        Case('codistill.predict("runs/done", "pictures", top=0)', "top 0: it must be 1 or more."),
        Case(
            'codistill.export.export_student("runs/done", format="onxx")',
            "unknown export format 'onxx': did you mean 'onnx'?",
        ),
        Case(
            'codistill.export.export_student("runs/done", format="safetensors", precision="int8")',
            "precision int8 with format safetensors: choose --precision float32 or float16, or --format onnx.",
        ),
        Case(
            'codistill.export.export_student("runs/done", colour="red")',
            "unknown option of export_student 'colour': choose one of: averaged, calibration, checkpoint, "
            "data_dir, format, license, out, peer, precision, push, run, with_preprocessing.",
        ),
        Case(
            'codistill.trust("nowhere.py")', "nowhere.py is no file that can be read: give the path of a Python file."
        ),
        Case("NetworkGroup([])", "0 networks: a group has at least one peer; give a list of networks."),
        Case(
            "NetworkGroup([net, net])",
            "networks 0 and 1 are the same object: peers must own their parameters; build each one "
            "separately, with its own generator.",
        ),
        Case(
            "NetworkGroup([net, nn.Sequential(nn.Flatten(), nn.Linear(64, 5))])",
            "networks of [4, 5] classes: peers must agree; build all with the same num_classes.",
        ),
        Case(
            "NetworkGroup([nn.Conv2d(3, 4, 3)])",
            "a network returned shape [2, 4, 30, 30]: a peer must return logits [2, C], one row per image "
            "(dense predictions: class_axis=1; positions before the classes: output=lambda logits: logits); "
            "wrap it in a module that does.",
        ),
        Case(
            "NetworkGroup(net)",
            "a network returned shape [2, 8, 30, 30]: a peer must return logits [2, C], one row per image "
            "(dense predictions: class_axis=1; positions before the classes: output=lambda logits: logits); "
            "wrap it in a module that does.",
        ),
        Case("NetworkGroup([3])", "network 0 is a int: give objects of nn.Module."),
        Case('BranchedGroup(net, 2, "layer9")', "unknown split 'layer9': choose one of: 0, 1, 2, 3."),
        Case('BranchedGroup(net, 0, "1")', "0 branches: a group has at least one peer; give 2 or more to distil."),
        Case(
            "group([torch.rand(2, 1, 8, 8)] * 2)",
            "2 views for 3 peers: give one tensor for all peers, or one for each.",
        ),
        Case(
            'models.build("resnet33", 10)',
            "unknown model 'resnet33': did you mean 'resnet34' or 'resnet32' or 'resnet56'?",
        ),
        Case('models.build("resnet20", 0)', "num_classes 0: a classifier needs 2 or more."),
        Case('models.build("resnet20", 10, in_channels=0)', "in_channels 0: images have 1 or more channels."),
        Case('methods.build("okdip", shape)', "unknown method 'okdip': did you mean 'okddip' or 'kd' or 'switokd'?"),
        Case(
            'methods.build("dml", shape, temprature=2)',
            "unknown option of dml 'temprature': did you mean 'temperature' or 'target'?",
        ),
        Case(
            'methods.build("dml", shape, temperature=0)',
            "temperature 0.0: it must be greater than 0 and finite; the papers use 1 to 4.",
        ),
        Case('methods.build("dml", shape, temperature="hot")', "temperature='hot': it takes a value of type float."),
        Case(
            'methods.build("one", shape)',
            "ONE needs peers that share a trunk: use a branched group or a tree, not networks.",
        ),
        Case('methods.build("kd", shape)', "kd without a teacher: give at least one frozen teacher (--teachers PATH)."),
        Case(
            'methods.build("dml", shape, teachers=1)',
            "teachers with the method 'dml': it learns from none; leave them out, or use 'kd'.",
        ),
        Case(
            'methods.build("baseline", shape)',
            "Baseline with 3 peers: it takes 1; for more networks use the method 'ind' (without "
            "distillation) or 'dml'.",
        ),
        Case("Progress(-1, 10)", "progress -1 of 10 epochs: give epoch >= 0 and epochs > 0."),
        Case("Progress(1, 0)", "progress 1 of 0 epochs: give epoch >= 0 and epochs > 0."),
        Case(
            'step("dml", labels + 4)',
            "label 7 with 4 classes: labels must be 0 to 3; pass ignore_index for labels to be left out.",
        ),
        Case(
            'step("dml", labels - 1)',
            "label -1 with 4 classes: labels must be 0 to 3; pass ignore_index for labels to be left out.",
        ),
        Case('step("dml", labels.int())', "labels have dtype torch.int32: give int64 class indices, or probabilities."),
        Case('step("dml", labels[:3])', "labels have shape [3]: give [5] for these logits."),
        Case(
            'step("kdcl_minlogit", nn.functional.one_hot(labels, 4).float())',
            "KDCLMinLogit got labels as probabilities: its target is defined by the one true class; give "
            "class indices (without mixup or label smoothing).",
        ),
        Case(
            'step("dml", nn.functional.one_hot(labels, 4) * 2.0)',
            "labels as probabilities that are negative or do not sum to one: every row must be a "
            "distribution over the classes.",
        ),
        Case(
            'step("dml", labels, codistill.PeerOutputs(torch.randn(2, 5, 4)))',
            "logits of 2 peers and 4 classes for a method built for 3 peers and 4 classes: build the method "
            "from the group that it gets outputs of.",
        ),
        Case(
            'step("dml", labels, codistill.PeerOutputs(torch.full((3, 5, 4), torch.nan)))',
            "logits of peer 0 hold NaN or infinity: the training of this peer has diverged; lower its "
            "learning rate, or look at its input.",
        ),
        Case(
            'step("okddip", labels, codistill.PeerOutputs(torch.randn(3, 5, 4)))',
            "OKDDip needs features, and got none: give one tensor [B, D] per peer.",
        ),
        Case(
            'execution.build("lop", group, methods.build("dml", group))', "unknown executor 'lop': did you mean 'loop'?"
        ),
        Case(
            'execution.build("loop", group, methods.build("dml", group), micro_batch=2)',
            "micro_batch 2 with the executor 'loop': only recompute, auto can do that; leave one of them out.",
        ),
        Case(
            'execution.build("loop", group, methods.build("dml", group), colour=2)',
            "unknown option of executors 'colour': choose one of: amp, average, channels_last, compile, "
            "cuda_graphs, deterministic, device, executor, memory_limit, mesh, micro_batch, rank_timeout, "
            "sync_batch_norm, tf32, threads.",
        ),
        Case(
            'execution.build("loop", group, methods.build("dml", group), teachers=[net])',
            "1 teachers for a method built for 0: build the method with teachers=1.",
        ),
        Case(
            'execution.build("recompute", group, methods.build("dml", group), average=2.0)',
            "average 2.0: it must be a decay of 0 or more and below 1.",
        ),
        Case('codistill.Joint(group, methods.build("dml", group), epochs=0)', "epochs 0: give a number above 0."),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2, peer=9)',
            "peer 9 of a group of 3: give 0 to 2, or None for the leader.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group, updates="alternating"), epochs=2)',
            "DML with alternating updates in a Joint: its students take turns, each with an optimizer step "
            "of its own; use updates='simultaneous', or codistill.train.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2)(labels=labels)',
            "the Joint got no inputs but labels: give them first, by one of the names inputs, pixel_values, "
            'input_ids, or by a name of yours, Joint(..., input_name="x").',
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2)(torch.rand(5, 1, 8, 8), labels[:2])',
            "labels have shape [2]: give [5] for these logits.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2).set_epoch(-1)',
            "epoch -1: give the number of epochs done, 0 or more.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2).student()',
            "peer 'leader': DML names none; give 0 to 2, by the validation error of each student, "
            "JointOutput.logits_BPC.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2).renew([])',
            "renew with DML: it takes nothing from held-out images; leave it out.",
        ),
        Case(
            'codistill.Joint(group, methods.build("dml", group), epochs=2).check(torch.optim.SGD(net.parameters()))',
            "the optimizer lacks 'group.networks.0.0.weight' and 11 more of the 12 parameters that are "
            "trained: give it joint.parameters().",
        ),
        Case('data.load("digit")', "unknown data set 'digit': did you mean 'digits'?"),
        Case(
            "data.ImageSet(torch.rand(5, 1, 8, 8), labels)",
            "images are torch.float32 [5, 1, 8, 8]: give uint8 of shape [N, C, H, W].",
        ),
        Case(
            "data.ImageSet(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), labels[:2])",
            "labels are torch.int64 [2] for 5 images: give one int64 per image.",
        ),
        Case(
            "codistill.PeerOutputs(torch.randn(5, 4))",
            "logits have shape [5, 4]: give [P, B, C], with the peers first.",
        ),
        Case(
            "codistill.reports.find_runs([])",
            "no path given: a report needs at least one run; name a run directory or a folder of runs.",
        ),
    ),
}
