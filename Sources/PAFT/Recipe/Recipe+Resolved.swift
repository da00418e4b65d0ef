// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats

extension Recipe {
  /// Every decision as YAML, paths absolute: reading it gives this recipe again.
  public var yaml: String { Self.tree(json).serialized() }

  /// The same as JSON, for reports.
  package var json: JSON {
    var object = JSONObject()
    object["model"] = .string(model)
    object["output"] = .string(output)
    object["seed"] = JSON(seed)
    object["dtype"] = .string(dtype.rawValue)
    object["base_dtype"] = .string(baseDtype.rawValue)
    object["sft"] = sft?.json
    object["align"] = align?.json
    object["merge"] = merge.json
    object["baselines"] = .array(baselines.map { .string($0.rawValue) })
    object["machine"] = machine.json
    object["eval"] = [
      "batch_size": JSON(evaluation.batchSize), "limit": JSON(optional: evaluation.limit),
      "grader": .string(evaluation.grader.rawValue),
      "max_new_tokens": JSON(evaluation.maxNewTokens),
    ]
    return .object(object)
  }

  private static func tree(_ json: JSON) -> ConfigNode {
    var tree = ConfigNode(value: .mapping([]), line: 1, source: "", path: "")
    func add(_ value: JSON, at path: String) {
      if let object = value.object {
        for (key, member) in object { add(member, at: path.isEmpty ? key : path + "." + key) }
      } else {
        do { try tree.set(path, to: spelled(value)) } catch {
          preconditionFailure("a resolved recipe is YAML: \(error.message)")
        }
      }
    }
    add(json, at: "")
    return tree
  }

  /// Without quotes where YAML reads the bare text as the same text.
  private static func spelled(_ value: JSON) -> String {
    if let list = value.array { return "[" + list.map(spelled).joined(separator: ", ") + "]" }
    guard let text = value.string,
      let node = try? ConfigNode.parse(text, source: ""), !node.isNull,
      case .scalar(text, plain: true) = node.value, !text.contains(",")
    else { return value.serialized() }
    return text
  }

  /// Keys that may change between a run and its resumption: they alter no result.
  private static let changeable = ["output", "machine", "eval", "baselines"]
  private static let changeableInBranches = [
    "save_steps", "save_total_limit", "logging_steps", "gradient_checkpointing",
    "reference_cache",
  ]

  /// The first key in which the two recipes would train or merge differently; nil if in none.
  package func firstDifference(from other: Recipe) -> String? {
    Self.difference(Self.comparable(json), Self.comparable(other.json), "")
  }

  private static func comparable(_ json: JSON) -> JSON {
    var object = json.object ?? JSONObject()
    for key in changeable { object[key] = nil }
    for branch in ["sft", "align"] {
      guard var block = object[branch]?.object else { continue }
      for key in changeableInBranches { block[key] = nil }
      object[branch] = .object(block)
    }
    return .object(object)
  }

  private static func difference(_ a: JSON, _ b: JSON, _ path: String) -> String? {
    if a == b { return nil }
    guard let x = a.object, let y = b.object else { return path }
    for key in x.keys + y.keys {
      let below = path.isEmpty ? key : path + "." + key
      if let found = difference(x[key] ?? .null, y[key] ?? .null, below) { return found }
    }
    return nil
  }
}

extension JSON {
  init(optional value: Int?) { self = value.map { JSON($0) } ?? .null }
  init(optional value: Double?) { self = value.map { JSON($0) } ?? .null }
  init(optional value: String?) { self = value.map { .string($0) } ?? .null }
}

extension Recipe.Branch {
  var json: JSON {
    var object = JSONObject()
    object["data"] = .string(data)
    object["eval_data"] = JSON(optional: evalData)
    object["eval_fraction"] = JSON(evalFraction)
    object["adapter"] = adapter.json
    object["epochs"] = JSON(epochs)
    object["max_steps"] = JSON(maxSteps ?? -1)
    object["learning_rate"] = JSON(learningRate)
    object["lr_scheduler"] = .string(lrScheduler)
    if warmup < 1 {
      object["warmup_ratio"] = JSON(warmup)
    } else {
      object["warmup_steps"] = JSON(Int(exactly: warmup) ?? 0)
    }
    switch optimizer {
    case .adamw(let beta1, let beta2, let epsilon, let eightBit):
      object["optimizer"] = eightBit ? "adamw_8bit" : "adamw"
      object["adam_beta1"] = JSON(beta1)
      object["adam_beta2"] = JSON(beta2)
      object["adam_epsilon"] = JSON(epsilon)
    case .sgd(let momentum):
      object["optimizer"] = "sgd"
      object["momentum"] = JSON(momentum)
    }
    object["master_weights"] = JSON(masterWeights)
    object["weight_decay"] = JSON(weightDecay)
    object["max_grad_norm"] = JSON(maxGradNorm)
    object["batch_size"] = JSON(batchSize)
    object["gradient_accumulation_steps"] = JSON(gradientAccumulationSteps)
    object["max_length"] = JSON(maxLength)
    object["assistant_only_loss"] = JSON(assistantOnlyLoss)
    object["completion_only_loss"] = JSON(completionOnlyLoss)
    object["share_prompts"] = JSON(sharePrompts)
    object["max_bad_rows"] = JSON(maxBadRows)
    object["shuffle"] = JSON(shuffle)
    object["gradient_checkpointing"] = JSON(gradientCheckpointing)
    object["save_steps"] = JSON(saveSteps)
    object["save_total_limit"] = JSON(saveTotalLimit)
    object["logging_steps"] = JSON(loggingSteps)
    object["l1"] = l1?.json ?? .null
    if let preference { for (key, value) in preference.json { object[key] = value } }
    return .object(object)
  }
}

extension Recipe.Adapter {
  var json: JSON {
    switch self {
    case .full: ["type": "full"]
    case .lora(let r, let alpha, let dropout, let targets, let rslora):
      [
        "type": "lora", "r": JSON(r), "alpha": JSON(alpha), "dropout": JSON(dropout),
        "target_modules": targets.isEmpty
          ? "all-linear" : .array(targets.map { .string($0) }),
        "rslora": JSON(rslora),
      ]
    }
  }
}

extension Recipe.L1 {
  var json: JSON {
    var object = JSONObject()
    object["lambda"] = lambda.map { JSON($0) }
    object["target_sparsity"] = targetSparsity.map { JSON($0) }
    object["form"] = form.map { .string($0) }
    return .object(object)
  }
}

extension Recipe.Preference {
  var json: JSONObject {
    var object = JSONObject()
    object["loss"] = losses.count == 1 ? .string(losses[0]) : .array(losses.map { .string($0) })
    if let lossWeights { object["loss_weights"] = .array(lossWeights.map { JSON($0) }) }
    object["beta"] = JSON(beta)
    object["label_smoothing"] = JSON(labelSmoothing)
    object["simpo_gamma"] = JSON(simpoGamma)
    object["cpo_alpha"] = JSON(cpoAlpha)
    object["alpha_po"] = JSON(alphaPO)
    object["f_divergence_type"] = .string(divergence)
    object["f_alpha_divergence_coef"] = JSON(divergenceAlpha)
    object["discopop_tau"] = JSON(discopopTau)
    object["reference_cache"] = JSON(optional: referenceCache)
    return object
  }
}

extension Recipe.PerBranch {
  var json: JSON { ["sft": JSON(sft), "align": JSON(align)] }
}

extension Recipe.Merge {
  var json: JSON {
    [
      "method": .string(method), "density": density.json, "weights": weights.json,
      "lambda": JSON(lambda), "normalize": normalize.map { JSON($0) } ?? .null, "t": JSON(t),
      "seed": JSON(seed), "dtype": JSON(optional: dtype),
    ]
  }
}

extension Recipe.Machine {
  var json: JSON {
    let partition: JSON =
      switch partitions {
      case .auto: "auto"
      case .sequential: "sequential"
      case .cpus(let sft, let align): ["sft": .string(sft), "align": .string(align)]
      }
    return [
      "partitions": partition, "threads": JSON(optional: threads),
      "memory_limit": JSON(optional: memoryLimit),
    ]
  }
}
