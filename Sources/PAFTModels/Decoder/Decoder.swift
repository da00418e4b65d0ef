// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

/// A decoder-only transformer on one executor: forward, log-probabilities, backward.
///
/// A pass takes a packed batch and a set of weights. Activations live in the executor's scratch
/// from `forward` until the caller releases it, so the order is: mark, forward, score or backward,
/// release. With `checkpointing` only each layer's input is kept and the layer is computed again
/// on the way back: activations of one layer instead of all, for about a third more time.
package final class Decoder {
  package let configuration: ModelConfiguration
  package let executor: Executor
  package let checkpointing: Bool
  /// One for each of the configuration's `ropes`: of all positions, or of the tokens of the pass that
  /// runs where frequencies depend on a sequence's length.
  private(set) var rotary: [RotaryTable]
  /// The tables' row of each token of the pass that runs.
  private(set) var rotaryRows: UnsafePointer<Int32>
  package let tables: Arena
  private var layers: [LayerActivations] = []
  /// Layer inputs kept under checkpointing, and the last layer's output.
  private var inputs: [Matrix] = []
  /// Memory of a hidden state that nobody reads after the forward pass.
  private var spare: Matrix?

  package init(
    _ configuration: ModelConfiguration, maxTokens: Int, checkpointing: Bool = false,
    on executor: Executor
  ) throws {
    self.configuration = configuration
    self.executor = executor
    self.checkpointing = checkpointing
    let positions = max(1, maxTokens)
    maxPositions = positions
    let width = configuration.rotaryWidth
    let rows = configuration.rotatesByLength ? 0 : positions
    let tables = try Arena(
      capacity: configuration.ropes.count * (rows * width * 4 + 4096),
      node: executor.team.place.node, name: "rotary")
    self.tables = tables
    rotary = configuration.ropes.map { rope in
      let table = RotaryTable(in: tables, positions: rows, headSize: width)
      rope.fill(table, rows: 0..<rows, length: 0) { $0 }
      return table
    }
    rotaryRows = UnsafePointer(tables.allocate(Int32.self, count: 1))
    layers.reserveCapacity(configuration.layers)
    inputs.reserveCapacity(configuration.layers + 1)
  }

  /// Longest sequence the rotary tables cover.
  package let maxPositions: Int

  /// What the batch's tokens are rotated by: the tables' rows of their positions, or tables of their
  /// own where frequencies depend on how long a sequence is.
  func prepareRotation(_ batch: Batch, length: (Int) -> Int) {
    guard configuration.rotatesByLength else {
      rotaryRows = UnsafePointer(batch.positions)
      return
    }
    let scratch = executor.scratch
    let rows = scratch.allocate(Int32.self, count: max(1, batch.tokens))
    for row in 0..<batch.tokens { rows[row] = Int32(row) }
    rotaryRows = UnsafePointer(rows)
    for (index, rope) in configuration.ropes.enumerated() {
      rotary[index] = RotaryTable(
        in: scratch, positions: batch.tokens, headSize: configuration.rotaryWidth)
      for s in 0..<batch.sequences.count {
        rope.fill(rotary[index], rows: batch.sequences[s], length: length(s)) {
          Int(batch.positions[$0])
        }
      }
    }
  }

  /// Embeddings of the batch's tokens.
  func embed(_ batch: Batch, _ weights: Weights, into x: Matrix) {
    Embedding.forward(ids: batch.ids, table: weights.embedding, into: x, on: executor)
    let scale = configuration.embeddingScale
    if scale != 1 { Elementwise.scale(x, by: scale, on: executor) }
  }

  // MARK: - Forward

  /// Room for a layer's activations, in scratch.
  func activations(
    _ layer: Int, _ weights: Weights, of x: Matrix, finishing: RowSelection?,
    _ extent: LayerActivations.Extent
  ) -> LayerActivations {
    let isLast = layer == configuration.layers - 1
    return LayerActivations(
      configuration, weights.layers[layer], of: x, finishing: isLast ? finishing : nil, extent,
      executor.compute, in: executor.scratch)
  }

  /// Hidden states of the labelled rows after the last layer, before the final norm: [labels, hidden].
  package func forward(_ batch: Batch, _ weights: Weights) -> Matrix {
    let c = configuration
    let scratch = executor.scratch
    layers.removeAll(keepingCapacity: true)
    inputs.removeAll(keepingCapacity: true)
    var x = Matrix(in: scratch, rows: batch.tokens, columns: c.hidden)
    // Where inputs wait rounded, two states are enough.
    let alternates = !checkpointing && executor.compute == .bf16
    spare = alternates ? Matrix(in: scratch, rows: batch.tokens, columns: c.hidden) : nil
    prepareRotation(batch) { Int(batch.positions[batch.sequences[$0].upperBound - 1]) + 1 }
    embed(batch, weights, into: x)
    for layer in 0..<c.layers {
      let rows = layer == c.layers - 1 ? batch.labels : batch.tokens
      let output =
        spare?.rows(0..<rows) ?? Matrix(in: scratch, rows: rows, columns: c.hidden)
      if checkpointing {
        inputs.append(x)
        let mark = scratch.mark
        let work = activations(layer, weights, of: x, finishing: batch.labelled, .forward)
        forward(layer, work, weights.layers[layer], batch, into: output)
        scratch.release(to: mark)
      } else {
        let kept = activations(layer, weights, of: x, finishing: batch.labelled, .lean)
        layers.append(kept)
        forward(layer, kept, weights.layers[layer], batch, into: output)
        scratch.release(to: kept.kept)
      }
      if alternates { spare = x }
      x = output
    }
    return x
  }

  /// Hidden states where no backward pass follows: two buffers instead of all activations.
  ///
  /// - Parameter finishing: the rows that are wanted; nil: all.
  package func inference(
    _ batch: Batch, _ weights: Weights, finishing: RowSelection?
  ) -> Matrix {
    prepareRotation(batch) { Int(batch.positions[batch.sequences[$0].upperBound - 1]) + 1 }
    return walk(batch, weights, finishing: finishing)
  }

  /// All layers over a batch whose rotation is prepared, and for each what of it `visit` wants.
  func walk(
    _ batch: Batch, _ weights: Weights, finishing: RowSelection?,
    visit: (_ layer: Int, LayerActivations) -> Void = { _, _ in }
  ) -> Matrix {
    let c = configuration
    let scratch = executor.scratch
    var x = Matrix(in: scratch, rows: batch.tokens, columns: c.hidden)
    var next = Matrix(in: scratch, rows: batch.tokens, columns: c.hidden)
    embed(batch, weights, into: x)
    for layer in 0..<c.layers {
      let mark = scratch.mark
      let work = activations(layer, weights, of: x, finishing: finishing, .forward)
      if let finished = work.finished { next = next.rows(0..<finished.count) }
      forward(layer, work, weights.layers[layer], batch, into: next)
      visit(layer, work)
      scratch.release(to: mark)
      swap(&x, &next)
    }
    return x
  }

  // MARK: - Head

  /// What the head multiplies: [rows, hidden], and the inverse norms.
  private func finalNorm(
    _ hidden: Matrix, _ weights: Weights
  ) -> (normed: Matrix, inverse: UnsafeMutablePointer<Float>) {
    let scratch = executor.scratch
    let normed = Matrix(in: scratch, rows: hidden.rows, columns: configuration.hidden)
    let inverse = scratch.allocate(Float.self, count: max(1, hidden.rows))
    RMSNorm.forward(
      hidden, weight: weights.finalNorm, dim: configuration.hidden, eps: configuration.normEpsilon,
      into: normed, inverse: inverse, on: executor)
    scaleLogits(normed)
    return (normed, inverse)
  }

  /// The same once more, for a gradient of the head's weight that was deferred: in scratch until `body`
  /// returns.
  package func withHeadInput(_ hidden: Matrix, _ weights: Weights, _ body: (Matrix) -> Void) {
    executor.withScratch { _ in body(finalNorm(hidden, weights).normed) }
  }

  /// The logits' factor, put on what they are computed from.
  private func scaleLogits(_ normed: Matrix) {
    let scale = configuration.logitScale
    if scale != 1 { Elementwise.scale(normed, by: scale, on: executor) }
  }

  /// Log-probability of every label of the batch, in its order, and its slope where `rows` has room
  /// for slopes, which `backward` wants.
  ///
  /// - Parameter hidden: of the labelled rows.
  package func score(
    _ hidden: Matrix, _ batch: Batch, _ weights: Weights, into rows: HeadLoss.Rows
  ) {
    executor.withScratch { _ in
      let normed = finalNorm(hidden, weights).normed
      HeadLoss.forward(
        hidden: normed, head: weights.head, targets: batch.targets, rows: rows,
        cap: configuration.logitCap, on: executor)
    }
  }

  /// Full logits [rows, vocabulary] of hidden states: for generation and inspection, not training.
  package func logits(_ hidden: Matrix, _ weights: Weights, into logits: Matrix) {
    executor.withScratch { scratch in
      let packed = Linear.pack(finalNorm(hidden, weights).normed, in: scratch, on: executor)
      Linear.forward(packed, weights.head, into: logits, on: executor)
      if let cap = configuration.logitCap { Elementwise.cap(logits, by: cap, on: executor) }
    }
  }

  // MARK: - Backward

  /// Adds the gradient of sum_r coefficients[r] * logp[r] to the sinks.
  ///
  /// - Parameters:
  ///   - hidden: what `forward` returned for this batch, with its activations still in scratch.
  ///   - rows: the statistics of `score`, with slopes, which are used up; filled here when
  ///     `scored` is false.
  ///   - coefficients: dL/dlogp of each label.
  ///   - finished: called for each layer, from the last to the first, when its gradients are whole and
  ///     nothing will read its weights any more.
  ///   - vocabulary: called at the end with the gradient of the embedded tokens, where the gradients
  ///     of head and embedding are deferred.
  package func backward(
    _ hidden: Matrix, _ batch: Batch, _ weights: Weights, rows: HeadLoss.Rows, scored: Bool,
    coefficients: UnsafePointer<Float>, into gradients: Gradients,
    finished: (_ layer: Int) -> Void = { _ in }, vocabulary: (_ dx: Matrix) -> Void = { _ in }
  ) {
    if batch.labels == 0 { return }
    let c = configuration
    executor.withScratch { scratch in
      let dx = spare ?? Matrix(in: scratch, rows: batch.tokens, columns: c.hidden)
      guard let dhidden = rows.slopes else {
        preconditionFailure("a backward pass needs rows with slopes")
      }
      executor.withScratch { _ in
        let (normed, inverse) = finalNorm(hidden, weights)
        switch (scored, gradients.head) {
        case (false, nil):
          HeadLoss.forward(
            hidden: normed, head: weights.head, targets: batch.targets, rows: rows,
            cap: configuration.logitCap, on: executor)
        case (false, let dweight?):
          HeadLoss.forward(
            hidden: normed, head: weights.head, targets: batch.targets, rows: rows,
            coefficients: coefficients, addingTo: dweight, cap: c.logitCap, on: executor)
        case (true, let dweight?):
          HeadLoss.backwardWeight(
            hidden: normed, head: weights.head, targets: batch.targets, rows: rows,
            coefficients: coefficients, into: dweight, cap: c.logitCap, on: executor)
        case (true, nil): break
        }
        HeadLoss.backward(rows: rows, coefficients: coefficients, dhidden: dhidden, on: executor)
        scaleLogits(dhidden)
        RMSNorm.backward(
          dhidden, x: hidden, weight: weights.finalNorm, dim: c.hidden, inverse: inverse,
          into: dhidden, dweight: gradients.finalNorm, assign: true, on: executor)
      }
      var untouched = checkpointing ? 0 : gradients.untouched
      for layer in (0..<c.layers).reversed() {
        let needsInput = layer > 0 || gradients.embedding != nil || gradients.defersVocabulary
        executor.withScratch { scratch in
          let kept: LayerActivations
          if checkpointing {
            kept = activations(layer, weights, of: inputs[layer], finishing: batch.labelled, .all)
            forward(layer, kept, weights.layers[layer], batch, into: nil)
            scratch.release(to: kept.kept)
          } else {
            kept = layers[layer]
          }
          backward(
            layer, kept, weights.layers[layer], gradients.layers[layer], batch,
            dy: kept.finished == nil ? dx : dhidden, dx: dx, needsInput: needsInput)
        }
        finished(layer)
        if untouched > 0 {
          let end = layer + 1 < c.layers ? layers[layer + 1].start : layers[layer].kept
          untouched -= scratch.discard(layers[layer].start..<end, most: untouched)
        }
      }
      if gradients.defersVocabulary {
        if c.embeddingScale != 1 { Elementwise.scale(dx, by: c.embeddingScale, on: executor) }
        vocabulary(dx)
      }
      if let table = gradients.embedding {
        if c.embeddingScale != 1 { Elementwise.scale(dx, by: c.embeddingScale, on: executor) }
        Embedding.backward(ids: batch.ids, dx: dx, into: table, on: executor)
      }
    }
  }
}
