// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTModels
import PAFTOps
import PAFTTraining

/// What one branch will hold in memory, besides the base: weights or factors, gradients and moments
/// over all trained values, and the scratch of its largest pass.
struct BranchMemory: Sendable, Equatable {
  /// Values and packed copies of what is trained.
  let trained: Int
  /// Gradient, moments, and the values at the start where a penalty wants them.
  let optimizer: Int
  /// Activations and operands of the largest pass.
  let scratch: Int
  /// Of both: what gradients of adapters find in place of activations that the backward pass has done
  /// with.
  let shared: Int

  var bytes: Int { trained + optimizer + scratch - shared }

  init(
    _ c: ModelConfiguration, _ configuration: BranchConfiguration, _ shape: TrainingShape,
    reference pairs: Int, quantizes: Bool, turns: Bool, sizes: ScratchSizes
  ) {
    let table: ParameterTable
    switch configuration.adaptation {
    case .full where !configuration.masterWeights:
      table = ParameterTable.decoder(c)
      trained = WeightStore.bytes(
        table, c, keepsMaster: false, backward: true, quantizes: quantizes, turns: true,
        trainsOperands: true, sizes: sizes)
    case .full:
      table = ParameterTable.decoder(c)
      trained = Self.weights(
        table, c, keepsMaster: true, backward: true, quantizes: quantizes, sizes)
    case .lora(let lora):
      table = lora.table(c)
      trained =
        4 * table.floats
        + AdapterStore.operandBytes(table, keepsAll: false) {
          sizes.weight(outputs: $0, inputs: $1, backward: true)
        }
    }
    let keepsInitial = configuration.adaptation == .full && configuration.l1 != nil
    optimizer =
      (configuration.masterWeights
        ? 4 * table.floats * (keepsInitial ? 2 : 1) + configuration.optimizer.momentBytes(table)
        : LayerwiseTraining.bytes(table, configuration.optimizer)) + 16 * pairs
    let pass = PassMemory(c, configuration, quantizes: quantizes, turns: turns, sizes)
    var most = shape.largest.reduce(0) { max($0, pass.bytes($1)) }
    if case .preference(let objective) = configuration.objective, objective.needsReference {
      let reference = PassMemory(inferenceOf: c, rank: 0, quantizes: quantizes, sizes)
      most = shape.walk.reduce(most) { max($0, reference.inference($1) + 4 * pairs) }
    }
    // Huge pages are touched as a whole.
    scratch = (most + Arena.hugePage - 1) / Arena.hugePage * Arena.hugePage
    // All but the gradients of the last layer, which come first; the later passes of a step find all.
    if case .lora = configuration.adaptation, shape.mostPasses < 2,
      4 * table.floats > Arena.keptPages
    {
      let gone = shape.largest.map { pass.discarded($0, layers: c.layers - 1) }.min() ?? 0
      shared = min(4 * table.floats / c.layers * (c.layers - 1), gone)
    } else {
      shared = 0
    }
  }

  /// A model's weights as `WeightStore` keeps them.
  static func weights(
    _ table: ParameterTable, _ c: ModelConfiguration, keepsMaster: Bool, backward: Bool,
    quantizes: Bool = false, turns: Bool = false, _ sizes: ScratchSizes
  ) -> Int {
    WeightStore.bytes(
      table, c, keepsMaster: keepsMaster, backward: backward, quantizes: quantizes, turns: turns,
      sizes: sizes)
  }
}

/// Scratch of one pass of the decoder, in the order in which `Decoder` takes it.
struct PassMemory {
  private let c: ModelConfiguration
  private let sizes: ScratchSizes
  private let isFull: Bool
  private let rank: Int
  private let adapted: Int
  private let checkpointing: Bool
  /// Whether left operands of the base's products are in 8 bits.
  private let quantizes: Bool
  /// Whether the frozen base is kept in one layout.
  private let turns: Bool
  private let head: ScratchSizes.HeadGradient
  /// Values of the widest weight that is updated in the backward pass; 0 where none is.
  private let widest: Int
  private let keepsExponentials: Bool

  init(
    _ c: ModelConfiguration, _ configuration: BranchConfiguration, quantizes: Bool, turns: Bool,
    _ sizes: ScratchSizes
  ) {
    self.c = c
    self.quantizes = quantizes
    let layerwise = configuration.adaptation == .full && !configuration.masterWeights
    self.turns = layerwise || turns && configuration.adaptation != .full
    widest = layerwise ? LayerwiseTraining.widest(ParameterTable.decoder(c)) : 0
    keepsExponentials = layerwise && configuration.objective == .sft
    self.sizes = sizes
    checkpointing = configuration.activationCheckpointing
    switch configuration.adaptation {
    case .full:
      (isFull, rank, adapted) = (true, 0, 0)
      head =
        layerwise ? .none : configuration.objective == .sft ? .withScores : .afterScores
    case .lora(let lora):
      (isFull, rank, adapted) = (false, lora.rank, lora.modules(of: c).count)
      head = .none
    }
  }

  /// For scoring alone.
  init(inferenceOf c: ModelConfiguration, rank: Int, quantizes: Bool, _ sizes: ScratchSizes) {
    self.c = c
    self.quantizes = quantizes
    turns = false
    widest = 0
    keepsExponentials = false
    self.sizes = sizes
    checkpointing = false
    isFull = false
    self.rank = rank
    adapted = rank > 0 ? c.modules.count : 0
    head = .none
  }

  /// What some layers leave, in whole huge pages.
  func discarded(_ pass: TrainingShape.Pass, layers: Int) -> Int {
    checkpointing ? 0 : max(0, layers * lean(pass.tokens, pass.tokens) - 2 * Arena.hugePage)
  }

  /// Forward and backward.
  func bytes(_ pass: TrainingShape.Pass) -> Int {
    let (tokens, labels) = (pass.tokens, pass.labels)
    // What goes into each layer, where it waits as it is, and of the last one the rows that it finishes.
    let states =
      rounds && !checkpointing
      ? 2 * sizes.floats(tokens, c.hidden)
      : c.layers * sizes.floats(tokens, c.hidden) + sizes.floats(labels, c.hidden)
    let rows =
      9 * labels + sizes.floats(labels, c.hidden) + 4 * labels + 24 * tokens
      + rotation(tokens)
    let exponentials =
      keepsExponentials ? sizes.keptExponentials(rows: labels, vocabulary: c.vocabulary) : 0
    let layers = (c.layers - 1) * lean(tokens, tokens) + lean(tokens, labels)
    let kept = states + rows + exponentials + (checkpointing ? 0 : layers)
    let forward =
      checkpointing
      ? activations(tokens, tokens) + transients(pass, keeps: false) : computed(pass)
    let head =
      sizes.floats(labels, c.hidden) + 4 * labels
      + sizes.head(
        rows: labels, hidden: c.hidden, vocabulary: c.vocabulary, slopes: true, gradient: head,
        capped: c.logitCap != nil, turns: turns)
    let again =
      checkpointing ? all(tokens) + max(computed(pass), backward(pass)) : backward(pass)
    let dx = rounds && !checkpointing ? 0 : sizes.floats(tokens, c.hidden)
    return kept + max(forward, dx + max(head, again, update(labels)))
  }

  /// What updates take in the backward pass: workers' blocks, a weight that is quantised again, and at
  /// the end what the vocabulary's gradients are made of.
  private func update(_ labels: Int) -> Int {
    guard widest > 0 else { return 0 }
    let largest = c.modules.map { sizes.floats(c.outputs($0), c.inputs($0)) }.max() ?? 0
    let blocks = sizes.trainedBlocks(width: widest)
    return blocks
      + max(
        quantizes ? largest : 0,
        2 * sizes.floats(labels, c.hidden)
          + sizes.vocabularyGradient(rows: labels, hidden: c.hidden))
  }

  /// Scores only: two states, one layer at a time.
  func inference(_ pass: TrainingShape.Pass) -> Int {
    let (tokens, labels) = (pass.tokens, pass.labels)
    let states = 2 * sizes.floats(tokens, c.hidden) + 9 * labels + 24 * tokens + rotation(tokens)
    let head =
      sizes.floats(labels, c.hidden)
      + sizes.head(
        rows: labels, hidden: c.hidden, vocabulary: c.vocabulary, slopes: false, gradient: .none,
        capped: c.logitCap != nil)
    return states + max(activations(tokens, tokens) + transients(pass, keeps: false), head)
  }

  /// Cosines and sines of a pass, where sequences' lengths decide them.
  private func rotation(_ tokens: Int) -> Int {
    c.rotatesByLength ? c.ropes.count * sizes.floats(tokens, c.rotaryWidth) : 0
  }

  /// Whether what waits does so rounded.
  private var rounds: Bool { sizes.type == .bf16 }

  /// What attention reads and writes in one layer, as it is computed.
  private func attended(_ tokens: Int) -> Int {
    let widths =
      [c.queryWidth] + (c.isFused ? [c.outputs(.qkv)] : [c.queryWidth, c.keyWidth, c.keyWidth])
    return widths.reduce(0) { $0 + sizes.floats(tokens, $1) }
  }

  /// What one layer's forward pass takes besides what it leaves.
  private func computed(_ pass: TrainingShape.Pass) -> Int {
    guard rounds else { return transients(pass, keeps: true) }
    let middle = sizes.floats(pass.tokens, c.hidden)
    return middle
      + max(attended(pass.tokens) + attentionPart(pass, keeps: true), mlpPart(pass, keeps: true))
  }

  /// What one layer leaves, without its input, which is the output of the layer before it, and without
  /// what the activation multiplies. `rows`: those that it finishes.
  private func activations(_ tokens: Int, _ rows: Int) -> Int {
    var widths = [c.queryWidth, c.heads, 1]
    widths += c.isFused ? [c.outputs(.qkv)] : [c.queryWidth, c.keyWidth, c.keyWidth]
    if c.norms.input != nil { widths.append(c.hidden) }
    // Before the head norm, and what it divided by.
    if c.headNorm != .none { widths += [c.queryWidth, c.keyWidth, c.heads, c.keyHeads] }
    var finished = [c.hidden, 1]
    if c.norms.mlpInput != nil { finished.append(c.hidden) }
    for norm in [c.norms.attentionOutput, c.norms.mlpOutput] where norm != nil {
      finished += [c.hidden, 1]
    }
    let attending = min(adapted, c.isFused ? 1 : 3)
    return widths.reduce(attending * sizes.floats(tokens, rank)) { $0 + sizes.floats(tokens, $1) }
      + finished.reduce((adapted - attending) * sizes.floats(rows, rank)) {
        $0 + sizes.floats(rows, $1)
      }
  }

  /// Gate and up as they are computed.
  private func gates(_ tokens: Int) -> Int {
    c.isFused
      ? sizes.floats(tokens, c.outputs(.gateUp)) : 2 * sizes.floats(tokens, c.intermediate)
  }

  /// And as they wait.
  private func kept(_ tokens: Int) -> Int {
    rounds ? sizes.roundedGates(tokens, c.intermediate) : gates(tokens)
  }

  /// What one layer keeps where what is cheap is computed again.
  private func lean(_ tokens: Int, _ rows: Int) -> Int {
    let floats =
      activations(tokens, rows) + kept(rows)
      - (c.norms.input == nil ? 0 : sizes.floats(tokens, c.hidden))
      - (c.norms.mlpInput == nil ? 0 : sizes.floats(rows, c.hidden))
    guard rounds else { return floats }
    let widths = [c.hidden, c.queryWidth, c.queryWidth + 2 * c.keyWidth]
    let attending = min(adapted, c.isFused ? 1 : 3)
    func halved(_ rows: Int, _ columns: Int) -> Int {
      sizes.floats(rows, columns) - sizes.rounded(rows, columns)
    }
    let low = attending * halved(tokens, rank) + (adapted - attending) * halved(rows, rank)
    return widths.reduce(
      floats - low - attended(tokens) - halved(rows, c.hidden)
    ) { $0 + sizes.rounded(tokens, $1) }
  }

  /// What a layer that was computed again leaves.
  private func all(_ tokens: Int) -> Int {
    rounds
      ? lean(tokens, tokens)
      : activations(tokens, tokens) + kept(tokens) + sizes.floats(tokens, c.intermediate)
  }

  /// - Parameter keeps: whether a backward pass of these activations follows.
  private func transients(_ pass: TrainingShape.Pass, keeps: Bool) -> Int {
    max(attentionPart(pass, keeps: keeps), mlpPart(pass, keeps: keeps))
  }

  private func mlpPart(_ pass: TrainingShape.Pass, keeps: Bool) -> Int {
    let tokens = pass.tokens
    let normed = keeps ? sizes.floats(tokens, c.hidden) : 0
    return (keeps && !rounds ? 0 : gates(tokens)) + low(tokens)
      + max(
        normed + operand(tokens, c.hidden),
        sizes.gatedRows(c.intermediate) + operand(tokens, c.intermediate))
  }

  private func attentionPart(_ pass: TrainingShape.Pass, keeps: Bool) -> Int {
    let tokens = pass.tokens
    let normed = keeps ? sizes.floats(tokens, c.hidden) : 0
    return max(
      normed + operand(tokens, max(c.hidden, c.queryWidth)) + low(tokens),
      attention { sizes.attentionForward(pass.lengths, $0) })
  }

  /// An adapter's part of a product, and what a norm stands behind.
  private func low(_ tokens: Int) -> Int {
    branch(tokens) + (rank > 0 ? sizes.rows(tokens, rank) + sizes.floats(tokens, rank) : 0)
  }

  /// What attention and MLP compute, or its gradient, where a norm or a factor stands behind it.
  private func branch(_ tokens: Int) -> Int {
    c.addsPlainly ? 0 : sizes.floats(tokens, c.hidden)
  }

  /// The left operand of a linear layer. An adapter's is in the executor's type, the base's may be in
  /// 8 bits.
  private func operand(_ tokens: Int, _ columns: Int) -> Int {
    (quantizes && rank == 0 ? 0 : sizes.rows(tokens, columns))
      + (quantizes ? sizes.integerRows(tokens, columns) : 0)
  }

  private func attention(_ bytes: (AttentionShape) -> Int) -> Int {
    bytes(c.attention(layer: 0))
  }

  private func backward(_ pass: TrainingShape.Pass) -> Int {
    let tokens = pass.tokens
    func most(_ modules: [Module]) -> Int {
      modules.reduce(0) { max($0, gradient($1, tokens)) }
    }
    // The gradients of gate and up are packed as they are computed.
    let packed = c.isFused ? 0 : 2 * operand(tokens, c.intermediate)
    let inner =
      c.isFused
      ? gradient(.gateUp, tokens)
      : max(gradient(.gate, tokens, packed: true), gradient(.up, tokens, packed: true))
    // An adapter's gradient reads the product that the walk back through the gates leaves.
    let isLate = rounds && !isFull && rank > 0 && rank <= Linear.thin
    let product =
      isLate || checkpointing && !rounds ? 0 : sizes.floats(tokens, c.intermediate)
    let gradients =
      !rounds || isLate && !c.isFused
      ? 0 : c.isFused ? gates(tokens) : sizes.floats(tokens, c.intermediate)
    // The rows of them that are on their way into the operands.
    let rows = isLate && !c.isFused ? 2 * sizes.gatedRows(c.intermediate) : 0
    // Computed again, where it waits rounded in place of what it was computed of.
    let normed = checkpointing && !rounds ? 0 : sizes.floats(tokens, c.hidden)
    let mlp =
      sizes.floats(tokens, c.intermediate) + (isLate ? sizes.floats(tokens, rank) : 0)
      + max(
        branch(tokens) + product + most([.down]),
        normed + packed + gradients + max(rows, sizes.floats(tokens, c.hidden) + inner))
    let attended =
      (rounds ? 2 : 1) * sizes.floats(tokens, c.queryWidth)
      + max(
        branch(tokens) + most([.o]),
        (rounds ? sizes.floats(tokens, c.queryWidth + 2 * c.keyWidth) : 0)
          + attention { sizes.attentionBackward(pass.lengths, $0) })
    let projected =
      normed + sizes.floats(tokens, c.hidden) + most(c.isFused ? [.qkv] : [.q, .k, .v])
    return max(
      mlp, sizes.floats(tokens, c.queryWidth + 2 * c.keyWidth) + max(attended, projected))
  }

  private func gradient(_ module: Module, _ tokens: Int, packed: Bool = false) -> Int {
    let (outputs, inputs) = (c.outputs(module), c.inputs(module))
    func weight(_ outputs: Int, _ inputs: Int) -> Int {
      sizes.weightGradient(outputs: outputs, inputs: inputs, tokens: tokens)
    }
    let turned =
      turns ? sizes.turned(outputs: outputs, inputs: inputs, integers: quantizes) : 0
    let low =
      rank == 0
      ? 0
      : (rounds ? 2 : 1) * sizes.floats(tokens, rank)
        + max(weight(outputs, rank), weight(rank, inputs), sizes.rows(tokens, rank) + turned)
    return max(
      isFull ? weight(outputs, inputs) : 0,
      (packed ? 0 : operand(tokens, outputs)) + (isFull ? turned : low))
  }
}
