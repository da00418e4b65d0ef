// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
internal import PAFTFormats
internal import PAFTKernelInterface
import PAFTMachine
import PAFTModels
import PAFTOps

/// Why a run should end before its last step.
package enum StopRequest: Sendable {
  case none
  case terminate
  case interrupt
}

/// What a branch says while it runs, and how it can be asked to stop.
package struct BranchEvents: Sendable {
  package var onStep: @Sendable (StepReport) -> Void
  package var onNote: @Sendable (String) -> Void
  package var shouldStop: @Sendable () -> StopRequest
  /// Called on the team's root between two steps, and between two passes of the reference, where the
  /// team may grow.
  package var betweenSteps: @Sendable () -> Void

  package init(
    onStep: @escaping @Sendable (StepReport) -> Void = { _ in },
    onNote: @escaping @Sendable (String) -> Void = { _ in },
    shouldStop: @escaping @Sendable () -> StopRequest = { .none },
    betweenSteps: @escaping @Sendable () -> Void = {}
  ) {
    self.onStep = onStep
    self.onNote = onNote
    self.shouldStop = shouldStop
    self.betweenSteps = betweenSteps
  }
}

package struct BranchResult: Sendable {
  /// The folder written: `…/adapter` or `…/model`.
  package var path: String
  package var steps: Int
  package var last: StepReport
  package var seconds: Double
  package var trainedParameters: Int
}

/// One training run on one executor: window → gradient → clip → optimizer → penalty → repack.
///
/// A step allocates nothing on the heap once buffers have grown (from the third on). The same
/// configuration, data and base give the same bits on any team, alone or beside another branch, and
/// after any number of interruptions.
package final class Branch {
  package let configuration: BranchConfiguration
  package let executor: Executor
  package let trainable: Trainable
  package let plan: TrainingPlan
  private let decoder: Decoder
  /// Kept alive: adapters stand beside its weights, and the reference reads them.
  private let base: BaseModel?
  private let data: TrainingData
  private let rows: PassRows
  private let rate: LearningRate
  private let reference: ReferenceLogps?
  private let referenceWeights: Weights?
  private let buffers: Arena
  private let segments: [(range: Range<Int>, decays: Bool)]
  private let penalty: PenaltyStep?
  private var controller: SparsityController?
  private var sampler: Sampler
  private var step = 0
  private var totalTokens = 0
  private var last = StepReport()

  /// - Parameters:
  ///   - base: the frozen base: what adapters stand beside, the reference of preference losses, and
  ///     where full weights are read from. Nil only for a model made from nothing.
  ///   - trainable: given for a model made from nothing, otherwise made here.
  package init(
    _ configuration: BranchConfiguration, base: BaseModel?, model: ModelConfiguration,
    trainable given: Trainable? = nil, data: TrainingData, on executor: Executor
  ) throws {
    self.configuration = configuration
    self.executor = executor
    self.base = base
    self.data = data
    let plan = try TrainingPlan(
      rows: data.count, batchSize: configuration.batchSize,
      accumulation: configuration.accumulation, epochs: configuration.epochs,
      maxSteps: configuration.maxSteps)
    self.plan = plan
    rows = PassRows(data, configuration, window: plan.window)
    rate = try LearningRate(
      peak: configuration.learningRate, schedule: configuration.schedule,
      warmup: configuration.warmup, totalSteps: plan.totalSteps)
    sampler = Sampler(
      plan, seed: CounterRandom(seed: configuration.seed).stream(configuration.name).key,
      shuffles: configuration.shuffle)
    let isFull = configuration.adaptation == .full
    if let given {
      trainable = given
    } else {
      guard let base else { preconditionFailure("a branch needs a base or weights of its own") }
      trainable = try Trainable.make(
        configuration.adaptation, masters: configuration.masterWeights, base: base,
        optimizer: configuration.optimizer,
        seed: configuration.seed, keepsInitial: isFull && configuration.l1 != nil, on: executor)
    }
    decoder = try Decoder(
      model, maxTokens: data.longest, checkpointing: configuration.activationCheckpointing,
      on: executor)
    let trainable = trainable
    penalty = try configuration.l1.map {
      try PenaltyStep($0, trainable, base: base, on: executor)
    }
    controller = configuration.l1.map {
      SparsityController(
        $0, totalSteps: plan.totalSteps, parameters: trainable.table.parameters)
    }
    segments = Self.segments(trainable.table, penalised: configuration.l1 != nil)
    buffers = try Arena(
      capacity: 2 * data.count * 8 + (1 << 16), node: executor.team.place.node, name: "branch")
    if case .preference(let objective) = configuration.objective, objective.needsReference {
      reference = ReferenceLogps(in: buffers, pairs: data.count)
      referenceWeights = base?.weights
    } else {
      reference = nil
      referenceWeights = nil
    }
  }

  /// Runs of neighbouring tensors with the same weight decay: usually one for all.
  private static func segments(_ table: ParameterTable, penalised: Bool) -> [(
    range: Range<Int>, decays: Bool
  )] {
    var result: [(range: Range<Int>, decays: Bool)] = []
    for (index, row) in table.rows.enumerated() {
      let end = index + 1 < table.rows.count ? table.rows[index + 1].offset : table.floats
      // Norms and biases never decay; under an L1 penalty nothing else may shrink the delta.
      let decays = row.isMatrix && !penalised
      if let last = result.last, last.decays == decays {
        result[result.count - 1].range = last.range.lowerBound..<end
      } else {
        result.append((row.offset..<end, decays))
      }
    }
    return result
  }

  /// Everything this branch keeps in memory, its scratch included.
  package var memory: [Arena] { trainable.memory + [decoder.tables, buffers, executor.scratch] }

  /// Steps taken so far, those before a resume included.
  package var steps: Int { step }

  // MARK: - A whole run

  /// Trains to the end and writes the result into `folder` (`adapter/` or `model/`,
  /// `metrics.jsonl`, `checkpoints/`).
  ///
  /// Throws a `Fault`: 80 when loss or gradient is not finite (weights untouched by that step), 143
  /// or 130 after a checkpoint when asked to stop, 75 when another process trains in this folder.
  package func run(in folder: String, base: String, resume: Bool, events: BranchEvents) throws
    -> BranchResult
  {
    let started = ContinuousClock.now
    try FileSystem.makeFolder(folder)
    let store = try CheckpointStore(
      folder: folder + "/checkpoints", configHash: ConfigHash.of(configuration.fingerprint),
      keep: configuration.keepCheckpoints)
    if resume {
      let (checkpoint, warnings) = try store.newest()
      for warning in warnings { events.onNote(warning) }
      if let checkpoint {
        try restore(checkpoint)
        events.onNote("\(configuration.name): resumed after step \(step) of \(plan.totalSteps)")
      }
    }
    if step == 0 {
      // A pass over all pairs may take longer than anybody waits for an interrupted run to end.
      try prepareReference(note: events.onNote) {
        let request = events.shouldStop()
        if request != .none { throw stopped(request, kept: "nothing to keep yet") }
        events.betweenSteps()
      }
    }
    var metrics = try MetricsWriter(path: folder + "/metrics.jsonl", resumingAfter: step)
    while step < plan.totalSteps {
      last = try advance()
      try metrics.write(last)
      events.onStep(last)
      let request = events.shouldStop()
      let ends = step == plan.totalSteps
      if request != .none && !ends {
        try save(to: store, metrics)
        throw stopped(request, kept: "checkpoint written")
      }
      if let every = configuration.saveEvery, every > 0, step % every == 0, !ends {
        try save(to: store, metrics)
      }
      if !ends { events.betweenSteps() }
    }
    try metrics.synchronize()
    let path: String
    do {
      path = try trainable.write(to: folder, base: base, replacing: true)
    } catch {
      // What was trained since the last checkpoint is not lost with it.
      try? save(to: store, metrics)
      throw error
    }
    return BranchResult(
      path: path, steps: step, last: last, seconds: seconds(since: started),
      trainedParameters: trainable.table.parameters)
  }

  private func stopped(_ request: StopRequest, kept: String) -> Fault {
    Fault(
      request == .terminate ? .terminated : .interrupted,
      "\(configuration.name): stopped after step \(step) of \(plan.totalSteps), \(kept)",
      hint: "run the same command with --resume to go on")
  }

  /// Reference log-probabilities of the pairs that the steps will meet: those that a cache knows from
  /// there, the others computed, and added to it.
  ///
  /// - Parameter check: called before each pass; what it throws ends the walk.
  private func prepareReference(note: (String) -> Void, check: () throws -> Void) rethrows {
    guard let reference, let referenceWeights, let pass = preferencePass else { return }
    let cache = configuration.referenceCache
    var known: [ContentHash: ReferenceCache.Sums] = [:]
    do { known = try cache?.load() ?? [:] } catch {
      note("\(configuration.name): \((error as? Fault)?.message ?? "\(error)"), computed anew")
    }
    let keys = cache == nil ? [] : pass.pairs.examples.indices.map(pass.pairs.key)
    var wanted: [Int32] = []
    for index in pairsInUse() {
      if let sums = cache == nil ? nil : known[keys[index]] {
        reference.values[2 * index] = sums.chosen
        reference.values[2 * index + 1] = sums.rejected
      } else {
        wanted.append(Int32(truncatingIfNeeded: index))
      }
    }
    if wanted.isEmpty { return }
    // The first sign of life otherwise comes after a pass over all of them.
    note("\(configuration.name): the base scores \(wanted.count) pairs first")
    try wanted.withUnsafeBufferPointer {
      try pass.fill(reference, referenceWeights, order: $0, check: check)
    }
    guard let cache else { return }
    for index in wanted.map(Int.init) {
      known[keys[index]] = (reference.values[2 * index], reference.values[2 * index + 1])
    }
    // Nothing is lost with it but time.
    do throws(Fault) { try cache.store(known) } catch {
      note("\(configuration.name): reference log-probabilities not kept: \(error.message)")
    }
  }

  /// Rows of all steps, ascending: with `max_steps` perhaps not all there are.
  private func pairsInUse() -> [Int] {
    let used = plan.rowsUsed(&sampler)
    return (0..<data.count).filter { used?[$0] ?? true }
  }

  private var preferencePass: PreferencePass? {
    guard case .preference(let pairs, let objective) = rows else { return nil }
    return PreferencePass(
      decoder: decoder, pairs: pairs, objective: objective,
      tokensPerPass: configuration.tokensPerPass)
  }

  // MARK: - One step

  /// Takes the next optimizer step. Call `prepare()` before the first when not using `run`.
  package func advance() throws -> StepReport {
    let started = ContinuousClock.now
    var report = StepReport()
    let window = sampler.window(step)
    report.learningRate = rate.rate(step)
    if let layerwise = trainable.layerwise {
      layerwise.begin(step: step, learningRate: report.learningRate)
    } else {
      trainable.clearGradient(on: executor)
    }
    switch rows {
    case .supervised(let rows):
      SupervisedPass(
        decoder: decoder, trainable: trainable, rows: rows,
        tokensPerPass: configuration.tokensPerPass
      ).run(window, into: &report)
    case .preference(let pairs, let objective):
      PreferencePass(
        decoder: decoder, pairs: pairs, objective: objective,
        tokensPerPass: configuration.tokensPerPass
      ).run(window, trainable, reference: reference, into: &report)
    }
    let norm = GradientNorm(
      sumSquares: trainable.layerwise?.sumSquares
        ?? Elementwise.sumSquares(trainable.gradient, count: trainable.floats, on: executor),
      scale: 1, maximum: configuration.maxGradNorm)
    guard report.loss.isFinite, norm.isFinite else {
      let culprit = report.loss.isFinite ? norm.value : report.loss
      throw Fault(
        .notFinite,
        "\(configuration.name): \(report.loss.isFinite ? "gradient norm" : "loss") is "
          // Without the payload that Swift prints of a NaN.
          + "\(culprit.isNaN ? "nan" : "\(culprit)") at step \(step + 1), "
          + (trainable.layerwise == nil ? "weights left as they were" : "nothing was written"),
        hint: "lower the learning rate, or look for broken rows with paft validate")
    }
    report.gradientNorm = norm.value
    if trainable.layerwise == nil { update(norm, &report) }
    step += 1
    totalTokens += report.tokens
    report.step = step
    report.totalSteps = plan.totalSteps
    report.totalTokens = totalTokens
    report.epoch = plan.epoch(after: step)
    report.seconds = seconds(since: started)
    return report
  }

  /// Computes what the first step needs (the reference log-probabilities).
  package func prepare() { prepareReference(note: { _ in }) {} }

  private func update(_ norm: GradientNorm, _ report: inout StepReport) {
    let lambda = controller?.lambda(step) ?? 0
    if let penalty, norm.gradientScale > 0 {
      penalty.addGradient(lambda: lambda, inverseScale: 1 / norm.gradientScale, on: executor)
    }
    let optimizer = OptimizerBuffers(
      weights: trainable.values, gradients: trainable.gradient, first: trainable.first,
      second: trainable.second, count: trainable.floats)
    var block = 0
    for segment in segments {
      let scalars = configuration.optimizer.scalars(
        step: step + 1, learningRate: report.learningRate, decays: segment.decays,
        gradientScale: norm.gradientScale)
      if let moments = trainable.eightBit, case .adamW(let scalars) = scalars {
        let (from, count) = (segment.range.lowerBound, segment.range.count)
        let first = block * EightBitMoments.block
        AdamWStep.eightBit(
          weights: trainable.values + from, moments.slice(first..<first + count),
          gradients: trainable.gradient + from, count: count, scalars, on: executor)
        block += (count + EightBitMoments.block - 1) / EightBitMoments.block
        continue
      }
      let span = executor.begin(configuration.optimizer.operation(segment.range.count))
      defer { executor.end(span) }
      executor.parallel(segment.range.count, grain: 1 << 12) { range in
        let from = segment.range.lowerBound
        Optimizer.update(
          optimizer, from + range.lowerBound..<from + range.upperBound, scalars, executor.kernels)
      }
    }
    if let penalty {
      penalty.shrink(lambda: lambda, learningRate: report.learningRate, on: executor)
      observe(penalty, lambda: lambda, &report)
    }
    trainable.repack(on: executor)
  }

  private func observe(_ penalty: PenaltyStep, lambda: Double, _ report: inout StepReport) {
    var l1 = L1Report()
    l1.lambda = lambda
    l1.count = penalty.count
    if controller!.measures(step + 1) || step + 1 == plan.totalSteps {
      var (norm, sparsity) = penalty.measure(on: executor)
      if step + 1 == plan.totalSteps, case .targetSparsity(let share)? = configuration.l1?.strength,
        sparsity < share
      {
        l1.sparsityBeforeSettling = sparsity
        penalty.settle(share: share, on: executor)
        (norm, sparsity) = penalty.measure(on: executor)
      }
      l1.norm = norm
      controller!.observe(sparsity, after: step + 1)
    } else {
      l1.norm = last.l1?.norm ?? 0
    }
    l1.sparsity = controller!.state.sparsity
    report.l1 = l1
  }

  private func seconds(since start: ContinuousClock.Instant) -> Double {
    let elapsed = ContinuousClock.now - start
    return Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) * 1e-18
  }

  // MARK: - Checkpoints

  private var checkpointBuffers: [CheckpointBuffer] {
    var list = trainable.checkpointBuffers
    if let reference {
      list.append(
        CheckpointBuffer("reference_logps", reference.values, count: 2 * reference.pairs))
    }
    return list
  }

  private func save(to store: CheckpointStore, _ metrics: borrowing MetricsWriter) throws {
    // Rows up to this step must be durable before the step is.
    try metrics.synchronize()
    var state = JSONObject()
    state["total_tokens"] = JSON(totalTokens)
    state["l1"] = controller?.json ?? .null
    state["l1_norm"] = last.l1.map { .number($0.norm) } ?? .null
    try store.save(step: step, state: .object(state), buffers: checkpointBuffers)
  }

  private func restore(_ checkpoint: CheckpointReader) throws {
    try checkpoint.load(into: checkpointBuffers)
    if let l1 = checkpoint.state["l1"], !l1.isNull { try controller?.restore(l1) }
    totalTokens = checkpoint.state["total_tokens"]?.int ?? 0
    if let norm = checkpoint.state["l1_norm"]?.double {
      last.l1 = L1Report()
      last.l1?.norm = norm
    }
    step = checkpoint.step
    trainable.repack(on: executor)
  }
}
