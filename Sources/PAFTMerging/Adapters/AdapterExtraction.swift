// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
internal import PAFTKernels
internal import Synchronization

/// What a merge would add to its base, as a LoRA adapter: every matrix of the layers is merged as
/// always, and the nearest product of the wanted rank kept of it. A full fine-tuned model becomes an
/// adapter by merging it alone (task_arithmetic, weight 1).
package enum AdapterExtraction {
  /// How many changes are decomposed at once: as many are in memory.
  private static let group = 4

  /// Throws what `Merge.run` throws; 78 for methods that know no base.
  @discardableResult
  package static func run(
    _ configuration: MergeConfiguration, rank: Int, output path: String, replacing: Bool = false,
    lanes: Lanes = Lanes(), progress: (MergeProgress) -> Void = { _ in }
  ) throws -> AdapterMergeReport {
    let (plan, base) = try plan(configuration)
    for note in plan.notes { progress(.note(note)) }
    let tensors = plan.tensors.filter(\.isMerged)
    if let name = tensors.first(where: { $0.name.hasSuffix("attn.c_attn.weight") })?.name {
      throw Fault(
        .data, "\(quoted(name)) is stored transposed, as GPT-2 has it",
        hint: "adapters are made of layers stored as outputs by inputs")
    }
    progress(
      .planned(
        tensors: tensors.count, bytes: 0, peakBytes: plan.peakBytes + (group - 1) * largest(tensors)
      ))
    let output = try OutputFolder(path, replacing: replacing)
    let random = CounterRandom(seed: configuration.seed)
    var found: [Change] = []
    var left = (tensors: 0, squares: 0.0)
    for start in stride(from: 0, to: tensors.count, by: group) {
      var changes: [Change] = []
      for index in start..<min(start + group, tensors.count) {
        let tensor = tensors[index]
        progress(.merging(tensor: tensor.name, index: index, of: tensors.count))
        let delta = try change(tensor, plan, random, lanes)
        let squares = lanes.sum(delta.count) { range in
          delta.withUnsafeBufferPointer {
            lanes.vectors.sumSquares_f32($0.baseAddress! + range.lowerBound, range.count)
          }
        }
        guard squares > 0 else { continue }
        guard tensor.template.shape.count == 2, tensor.name.hasSuffix(".weight"),
          LayerName(tensor.name) != nil
        else {
          left.tensors += 1
          left.squares += squares
          continue
        }
        changes.append(
          Change(name: tensor.name, shape: tensor.template.shape, delta: delta, result: nil))
      }
      let shared = Mutex(changes)
      lanes.forEach(changes.count) { i in
        let change = changes[i]
        let result = change.delta.withUnsafeBufferPointer {
          LowRankFactors.approximating(
            $0.baseAddress!, outputs: change.shape[0], inputs: change.shape[1],
            rank: min(rank, change.shape.min() ?? rank),
            random: random.stream(change.name).stream("range"), lanes.alone)
        }
        shared.withLock {
          $0[i].result = result
          $0[i].delta = []
        }
      }
      found += shared.withLock { $0 }
    }
    guard !found.isEmpty else {
      throw Fault(.data, "the merge changes no matrix of a layer: there is nothing to export")
    }
    if left.tensors > 0 {
      progress(
        .note(
          "\(left.tensors) changed tensors outside the layers' matrices (norms, biases, embeddings) "
            + "are left out; the reported error counts them"))
    }
    let folder = AdapterFiles(
      base: base.model, type: configuration.outputType ?? .f32,
      modules: found.map { ($0.name, false, $0.result!.factors) }, whole: [])
    try folder.write(into: output)
    try output.write("mergekit_config.yml", configuration.text ?? configuration.serialized())
    try output.commit()
    var report = AdapterMergeReport(
      method: configuration.method.name,
      models: configuration.slices[0].sources.map(\.reference.text), rank: folder.rank)
    for change in found {
      report.add(change.name, change.result?.squares, change.result?.lostSquares)
    }
    report.left = left
    return report
  }

  /// What is merged, where that is a change of one base.
  static func plan(_ configuration: MergeConfiguration) throws -> (MergePlan, ModelReference) {
    guard let slice = configuration.slices.first, configuration.usesDeltas(slice),
      let base = configuration.base
    else {
      throw Fault(
        .configuration, "merge method \(configuration.method.name) makes no change of a base",
        hint: "a change needs base_model and a method on deltas: task_arithmetic, ties, …")
    }
    guard configuration.slices.allSatisfy({ $0.sources.allSatisfy { $0.layers == nil } }) else {
      throw Fault(.configuration, "slices make another model, not a change of the base")
    }
    let plan = try MergePlan(configuration)
    if !configuration.allowMismatch {
      try Compatibility.check(plan.sources, against: plan.template)
    }
    return (plan, base)
  }

  private struct Change {
    var name: String
    var shape: [Int]
    var delta: [Float]
    var result: LowRankFactors.Truncation?
  }

  private static func largest(_ tensors: [MergePlan.Tensor]) -> Int {
    4 * tensors.reduce(0) { max($0, $1.template.count) }
  }

  /// The merged delta of one tensor, before the base is added.
  static func change(
    _ tensor: MergePlan.Tensor, _ plan: MergePlan, _ random: CounterRandom, _ lanes: Lanes
  ) throws(Fault) -> [Float] {
    let count = tensor.template.count
    var pointers: [UnsafeMutablePointer<Float>] = []
    defer { for pointer in pointers { pointer.deallocate() } }
    func vector() -> UnsafeMutablePointer<Float> {
      let pointer = UnsafeMutablePointer<Float>.allocate(capacity: max(count, 1))
      pointers.append(pointer)
      return pointer
    }
    let (base, out) = (vector(), vector())
    guard let entry = tensor.base else { return [] }
    try plan.sources[tensor.home].load(entry, minus: nil, of: nil, into: base, lanes)
    var models: [UnsafeMutablePointer<Float>] = []
    for operand in tensor.operands {
      let model = vector()
      try plan.sources[operand.source].load(
        operand.entry, minus: base, of: entry, into: model, lanes)
      models.append(model)
      operand.entry.release()
    }
    try plan.configuration.method.merge(
      MergeTask(
        name: tensor.name, shape: tensor.template.shape, count: count, base: UnsafePointer(base),
        models: models, out: out, modelParameters: tensor.operands.map(\.parameters),
        parameters: tensor.parameters, random: random.stream(tensor.name), lanes: lanes))
    entry.release()
    if let bad = firstNonFinite(out, count, lanes) {
      throw Fault(
        .notFinite, "merged tensor \(quoted(tensor.name)) holds \(out[bad]) at element \(bad)")
    }
    return Array(UnsafeBufferPointer(start: out, count: count))
  }
}
