// SPDX-License-Identifier: Apache-2.0

import PAFTMachine
import PAFTOps

/// One linear layer as the decoder multiplies it: the packed weight, an optional bias, and an
/// optional low-rank adapter beside it.
package struct LinearWeights: @unchecked Sendable {
  package var weight: LinearWeight
  package var bias: UnsafePointer<Float>?
  package var adapter: AdapterWeights?

  package init(weight: LinearWeight, bias: UnsafePointer<Float>?, adapter: AdapterWeights? = nil) {
    self.weight = weight
    self.bias = bias
    self.adapter = adapter
  }

  /// Whether its left operand must be there in the executor's type.
  var readsFloats: Bool {
    if case .floats = weight { true } else { adapter != nil }
  }

  /// Whether its left operand must be there in 8 bits.
  var readsIntegers: Bool {
    if case .integers = weight { true } else { false }
  }
}

/// y += scale (x Aᵀ) Bᵀ.
package struct AdapterWeights: @unchecked Sendable {
  package var a: PackedWeight
  package var b: PackedWeight
  package var scale: Float

  package init(a: PackedWeight, b: PackedWeight, scale: Float) {
    self.a = a
    self.b = b
    self.scale = scale
  }
}

package struct LayerWeights: @unchecked Sendable {
  /// As they multiply: a family's offset is added already.
  package var inputNorm: UnsafePointer<Float>?
  package var attentionOutputNorm: UnsafePointer<Float>?
  package var mlpInputNorm: UnsafePointer<Float>?
  package var mlpOutputNorm: UnsafePointer<Float>?
  package var queryNorm: UnsafePointer<Float>?
  package var keyNorm: UnsafePointer<Float>?
  /// Indexed by `Module`; nil for those the model does not have.
  package var linears: [LinearWeights?]
  /// The factors of this layer's adapters, where their operands share their memory with other layers'
  /// and are made when the layer's turn comes.
  var factors: [Factor] = []

  package init() { linears = .init(repeating: nil, count: Module.allCases.count) }

  struct Factor {
    let values: Matrix
    let operand: PackedWeight
  }

  enum Pass { case forward, backward }

  /// Makes the operands of the adapters, where none are kept.
  func prepare(_ pass: Pass, on executor: Executor) {
    for factor in factors {
      switch pass {
      case .forward: factor.operand.packForward(from: factor.values, on: executor)
      case .backward: factor.operand.packBackward(from: factor.values, on: executor)
      }
    }
  }

  /// An unfilled left operand for the layers of some neighbouring modules, which share their input.
  func operand(
    _ modules: (first: Module, last: Module), tokens: Int, in arena: Arena, on executor: Executor
  ) -> LinearRows {
    var (floats, integers) = (false, false)
    for module in modules.first.rawValue...modules.last.rawValue {
      floats = floats || linears[module]!.readsFloats
      integers = integers || linears[module]!.readsIntegers
    }
    return LinearRows(
      in: arena, m: tokens, k: linears[modules.first.rawValue]!.weight.inputs, packed: floats,
      quantized: integers, on: executor)
  }

  /// An unfilled left operand for the gradient of a module's output.
  func gradientOperand(
    _ module: Module, tokens: Int, in arena: Arena, on executor: Executor
  ) -> LinearRows {
    let linear = linears[module.rawValue]!
    return LinearRows(
      in: arena, m: tokens, k: linear.weight.outputs, packed: linear.readsFloats,
      quantized: linear.readsIntegers, columns: linear.weight.scales, on: executor)
  }
}

/// Everything a forward pass reads: the base, a branch's own copy (full fine-tuning), or the base
/// with adapters beside it.
package struct Weights: @unchecked Sendable {
  package var embedding: EmbeddingTable
  package var layers: [LayerWeights]
  package var finalNorm: UnsafePointer<Float>
  package var head: PackedWeight
  /// What the pointers lead into. A copy of the weights is thereby enough to use them, whatever
  /// becomes of the store they came from.
  package var memory: [Arena]
}

/// Where a backward pass adds its gradients; nil where nothing is trained.
package struct LinearGradients: @unchecked Sendable {
  package var weight: Matrix?
  package var bias: UnsafeMutablePointer<Float>?
  package var a: Matrix?
  package var b: Matrix?

  package init() {}

  /// Whether a gradient here needs what the layer multiplied.
  var readsInput: Bool { weight != nil || a != nil }
}

package struct LayerGradients: @unchecked Sendable {
  package var inputNorm: UnsafeMutablePointer<Float>?
  package var attentionOutputNorm: UnsafeMutablePointer<Float>?
  package var mlpInputNorm: UnsafeMutablePointer<Float>?
  package var mlpOutputNorm: UnsafeMutablePointer<Float>?
  package var queryNorm: UnsafeMutablePointer<Float>?
  package var keyNorm: UnsafeMutablePointer<Float>?
  package var linears = [LinearGradients](
    repeating: LinearGradients(), count: Module.allCases.count)

  package init() {}
}

package struct Gradients: @unchecked Sendable {
  package var embedding: Matrix?
  package var layers: [LayerGradients]
  package var finalNorm: UnsafeMutablePointer<Float>?
  package var head: Matrix?
  /// Whether head and embedding are trained without a sink: whoever calls `Decoder.backward` makes
  /// their gradients from what it leaves.
  package var defersVocabulary = false
  /// Bytes of the sinks that no page was touched of yet. As many of the activations' are given back
  /// while they are written, so that both are never in memory as a whole.
  package var untouched = 0

  /// The sinks of the rows of `table`, laid out over a flat buffer. A tied head adds into the
  /// embedding's gradient.
  package init(
    _ table: ParameterTable, at flat: UnsafeMutablePointer<Float>, _ c: ModelConfiguration
  ) {
    self.init(table, c) { flat + $0.offset }
  }

  /// The sinks of the rows that `place` has room for; layers may share theirs.
  package init(
    _ table: ParameterTable, _ c: ModelConfiguration,
    place: (Parameter) -> UnsafeMutablePointer<Float>?
  ) {
    layers = [LayerGradients](repeating: LayerGradients(), count: c.layers)
    for row in table.rows {
      guard let at = place(row) else { continue }
      func matrix() -> Matrix { Matrix(at, rows: row.shape[0], columns: row.shape[1]) }
      switch row.role {
      case .embedding:
        embedding = matrix()
        if c.tiedHead { head = matrix() }
      case .head: head = matrix()
      case .finalNorm: finalNorm = at
      case .inputNorm: layers[row.layer!].inputNorm = at
      case .attentionOutputNorm: layers[row.layer!].attentionOutputNorm = at
      case .mlpInputNorm: layers[row.layer!].mlpInputNorm = at
      case .mlpOutputNorm: layers[row.layer!].mlpOutputNorm = at
      case .queryNorm: layers[row.layer!].queryNorm = at
      case .keyNorm: layers[row.layer!].keyNorm = at
      case .weight(let m): layers[row.layer!].linears[m.rawValue].weight = matrix()
      case .bias(let m): layers[row.layer!].linears[m.rawValue].bias = at
      case .adapterA(let m): layers[row.layer!].linears[m.rawValue].a = matrix()
      case .adapterB(let m): layers[row.layer!].linears[m.rawValue].b = matrix()
      }
    }
  }
}
