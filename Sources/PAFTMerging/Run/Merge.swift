// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats

/// What a running merge tells its caller.
package enum MergeProgress: Sendable {
  /// Before anything is written: how many tensors, bytes of output, bytes of buffers at the peak.
  case planned(tensors: Int, bytes: Int, peakBytes: Int)
  case merging(tensor: String, index: Int, of: Int)
  /// Something the user should know, in one line.
  case note(String)
}

package enum Merge {
  /// Merges tensor by tensor from mapped files into a folder that appears when all is done. Memory is
  /// a few megabytes for methods that stream blocks, else a few buffers of the largest tensor,
  /// whatever the models' sizes. What a killed process had finished of the same merge stays, file by
  /// file. The same configuration gives the same bytes for any number of threads. `detailed` costs
  /// another look at every block, and reports what thinning and settling signs left.
  ///
  /// Throws `ConfigError` or `Fault` 78 for the configuration, 65 and 66 for models that are
  /// missing, malformed, not alike or not finite, 73 and 74 for the output, 80 for a result that
  /// left the range of its type.
  @discardableResult
  package static func run(
    _ configuration: MergeConfiguration, output path: String, replacing: Bool = false,
    detailed: Bool = false, lanes: Lanes = Lanes(), progress: (MergeProgress) -> Void = { _ in }
  ) throws -> MergeReport {
    let united = try configuration.vocabulary.flatMap {
      try UnitedVocabulary.unite(configuration, $0, beside: path)
    }
    let plan = try MergePlan(configuration, rewritten: united?.rewritten ?? [:])
    if !configuration.allowMismatch {
      try Compatibility.check(plan.sources, against: plan.template, united: united != nil)
    }
    let declarations = plan.tensors.map { TensorDeclaration($0.name, $0.type, $0.template.shape) }
    let bytes = plan.tensors.reduce(0) { $0 + $1.template.count * $1.type.size }
    for note in plan.notes { progress(.note(note)) }
    progress(.planned(tensors: plan.tensors.count, bytes: bytes, peakBytes: plan.peakBytes))

    let journal = try MergeJournal(configuration)
    let output = try OutputFolder(path, replacing: replacing, resuming: journal.takesOver)
    if let note = journal.note { progress(.note(note)) }
    try journal.begin(in: output.path)
    let writer = try SafetensorsWriter(
      folder: output.path, tensors: declarations,
      maximumShardBytes: configuration.maximumShardBytes, keeping: Set(journal.finished))
    writer.onShard = { (file) throws(Fault) in try journal.finish(file, in: output.path) }
    let worker = MergeWorker(plan, lanes, detailed: detailed)
    for (index, tensor) in plan.tensors.enumerated() where !writer.isKept(tensor.name) {
      progress(.merging(tensor: tensor.name, index: index, of: plan.tensors.count))
      try worker.merge(tensor, into: writer)
    }
    try worker.complete(in: writer)
    try writer.finish()
    try journal.end(in: output.path)
    try ModelFiles.write(plan, into: output)
    try united?.write(into: output)
    try configuration.chatTemplate?.write(plan.sources.map(\.reference.model), into: output)
    try output.commit()
    return worker.report
  }

  /// What models changed of their base, how much they point the same way and against each other, without
  /// merging them. Throws as `run` does for its inputs.
  package static func compare(
    base: String, models: [String], lanes: Lanes = Lanes()
  ) throws -> MergeReport {
    let configuration = try MergeConfiguration(
      base: base, branches: models.map { .init(ModelReference($0)) }, method: "task_arithmetic")
    let plan = try MergePlan(configuration)
    try Compatibility.check(plan.sources, against: plan.template)
    let worker = MergeWorker(plan, lanes, detailed: false)
    for tensor in plan.tensors where tensor.isMerged { try worker.observe(tensor) }
    return worker.report
  }

  /// Bytes that `workers` hold beside whole tensors: blocks of five operands, tables of counts for
  /// thresholds, and strips on their way to the disk.
  ///
  /// - Parameters:
  ///   - count: values of the largest tensor.
  ///   - bytes: of the result.
  ///   - width: of one of its values.
  package static func room(workers: Int, count: Int, bytes: Int, width: Int) -> Int {
    let blocks = 5 * 4 * min(count, Lanes.block)
    let tables = count < MagnitudeGuess.fewest ? 0 : MagnitudeGuess.tableBytes
    let strips = WriteBehind.waitingBytes + (WriteBehind.writers + workers) * width * Lanes.strip
    // An eighth of the pages that strips lie on is empty (`EncodingPool`).
    return workers * (blocks + tables) + min(bytes, strips) / 7 * 8
  }
}
