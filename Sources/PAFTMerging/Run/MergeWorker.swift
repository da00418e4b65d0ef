// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
internal import PAFTKernels
internal import Synchronization

/// Owns the buffers and merges tensors: by blocks where the method and the models allow it, else with all
/// operands in memory. Those that are merged by blocks wait for each other and go side by side, so that
/// nobody waits between the passes over a tensor, and the disk has the results of some while others are
/// only looked at.
final class MergeWorker {
  private let plan: MergePlan
  private let lanes: Lanes
  private let random: CounterRandom
  private let pool = BlockPool()
  private let results: ResultWriter
  /// Tensors to be merged side by side, and the bytes of what they are made from.
  private var waiting: (jobs: [Job], bytes: Int) = ([], 0)
  /// Tensors whose writes may not have ended yet.
  private var open: (names: [String], bytes: Int) = ([], 0)
  private var base = FloatBuffer()
  private var out = FloatBuffer()
  private var models: [FloatBuffer] = []
  private(set) var report: MergeReport

  private let detailed: Bool

  private struct Job {
    let tensor: MergePlan.Tensor
    let target: TensorTarget
  }

  /// What a report takes from one tensor.
  private struct Findings {
    var deltas: MergeReport.Observation?
    var result: MergeReport.Observation?
    var squares: Double?
  }

  init(_ plan: MergePlan, _ lanes: Lanes, detailed: Bool) {
    self.plan = plan
    self.detailed = detailed
    self.lanes = lanes
    results = ResultWriter(plan, lanes)
    random = CounterRandom(seed: plan.configuration.seed)
    report = MergeReport(plan.configuration)
  }

  /// Merges a tensor now or with those that follow, `complete` at the latest.
  func merge(_ tensor: MergePlan.Tensor, into writer: SafetensorsWriter) throws(Fault) {
    guard tensor.isMerged else { return try writer.append(tensor.name, raw: tensor.template.bytes) }
    let job = Job(tensor: tensor, target: try writer.target(tensor.name))
    let bytes = tensor.template.count * tensor.type.size
    if plan.streams(tensor) {
      waiting.jobs.append(job)
      waiting.bytes += tensor.entries.reduce(0) { $0 + $1.bytes.count }
      if waiting.bytes >= Self.waitingBytes { try mergeWaiting() }
    } else {
      try mergeWaiting()
      prefetch(job)
      try add(mergeWhole(job), of: tensor)
      TensorEntry.release(tensor.entries)
    }
    open.names.append(tensor.name)
    open.bytes += bytes
    if open.bytes >= plan.configuration.maximumShardBytes { try complete(in: writer) }
  }

  /// Merges what waits, waits for the writes, and lets the writer close the shards that are whole.
  func complete(in writer: SafetensorsWriter) throws(Fault) {
    try mergeWaiting()
    try results.drain()
    for name in open.names { try writer.complete(name) }
    open = ([], 0)
  }

  /// The largest first: all workers end together, and the small ones fill the gaps.
  private func mergeWaiting() throws(Fault) {
    let jobs = waiting.jobs
    waiting = ([], 0)
    guard !jobs.isEmpty else { return }
    let order = jobs.indices.sorted {
      let (a, b) = (jobs[$0].tensor.template.count, jobs[$1].tensor.template.count)
      return a != b ? a > b : $0 < $1
    }
    let ended = Mutex([Result<Findings, Fault>?](repeating: nil, count: jobs.count))
    prefetch(jobs[order[0]])
    Crew.run(jobs.count, lanes) { n, lanes in
      if n + 1 < order.count { prefetch(jobs[order[n + 1]]) }
      let job = jobs[order[n]]
      let result: Result<Findings, Fault>
      do throws(Fault) { result = .success(try mergeBlocks(job, lanes)) } catch {
        result = .failure(error)
      }
      TensorEntry.release(job.tensor.entries)
      ended.withLock { $0[order[n]] = result }
    }
    for (job, result) in zip(jobs, ended.withLock { $0 }) {
      guard let result else { continue }
      try add(result.get(), of: job.tensor)
    }
  }

  private func add(_ findings: Findings, of tensor: MergePlan.Tensor) {
    if let deltas = findings.deltas { report.add(deltas) }
    if let result = findings.result { report.add(result) }
    if let squares = findings.squares { report.addResult(tensor.name, squares: squares) }
  }

  private func task(
    _ tensor: MergePlan.Tensor, _ models: [UnsafeMutablePointer<Float>],
    _ base: UnsafePointer<Float>?, _ lanes: Lanes
  ) -> MergeTask {
    MergeTask(
      name: tensor.name, shape: tensor.template.shape, count: tensor.template.count, base: base,
      models: models, out: out.start, modelParameters: tensor.operands.map(\.parameters),
      parameters: tensor.parameters, random: random.stream(tensor.name), lanes: lanes,
      pool: pool, showsThinned: detailed)
  }

  /// The tensor's operands straight from the mapped files.
  private func blocks(of tensor: MergePlan.Tensor, _ lanes: Lanes) -> TensorBlocks {
    let (home, sources) = (plan.sources[tensor.home], plan.sources)
    let entries = tensor.entries
    // A few layers' matrices may stay mapped from pass to pass, an embedding need not.
    let isLarge = entries.reduce(0) { $0 + $1.bytes.count } > Self.mappedBytes
    return TensorBlocks(
      count: tensor.template.count, models: tensor.operands.count, lanes: lanes, pool: pool,
      stored: tensor.storedBranches,
      release: isLarge ? { range in for entry in entries { entry.release(range) } } : nil
    ) { block, wantsBase, isNew in
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
      plan.streams(tensor) ? blocks(of: tensor, lanes) : try load(tensor).blocks()
    try report.add(observed(tensor, blocks))
    TensorEntry.release(tensor.entries)
  }

  private func observed(
    _ tensor: MergePlan.Tensor, _ blocks: TensorBlocks
  ) throws(Fault) -> MergeReport.Observation {
    let deltas = report.observe(tensor.name, blocks, tensor.operands.map(\.model))
    let isStored = blocks.stored != nil
    try blocks.strips { (strip) throws(Fault) in
      if isStored { strip.visitStored { _ in } } else { strip.visit { _ in } }
    }
    return deltas
  }

  /// Asks for the files' pages, should they be on the disk.
  private func prefetch(_ job: Job) { for entry in job.tensor.entries { entry.prefetch() } }

  /// From several workers at once.
  private func mergeBlocks(_ job: Job, _ lanes: Lanes) throws(Fault) -> Findings {
    guard let stream = plan.configuration.method.stream else {
      preconditionFailure("\(plan.configuration.method.name) knows no blocks")
    }
    let tensor = job.tensor
    let blocks = blocks(of: tensor, lanes)
    var findings = Findings()
    if tensor.base != nil {
      findings.deltas = report.observe(tensor.name, blocks, tensor.operands.map(\.model))
    }
    try emit(job, blocks, stream(task(tensor, [], nil, lanes), blocks), &findings)
    return findings
  }

  private func mergeWhole(_ job: Job) throws(Fault) -> Findings {
    let tensor = job.tensor
    let task = try load(tensor)
    var findings = Findings()
    if task.base != nil { findings.deltas = try observed(tensor, task.blocks()) }
    try plan.configuration.method.merge(task)
    let result = out.start
    let blocks = self.task(tensor, detailed ? task.models : [], task.base, lanes).blocks()
    let copying = MergeMethod.Combination { block in
      block.out.update(from: result + block.range.lowerBound, count: block.count)
    }
    try emit(job, blocks, copying, &findings)
    return findings
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
    return task(tensor, models.prefix(tensor.operands.count).map(\.start), basePointer, lanes)
  }

  private func emit(
    _ job: Job, _ blocks: TensorBlocks, _ combination: MergeMethod.Combination,
    _ findings: inout Findings
  ) throws(Fault) {
    let tensor = job.tensor
    let after =
      detailed && tensor.base != nil
      ? report.observeResult(
        tensor.name, tensor.operands.map(\.model), count: blocks.count, blocks.lanes) : nil
    let squares = try results.emit(tensor, blocks, combination, to: job.target, after: after?.1)
    findings.result = after?.0
    if tensor.base != nil { findings.squares = squares }
  }

  /// How much is merged side by side, by what it is made from: many tensors, so that the end, where not
  /// everybody finds work, is short beside it, and little enough for progress to be seen.
  private static let waitingBytes = 4 << 30

  /// How much of the files is mapped at a time before strips are let go one by one.
  private static let mappedBytes = 256 << 20
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
