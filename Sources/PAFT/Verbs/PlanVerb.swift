// SPDX-License-Identifier: Apache-2.0

import PAFTFormats
import PAFTMachine
import PAFTTraining

/// `paft plan`: what a run will need of memory and time, before it does anything.
package enum PlanVerb {
  /// - Parameter show: gets the answer before a run that cannot fit is refused.
  /// - Throws: 81 when it does not fit into what the process or the recipe allows.
  package static func run(
    _ recipe: Recipe, isa: String?, show: (_ text: String, _ json: String) -> Void
  ) throws(PAFTError) {
    try PAFTError.wrapping {
      let preparation = try Preparation(recipe, isa: isa, nested: true, refusesMemory: false)
      let memory = try MemoryPlan(preparation)
      let time = try TimePlan(preparation)
      show(
        text(preparation, memory, time),
        json(preparation, memory, time).serialized(pretty: true))
      try preparation.requireMemory(memory)
    }
  }

  // MARK: - For people

  private static func text(_ preparation: Preparation, _ memory: MemoryPlan, _ time: TimePlan)
    -> String
  {
    var branches = TextTable([
      "branch", "steps", "tokens", "computed", "trained", "optimizer", "scratch", "time", "place",
      "",
    ])
    for (index, job) in preparation.jobs.enumerated() {
      let (branch, c) = (memory.branches[index], job.configuration)
      let shape = try? TrainingShape(c, job.data.training)
      branches.add([
        job.name, shape.map { Numbers.grouped($0.steps) } ?? "",
        shape.map { Numbers.grouped($0.tokens) } ?? "",
        // Shared prompts are computed once.
        shape.map { Numbers.grouped($0.computed) } ?? "", "\(ByteCount(branch.trained))",
        "\(ByteCount(branch.optimizer))", "\(ByteCount(branch.scratch))",
        "about " + Numbers.duration(time.seconds[index]),
        TopologyVerb.describe(preparation.places[index]), savings(preparation, job),
      ])
    }
    var stages = TextTable(["stage", "memory"])
    for stage in memory.stages { stages.add([stage.name, "\(ByteCount(stage.bytes))"]) }
    let copies = memory.copies == 1 ? "" : ", \(memory.copies) copies"
    return branches.withoutEmptyColumns().text + "\n" + stages.text
      + "\nbase \(ByteCount(memory.base))\(copies), program and rows \(ByteCount(memory.process))\n"
      + "peak \(ByteCount(memory.peak.bytes)), training about "
      + "\(Numbers.duration(time.training))\n"
  }

  /// What was changed to keep the limit.
  private static func savings(_ preparation: Preparation, _ job: BranchJob) -> String {
    var words: [String] = []
    if job.configuration.activationCheckpointing { words.append("recomputes activations") }
    if preparation.recipe.machine.memoryLimit != nil,
      job.configuration.tokensPerPass < BranchConfiguration.usualTokens
    {
      words.append("passes of \(job.configuration.tokensPerPass) tokens")
    }
    return words.joined(separator: ", ")
  }

  // MARK: - For programs

  private static func json(_ preparation: Preparation, _ memory: MemoryPlan, _ time: TimePlan)
    -> JSON
  {
    let branches: [JSON] = preparation.jobs.indices.map { index in
      let (job, branch) = (preparation.jobs[index], memory.branches[index])
      let shape = try? TrainingShape(job.configuration, job.data.training)
      return [
        "name": .string(job.name), "steps": JSON(optional: shape?.steps),
        "tokens": JSON(optional: shape?.tokens),
        "computed_tokens": JSON(optional: shape?.computed), "trained_bytes": JSON(branch.trained),
        "optimizer_bytes": JSON(branch.optimizer), "scratch_bytes": JSON(branch.scratch),
        "gradient_checkpointing": JSON(job.configuration.activationCheckpointing),
        "tokens_per_pass": JSON(job.configuration.tokensPerPass),
        "operations": JSON(time.work[index].operations),
        "int8_operations": JSON(time.work[index].integer), "seconds": JSON(time.seconds[index]),
        "place": TopologyVerb.json(preparation.places[index]),
      ]
    }
    let stages: [JSON] = memory.stages.map {
      ["name": .string($0.name), "bytes": JSON($0.bytes)]
    }
    let limits = [preparation.recipe.machine.memoryLimit, preparation.machine.memory.limit]
    let limit = limits.compactMap { $0 }.min()
    return [
      "peak_bytes": JSON(memory.peak.bytes), "limit_bytes": JSON(optional: limit),
      "fits": JSON(limit.map { memory.peak.bytes <= $0 } ?? true),
      "training_seconds": JSON(time.training), "process_bytes": JSON(memory.process),
      "base_bytes": JSON(memory.base), "base_copies": JSON(memory.copies),
      "branches": .array(branches), "stages": .array(stages),
    ]
  }
}
