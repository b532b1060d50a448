"""What each rule needs a file to say: known without importing the rules. Written by `scripts/rules_index.py`."""

# ruff: noqa: E501, RUF100
# fmt: off

NEEDS = (
    ((('backward(',), ('autograd.grad',), ('autograd.backward',), ('autograd as',), ('autograd.*',), ('NativeScaler',), ('ApexScaler',)), ('AMP001', 'AMP010', 'AMP011', 'AMP012', 'AMP013', 'AMP014', 'AMP015', 'AMP016', 'AMP017', 'AMP018', 'AMP019', 'AMP020', 'AMP021', 'AMP201', 'AMP202', 'AMP203', 'AMP204', 'AMP205', 'AMP206', 'AMP207', 'AMP208', 'AMP209', 'AMP210', 'AMP211', 'AMP212', 'AMP213', 'AMP215', 'AMP217', 'AMP219', 'AMP220', 'AMP221', 'AMP222', 'AMP223', 'AMP225', 'AMP226', 'AMP227', 'AMP301', 'AMP303', 'AMP312', 'AMP405', 'AMP501', 'AMP502', 'AMP503', 'AMP504', 'AMP506', 'AMP512', 'AMP601', 'AMP602', 'AMP605', 'AMP606', 'AMP607', 'AMP608', 'AMP702', 'AMP704', 'AMP706', 'AMP707', 'AMP710')),
    ((('autocast',),), ('AMP002', 'AMP101', 'AMP105', 'AMP106', 'AMP107', 'AMP113', 'AMP304', 'AMP308', 'AMP309', 'AMP310', 'AMP311', 'AMP401', 'AMP403', 'AMP404', 'AMP406', 'AMP407', 'AMP408', 'AMP409', 'AMP505', 'AMP507', 'AMP508', 'AMP509', 'AMP510', 'AMP513', 'AMP514', 'AMP515')),
    ((('GradScaler',),), ('AMP102', 'AMP108', 'AMP214', 'AMP216', 'AMP218', 'AMP224', 'AMP228', 'AMP229', 'AMP230', 'AMP232', 'AMP603', 'AMP604')),
    ((('autocast',), ('GradScaler',)), ('AMP103', 'AMP708')),
    ((('custom_fwd|custom_bwd',),), ('AMP104', 'AMP114')),
    ((('autocast',), ('GradScaler',), ('custom_fwd|custom_bwd',)), ('AMP109', 'AMP115')),
    ((('.amp',), ('amp.',), ('amp as',), ('GradScaler',), ('autograd', 'Optimizer')), ('AMP110',)),
    ((('device(dtype',), ('device(', 'device(~.float|device(~float|device(~.half|device(~half|device(~.bfloat|device(~bfloat|device(~.double|device(~double|device(~.int|device(~int|device(~.uint|device(~uint|device(~.long|device(~long|device(~.short|device(~short|device(~.bool|device(~bool|device(~.complex|device(~complex|device(~.dtype|device(~dtype')), ('AMP111',)),
    ((('to(~bfloat16|to(~float16|to(~float32|to(~half|(dtype=bfloat16|(dtype=float16|(dtype=float32|(dtype=half',),), ('AMP112',)),
    ((('autocast', '__enter__'),), ('AMP116',)),
    ((('.amp',), ('amp.',), ('amp as',)), ('AMP117', 'AMP709')),
    ((('\napex',),), ('AMP120', 'AMP121', 'AMP122', 'AMP123', 'AMP124', 'AMP125', 'AMP126', 'AMP127', 'AMP128', 'AMP129', 'AMP130', 'AMP131', 'AMP132', 'AMP133', 'AMP134')),
    ((('GradScaler',), ('autocast',)), ('AMP233',)),
    ((('.half(|.bfloat16(|to(~.float16|to(~.half|to(~.bfloat16|to(~float16|to(~half|to(~bfloat16|type(~.float16|type(~.half|type(~.bfloat16|type(~float16|type(~half|type(~bfloat16', 'CrossEntropyLoss|NLLLoss|cross_entropy|nll_loss|one_hot|mbedding'),), ('AMP302',)),
    ((('.half(|.bfloat16(|to(~.float16|to(~.half|to(~.bfloat16|to(~float16|to(~half|to(~bfloat16|type(~.float16|type(~.half|type(~.bfloat16|type(~float16|type(~half|type(~bfloat16', 'Loss'),), ('AMP305',)),
    ((('set_default_dtype|set_default_tensor_type',),), ('AMP307',)),
    ((('softmax', 'autocast'), ('softmax', '.half(|.bfloat16(|to(~.float16|to(~.half|to(~.bfloat16|to(~float16|to(~half|to(~bfloat16|type(~.float16|type(~.half|type(~.bfloat16|type(~float16|type(~half|type(~bfloat16')), ('AMP402',)),
    ((('utils.checkpoint', 'autocast|nocast('),), ('AMP511',)),
    ((('\nlightning|\npytorch_lightning', 'LightningModule(|LightningModule as|LightningModule\n|Trainer(|Trainer as|Trainer\n'), ('\nlightning|\nlightning_fabric', 'Fabric(|Fabric as|Fabric\n'), ('\naccelerate', 'Accelerator(|Accelerator as|Accelerator\n'), ('\ntransformers', 'Seq2SeqTrainer(|Seq2SeqTrainer as|Seq2SeqTrainer\n|Seq2SeqTrainingArguments(|Seq2SeqTrainingArguments as|Seq2SeqTrainingArguments\n|Trainer(|Trainer as|Trainer\n|TrainingArguments(|TrainingArguments as|TrainingArguments\n'), ('\ndeepspeed', 'DeepSpeedEngine(|DeepSpeedEngine as|DeepSpeedEngine\n|initialize(|initialize as|initialize\n'), ('\nignite', 'create_supervised_trainer(|create_supervised_trainer as|create_supervised_trainer\n'), ('\nfastai', 'Learner(|Learner as|Learner\n|cnn_learner(|cnn_learner as|cnn_learner\n|language_model_learner(|language_model_learner as|language_model_learner\n|tabular_learner(|tabular_learner as|tabular_learner\n|text_classifier_learner(|text_classifier_learner as|text_classifier_learner\n|unet_learner(|unet_learner as|unet_learner\n|vision_learner(|vision_learner as|vision_learner\n'), ('\ncomposer', 'ComposerModel(|ComposerModel as|ComposerModel\n|Trainer(|Trainer as|Trainer\n'), ('\nkeras', 'Model(|Model as|Model\n|Sequential(|Sequential as|Sequential\n', 'KERAS_BACKEND'), ('\nfairseq', 'FairseqCriterion(|FairseqCriterion as|FairseqCriterion\n|FairseqTask(|FairseqTask as|FairseqTask\n')), ('AMP701',)),
)
