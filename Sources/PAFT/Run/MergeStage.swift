// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTKernels
import PAFTMachine
import PAFTMerging
import Synchronization

/// Merges the results of two branches into a model folder.
struct MergeStage {
  let settings: Recipe.Merge
  /// Folder of the model both branches started from.
  let base: String

  /// - Parameters: sft, align: adapter or model folders.
  func configuration(sft: BranchResultFolder, align: BranchResultFolder) throws
    -> MergeConfiguration
  {
    let method = try MergeConfiguration.method(named: settings.method)
    func takes(_ name: String) -> Bool { method.parameters.contains { $0.name == name } }
    var extra: [String: Double] = [:]
    if takes("t") { extra["t"] = settings.t }
    if let normalize = settings.normalize {
      // `normalize` by name is an error where the method has none: it was asked for.
      extra["normalize"] = normalize ? 1 : 0
    }
    let references = [sft, align].map { $0.reference(base) }
    if method.base == .first {
      // Between the two models themselves: the first end of the way is the SFT model.
      var merged = try MergeConfiguration(
        base: base, branches: references.map { MergeConfiguration.Branch($0) }, method: "linear",
        seed: UInt64(settings.seed), outputType: type)
      merged.method = method
      merged.base = references[0]
      for index in references.indices { merged.slices[0].sources[index].parameters = [:] }
      merged.parameters = extra.mapValues { .scalar($0) }
      merged.tokenizer = ModelReference(model: base)
      try merged.check()
      return merged
    }
    return try MergeConfiguration(
      base: base,
      branches: [
        MergeConfiguration.Branch(
          references[0], weight: settings.weights.sft, density: settings.density.sft),
        MergeConfiguration.Branch(
          references[1], weight: settings.weights.align, density: settings.density.align),
      ], method: settings.method, lambda: settings.lambda, seed: UInt64(settings.seed),
      outputType: type, parameters: extra)
  }

  private var type: DType? {
    switch settings.dtype {
    case "bf16": .bf16
    case "f32": .f32
    case "f16": .f16
    default: nil
    }
  }

  /// Writes `output`, or leaves it as an earlier session of the run wrote it: a folder appears
  /// whole or not at all.
  func run(
    sft: BranchResultFolder, align: BranchResultFolder, output: String, on place: Place,
    observer: RunObserver
  ) throws {
    if FileSystem.isFile(output + "/config.json") {
      observer.onEvent(.notice("\(FileSystem.lastComponent(output)): already merged"))
      return
    }
    let configuration = try configuration(sft: sft, align: align)
    try place.run(named: "merge") { team in
      _ = try Merge.run(configuration, output: output, lanes: try team.mergeLanes()) { progress in
        if case .note(let text) = progress { observer.onEvent(.notice(text)) }
      }
    }
  }
}

/// What a branch left: an adapter beside its base, or a whole model.
struct BranchResultFolder: Sendable {
  let path: String
  let isAdapter: Bool

  func reference(_ base: String) -> ModelReference {
    isAdapter ? ModelReference(model: base, adapter: path) : ModelReference(model: path)
  }
}

extension Team {
  /// This team with the kernels of the machine, or those that `PAFT_ISA` forces.
  func mergeLanes() throws -> Lanes {
    Lanes(
      lanes, kernels: try KernelTable.select(forced: Knobs.isa),
      background: { body in
        let running = self.beside(named: "write", body)
        return running.hasStarted ? { try? running.wait() } : nil
      })
  }

  /// Items of a merge, the next one for whoever is free.
  var lanes: Parallel {
    { count, body in
      let next = Atomic(0)
      self.run { _ in
        while true {
          let item = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if item >= count { break }
          body(item)
        }
      }
    }
  }
}
