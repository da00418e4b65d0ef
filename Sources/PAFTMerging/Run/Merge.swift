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
  /// Merges tensor by tensor from mapped files into a folder that appears when all is done. Memory
  /// is a few buffers of the largest tensor, whatever the models' sizes. The same configuration
  /// gives the same bytes for any `parallel`.
  ///
  /// Throws `ConfigError` or `Fault` 78 for the configuration, 65 and 66 for models that are
  /// missing, malformed, not alike or not finite, 73 and 74 for the output, 80 for a result that
  /// left the range of its type.
  @discardableResult
  package static func run(
    _ configuration: MergeConfiguration, output path: String, replacing: Bool = false,
    parallel: @escaping Parallel = serially, progress: (MergeProgress) -> Void = { _ in }
  ) throws -> MergeReport {
    let plan = try MergePlan(configuration)
    if !configuration.allowMismatch {
      try Compatibility.check(plan.sources, against: plan.template)
    }
    let declarations = plan.tensors.map { TensorDeclaration($0.name, $0.type, $0.template.shape) }
    let bytes = plan.tensors.reduce(0) { $0 + $1.template.count * $1.type.size }
    for note in plan.notes { progress(.note(note)) }
    progress(.planned(tensors: plan.tensors.count, bytes: bytes, peakBytes: plan.peakBytes))

    let output = try OutputFolder(path, replacing: replacing)
    let writer = try SafetensorsWriter(
      folder: output.path, tensors: declarations,
      maximumShardBytes: configuration.maximumShardBytes)
    let worker = MergeWorker(plan, Lanes(parallel))
    for (index, tensor) in plan.tensors.enumerated() {
      progress(.merging(tensor: tensor.name, index: index, of: plan.tensors.count))
      if index + 1 < plan.tensors.count {
        for operand in plan.tensors[index + 1].operands { operand.entry.prefetch() }
      }
      try worker.merge(tensor, into: writer)
    }
    try writer.finish()
    try ModelFiles.write(plan, into: output)
    try output.commit()
    return worker.report
  }
}

/// Owns the buffers and merges one tensor after the other.
private final class MergeWorker {
  private let plan: MergePlan
  private let lanes: Lanes
  private let random: CounterRandom
  private var base = FloatBuffer()
  private var out = FloatBuffer()
  private var models: [FloatBuffer] = []
  private(set) var report: MergeReport

  init(_ plan: MergePlan, _ lanes: Lanes) {
    self.plan = plan
    self.lanes = lanes
    random = CounterRandom(seed: plan.configuration.seed)
    report = MergeReport(plan.configuration)
  }

  func merge(_ tensor: MergePlan.Tensor, into writer: SafetensorsWriter) throws(Fault) {
    guard tensor.isMerged else { return try writer.append(tensor.name, raw: tensor.template.bytes) }
    let count = tensor.template.count
    while models.count < tensor.operands.count { models.append(FloatBuffer()) }
    var basePointer: UnsafePointer<Float>?
    if let entry = tensor.base {
      base.reserve(count)
      try plan.template.load(entry, minus: nil, of: nil, into: base.start, lanes)
      basePointer = UnsafePointer(base.start)
    }
    for (buffer, operand) in zip(models, tensor.operands) {
      buffer.reserve(count)
      try plan.sources[operand.source].load(
        operand.entry, minus: basePointer, of: tensor.base, into: buffer.start, lanes)
    }
    out.reserve(count)
    let pointers = models.prefix(tensor.operands.count).map(\.start)
    if basePointer != nil {
      report.addDeltas(
        tensor.name, pointers.map { UnsafePointer($0) }, tensor.operands.map(\.model), count, lanes)
    }
    try plan.configuration.method.merge(
      MergeTask(
        name: tensor.name, shape: tensor.template.shape, count: count, base: basePointer,
        models: pointers, out: out.start, modelParameters: tensor.operands.map(\.parameters),
        parameters: tensor.parameters, random: random.stream(tensor.name), lanes: lanes))
    let result = out.start
    if let basePointer {
      report.addResult(tensor.name, result, count, lanes)
      lanes.overChunks(count) { _, range in for i in range { result[i] += basePointer[i] } }
    }
    try checkFinite(tensor, result, count)
    try writer.append(tensor.name, result, count: count)
    for operand in tensor.operands { operand.entry.release() }
    tensor.base?.release()
  }

  private func checkFinite(
    _ tensor: MergePlan.Tensor, _ result: UnsafePointer<Float>, _ count: Int
  ) throws(Fault) {
    if let bad = firstNonFinite(result, count, lanes) {
      throw Fault(
        .notFinite, "merged tensor \(quoted(tensor.name)) holds \(result[bad]) at element \(bad)")
    }
    // The largest finite values of the narrow types; above them rounding gives infinity.
    let limit: Float
    switch tensor.type {
    case .f16: limit = 65519.99
    case .bf16: limit = 0x1.FEFFFEp127
    default: return
    }
    let over = lanes.collect(count, Int?.none) { range in range.first { abs(result[$0]) > limit } }
    if let bad = over.compactMap({ $0 }).first {
      throw Fault(
        .notFinite,
        "merged tensor \(quoted(tensor.name)) holds \(result[bad]), too large for "
          + ModelFiles.name(of: tensor.type),
        hint: "set out_dtype: float32")
    }
  }
}

/// Floats that grow to what is asked and are kept from tensor to tensor.
private final class FloatBuffer {
  private(set) var start = UnsafeMutablePointer<Float>.allocate(capacity: 1)
  private var capacity = 1

  func reserve(_ count: Int) {
    guard count > capacity else { return }
    start.deallocate()
    start = .allocate(capacity: count)
    capacity = count
  }

  deinit { start.deallocate() }
}
