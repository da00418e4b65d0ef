// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
internal import PAFTKernels
internal import Synchronization

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
      if index + 1 < plan.tensors.count {
        for operand in plan.tensors[index + 1].operands { operand.entry.prefetch() }
      }
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
}

/// Owns the buffers and merges one tensor after the other: by blocks where the method and the models
/// allow it, else with all operands in memory.
private final class MergeWorker {
  private let plan: MergePlan
  private let lanes: Lanes
  private let random: CounterRandom
  private let pool = BlockPool()
  private let encoded: EncodingPool
  private let writes: WriteBehind
  /// Tensors whose writes may not have ended yet.
  private var open: (names: [String], bytes: Int) = ([], 0)
  private var base = FloatBuffer()
  private var out = FloatBuffer()
  private var models: [FloatBuffer] = []
  private(set) var report: MergeReport

  private let detailed: Bool

  init(_ plan: MergePlan, _ lanes: Lanes, detailed: Bool) {
    self.plan = plan
    self.detailed = detailed
    self.lanes = lanes
    encoded = EncodingPool(elements: lanes.strip)
    writes = WriteBehind(lanes.background)
    random = CounterRandom(seed: plan.configuration.seed)
    report = MergeReport(plan.configuration)
  }

  func merge(_ tensor: MergePlan.Tensor, into writer: SafetensorsWriter) throws(Fault) {
    guard tensor.isMerged else { return try writer.append(tensor.name, raw: tensor.template.bytes) }
    let target = try writer.target(tensor.name)
    if plan.streams(tensor), let stream = plan.configuration.method.stream {
      let blocks = blocks(of: tensor)
      let deltas = tensor.base.map { _ in
        report.observe(tensor.name, blocks, tensor.operands.map(\.model))
      }
      try emit(tensor, blocks, stream(task(tensor, [], nil, out.start), blocks), to: target)
      if let deltas { report.add(deltas) }
    } else {
      try mergeWhole(tensor, to: target)
    }
    open.names.append(tensor.name)
    open.bytes += tensor.template.count * tensor.type.size
    if open.bytes >= min(Self.openBytes, plan.configuration.maximumShardBytes) {
      try complete(in: writer)
    }
    for operand in tensor.operands { operand.entry.release() }
    tensor.base?.release()
  }

  /// Waits for the writes, and lets the writer close the shards that are whole.
  func complete(in writer: SafetensorsWriter) throws(Fault) {
    try writes.drain()
    for name in open.names { try writer.complete(name) }
    open = ([], 0)
  }

  private func task(
    _ tensor: MergePlan.Tensor, _ models: [UnsafeMutablePointer<Float>],
    _ base: UnsafePointer<Float>?, _ out: UnsafeMutablePointer<Float>
  ) -> MergeTask {
    MergeTask(
      name: tensor.name, shape: tensor.template.shape, count: tensor.template.count, base: base,
      models: models, out: out, modelParameters: tensor.operands.map(\.parameters),
      parameters: tensor.parameters, random: random.stream(tensor.name), lanes: lanes,
      showsThinned: detailed)
  }

  /// The tensor's operands straight from the mapped files.
  private func blocks(of tensor: MergePlan.Tensor) -> TensorBlocks {
    let (home, sources) = (plan.sources[tensor.home], plan.sources)
    let entries = tensor.operands.map(\.entry) + (tensor.base.map { [$0] } ?? [])
    // A few layers' matrices may stay mapped from pass to pass, an embedding need not.
    let isLarge = entries.reduce(0) { $0 + $1.bytes.count } > Self.mappedBytes
    return TensorBlocks(
      count: tensor.template.count, models: tensor.operands.count, lanes: lanes, pool: pool,
      release: isLarge ? { range in for entry in entries { entry.release(range) } } : nil
    ) { [lanes] block, wantsBase, isNew in
      guard let base = tensor.base else {
        for (target, operand) in zip(block.models, tensor.operands) {
          let bad = sources[operand.source].load(
            operand.entry, block.range, into: target, checked: isNew, lanes)
          if let bad { return bad }
        }
        return nil
      }
      // Deltas of narrow types are taken as they are stored; others need the base as floats.
      if wantsBase || !tensor.operands.allSatisfy({ $0.entry.isHalves(like: base) }) {
        let bad = home.load(base, block.range, into: block.base, checked: true, lanes)
        if let bad { return bad }
      }
      for (target, operand) in zip(block.models, tensor.operands) {
        let source = sources[operand.source]
        guard
          let bad = source.load(
            operand.entry, block.range, minus: block.base, of: base, into: target, checked: isNew,
            lanes)
        else { continue }
        // A delta that is not finite may be the base's fault.
        return home.load(base, block.range, into: block.base, checked: true, lanes) ?? bad
      }
      return nil
    }
  }

  /// Looks at the deltas alone.
  func observe(_ tensor: MergePlan.Tensor) throws(Fault) {
    let blocks =
      plan.streams(tensor) ? blocks(of: tensor) : try load(tensor).blocks(pool)
    let deltas = report.observe(tensor.name, blocks, tensor.operands.map(\.model))
    try blocks.strips { (strip) throws(Fault) in strip.visit { _ in } }
    report.add(deltas)
    for operand in tensor.operands { operand.entry.release() }
    tensor.base?.release()
  }

  private func mergeWhole(_ tensor: MergePlan.Tensor, to target: TensorTarget) throws(Fault) {
    let task = try load(tensor)
    if task.base != nil {
      let blocks = task.blocks(pool)
      let deltas = report.observe(tensor.name, blocks, tensor.operands.map(\.model))
      try blocks.strips { (strip) throws(Fault) in strip.visit { _ in } }
      report.add(deltas)
    }
    try plan.configuration.method.merge(task)
    let result = out.start
    let blocks = self.task(tensor, detailed ? task.models : [], task.base, result).blocks(pool)
    try emit(
      tensor, blocks,
      { block in
        block.out.update(from: result + block.range.lowerBound, count: block.count)
      }, to: target)
  }

  /// All of a tensor, as the method wants it.
  private func load(_ tensor: MergePlan.Tensor) throws(Fault) -> MergeTask {
    let count = tensor.template.count
    while models.count < tensor.operands.count { models.append(FloatBuffer()) }
    var basePointer: UnsafePointer<Float>?
    if let entry = tensor.base {
      base.reserve(count)
      try plan.sources[tensor.home].load(entry, minus: nil, of: nil, into: base.start, lanes)
      basePointer = UnsafePointer(base.start)
    }
    for (buffer, operand) in zip(models, tensor.operands) {
      buffer.reserve(count)
      try plan.sources[operand.source].load(
        operand.entry, minus: basePointer, of: tensor.base, into: buffer.start, lanes)
    }
    out.reserve(count)
    return task(
      tensor, models.prefix(tensor.operands.count).map(\.start), basePointer, out.start)
  }

  /// Makes the result block by block and writes it strip by strip.
  private func emit(
    _ tensor: MergePlan.Tensor, _ blocks: TensorBlocks, _ combine: @escaping MergeMethod.Combine,
    to target: TensorTarget
  ) throws(Fault) {
    let addsBase = tensor.base != nil
    let home = plan.sources[tensor.home]
    let plainBase = tensor.base.flatMap { base in
      tensor.type == .bf16 && base.isAlignedBF16 && home.isPlain(base.name) ? base : nil
    }
    let limit = Self.largest(tensor.type)
    let squares = Mutex([Double](repeating: 0, count: Lanes.chunks(blocks.count, of: lanes.strip)))
    let after =
      detailed && addsBase
      ? report.observeResult(tensor.name, tensor.operands.map(\.model), count: blocks.count, lanes)
      : nil
    try blocks.strips { (strip) throws(Fault) in
      let start = strip.number * lanes.strip
      let buffer = encoded.take(target, at: start)
      var sum = 0.0
      var filled = 0
      var failure: Fault?
      strip.visit(wantsBase: addsBase && plainBase == nil) { block in
        let (out, count) = (block.out, block.count)
        combine(block)
        after?.1(block, strip.number)
        let place = buffer.start + filled
        if let plainBase, Int(bitPattern: place) % 2 == 0 {
          filled += count * 2
          let beyond = lanes.merging.finish_bf16(
            place.assumingMemoryBound(to: UInt16.self), out,
            plainBase.halves + block.range.lowerBound, limit, &sum, count)
          guard beyond > 0, failure == nil else { return }
          _ = home.load(plainBase, block.range, into: block.base, checked: false, lanes)
          lanes.merging.add_f32(out, block.base, count)
          failure = Self.unfit(tensor, out, block.range, limit)
          return
        }
        if addsBase {
          sum += lanes.vectors.sumSquares_f32(out, count)
          lanes.merging.add_f32(out, block.base, count)
        }
        if failure == nil, lanes.merging.countBeyond_f32(out, limit, count) > 0 {
          failure = Self.unfit(tensor, out, block.range, limit)
        }
        if tensor.type.size == 2, Int(bitPattern: place) % 2 == 0 {
          let halves = place.assumingMemoryBound(to: UInt16.self)
          if tensor.type == .bf16 {
            lanes.vectors.toBF16(halves, out, count, 0)
          } else {
            lanes.merging.toF16(halves, out, count)
          }
        } else {
          target.encode(out, count: count, to: place)
        }
        filled += count * tensor.type.size
      }
      if let failure { throw failure }
      try writes.add { [encoded, filled] () throws(Fault) in
        defer { encoded.give(buffer) }
        try target.write(
          UnsafeRawBufferPointer(start: buffer.start, count: filled), element: start)
      }
      squares.withLock { $0[strip.number] = sum }
    }
    if let after { report.add(after.0) }
    if addsBase {
      report.addResult(tensor.name, squares: squares.withLock { $0.reduce(0, +) })
    }
  }

  /// How much is written before it is waited for: long enough to be seldom, short enough that few shards
  /// are open at a time.
  private static let openBytes = 256 << 20

  /// How much of the files is mapped at a time before strips are let go one by one.
  private static let mappedBytes = 256 << 20

  /// The largest finite values of the narrow types; above them rounding gives infinity.
  private static func largest(_ type: DType) -> Float {
    switch type {
    case .f16: 65519.99
    case .bf16: 0x1.FEFFFEp127
    default: .greatestFiniteMagnitude
    }
  }

  private static func unfit(
    _ tensor: MergePlan.Tensor, _ result: UnsafePointer<Float>, _ range: Range<Int>, _ limit: Float
  ) -> Fault {
    let bad = (0..<range.count).first { !(abs(result[$0]) <= limit) } ?? 0
    let place = "merged tensor \(quoted(tensor.name)) holds \(result[bad])"
    guard result[bad].isFinite else {
      return Fault(.notFinite, "\(place) at element \(range.lowerBound + bad)")
    }
    return Fault(
      .notFinite, "\(place), too large for \(ModelFiles.name(of: tensor.type))",
      hint: "set out_dtype: float32")
  }
}

/// Buffers for encoded strips, one for each worker.
private final class EncodingPool: Sendable {
  final class Buffer: @unchecked Sendable {
    // Sendable: of one worker at a time.
    private let memory: UnsafeMutableRawPointer
    fileprivate(set) var start: UnsafeMutableRawPointer

    fileprivate init(_ elements: Int) {
      memory = UnsafeMutableRawPointer.allocate(
        byteCount: elements * 4 + 2 * TensorTarget.alignment, alignment: TensorTarget.alignment)
      start = memory
    }

    /// Stands to a page as the place in the file does, so that whole pages go to the disk as they are.
    fileprivate func align(to offset: Int) { start = memory + offset % TensorTarget.alignment }

    deinit { memory.deallocate() }
  }

  private let free = Mutex<[Buffer]>([])
  private let elements: Int

  init(elements: Int) { self.elements = elements }

  func take(_ target: TensorTarget, at element: Int) -> Buffer {
    let buffer = free.withLock { $0.popLast() } ?? Buffer(elements)
    buffer.align(to: target.offset(of: element))
    return buffer
  }

  func give(_ buffer: Buffer) { free.withLock { $0.append(buffer) } }
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
